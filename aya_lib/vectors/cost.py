"""What a search costs: microseconds = per_list x lists + per_row x rows scanned + fixed. Good for ranking, not for promises.

The prior is what searches of 100,000 generated vectors of 768 dimensions were fitted to, on two cores with everything cached
(benchmarks/vectors.json: 0.24 us a list, 0.85 us a row, median error 3 %). Another machine gave 0.44 us a list, 0.88 us a
row, 0.65 us a row of halfvec, median error 9 %: so it is fitted anew to the searches that a run times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR_LIST, PRIOR_ROW, PRIOR_HALF_ROW, PRIOR_FIXED = 0.24, 0.85, 0.63, 80.0
PRIOR_DIMENSION = 768
PRIOR_WEIGHT = 0.15  # of the prior beside one timed search


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

    def best_probes(self, lists: int, rows: int) -> float:
        """Probes for which ``lists`` is the best: the inverse of :meth:`best_lists`."""
        return max(1.0, lists * lists * self.per_list / (self.per_row * max(1, rows)))


def prior(dimension: int, kind: str = "vector") -> Cost:
    """The model before anything was timed here."""
    scale = dimension / PRIOR_DIMENSION
    row = PRIOR_HALF_ROW if kind == "halfvec" else PRIOR_ROW
    return Cost(PRIOR_LIST * scale, row * scale, PRIOR_FIXED)


def fit(timed: Sequence[Timed], before: Cost) -> Cost:
    """The model that explains the timed searches best, by relative error, held near ``before`` where they say nothing.

    Non-negative least squares (Lawson and Hanson 1974). The prior's scale is first moved to these timings, so that a
    machine twice as fast does not pull against it.
    """
    import numpy as np
    from scipy.optimize import nnls

    if not timed:
        return before
    scale = float(np.median([one.us / before.us(one.lists, one.scanned) for one in timed]))
    wished = np.array([before.per_list, before.per_row, before.fixed]) * scale
    rows = [np.array([one.lists, one.scanned, 1.0]) / one.us for one in timed]
    held = [PRIOR_WEIGHT * np.eye(3)[place] / max(value, 1e-9) for place, value in enumerate(wished)]
    matrix, right = np.array([*rows, *held]), np.array([1.0] * len(rows) + [PRIOR_WEIGHT] * 3)
    found, _ = nnls(matrix, right)
    per_list, per_row, fixed = (float(value) for value in found)
    return Cost(max(per_list, 1e-6), max(per_row, 1e-6), fixed)


def error(cost: Cost, timed: Sequence[Timed]) -> float:
    """The median relative error of the model on timed searches."""
    import numpy as np

    return float(np.median([abs(cost.us(one.lists, one.scanned) / one.us - 1) for one in timed])) if timed else math.nan
