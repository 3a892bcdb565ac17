"""A question asked of a site, from its words to results that a person or a program reads."""

from __future__ import annotations

import re
import textwrap
import time
from dataclasses import dataclass
from typing import Any

from aya_lib.cluster import roles
from aya_lib.embedding.client import encoder
from aya_lib.errors import UsageError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.search import Filters, Hit, Mode, Searcher
from aya_lib.node.node import Nodes
from aya_lib.show import Shown, Table

LINES = 4  # of a chunk that a person is shown
WIDTH = 96
NOTHING = "Nothing matches. Try --mode vector, fewer words, or no filter."


@dataclass(frozen=True, repr=False)
class Answer(Shown):
    """What was found, where, and how long embedding and searching took (milliseconds)."""

    query: str
    mode: Mode
    node: str
    hits: tuple[Hit, ...]
    embed_ms: float
    search_ms: float

    def json(self) -> dict[str, Any]:
        """As the REST answer, with the source and the ranks of each result."""
        results = [{**vars(hit), "similarity": _rounded(hit.similarity), "score": _rounded(hit.score)} for hit in self.hits]
        return {"results": results, "query": self.query, "count": len(results), "mode": self.mode, "node": self.node}

    def table(self) -> Table:
        title = f"{len(self.hits)} results for “{self.query}” ({self.mode}, {self.node}, {self.search_ms:.0f} ms)"
        rows = tuple((str(rank), _where(hit), excerpt(hit.content, self.query)) for rank, hit in enumerate(self.hits, 1))
        notes = () if rows else (NOTHING,)
        return Table(title, ("", "where", "text"), rows, notes)

    def text(self, colour: bool = False) -> str:
        """For a terminal: where it stands, then the lines that answer."""
        bold, dim, off = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")
        lines = []
        for rank, hit in enumerate(self.hits, 1):
            ranks = [f"similarity {hit.similarity:.2f}"] if hit.similarity is not None else []
            ranks += [f"meaning #{hit.vector_rank}"] if hit.vector_rank else []
            ranks += [f"words #{hit.text_rank}"] if hit.text_rank else []
            lines.append(f"{rank:2}. {bold}{_path(hit)}{off}")
            lines.append(f"    {dim}{hit.source or 'document'} [{hit.category}] chunk {hit.chunk_id} · {', '.join(ranks)}{off}")
            lines += [f"    {line}" for line in excerpt(hit.content, self.query).splitlines()] + [""]
        took = f"{self.search_ms:.0f} ms ({self.mode}, {self.node}; embedding {self.embed_ms:.0f} ms)"
        return "\n".join([*lines, f"{len(self.hits)} results in {took}" if self.hits else NOTHING])


def ask(nodes: Nodes, query: str, mode: Mode = "hybrid", limit: int = 10, filters: Filters | None = None) -> Answer:
    """Search the site: on the primary, or on the standby when the primary does not answer.

    Raises :class:`UsageError`, :class:`WrongModel` (the vectors there are another model's) and :class:`Unreachable`.
    """
    if not query.strip():
        raise UsageError("the question is empty")
    node = roles.readable(nodes)
    started = time.perf_counter()
    client, _ = encoder(nodes, near=node.name, patience_s=3)
    vector, by = client.query(query)
    embedded = time.perf_counter()
    with node.session() as connection:
        provenance.refuse(provenance.read(connection), by)
        searcher = Searcher(connection, node.site.knowledge.language)
        ready = time.perf_counter()
        hits = searcher.search(query, vector, mode, limit, filters)
    ended = time.perf_counter()
    return Answer(query, mode, node.name, tuple(hits), (embedded - started) * 1000, (ended - ready) * 1000)


def excerpt(content: str, query: str) -> str:
    """The lines of a chunk with the most of the question's words, at most ``LINES`` of ``WIDTH`` characters."""
    plain = re.sub(r"^#+\s*|\*\*|^\|[\s|:-]+\|$", "", content, flags=re.MULTILINE)
    plain = re.sub(r"(?<=[^\s])\n(?=[A-Za-z(`\"'])", " ", plain)  # a paragraph that its file wrapped
    lines = [line for part in plain.splitlines() if part.strip() for line in textwrap.wrap(part.strip(), WIDTH)]
    words = {word[:5] for word in re.findall(r"\w{3,}", query.lower())}
    score = [sum(word in line.lower() for word in words) for line in lines]
    best = max(range(max(1, len(lines) - LINES + 1)), key=lambda start: (sum(score[start : start + LINES]), -start))
    shown = lines[best : best + LINES]
    before, after = "… " if best else "", " …" if best + LINES < len(lines) else ""
    return before + "\n".join(shown) + after


def _path(hit: Hit) -> str:
    title = str(hit.metadata.get("title") or hit.source or f"document {hit.document_id}")
    headings = map(str, hit.metadata.get("headings") or [])
    page = [f"page {hit.metadata['page']}"] if hit.metadata.get("page") else []
    return " > ".join(dict.fromkeys([title, *headings, *page]))


def _where(hit: Hit) -> str:
    return f"{_path(hit)}\n{hit.source or ''} [{hit.category}]"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
