"""Search: by meaning (vectors), by words (full text), or both fused by reciprocal rank.

One statement a search. Filters never cost results: index scans go on until enough rows passed the filter, and where
fewer came than were asked for, the rows are read without the index once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from aya_lib.errors import UsageError
from aya_lib.node.sql import Connection, rows, statement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mode = Literal["vector", "text", "hybrid"]
MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")
MOST = 1000  # results of one search
DEPTH = 50  # candidates of each list that are fused, at least; and four times the limit

CONDITIONS = {
    "category": " AND d.category = %(category)s",
    "metadata": " AND (d.metadata @> %(metadata)s OR c.metadata @> %(metadata)s)",
    "since": " AND d.created_at >= %(since)s",
    "until": " AND d.created_at < %(until)s",
}


@dataclass(frozen=True)
class Filters:
    """What a result must be: of a category, with these metadata (contained), of a document created since, and before."""

    category: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def given(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: value for name, value in vars(self).items() if value}
        return found | ({"metadata": Jsonb(dict(self.metadata))} if self.metadata else {})


@dataclass(frozen=True)
class Hit:
    """A chunk that was found. ``similarity``: cosine, 1 is equal; ``score``: what it was ordered by; ranks from 1."""

    chunk_id: int
    document_id: int
    content: str
    similarity: float | None
    vector_rank: int | None
    text_rank: int | None
    score: float
    category: str | None
    source: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """How the vector index is searched: what the site's tuning chose, else sqrt(lists) as pgvector's README advises."""

    method: str | None
    lists: int | None
    probes: int | None
    ef_search: int | None
    chosen_probes: int | None
    chosen_ef_search: int | None

    def settings(self) -> dict[str, str]:
        """Session settings. What the database or the role sets already is left as it is."""
        found = {"hnsw.iterative_scan": "strict_order", "ivfflat.iterative_scan": "relaxed_order", "jit": "off"}
        if self.probes is None:
            found["ivfflat.probes"] = str(self.chosen_probes or max(1, math.ceil(math.sqrt(self.lists or 1))))
        if self.ef_search is None:
            found["hnsw.ef_search"] = str(self.chosen_ef_search or 2 * DEPTH)
        return found


class Searcher:
    """Searches on one connection, whose session it sets up once."""

    def __init__(self, connection: Connection, language: str = "english") -> None:
        from pgvector.psycopg import register_vector

        self.connection, self.language = connection, language
        register_vector(connection)
        connection.execute("SELECT '[1]'::vector")  # loads pgvector, so that its settings are known
        self.tuning = rows(connection, __package__, "tuning", Tuning)[0]
        for name, value in self.tuning.settings().items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    def search(
        self, query: str, vector: NDArray[np.float32], mode: Mode = "hybrid", limit: int = 10, filters: Filters | None = None
    ) -> list[Hit]:
        """The best ``limit`` chunks, best first. ``vector``: of the query, shape (dimension,). Raises :class:`UsageError`."""
        from pgvector import Vector

        if mode not in MODES:
            raise UsageError(f"mode '{mode}': allowed are {', '.join(MODES)}")
        if not 1 <= limit <= MOST:
            raise UsageError(f"limit {limit}: allowed is 1 to {MOST}")
        given = (filters or Filters()).given()
        depth = limit if mode != "hybrid" else max(DEPTH, 4 * limit)
        values = {"query": query, "language": self.language, "vector": Vector(vector), "limit": limit, "depth": depth, **given}
        with self.connection.cursor(row_factory=class_row(Hit)) as cursor:
            found = cursor.execute(composed(mode, tuple(given)), values).fetchall()
            if mode == "text" or sum(hit.vector_rank is not None for hit in found) >= min(limit, depth):
                return found
            return self._exact(composed(mode, tuple(given)), values) if len(found) < limit else found

    def _exact(self, query: sql.Composed, values: dict[str, Any]) -> list[Hit]:
        """Once more without the vector index: nothing that exists is left out."""
        with self.connection.transaction(), self.connection.cursor(row_factory=class_row(Hit)) as cursor:
            cursor.execute("SET LOCAL enable_indexscan = off")
            return cursor.execute(query, values).fetchall()


@lru_cache(maxsize=64)
def composed(mode: Mode, filters: tuple[str, ...]) -> sql.Composed:
    """The statement of a mode with exactly the conditions that are asked for, so that the planner can do without the rest."""
    every = sql.SQL(statement(__package__, "every").strip())
    parts = {
        "join": sql.SQL("JOIN documents d ON d.id = c.document_id" if filters else ""),
        "filters": sql.SQL("").join(sql.SQL(CONDITIONS[name]) for name in filters),
        "every": every,
        "any": sql.SQL(statement(__package__, "any").strip()).format(every=every),
    }
    inner = {name: sql.SQL(statement(__package__, name)).format(**parts) for name in ("nearest", "matching")}
    return sql.SQL(statement(__package__, mode)).format(**inner)
