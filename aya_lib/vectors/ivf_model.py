"""Twins of an IVFFlat index outside PostgreSQL: what recall, how much scanning and what time `lists` and `probes` would give.

An IVFFlat search misses a true neighbour only when the neighbour's list is not probed. So recall(probes) is the share of
true neighbours whose list ranks within ``probes`` for that query, and it is known for every number of probes at once, from
the centroids alone, without a query. A twin makes the centroids as pgvector's build does (k-means over a sample, of
directions for cosine and inner product); a live index has them on its own pages.

Its cost: microseconds = per_list x lists + per_row x rows scanned + fixed; good for ranking, not for promises. The prior is
what searches of 100,000 generated vectors of 768 dimensions were fitted to, on two cores with everything cached
(benchmarks/vectors.json: 0.24 us a list, 0.85 us a row, median error 3 %). Another machine gave 0.44 us a list, 0.88 us a
row, 0.65 us a row of halfvec, median error 9 %: so it is fitted anew to the searches that a run times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.sparse import csr_matrix

from aya_lib.vectors.index import SAMPLES_A_LIST, SAMPLES_LEAST
from aya_lib.vectors.metric import Metric
from aya_lib.vectors.truth import Recall, Truth, interval

ROUNDS = 8  # of Lloyd's k-means; more moved recall by less than the seeds do
ROWS_A_LIST = 4  # fewer make no list
SEEN = 96  # directions in which the early rounds see the rows
SIZED = 20_000  # rows whose lists tell how large the lists are, where not all are assigned
BLOCK = 8192
PRIOR_LIST, PRIOR_ROW, PRIOR_HALF_ROW, PRIOR_FIXED = 0.24, 0.85, 0.63, 80.0
PRIOR_DIMENSION = 768
PRIOR_WEIGHT = 0.15  # of the prior beside one timed search


@dataclass(frozen=True)
class Curve:
    """Recall and scanned rows over probes: ``by_query`` (q, probes) each query's recall, ``scanned`` (probes,) the mean
    number of rows looked at, index 0 standing for one probe. ``sizes`` (lists,): rows in each list."""

    lists: int
    by_query: NDArray[np.float32]
    scanned: NDArray[np.float64]
    sizes: NDArray[Any]

    @property
    def recalls(self) -> NDArray[np.float64]:
        """Mean recall for 1, 2, 3 ... probes."""
        return np.asarray(self.by_query.mean(axis=0), np.float64)

    def recall(self, probes: int) -> Recall:
        return interval(self.by_query[:, min(probes, self.lists) - 1].astype("float64"))

    def scans(self, probes: int) -> float:
        """Mean number of rows that a search with so many probes looks at."""
        return float(self.scanned[min(probes, self.lists) - 1])

    def probes(self, target: float, margin: float = 0.0, others: int = 0) -> int | None:
        """The fewest probes whose recall, less ``margin`` standard errors, reaches the target; None when none does.
        ``others``: so many other queries will judge it; the error is then that of the difference of two means."""
        of_mean = 1 / len(self.by_query) + (1 / others if others else 0.0)
        errors = self.by_query.std(axis=0, ddof=1) * np.sqrt(of_mean) if len(self.by_query) > 1 else 0
        reached = np.flatnonzero(self.recalls - margin * errors >= target)
        return int(reached[0]) + 1 if len(reached) else (self.lists if target <= 1 else None)

    def scans_for(self, target: float, margin: float = 0.0) -> float | None:
        """Mean number of rows looked at where the recall crosses the target, between whole probes: what ranks numbers of lists,
        which whole probes would do by their rounding. None when no number of probes reaches it."""
        probes = self.probes(target, margin)
        if probes is None or probes == 1:
            return None if probes is None else self.scans(1)
        errors = (
            self.by_query[:, probes - 2 : probes].std(axis=0, ddof=1) / np.sqrt(len(self.by_query))
            if len(self.by_query) > 1
            else 0
        )
        before, after = self.recalls[probes - 2 : probes] - margin * errors
        share = 1.0 if after <= before else min(1.0, max(0.0, (target - before) / (after - before)))
        return float(self.scans(probes - 1) + share * (self.scans(probes) - self.scans(probes - 1)))

    @property
    def skew(self) -> float:
        """The largest list over the mean list."""
        return float(self.sizes.max() / max(1.0, self.sizes.mean()))


def centroids(base: NDArray[np.float32], lists: int, metric: Metric) -> NDArray[np.float32]:
    """Centroids (lists, d) by k-means over as large a sample as pgvector takes: 50 rows a list, at least 10,000.

    All rounds but the last assign rows in the directions in which they differ most (``SEEN`` of them), which takes a
    fraction of the time; centroids are always means of whole vectors, and the last round sees whole vectors too.
    """
    draw = np.random.default_rng(1)
    size = min(len(base), max(SAMPLES_A_LIST * lists, SAMPLES_LEAST))
    sample = base if size == len(base) else base[np.sort(draw.permutation(len(base))[:size])]
    spherical = metric.name != "l2"
    if metric.name == "ip":
        sample = _unit(sample)
    axes = _directions(sample)
    seen = sample if axes is None else sample @ axes
    centres = sample[np.sort(draw.permutation(size)[:lists])].copy()
    for number in range(ROUNDS):
        if axes is None or number == ROUNDS - 1:
            assigned = nearest(sample, centres, spherical=spherical)
        else:
            assigned = nearest(seen, np.asarray(centres @ axes, np.float32), spherical=spherical)
        centres = _moved(sample, assigned, centres, draw)
        if spherical:
            centres = _unit(centres)
    return centres


def _directions(sample: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The directions (d, SEEN) that hold most of the vectors' length (principal components about the origin); None where
    they would save little."""
    dimension = sample.shape[1]
    if dimension < 2 * SEEN:
        return None
    few = sample[:: max(1, len(sample) // 10_000)]
    spread = (few.T @ few).astype(np.float64)
    axes = np.random.default_rng(1).normal(size=(dimension, SEEN))
    for _ in range(4):  # of subspace iteration: near enough, and a fraction of a whole decomposition
        axes, _ = np.linalg.qr(spread @ axes)
    return np.ascontiguousarray(axes, np.float32)


def nearest(vectors: NDArray[np.float32], centres: NDArray[np.float32], *, spherical: bool) -> NDArray[np.int64]:
    """The nearest centroid of each vector (n,): by inner product, or by Euclidean distance."""
    lists_of = np.empty(len(vectors), np.int64)
    offset = 0 if spherical else -0.5 * (centres**2).sum(axis=1)
    for start in range(0, len(vectors), BLOCK):
        lists_of[start : start + BLOCK] = (vectors[start : start + BLOCK] @ centres.T + offset).argmax(axis=1)
    return lists_of


def curve(
    base: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: Truth,
    centres: NDArray[np.float32],
    metric: Metric,
) -> Curve:
    """The curve of these centroids: every row is assigned to its list."""
    lists_of = nearest(base, centres, spherical=metric.name != "l2")
    return ranked(queries, lists_of[truth.rows], centres, metric, np.bincount(lists_of, minlength=len(centres)))


def ranked(
    queries: NDArray[np.float32], near: NDArray[np.int64], centres: NDArray[np.float32], metric: Metric, sizes: NDArray[Any]
) -> Curve:
    """The curve from the lists of the true neighbours, ``near`` (q, k), and the lists' ``sizes`` (lists,)."""
    lists, k = len(centres), near.shape[1]
    by_query = np.zeros((len(queries), lists), np.float32)
    scanned = np.zeros(lists)
    for start in range(0, len(queries), 1024):
        order = np.argsort(metric.distances(queries[start : start + 1024], centres), axis=1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(lists)[None, :], axis=1)
        hit = np.take_along_axis(ranks, near[start : start + 1024], axis=1)
        np.add.at(by_query, (np.arange(start, start + len(hit))[:, None], hit), np.float32(1 / k))
        scanned += sizes[order].sum(axis=0)
    return Curve(lists, by_query.cumsum(axis=1), (scanned / len(queries)).cumsum(), sizes)


def twin(base: NDArray[np.float32], queries: NDArray[np.float32], truth: Truth, lists: int, metric: Metric) -> Curve:
    """The curve that an index of so many lists would have. Only true neighbours, and a sample for the lists' sizes, are
    assigned to their lists."""
    centres = centroids(base, lists, metric)
    spherical = metric.name != "l2"
    needed, places = np.unique(truth.rows, return_inverse=True)
    near = nearest(base[needed], centres, spherical=spherical)[places.reshape(truth.rows.shape)]
    chosen = np.random.default_rng(1).permutation(len(base))[: max(SIZED, 10 * lists)]
    counted = np.bincount(nearest(base[np.sort(chosen)], centres, spherical=spherical), minlength=lists)
    return ranked(queries, near, centres, metric, counted * (len(base) / len(chosen)))


def _moved(
    sample: NDArray[np.float32], assigned: NDArray[np.int64], centres: NDArray[np.float32], draw: np.random.Generator
) -> NDArray[np.float32]:
    """Each centroid at the mean of its rows; one without rows begins again at a random row."""
    lists, size = len(centres), len(sample)
    member = csr_matrix((np.ones(size, np.float32), (assigned, np.arange(size))), shape=(lists, size))
    counts = np.bincount(assigned, minlength=lists)
    moved = np.asarray(member @ sample) / np.maximum(counts, 1)[:, None].astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    moved[empty] = sample[draw.integers(size, size=len(empty))]
    return np.asarray(moved, np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), np.float32)


@dataclass(frozen=True)
class Timed:
    """A search that was timed: ``us`` microseconds at the client."""

    lists: int
    scanned: float
    us: float


@dataclass(frozen=True)
class Cost:
    """Microseconds for each list, for each row scanned, and for every search."""

    per_list: float
    per_row: float
    fixed: float

    def us(self, lists: int, scanned: float) -> float:
        """Microseconds of one search."""
        return self.per_list * lists + self.per_row * scanned + self.fixed

    def best_lists(self, rows: int, probes: float) -> int:
        """Where listing and scanning cost the same: about sqrt(3.5 x probes x rows) with the prior."""
        return max(1, round(math.sqrt(self.per_row / self.per_list * probes * rows)))

    def fewest_lists(self, lists: int, scanned: float, share: float) -> int:
        """The fewest lists that cost at most ``share`` more than ``lists`` with ``scanned`` rows, if as large a part of the
        lists' rows is scanned a probe: the smaller root of a quadratic equation, for the cost is flat around its bottom."""
        allowed = self.us(lists, scanned) * (1 + share) - self.fixed
        inner = allowed**2 - 4 * self.per_list * self.per_row * scanned * lists
        return max(1, round((allowed - math.sqrt(max(0.0, inner))) / (2 * self.per_list)))


def prior_cost(dimension: int, kind: str = "vector") -> Cost:
    """The model before anything was timed here."""
    scale = dimension / PRIOR_DIMENSION
    row = PRIOR_HALF_ROW if kind == "halfvec" else PRIOR_ROW
    return Cost(PRIOR_LIST * scale, row * scale, PRIOR_FIXED)


def fit_cost(timed: Sequence[Timed], before: Cost) -> Cost:
    """The model that explains the timed searches best, by relative error, held near ``before`` where they say nothing.

    Non-negative least squares (Lawson and Hanson 1974). The prior's scale is first moved to these timings, so that a
    machine twice as fast does not pull against it.
    """
    if not timed:
        return before
    scale = float(np.median([search.us / before.us(search.lists, search.scanned) for search in timed]))
    near = np.array([before.per_list, before.per_row, before.fixed]) * scale
    rows = [np.array([search.lists, search.scanned, 1.0]) / search.us for search in timed]
    held = [PRIOR_WEIGHT * np.eye(3)[place] / max(value, 1e-9) for place, value in enumerate(near)]
    matrix, right = np.array([*rows, *held]), np.array([1.0] * len(rows) + [PRIOR_WEIGHT] * 3)
    per_list, per_row, fixed = (float(value) for value in nnls(matrix, right)[0])
    return Cost(max(per_list, 1e-6), max(per_row, 1e-6), fixed)


def cost_error(cost: Cost, timed: Sequence[Timed]) -> float:
    """The median relative error of the model on timed searches."""
    errors = [abs(cost.us(search.lists, search.scanned) / search.us - 1) for search in timed]
    return float(np.median(errors)) if errors else math.nan
