"""Exact neighbours by matrix products, and recall against them. Ties count: a hit is a distance, not a row.

Recall@k of a query is the share of its k answers whose distance is at most that of the true k-th neighbour, times
(1 + EPSILON) (Aumueller, Bernhardsson, Faithfull, ANN-Benchmarks, 2020).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aya_lib.errors import AyaError
from aya_lib.vectors.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EPSILON = 1e-4  # of the k-th distance; float32 products and pgvector's sums differ by about 1e-6
SPARE = 8  # candidates beyond k that are compared precisely, so that rounding does not decide
BLOCK = 8192  # rows of the corpus multiplied together
CONFIDENCE_Z = 1.96  # two-sided 95 %


@dataclass(frozen=True)
class Truth:
    """For each query its k nearest rows: ``rows`` (q, k), positions in the corpus, and ``distances`` (q, k), ascending."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]

    @property
    def limit(self) -> NDArray[np.float64]:
        """The largest distance that is a hit, for each query, shape (q,)."""
        import numpy as np

        last = self.distances[:, -1]
        return last + EPSILON * np.maximum(np.abs(last), 1e-2)


@dataclass(frozen=True)
class Recall:
    """The mean over queries with its 95 % confidence interval (normal approximation over the queries' own recalls)."""

    value: float
    low: float
    high: float
    queries: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def exact(base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric, k: int) -> Truth:
    """The k nearest rows of ``base`` (n, d) to each query (q, d), both prepared; ascending by distance."""
    import numpy as np

    wide = min(k + SPARE, len(base))
    # Euclidean distances do not change when all is moved, and near the origin they lose least to rounding.
    origin = base[:BLOCK].mean(axis=0) if metric.name == "l2" else np.float32(0)
    moved = queries - origin
    best = np.full((len(queries), wide), np.inf, np.float32)
    rows = np.full((len(queries), wide), -1, np.int64)
    for start in range(0, len(base), BLOCK):
        found = metric.distances(moved, base[start : start + BLOCK] - origin)
        most = min(wide, found.shape[1])
        near = np.argpartition(found, most - 1, axis=1)[:, :most]
        all_distances = np.concatenate([best, np.take_along_axis(found, near, axis=1)], axis=1)
        all_rows = np.concatenate([rows, near + start], axis=1)
        order = np.argpartition(all_distances, wide - 1, axis=1)[:, :wide]
        best, rows = np.take_along_axis(all_distances, order, axis=1), np.take_along_axis(all_rows, order, axis=1)
    precise = np.stack([metric.paired(query, base[near]) for query, near in zip(queries, rows, strict=True)])
    order = np.argsort(precise, axis=1, kind="stable")[:, :k]
    return Truth(np.take_along_axis(rows, order, axis=1), np.take_along_axis(precise, order, axis=1))


def cached(base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric, k: int, key: str) -> tuple[Truth, bool]:
    """As :func:`exact`, kept by content in the user's cache folder; and whether it was there already."""
    import numpy as np

    path = folder() / "truth" / f"{key.replace(':', '-')}-{len(queries)}-{k}.npz"
    if path.exists():
        try:
            with np.load(path) as kept:
                return Truth(kept["rows"], kept["distances"]), True
        except (OSError, ValueError, KeyError):
            path.unlink(missing_ok=True)  # a write that broke off: compute it again
    found = exact(base, queries, metric, k)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.stem}.{os.getpid()}.npz")
    np.savez(beside, rows=found.rows, distances=found.distances)
    beside.replace(path)
    return found, False


def folder() -> Path:
    """Where measurements that can be used again are kept: ``AYA_CACHE``, else the user's cache folder."""
    import platformdirs

    given = os.environ.get("AYA_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("aya"))


def hits(
    base: NDArray[np.float32], queries: NDArray[np.float32], metric: Metric, truth: Truth, found: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Recall of each query, shape (q,). ``found`` (q, k): positions that a search returned, -1 where it returned fewer."""
    import numpy as np

    k = truth.rows.shape[1]
    good = np.zeros(len(queries))
    for number, (query, answers) in enumerate(zip(queries, found, strict=True)):
        there = np.unique(answers[answers >= 0])
        distances = metric.paired(query, base[there])
        good[number] = min(k, int((distances <= truth.limit[number]).sum())) / k
    return good


def interval(values: NDArray[np.float64]) -> Recall:
    """The mean of the queries' recalls with its interval, cut at 0 and 1."""
    import numpy as np

    mean = float(values.mean())
    half = CONFIDENCE_Z * float(values.std(ddof=1)) / float(np.sqrt(len(values))) if len(values) > 1 else 1.0
    return Recall(mean, max(0.0, mean - half), min(1.0, mean + half), len(values))


def agree(distances: NDArray[np.float64], by_sql: NDArray[np.float64]) -> None:
    """:class:`AyaError` unless exact search by SQL gave the same distances (q, k), to float32's precision."""
    import numpy as np

    apart = np.abs(distances - by_sql) / np.maximum(np.abs(by_sql), 1e-2)
    if not (apart <= 1e-2).all():
        query, place = np.unravel_index(int(apart.argmax()), apart.shape)
        raise AyaError(
            f"exact neighbours computed here and by PostgreSQL differ: query {query}, neighbour {place + 1}:"
            f" {distances[query, place]:.6f} here, {by_sql[query, place]:.6f} there",
            hint="Nothing measured against them can be believed; is the metric the right one?",
        )
