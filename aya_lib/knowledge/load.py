"""Loading documents as a runbook does it: the plan, the deed, and what is looked at afterwards."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aya_lib import settings
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster import roles
from aya_lib.errors import AyaError
from aya_lib.knowledge.answer import ask
from aya_lib.knowledge.finding import Finding, find
from aya_lib.knowledge.ingest import ingest
from aya_lib.knowledge.reading import SUFFIXES
from aya_lib.knowledge.report import Report
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.plan.change import Change, Plan, change
from aya_lib.show import Note, Shown, Table

ASKED = 5  # documents that are searched for afterwards
NEAR = 5  # the document must be among so many results


@dataclass(repr=False)
class Load(Shown):
    """Load documents. ``report`` is there once it was done."""

    nodes: Nodes
    paths: tuple[str, ...]
    category: str = ""
    prune: bool = False
    report: Report | None = field(default=None, compare=False)

    def command(self, node: Node) -> str:
        words = ["aya ingest", *self.paths, "--site", node.site.name]
        words += ["--category", self.category] if self.category else []
        return " ".join([*words, *(["--prune"] if self.prune else [])])

    def run(self, node: Node) -> None:
        from tqdm import tqdm

        with tqdm(unit=" files", leave=False, file=sys.stdout, delay=5, mininterval=0.5) as bar:

            def progress(done: int, total: int, chunks: int) -> None:
                bar.total = total
                bar.set_postfix_str(f"{chunks} chunks", refresh=False)
                bar.update(done - bar.n)

            paths = absolute(self.paths)
            self.report = ingest(self.nodes, paths, category=self.category or None, prune=self.prune, progress=progress)

    def plan(self) -> Plan:
        """One change: what it writes is whole at every moment, and the same again changes nothing."""
        node, finding = roles.primary(self.nodes), find(absolute(self.paths))
        title = f"Load what is new or changed in {len(finding.files)} files"
        title += ", delete documents whose files are gone" if self.prune else ""
        step: Change = change(node, title, self, destroys=self.prune)
        return Plan("What ingest loads", (step,), unwind=False)

    def table(self) -> Table:
        return self.report.table() if self.report else Note("Nothing was loaded.", "planned").table()


def absolute(paths: Sequence[str]) -> list[Path]:
    """Relative paths of a runbook stand below the project's folder, wherever the notebook is run."""
    return [settings.home() / Path(path).expanduser() for path in paths]


@dataclass(frozen=True, repr=False)
class Files(Shown):
    """The files below the paths, by kind."""

    finding: Finding

    def table(self) -> Table:
        kinds = Counter(SUFFIXES.get(one.path.suffix.lower(), "other") for one in self.finding.files)
        sizes: Counter[str] = Counter()
        for one in self.finding.files:
            sizes[SUFFIXES.get(one.path.suffix.lower(), "other")] += one.path.stat().st_size
        lines = tuple((kind, str(count), f"{sizes[kind] / 1000:,.0f}") for kind, count in sorted(kinds.items()))
        notes = tuple(f"cannot be read: {name}: {reason}" for name, reason in self.finding.unreadable)
        return Table(f"{len(self.finding.files)} files", ("kind", "files", "kB"), lines, notes)


def look_files(_: Nodes, paths: Sequence[str]) -> Files:
    """What lies below the paths. :class:`UsageError` for one that is not there."""
    return Files(find(absolute(paths)))


@dataclass(frozen=True)
class Loaded:
    """What the knowledge base holds. ``current``: files whose document has their content; ``found``: of ``asked`` documents."""

    documents: int
    chunks: int
    without_vector: int
    without_words: int
    files: int
    current: int
    asked: int
    found: int


@dataclass(frozen=True)
class _Counts:
    documents: int
    chunks: int
    without_vector: int
    without_words: int


def look(nodes: Nodes, paths: Sequence[str]) -> Loaded | Missing:
    """Counts, each file compared with its document, and some documents searched for by one of their own sentences."""
    finding = find(absolute(paths))

    def count() -> Loaded:
        node = roles.primary(nodes)
        with node.session(deadline_s=60) as connection:
            counts = rows(connection, __package__, "counts", _Counts)[0]
            query = "SELECT source_uri, content_hash, id FROM documents WHERE source_uri = ANY (%s)"
            known = {str(uri): (str(digest), number) for uri, digest, number in connection.execute(query, (_uris(finding),))}
            current = [one for one in finding.files if known.get(one.uri, ("", 0))[0].startswith(_digest(one.path))]
            chosen = [known[one.uri][1] for one in current[:: max(1, len(current) // ASKED)]][:ASKED]
            text = "SELECT DISTINCT ON (document_id) document_id, chunk_text FROM chunks WHERE document_id = ANY (%s)"
            asked = connection.execute(f"{text} ORDER BY document_id, length(chunk_text) DESC", (chosen,)).fetchall()
        found = sum(_finds(nodes, str(text), number) for number, text in asked)
        return Loaded(**vars(counts), files=len(finding.files), current=len(current), asked=len(asked), found=found)

    try:
        return seen("the primary", "look at what was loaded", count)
    except AyaError as error:
        return Unseen("the primary", "search for what was loaded", str(error))


def checks(loaded: Loaded | Missing, report: Report | None) -> list[Check]:
    """Counts add up, every chunk can be searched both ways, and searching finds what was loaded."""

    def files(one: Loaded) -> Judged:
        failed = report.tally.failed if report else []
        said = f"{one.current} of {one.files}" + (f"; {failed[0].path}: {failed[0].reason}" if failed else "")
        return passed_if(one.current == one.files and not failed, said, "The table above names the files and the reasons")

    def vectors(one: Loaded) -> Judged:
        return passed_if(one.without_vector == 0 and one.chunks > 0, f"{one.chunks - one.without_vector} of {one.chunks}")

    def words(one: Loaded) -> Judged:
        return passed_if(one.without_words == 0 and one.chunks > 0, f"{one.chunks - one.without_words} of {one.chunks}")

    def found(one: Loaded) -> Judged:
        hint = "Run evaluate_search: it shows what is missed"
        return passed_if(one.found == one.asked > 0, f"{one.found} of {one.asked} among the first {NEAR} results", hint)

    return [
        evaluate("every file is a document with its content", "all", loaded, files),
        evaluate("every chunk has a vector", "all", loaded, vectors, hint="Load the documents again"),
        evaluate("every chunk has its words", "all", loaded, words, hint="The ingest runbook fills them"),
        evaluate("searching finds what was loaded", f"{ASKED} or all documents", loaded, found),
    ]


def _finds(nodes: Nodes, text: str, document: object) -> bool:
    """Whether asking for the longest sentence of a chunk brings its document back."""
    sentence = max(re.split(r"(?<=[.!?])\s+|\n\n", text), key=len)[:400]
    return document in {hit.document_id for hit in ask(nodes, sentence, limit=NEAR).hits}


def _uris(finding: Finding) -> list[str]:
    return [one.uri for one in finding.files]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"
