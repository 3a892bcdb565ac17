"""Exact neighbours by matrix products, block by block, and recall against them. Ties count: a hit is a distance, not a row.

Recall@k of a query is the share of its k answers whose distance is at most that of the true k-th neighbour, times
(1 + EPSILON) (Aumueller, Bernhardsson, Faithfull, ANN-Benchmarks, 2020).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aya_lib.errors import AyaError
from aya_lib.vectors.metric import Metric

EPSILON = 1e-4  # of the k-th distance; float32 products and pgvector's sums differ by about 1e-6
SPARE = 8  # candidates beyond k that are compared precisely, so that rounding does not decide
ROUNDING = 1e-3  # of the largest distance: candidates so little further than the k-th are compared precisely as well
BLOCK = 8192  # rows of the corpus multiplied together
CONFIDENCE_Z = 1.96  # two-sided 95 %


@dataclass(frozen=True)
class Truth:
    """For each query its k nearest rows: ``rows`` (q, k), positions in the corpus, and ``distances`` (q, k), ascending."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]

    def of(self, queries: NDArray[np.int64]) -> Truth:
        """The same for some of the queries, by their numbers."""
        return Truth(self.rows[queries], self.distances[queries])


@dataclass(frozen=True)
class Recall:
    """The mean over queries with its 95 % confidence interval (normal approximation over the queries' own recalls)."""

    value: float
    low: float
    high: float
    queries: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class Neighbours:
    """The k nearest rows to each query (q, d), of rows that come in blocks: a table is never in memory whole.

    All vectors prepared for the metric. ``own`` (q,): the positions of the queries themselves, each left out of its own.
    """

    def __init__(self, queries: NDArray[np.float32], metric: Metric, k: int, own: NDArray[np.int64] | None = None) -> None:
        self._queries, self._metric, self._own = queries, metric, own
        self._rows = np.full((len(queries), k), -1, np.int64)
        self._distances = np.full((len(queries), k), np.inf)
        self._origin: NDArray[np.float32] | None = None
        self.seen = 0  # rows that came so far

    def add(self, block: NDArray[np.float32]) -> None:
        """The next rows (n, d), in their order."""
        if self._origin is None:
            # Euclidean distances do not change when all is moved, and near the origin they lose least to rounding.
            self._origin = block.mean(axis=0) if self._metric.name == "l2" else np.zeros(block.shape[1], np.float32)
        rough = self._metric.distances(self._queries - self._origin, block - self._origin)
        slack = ROUNDING * np.abs(rough).max(axis=1)
        if self._own is not None:
            (here,) = np.nonzero((self._own >= self.seen) & (self._own < self.seen + len(block)))
            rough[here, self._own[here] - self.seen] = np.inf
        k = self._rows.shape[1]
        wide = min(k + SPARE, len(block))
        near = np.argpartition(rough, wide - 1, axis=1)[:, :wide]
        worth = np.take_along_axis(rough, near, axis=1) <= (self._distances[:, -1] + slack)[:, None]
        for number in np.flatnonzero(worth.any(axis=1)):
            rows = near[number][worth[number] & np.isfinite(rough[number, near[number]])]
            distances = np.concatenate([self._distances[number], self._metric.paired(self._queries[number], block[rows])])
            positions = np.concatenate([self._rows[number], rows + self.seen])
            order = np.lexsort((positions, distances))[:k]
            self._distances[number], self._rows[number] = distances[order], positions[order]
        self.seen += len(block)

    @property
    def truth(self) -> Truth:
        """Of the rows that came so far; with fewer rows than k so many columns."""
        there = int(np.isfinite(self._distances).sum(axis=1).min(initial=self._rows.shape[1]))
        return Truth(self._rows[:, :there], self._distances[:, :there])


def exact(base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric, k: int) -> Truth:
    """The k nearest rows of ``base`` (n, d) to each query (q, d), both prepared; ascending by distance."""
    neighbours = Neighbours(queries, metric, k)
    for start in range(0, len(base), BLOCK):
        neighbours.add(base[start : start + BLOCK])
    return neighbours.truth


def cached(base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric, k: int, key: str) -> tuple[Truth, bool]:
    """As :func:`exact`, kept by content in the user's cache folder; and whether it was there already."""
    path = folder() / "truth" / f"{key.replace(':', '-')}-{len(queries)}-{k}.npz"
    if path.exists():
        try:
            with np.load(path) as kept:
                return Truth(kept["rows"], kept["distances"]), True
        except (OSError, ValueError, KeyError):
            path.unlink(missing_ok=True)  # a write that broke off: compute it again
    computed = exact(base, queries, metric, k)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez(staging, rows=computed.rows, distances=computed.distances)
    staging.replace(path)
    return computed, False


def folder() -> Path:
    """Where measurements that can be used again are kept: ``AYA_CACHE``, else the user's cache folder."""
    import platformdirs

    given = os.environ.get("AYA_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("aya"))


def limits(kth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest distance that is a hit, for each query (q,), given that of the true k-th neighbour."""
    return np.asarray(kth + EPSILON * np.maximum(np.abs(kth), 1e-2))


def hits(
    base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric, truth: Truth, answers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Recall of each query, shape (q,). ``answers`` (q, k): positions that a search returned, -1 where it returned fewer."""
    k, largest = truth.rows.shape[1], limits(truth.distances[:, -1])
    shares = np.zeros(len(queries))
    for number, (query, returned) in enumerate(zip(queries, answers, strict=True)):
        distances = metric.paired(query, base[np.unique(returned[returned >= 0])])
        shares[number] = min(k, int((distances <= largest[number]).sum())) / k
    return shares


def interval(values: NDArray[np.float64]) -> Recall:
    """The mean of the queries' recalls with its interval, cut at 0 and 1."""
    mean = float(values.mean())
    half = CONFIDENCE_Z * float(values.std(ddof=1)) / float(np.sqrt(len(values))) if len(values) > 1 else 1.0
    return Recall(mean, max(0.0, mean - half), min(1.0, mean + half), len(values))


def agree(distances: NDArray[np.float64], by_sql: NDArray[np.float64]) -> None:
    """:class:`AyaError` unless exact search by SQL gave the same distances (q, k), to float32's precision."""
    apart = np.abs(distances - by_sql) / np.maximum(np.abs(by_sql), 1e-2)
    if not (apart <= 1e-2).all():
        query, place = np.unravel_index(int(apart.argmax()), apart.shape)
        raise AyaError(
            f"exact neighbours computed here and by PostgreSQL differ: query {query}, neighbour {place + 1}:"
            f" {distances[query, place]:.6f} here, {by_sql[query, place]:.6f} there",
            hint="Nothing measured against them can be believed; is the metric the right one?",
        )
