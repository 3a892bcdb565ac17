"""A question asked of a site, from its words to results that a person or a program reads."""

from __future__ import annotations

import re
import textwrap
import time
from dataclasses import dataclass
from typing import Any

from aya_lib.cluster import roles
from aya_lib.embedding.client import encoder
from aya_lib.errors import Unreachable
from aya_lib.knowledge import provenance, words
from aya_lib.knowledge.search import Filters, Hit, Mode, Searcher
from aya_lib.node.node import Nodes
from aya_lib.schema.knowledge import words_of
from aya_lib.show import Shown, Table, plain

LINES = 4  # of a chunk that a person is shown
WIDTH = 96
ENCODER_S = 30  # a service that has not answered by then is taken to be away
NOTHING = "Nothing matches. Try --mode vector, fewer words, or no filter."


@dataclass(frozen=True, repr=False)
class Answer(Shown):
    """What was found, where, and how long embedding and searching took (milliseconds). ``mode``: how it was found, which
    is by words where no encoder answered; ``notes`` say so."""

    query: str
    mode: Mode
    node: str
    hits: tuple[Hit, ...]
    embed_ms: float
    search_ms: float
    notes: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """As the REST answer, with the source and the ranks of each result."""
        results = [{**vars(hit), "similarity": _rounded(hit.similarity), "score": _rounded(hit.score)} for hit in self.hits]
        return {"results": results, "query": self.query, "count": len(results), **self._how()}

    def _how(self) -> dict[str, Any]:
        return {"mode": self.mode, "node": self.node, "notes": list(self.notes)}

    def table(self) -> Table:
        title = f"{len(self.hits)} results for “{self.query}” ({self.mode}, {self.node}, {self.search_ms:.0f} ms)"
        rows = tuple((str(rank), _where(hit), excerpt(hit.content, self.query)) for rank, hit in enumerate(self.hits, 1))
        notes = self.notes if rows else (*self.notes, NOTHING)
        return Table(title, ("", "where", "text"), rows, notes)

    def text(self, colour: bool = False) -> str:
        """For a terminal: where it stands, then the lines that answer."""
        bold, dim, off = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")
        lines = []
        for rank, hit in enumerate(self.hits, 1):
            ranks = [f"similarity {hit.similarity:.2f}"] if hit.similarity is not None else []
            ranks += [f"meaning #{hit.vector_rank}"] if hit.vector_rank else []
            ranks += [f"words #{hit.text_rank}"] if hit.text_rank else []
            lines.append(f"{rank:2}. {bold}{_line(_path(hit))}{off}")
            where = _line(f"{hit.source or 'document'} [{hit.category}]")
            lines.append(f"    {dim}{where} chunk {hit.chunk_id} · {', '.join(ranks)}{off}")
            lines += [f"    {line}" for line in excerpt(hit.content, self.query).splitlines()] + [""]
        took = f"{self.search_ms:.0f} ms ({self.mode}, {self.node}; embedding {self.embed_ms:.0f} ms)"
        return "\n".join([*lines, *map(_line, self.notes), f"{len(self.hits)} results in {took}" if self.hits else NOTHING])


def ask(nodes: Nodes, query: str, mode: Mode = "hybrid", limit: int = 10, filters: Filters | None = None) -> Answer:
    """Search the site: on the primary, or on the standby when the primary does not answer. Text search needs no encoder, and
    hybrid search does without one that does not answer, and says so.

    Raises :class:`UsageError`, :class:`WrongModel` (the vectors there are another model's) and :class:`Unreachable`.
    """
    query = words.clean(query)
    (filters or Filters()).given()
    node = roles.readable(nodes)
    started = time.perf_counter()
    vector, by, notes = None, None, []
    if mode != "text":
        try:
            client, _ = encoder(nodes, near=node.name, patience_s=3)
            client.timeout_s = ENCODER_S
            vector, by = client.query(query)
        except Unreachable as error:
            if mode != "hybrid":
                raise
            mode = "text"
            notes.append(f"Found by words alone: {error}")
    embedded = time.perf_counter()
    with node.session() as connection:
        if by:
            provenance.refuse(provenance.read(connection), by)
        searcher = Searcher(connection)
        ready = time.perf_counter()
        hits = searcher.search(query, vector, mode, limit, filters)
    ended = time.perf_counter()
    notes += _of_words(searcher, mode, words_of(node.site))
    return Answer(query, mode, node.name, tuple(hits), (embedded - started) * 1000, (ended - ready) * 1000, tuple(notes))


def _of_words(searcher: Searcher, mode: Mode, wanted: str) -> list[str]:
    """What a person should know of the words that were looked for."""
    found = searcher.lexemes
    if mode != "vector" and searcher.tuning.words != wanted:
        return [f"The chunks have '{searcher.tuning.words}', this site asks for '{wanted}'. Run: aya run ingest"]
    if mode != "vector" and not found:
        return ["None of the question's words is in any document, or they are too common to be looked for."]
    if found and found[0].of > words.WORDS:
        return [f"The question has {found[0].of} different words; the {words.WORDS} rarest were looked for."]
    return []


def excerpt(content: str, query: str) -> str:
    """The lines of a chunk with the most of the question's words, at most ``LINES`` of ``WIDTH`` characters."""
    text = re.sub(r"^#+\s*|\*\*|^\|[\s|:-]+\|$", "", plain(content), flags=re.MULTILINE)
    text = re.sub(r"(?<=[^\s])\n(?=[A-Za-z(`\"'])", " ", text)  # a paragraph that its file wrapped
    lines = [line for part in text.splitlines() if part.strip() for line in textwrap.wrap(part.strip(), WIDTH)]
    words = {word[:5] for word in re.findall(r"\w{3,}", query.lower())}
    score = [sum(word in line.lower() for word in words) for line in lines]
    best = max(range(max(1, len(lines) - LINES + 1)), key=lambda start: (sum(score[start : start + LINES]), -start))
    shown = lines[best : best + LINES]
    before, after = "… " if best else "", " …" if best + LINES < len(lines) else ""
    return before + "\n".join(shown) + after


def _line(text: str) -> str:
    return " ".join(plain(text).split())


def _path(hit: Hit) -> str:
    title = str(hit.metadata.get("title") or hit.source or f"document {hit.document_id}")
    headings = map(str, hit.metadata.get("headings") or [])
    page = [f"page {hit.metadata['page']}"] if hit.metadata.get("page") else []
    return " > ".join(dict.fromkeys([title, *headings, *page]))


def _where(hit: Hit) -> str:
    return f"{_path(hit)}\n{hit.source or ''} [{hit.category}]"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
