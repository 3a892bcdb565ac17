"""Recall of a live index by real, read-only searches: for HNSW, whose recall cannot be read from its pages."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection
from aya_lib.vectors.index import EXACT, Index, Table
from aya_lib.vectors.truth import EPSILON, Recall, interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT_S = 10.0  # that exact searches by SQL may take in all


@dataclass(frozen=True)
class Asker:
    """Searches of a table for rows of it, shape (q, d), prepared for the metric; each row is left out of its own answer."""

    connection: Connection
    table: Table
    index: Index
    name: str
    k: int
    queries: NDArray[np.float32]

    def limits(self) -> NDArray[np.float64]:
        """The distance of the k-th neighbour by exact searches, for as many queries as fit into 10 s, shape (q,)."""
        import numpy as np

        self._set({"enable_indexscan": "off", "enable_seqscan": "on", "jit": "off"})
        query = EXACT.search(self._table, self.k + 1, 0)
        give_up, found = time.monotonic() + EXACT_S, []
        for vector in self.queries:
            found.append(float(self._distances(query, vector)[-1]))
            if time.monotonic() > give_up:
                break
        return np.array(found)

    def recall(self, value: int, limits: NDArray[np.float64]) -> tuple[Recall, float]:
        """Recall@k with the index's knob at ``value``, and the median milliseconds of a search.

        :class:`AyaError` when the planner does not take the index even where a sequential scan is forbidden.
        """
        import numpy as np

        self._set({"enable_seqscan": "off", "enable_indexscan": "on", "jit": "off", **self.index.settings(value)})
        query = self.index.search(self._table, self.k + 1, value)
        plan = self._run(sql.SQL("EXPLAIN {}").format(query), self.queries[0])
        if not any(f"using {self.name} " in str(line).replace('"', "") for (line,) in plan):
            raise AyaError(f"a search does not use {self.name}", hint="EXPLAIN says why: another index, or another form?")
        good, ms = [], []
        for vector, limit in zip(self.queries, limits, strict=False):
            started = time.perf_counter()
            distances = self._distances(query, vector)
            ms.append(1000 * (time.perf_counter() - started))
            good.append(min(self.k, int((distances <= limit + EPSILON * max(abs(limit), 1e-2)).sum())) / self.k)
        return interval(np.array(good)), float(np.median(ms))

    @property
    def _table(self) -> Table:
        """The answers are vectors: so no key is needed, and a hit is a distance."""
        return Table(self.table.name, self.table.column, self.table.column, self.table.dimension, self.table.metric)

    def _distances(self, query: sql.Composed, vector: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances of the answers, ascending, without the row that was asked for; infinite where fewer came."""
        import numpy as np

        rows = self._run(query, vector)
        found = np.array([json.loads(str(row[0])) for row in rows], np.float32).reshape(-1, self.table.dimension)
        answers = self.table.metric.prepare(found)
        itself = np.flatnonzero(np.abs(answers - vector).max(axis=1) < 1e-5)[:1]
        distances = np.sort(self.table.metric.paired(vector, np.delete(answers, itself, axis=0)))[: self.k]
        return np.append(distances, [np.inf] * (self.k - len(distances)))

    def _run(self, query: sql.Composed, vector: NDArray[np.float32]) -> list[tuple[object, ...]]:
        text = "[" + ",".join(map(repr, vector.tolist())) + "]"
        return psycopg.RawCursor(self.connection).execute(query, [text]).fetchall()

    def _set(self, settings: dict[str, str]) -> None:
        for name, value in settings.items():
            self.connection.execute("SELECT set_config(%s, %s, false)", (name, value))
