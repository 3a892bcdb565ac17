"""The runbook evaluate_search. Known-item retrieval: a sentence or heading is taken out of a chunk and asked.

The chunk, and whatever carries the heading, is embedded again without it in a temporary copy, so that the answer is not found by
its own words; then it is counted whether it comes back, and at which rank. The copy has no vector index: what an index misses is
benchmark_ivfflat's question.
"""

from __future__ import annotations

from collections.abc import Sequence

from pgvector import Vector
from pgvector.psycopg import register_vector

from aya_lib.cluster import roles
from aya_lib.cluster.canary import writing
from aya_lib.embedding.client import encoder
from aya_lib.embedding.encoder import Vectors
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError
from aya_lib.knowledge import judge, provenance, ready, words
from aya_lib.knowledge.evaluation import (
    DEPTH,
    Asked,
    Evaluation,
    Passage,
    Question,
    held_out,
    misses,
    questions,
    retrieval,
)
from aya_lib.knowledge.search import MODES, Searcher
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, rows, statement
from aya_lib.node.unseen import Missing, Unseen, seen

look, preconditions, checks, plot = ready.look, judge.preconditions, judge.searched, retrieval


@writing("copy the chunks into a temporary table and ask it")
def measure(nodes: Nodes, questions: int = 100, seed: int = 1) -> Evaluation | Missing:
    """Ask ``questions`` questions (or as many as the documents give), each in all three modes."""
    try:
        return seen("the primary", "evaluate the search", lambda: _measure(nodes, questions, seed))
    except AyaError as error:
        return Unseen("the primary", "evaluate the search", str(error))


def _measure(nodes: Nodes, count: int, seed: int) -> Evaluation:
    node = roles.primary(nodes)
    client, served = encoder(nodes, near=node.name)
    with node.session(write=True, deadline_s=1800) as connection:
        provenance.refuse(provenance.read(connection), served)
        chunks = rows(connection, __package__, "evaluated", Passage)
        asked = questions(chunks, count, seed)
        if not asked:
            raise AyaError("the documents give no questions: no chunk has a heading, or two sentences", hint="Run ingest first")
        vectors = client.vectors([question.text for question in asked], "query")
        others = held_out(chunks, asked)
        tokenizer = Tokenizer(open_files(node.site.embedding))
        texts = provenance.passages(tokenizer, [provenance.Passage(one.text, one.title, one.headings) for one in others])
        _hold_out(connection, others, client.vectors(texts))
        searcher = Searcher(connection)
        answers = [_ask(searcher, question, vector) for question, vector in zip(asked, vectors, strict=True)]
    return Evaluation(len(chunks), tuple(answers))


def _hold_out(connection: Connection, others: Sequence[Passage], vectors: Vectors) -> None:
    """Put a copy of the chunks before the real ones in this session, in which the questions were taken out."""
    register_vector(connection)
    for part in statement(__package__, "held_out").split(";"):
        connection.execute(part)
    values = [
        {"id": one.id, "text": one.text, "headings": list(one.headings), "vector": Vector(vector)}
        for one, vector in zip(others, vectors, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement(__package__, "hold_out"), values)
    connection.execute("ANALYZE chunks")


def _ask(searcher: Searcher, question: Question, vector: Vectors) -> Asked:
    ranks: dict[str, int | None] = {}
    first = ""
    for mode in MODES:
        hits = searcher.search(words.literal(question.text), vector, mode, DEPTH)
        ranks[mode] = next((rank for rank, hit in enumerate(hits, 1) if hit.chunk_id == question.chunk_id), None)
        if mode == "hybrid" and hits:
            path = [str(hits[0].metadata.get("title")), *map(str, hits[0].metadata.get("headings") or [])]
            first = " > ".join(dict.fromkeys(path))
    return Asked(question, ranks, first)


__all__ = ["checks", "look", "measure", "misses", "plot", "preconditions"]
