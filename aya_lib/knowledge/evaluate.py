"""How good is search on these documents? Known-item retrieval: a sentence or heading is taken out of a chunk and asked.

The chunk is embedded again without it, in a temporary copy, so that the answer is not found by its own words; then it is
counted whether it comes back, and at which rank. The copy has no vector index: what an index misses is benchmark_ivfflat's
question.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster import roles
from aya_lib.cluster.canary import writing
from aya_lib.embedding.client import encoder
from aya_lib.errors import AyaError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.search import MODES, Mode, Searcher
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, rows, statement
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.show import Shown, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEPTH = 20  # ranks beyond it count as a miss
AT = (1, 3, 5, 10)
LEFT = 100  # characters that a chunk must keep without its question
MISSES = 8  # that are shown to be read


@dataclass(frozen=True)
class Question:
    """``text`` was taken out of chunk ``chunk_id``; ``rest`` is what the chunk says without it."""

    chunk_id: int
    kind: str
    text: str
    rest: str
    title: str


@dataclass(frozen=True)
class Asked:
    """At which rank the chunk came back, by mode (None: not among the first 20), and the chunk that fused search put first."""

    question: Question
    ranks: dict[str, int | None]
    first: str


@dataclass(frozen=True)
class Measured:
    """A share or a mean with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """All questions with their ranks, over ``chunks`` chunks."""

    chunks: int
    asked: tuple[Asked, ...]

    def recall(self, mode: Mode, k: int) -> Measured:
        """Share of questions whose chunk is among the first k; interval by Wilson (1927)."""
        from scipy.stats import binomtest

        hits = sum((rank := one.ranks[mode]) is not None and rank <= k for one in self.asked)
        found = binomtest(hits, len(self.asked)).proportion_ci(method="wilson")
        return Measured(hits / len(self.asked), float(found.low), float(found.high))

    def mrr(self, mode: Mode) -> Measured:
        """Mean of 1/rank, 0 for a miss; percentile bootstrap interval, 2,000 resamples with a fixed seed."""
        import numpy as np

        values = np.array([1 / rank if (rank := one.ranks[mode]) else 0.0 for one in self.asked])
        means = np.random.default_rng(1).choice(values, (2000, len(values))).mean(axis=1)
        return Measured(float(values.mean()), float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975)))

    def table(self) -> Table:
        lines = tuple((mode, *(str(self.recall(mode, k)) for k in AT), str(self.mrr(mode))) for mode in MODES)
        kinds = ", ".join(f"{sum(one.question.kind == kind for one in self.asked)} {kind}s" for kind in ("heading", "sentence"))
        title = f"{len(self.asked)} questions ({kinds}) to {self.chunks} chunks: does the chunk come back?"
        columns = ("search", *(f"recall@{k}" for k in AT), "MRR")
        return Table(title, columns, lines, ("in brackets: 95 % confidence interval",))


@dataclass(frozen=True, repr=False)
class Misses(Shown):
    """Questions whose chunk did not come first."""

    lines: tuple[tuple[str, ...], ...]

    def table(self) -> Table:
        columns = ("rank", "asked", "stands in", "what came first instead")
        return Table(
            "The worst misses, to be read" if self.lines else "No chunk to show: none was asked for, or each came first",
            columns,
            self.lines,
        )


@dataclass(frozen=True)
class _Chunk:
    id: int
    text: str
    title: str
    headings: list[str]


@writing("copy the chunks into a temporary table and ask it")
def look(nodes: Nodes, questions: int = 100, seed: int = 1) -> Evaluation | Missing:
    """Ask ``questions`` questions (or as many as the documents give), each in all three modes."""
    try:
        return seen("the primary", "evaluate the search", lambda: _evaluate(nodes, questions, seed))
    except AyaError as error:
        return Unseen("the primary", "evaluate the search", str(error))


def _evaluate(nodes: Nodes, count: int, seed: int) -> Evaluation:
    node = roles.primary(nodes)
    client, served = encoder(nodes, near=node.name)
    with node.session(write=True, deadline_s=1800) as connection:
        provenance.refuse(provenance.read(connection), served)
        chunks = rows(connection, __package__, "evaluated", _Chunk)
        asked = questions(chunks, count, seed)
        if not asked:
            raise AyaError("the documents give no questions: no chunk has a heading, or two sentences", hint="Run ingest first")
        vectors = client.vectors([one.text for one in asked], "query")
        _hold_out(connection, asked, client.vectors([one.rest for one in asked]), node.site.knowledge.language)
        searcher = Searcher(connection, node.site.knowledge.language)
        found = [_ask(searcher, one, vector) for one, vector in zip(asked, vectors, strict=True)]
    return Evaluation(len(chunks), tuple(found))


def questions(chunks: Sequence[_Chunk], count: int, seed: int) -> list[Question]:
    """Headings and sentences, half of each where there are enough, from chunks that still say something without them."""
    chosen = list(chunks)
    random.Random(seed).shuffle(chosen)
    found: dict[str, list[Question]] = {"heading": [], "sentence": []}
    for chunk in chosen:
        few = sorted(found, key=lambda kind: len(found[kind]))
        made = next((one for kind in few if (one := _question(chunk, kind))), None)
        if made:
            found[made.kind].append(made)
        if sum(map(len, found.values())) >= count:
            break
    return [one for kind in found.values() for one in kind]


def _question(chunk: _Chunk, kind: str) -> Question | None:
    if kind == "heading":
        line = re.match(r"#{1,6}[ \t]+(.{12,200})\n", chunk.text)
        taken = line[1] if line else None
    else:
        sentences = re.findall(r"(?:(?<=[.!?]\s)|(?<=\n\n))[A-Z][^.!?|#\n]{30,250}[.!?](?=\s|$)", chunk.text)
        taken = max(sentences, key=len) if sentences else None
    if not taken:
        return None
    rest = re.sub(r"^#{1,6}\s*\n", "", chunk.text.replace(taken, "", 1)).strip()
    words = re.sub(r"^[\d.\s]+|[#*`]", "", taken).strip()
    title = " > ".join(dict.fromkeys([chunk.title, *chunk.headings]))
    return Question(chunk.id, kind, " ".join(words.split()), rest, title) if len(rest) >= LEFT and len(words) >= 12 else None


def _hold_out(connection: Connection, asked: Sequence[Question], vectors: NDArray[np.float32], language: str) -> None:
    """Put a copy of the chunks before the real ones in this session, in which the questions were taken out."""
    from pgvector import Vector
    from pgvector.psycopg import register_vector

    register_vector(connection)
    for part in statement(__package__, "held_out").split(";"):
        connection.execute(part)
    update = "UPDATE chunks SET chunk_text = %s, embedding = %s, chunk_terms = to_tsvector(%s::regconfig, %s) WHERE id = %s"
    values = [(o.rest, Vector(v), language, o.rest, o.chunk_id) for o, v in zip(asked, vectors, strict=True)]
    with connection.cursor() as cursor:
        cursor.executemany(update, values)
    connection.execute("ANALYZE chunks")


def _ask(searcher: Searcher, question: Question, vector: NDArray[np.float32]) -> Asked:
    ranks: dict[str, int | None] = {}
    first = ""
    for mode in MODES:
        hits = searcher.search(question.text, vector, mode, DEPTH)
        ranks[mode] = next((rank for rank, hit in enumerate(hits, 1) if hit.chunk_id == question.chunk_id), None)
        if mode == "hybrid" and hits:
            path = [str(hits[0].metadata.get("title")), *map(str, hits[0].metadata.get("headings") or [])]
            first = " > ".join(dict.fromkeys(path))
    return Asked(question, ranks, first)


def misses(found: Evaluation | Missing) -> Misses:
    """What fused search ranked worst, to be read."""
    asked = found.asked if isinstance(found, Evaluation) else ()
    worst = sorted(asked, key=lambda one: -(one.ranks["hybrid"] or DEPTH + 1))
    return Misses(
        tuple(
            (str(one.ranks["hybrid"] or f"> {DEPTH}"), one.question.text[:160], one.question.title, one.first)
            for one in worst[:MISSES]
            if one.ranks["hybrid"] != 1
        )
    )


def check(found: Evaluation | Missing, recall_at_10: float) -> list[Check]:
    """The wished recall is met by fused search, and fusing is not worse than either of its halves."""

    def enough(one: Evaluation) -> Judged:
        got = one.recall("hybrid", 10)
        return passed_if(
            got.high >= recall_at_10, str(got), "Read the worst misses: duplicates, chunks too small, another language?"
        )

    def fused(one: Evaluation) -> Judged:
        both, best = one.mrr("hybrid"), max((one.mrr("vector"), one.mrr("text")), key=lambda each: each.value)
        said = f"MRR {both.value:.2f}, the better half {best.value:.2f}"
        hint = "Search with the better mode; fusing with the worse list costs here"
        return Judged("passed" if both.high >= best.value else "warning", said, hint)

    return [
        evaluate("fused search finds what is there", f"recall@10 of {recall_at_10:g}, within its interval", found, enough),
        evaluate("fusing is no worse than its better half", "MRR", found, fused),
    ]


__all__ = ["Evaluation", "check", "look", "misses", "questions"]
