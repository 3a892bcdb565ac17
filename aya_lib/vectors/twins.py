"""Twins of an IVFFlat index outside PostgreSQL: what recall and how much scanning `lists` and `probes` would give.

An IVFFlat search misses a true neighbour only when the neighbour's list is not probed. So recall(probes) is the share of
true neighbours whose list ranks within ``probes`` for that query, and it is known for every number of probes at once, from
the centroids alone, without a query. A twin makes the centroids as pgvector's build does (k-means over a sample, of
directions for cosine and inner product); a live index has them on its own pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aya_lib.vectors.index import SAMPLES_A_LIST, SAMPLES_LEAST
from aya_lib.vectors.metric import Metric
from aya_lib.vectors.truth import Recall, Truth, interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROUNDS = 8  # of Lloyd's k-means; more moved recall by less than the seeds do
SEEN = 96  # directions in which the early rounds see the rows
SIZED = 20_000  # rows whose lists tell how large the lists are, where not all are assigned
BLOCK = 8192


@dataclass(frozen=True)
class Curve:
    """Recall and scanned rows over probes: ``found`` (q, probes) each query's recall, ``scanned`` (probes,) the mean
    number of rows looked at, index 0 standing for one probe. ``sizes`` (lists,): rows in each list."""

    lists: int
    found: NDArray[np.float32]
    scanned: NDArray[np.float64]
    sizes: NDArray[Any]

    @property
    def recalls(self) -> NDArray[np.float64]:
        """Mean recall for 1, 2, 3 ... probes."""
        import numpy as np

        return np.asarray(self.found.mean(axis=0), np.float64)

    def recall(self, probes: int) -> Recall:
        return interval(self.found[:, min(probes, self.lists) - 1].astype("float64"))

    def scans(self, probes: int) -> float:
        """Mean number of rows that a search with so many probes looks at."""
        return float(self.scanned[min(probes, self.lists) - 1])

    def probes(self, target: float, margin: float = 0.0, others: int = 0) -> int | None:
        """The fewest probes whose recall, less ``margin`` standard errors, reaches the target; None when none does.
        ``others``: so many other queries will judge it; the error is then that of the difference of two means."""
        import numpy as np

        of_mean = 1 / len(self.found) + (1 / others if others else 0.0)
        errors = self.found.std(axis=0, ddof=1) * np.sqrt(of_mean) if len(self.found) > 1 else 0
        reached = np.flatnonzero(self.recalls - margin * errors >= target)
        return int(reached[0]) + 1 if len(reached) else (self.lists if target <= 1 else None)

    def scans_for(self, target: float, margin: float = 0.0) -> float | None:
        """Mean number of rows looked at where the recall crosses the target, between whole probes: what ranks numbers of lists,
        which whole probes would do by their rounding. None when no number of probes reaches it."""
        import numpy as np

        probes = self.probes(target, margin)
        if probes is None or probes == 1:
            return None if probes is None else self.scans(1)
        errors = self.found[:, probes - 2 : probes].std(axis=0, ddof=1) / np.sqrt(len(self.found)) if len(self.found) > 1 else 0
        before, after = self.recalls[probes - 2 : probes] - margin * errors
        share = 1.0 if after <= before else min(1.0, max(0.0, (target - before) / (after - before)))
        return float(self.scans(probes - 1) + share * (self.scans(probes) - self.scans(probes - 1)))

    @property
    def skew(self) -> float:
        """The largest list over the mean list."""
        return float(self.sizes.max() / max(1.0, self.sizes.mean()))


def centroids(base: NDArray[np.float32], lists: int, metric: Metric, seed: int = 1, rounds: int = ROUNDS) -> NDArray[np.float32]:
    """Centroids (lists, d) by k-means over as large a sample as pgvector takes: 50 rows a list, at least 10,000.

    All rounds but the last assign rows in the directions in which they differ most (``SEEN`` of them), which takes a
    fraction of the time; centroids are always means of whole vectors, and the last round sees whole vectors too.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    size = min(len(base), max(SAMPLES_A_LIST * lists, SAMPLES_LEAST))
    sample = base if size == len(base) else base[np.sort(draw.permutation(len(base))[:size])]
    spherical = metric.name != "l2"
    if metric.name == "ip":
        sample = _unit(sample)
    axes = _directions(sample)
    seen = sample if axes is None else sample @ axes
    centres = sample[np.sort(draw.permutation(size)[:lists])].copy()
    for number in range(rounds):
        if axes is None or number == rounds - 1:
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
    import numpy as np

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
    import numpy as np

    found = np.empty(len(vectors), np.int64)
    offset = 0 if spherical else -0.5 * (centres**2).sum(axis=1)
    for start in range(0, len(vectors), BLOCK):
        found[start : start + BLOCK] = (vectors[start : start + BLOCK] @ centres.T + offset).argmax(axis=1)
    return found


def curve(
    base: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: Truth,
    centres: NDArray[np.float32],
    metric: Metric,
    lists_of: NDArray[np.int64] | None = None,
) -> Curve:
    """The curve of these centroids. ``lists_of`` (n,): each row's list; computed when it is not given."""
    import numpy as np

    if lists_of is None:
        lists_of = nearest(base, centres, spherical=metric.name != "l2")
    return ranked(queries, lists_of[truth.rows], centres, metric, np.bincount(lists_of, minlength=len(centres)))


def ranked(
    queries: NDArray[np.float32], near: NDArray[np.int64], centres: NDArray[np.float32], metric: Metric, sizes: NDArray[Any]
) -> Curve:
    """The curve from the lists of the true neighbours, ``near`` (q, k), and the lists' ``sizes`` (lists,)."""
    import numpy as np

    lists, k = len(centres), near.shape[1]
    found = np.zeros((len(queries), lists), np.float32)
    scanned = np.zeros(lists)
    for start in range(0, len(queries), 1024):
        order = np.argsort(metric.distances(queries[start : start + 1024], centres), axis=1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(lists)[None, :], axis=1)
        hit = np.take_along_axis(ranks, near[start : start + 1024], axis=1)
        np.add.at(found, (np.arange(start, start + len(hit))[:, None], hit), np.float32(1 / k))
        scanned += sizes[order].sum(axis=0)
    return Curve(lists, found.cumsum(axis=1), (scanned / len(queries)).cumsum(), sizes)


def twin(
    base: NDArray[np.float32], queries: NDArray[np.float32], truth: Truth, lists: int, metric: Metric, seed: int = 1
) -> Curve:
    """The curve that an index of so many lists would have. Only true neighbours, and a sample for the lists' sizes, are
    assigned to their lists."""
    import numpy as np

    centres = centroids(base, lists, metric, seed)
    spherical = metric.name != "l2"
    needed, places = np.unique(truth.rows, return_inverse=True)
    near = nearest(base[needed], centres, spherical=spherical)[places.reshape(truth.rows.shape)]
    chosen = np.random.default_rng(seed).permutation(len(base))[: max(SIZED, 10 * lists)]
    counted = np.bincount(nearest(base[np.sort(chosen)], centres, spherical=spherical), minlength=lists)
    return ranked(queries, near, centres, metric, counted * (len(base) / len(chosen)))


def _moved(
    sample: NDArray[np.float32], assigned: NDArray[np.int64], centres: NDArray[np.float32], draw: np.random.Generator
) -> NDArray[np.float32]:
    """Each centroid at the mean of its rows; one without rows begins again at a random row."""
    import numpy as np
    from scipy.sparse import csr_matrix

    lists, size = len(centres), len(sample)
    member = csr_matrix((np.ones(size, np.float32), (assigned, np.arange(size))), shape=(lists, size))
    counts = np.bincount(assigned, minlength=lists)
    moved = np.asarray(member @ sample) / np.maximum(counts, 1)[:, None].astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    moved[empty] = sample[draw.integers(size, size=len(empty))]
    return np.asarray(moved, np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), np.float32)
