"""Rows of a live table as a measure for indexes: their true neighbours, and the recall curve of any centroids over them.

Some hundred rows stand for queries. Their neighbours are exact, over the whole table, which is streamed where it does not
fit into memory; only what decides nothing about recall, k-means and the sizes of lists, is then taken from a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aya_lib.node.sql import Connection
from aya_lib.vectors import ivf_model, wire
from aya_lib.vectors.index import SAMPLES_A_LIST, SAMPLES_LEAST, Table
from aya_lib.vectors.ivf_model import Curve
from aya_lib.vectors.measure import ITSELF
from aya_lib.vectors.metric import Metric
from aya_lib.vectors.truth import Neighbours

VALUES = 80_000_000  # values of float32 that are held at most: 100,000 rows of 768 dimensions, 320 MB
QUERIES = 300  # rows whose neighbours are looked for
SIZED = 20_000  # rows that are assigned to the lists of a twin, to know its lists' sizes
K_MEANS = 1.5e11  # multiplications and additions that the k-means of a twin may take: about 2 s on two cores
FEWEST_A_LIST = 12  # rows a list that k-means is given at least


@dataclass(frozen=True)
class Yardstick:
    """``base`` (n, d): rows of the table in random order, prepared for the metric, all or a sample; ``rows``: of the whole
    table, with a vector that is indexed. ``queries`` (q, d), some of them; ``near`` (q, k, d) their nearest others in the whole
    table, and ``distances`` (q, k), ascending; all empty where there are fewer than k + 2 rows."""

    metric: Metric
    base: NDArray[np.float32]
    rows: int
    without_direction: int  # zero vectors, which an index by cosine leaves out
    queries: NDArray[np.float32]
    near: NDArray[np.float32]
    distances: NDArray[np.float64]

    @property
    def sampled(self) -> bool:
        return self.rows > len(self.base)

    def curve(self, centres: NDArray[np.float32]) -> Curve:
        """The curve of a live index's centroids (lists, d), in rows of the whole table.

        An index of halves rounds what it holds; on 4,000 rows that moved none into another list.
        """
        return self._curve(centres, self.base)

    def twin(self, lists: int) -> Curve:
        """The curve that a fresh index of so many lists would have, its k-means given as large a sample as pgvector takes, or
        smaller where that would take long."""
        dimension = self.base.shape[1]
        each = 2 * lists * ((ivf_model.ROUNDS - 1) * min(ivf_model.SEEN, dimension) + dimension)
        allowed = max(FEWEST_A_LIST * lists, math.floor(K_MEANS / each))
        size = min(allowed, max(SAMPLES_A_LIST * lists, SAMPLES_LEAST))
        return self._curve(ivf_model.centroids(self.base[:size], lists, self.metric), self.base[:SIZED])

    def _curve(self, centres: NDArray[np.float32], sized: NDArray[np.float32]) -> Curve:
        """``sized``: random rows, whose lists tell the sizes of all."""
        spherical, (queries, k, dimension) = self.metric.name != "l2", self.near.shape
        counted = np.bincount(ivf_model.nearest(sized, centres, spherical=spherical), minlength=len(centres))
        lists_of = ivf_model.nearest(self.near.reshape(-1, dimension), centres, spherical=spherical).reshape(queries, k)
        sizes = np.rint(counted * (self.rows / len(sized))).astype(np.int64)
        return ivf_model.ranked(self.queries, lists_of, centres, self.metric, sizes)


def read(connection: Connection, table: Table, rows: int, k: int, most: int = VALUES) -> Yardstick:
    """Rows of the table (``rows`` in all, with a vector), at most ``most`` values held at once. :class:`AyaError` when their
    dimensions differ."""
    metric, wanted = table.metric, max(1, most // table.dimension)
    sampled = rows > wanted
    blocks = list(wire.read(connection, table, 100 * wanted / rows if sampled else 100))
    counted = sum(map(len, blocks))
    base = np.concatenate([_indexed(block, metric) for block in blocks] or [np.empty((0, table.dimension), np.float32)])
    del blocks
    np.random.default_rng(1).shuffle(base)
    total = round(rows * len(base) / max(1, counted)) if sampled else len(base)
    enough = len(base) >= k + 2
    queries = base[-QUERIES:] if enough else base[:0]
    every = (_indexed(block, metric) for block in wire.read(connection, table)) if sampled else [base]
    near, distances = neighbours(every if enough else (), queries, metric, k)
    return Yardstick(metric, base, total, counted - len(base), queries, near, distances)


def neighbours(
    blocks: Iterable[NDArray[np.float32]], queries: NDArray[np.float32], metric: Metric, k: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The k nearest rows to each query but for itself (q, k, d), and their distances (q, k); of the blocks only those are
    kept."""
    found = Neighbours(queries, metric, k + 1)
    positions, vectors = np.empty(0, np.int64), np.empty((0, queries.shape[1]), np.float32)
    for block in blocks:
        start = found.seen
        found.add(block)
        needed = np.unique(found.truth.rows)
        before, new = needed[needed < start], needed[needed >= start]
        vectors = np.concatenate([vectors[np.searchsorted(positions, before)], block[new - start]])
        positions = needed
    near = vectors[np.searchsorted(positions, found.truth.rows)]
    itself = np.abs(near - queries[:, None]).max(axis=2, initial=0) < ITSELF
    left_out = np.where(itself.any(axis=1), itself.argmax(axis=1), k) if len(queries) else np.empty(0, np.int64)
    kept = np.arange(near.shape[1])[None, :] != left_out[:, None]
    return near[kept].reshape(len(queries), -1, queries.shape[1]), found.truth.distances[kept].reshape(len(queries), -1)


def _indexed(block: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Prepared for the metric, without what an index by it leaves out."""
    return metric.prepare(block[block.any(axis=1)] if metric.name == "cosine" else block)
