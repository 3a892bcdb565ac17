"""A filled table of chunks, and searches that go on while its index is rebuilt: what they found, how, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pgvector import Vector
from psycopg import sql

from aya_lib.knowledge.search import Searcher, composed
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection
from aya_lib.vectors import wire
from aya_lib.vectors.catalog import Live, look

ROWS, QUERIES, K = 5000, 25, 10
RARE = 40  # chunks of a document of the category 'rare'


def vectors(count: int = ROWS, dimension: int = 384) -> Any:
    """Unit vectors around 30 topics. The last QUERIES of them are to be asked and not stored."""
    rng = np.random.default_rng(1)
    basis, topics = rng.normal(size=(24, dimension)), rng.normal(size=(30, 24))
    points = topics[rng.integers(0, 30, count + QUERIES)] + 0.8 * rng.normal(size=(count + QUERIES, 24))
    found = points @ basis / 5 + 0.1 * rng.normal(size=(count + QUERIES, dimension))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def fill(node: Node, given: Any) -> None:
    """The chunks, ids from 1; no vector index."""
    with node.session(write=True, deadline_s=60) as connection:
        connection.execute("DROP INDEX IF EXISTS idx_chunks_embedding")
        connection.execute("TRUNCATE documents, chunks RESTART IDENTITY CASCADE")
        connection.execute("INSERT INTO documents (content, category) SELECT 'x', 'many' FROM generate_series(1, 124)")
        connection.execute("INSERT INTO documents (content, category) VALUES ('x', 'rare')")
        connection.execute("CREATE TEMP TABLE given (position int4, embedding vector)")
        with connection.cursor().copy("COPY given FROM STDIN (FORMAT BINARY)") as copy:
            for block in wire.copy_in(given):
                copy.write(block)
        columns = "document_id, chunk_text, embedding"
        rows = "SELECT position % 125 + 1, 'a chunk', embedding FROM given ORDER BY position"
        connection.execute(f"INSERT INTO chunks ({columns}) {rows}".encode())
        connection.execute("ANALYZE chunks, documents")


def lists(node: Node, count: int, stored: str = "{}") -> None:
    """Whatever is there: an IVFFlat index with so many lists, and these settings."""
    names = "idx_chunks_embedding, idx_chunks_embedding_new, idx_chunks_embedding_old, idx_chunks_embedding_ccnew"
    execute(
        node,
        "SET client_min_messages = error",
        f"DROP INDEX IF EXISTS {names}",
        f"CREATE INDEX idx_chunks_embedding ON chunks USING ivfflat (embedding vector_cosine_ops) WITH (lists = {count})",
        "DELETE FROM aya_settings WHERE key = 'search'",
        f"INSERT INTO aya_settings (key, value) VALUES ('search', '{stored}'::jsonb)",
    )


def live(node: Node) -> Live:
    found = look(node)
    assert isinstance(found, Live), found
    return found


def names(state: Live) -> list[tuple[str, str]]:
    """Of all indexes, and what each is."""
    return [(one.name, str(one.index())) for one in state.indexes]


def execute(node: Node, *queries: str) -> None:
    with node.session(write=True) as connection:
        for query in queries:
            connection.execute(query.encode())


@dataclass
class Searching:
    """Searches of one long-lived searcher on one session, one after the other, until it is told to stop."""

    node: Node
    asked: Any
    truth: list[set[int]]
    role: str | None = None
    found: list[tuple[float, float, str]] = field(default_factory=list)  # when, recall, kind
    plans: list[str] = field(default_factory=list)  # those without the index
    error: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            with self.node.session(role=self.role, deadline_s=300) as connection:
                connection.execute("SET enable_seqscan = off")
                self._search(connection, Searcher(connection))
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"

    def _search(self, connection: Connection, searcher: Searcher) -> None:
        number = 0
        while not self.stopped.wait(0.01):
            vector = self.asked[number % QUERIES]
            hits = searcher.search("", vector, "vector", K)
            recall = len({hit.chunk_id for hit in hits} & self.truth[number % QUERIES]) / K
            self.found.append((time.monotonic(), recall, searcher.tuning.form[0]))
            number += 1
            if number % 5 == 0:
                values = {"vector": Vector(vector), "limit": K, "depth": K, "candidates": 100}
                explain = sql.SQL("EXPLAIN ") + composed("vector", (), *searcher.tuning.form)
                lines = "\n".join(str(row[0]) for row in connection.execute(explain, values).fetchall())
                if "using idx_chunks_embedding" not in lines:
                    self.plans.append(lines)

    def lowest(self, window: int = QUERIES) -> float:
        """The lowest recall over so many searches in a row."""
        recalls = [recall for _, recall, _ in self.found]
        return min(float(np.mean(recalls[at : at + window])) for at in range(max(1, len(recalls) - window + 1)))


@contextmanager
def searching(given: Any, *who: tuple[Node, str | None]) -> Iterator[list[Searching]]:
    """Searches in a thread for each node and role, which began before the block and end after it."""
    stored, asked = given[:-QUERIES], given[-QUERIES:]
    truth = [{int(at) + 1 for at in row} for row in np.argsort(-(asked @ stored.T), axis=1)[:, :K]]
    all_ = [Searching(node, asked, truth, role) for node, role in who]
    threads = [threading.Thread(target=one.run) for one in all_]
    try:
        for thread in threads:
            thread.start()
        begun = time.monotonic() + 10
        while any(len(one.found) < QUERIES and not one.error for one in all_) and time.monotonic() < begun:
            time.sleep(0.02)
        yield all_
        time.sleep(0.3)
    finally:
        for one in all_:
            one.stopped.set()
        for thread in threads:
            thread.join()
