"""Rows of a live table as a measure for indexes: their true neighbours, and the recall curve of any centroids over them.

All rows where they fit into memory, else a random sample. In a sample neighbours lie further apart, and fewer of them share a
list: recall comes out too low. So it is also computed on a half and a quarter of the sample, and the odds of a miss are
carried on to the whole table by the power of the number of rows that fits the three. On generated:100000x768 with 1,000
lists, where recall at 8 probes is 0.90, half of the rows said 0.89 (0.87 without this), a quarter 0.89 (0.85), a tenth 0.89
(0.78).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection
from aya_lib.vectors import truth, twins, wire
from aya_lib.vectors.index import SAMPLES_A_LIST, SAMPLES_LEAST, Table
from aya_lib.vectors.metric import Metric
from aya_lib.vectors.truth import Recall, Truth
from aya_lib.vectors.twins import Curve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VALUES = 80_000_000  # values of float32 that are read at most: 100,000 rows of 768 dimensions, 320 MB
QUERIES = 300  # rows whose neighbours are looked for
QUERIES_OF_A_SAMPLE = 1000  # the same in a sample, where a slope is to be told
SIZED = 20_000  # rows that are assigned to the lists of a twin, to know its lists' sizes
K_MEANS = 1.5e11  # multiplications and additions that the k-means of a twin may take: about 2 s on two cores
FEWEST_A_LIST = 12  # rows a list that k-means is given at least
SHARES = (0.5, 0.25)  # of the sample, for carrying recall on to the whole table
# Slopes get flatter with more rows: beyond a sample of 12,000 to 48,000 rows they were 0.5 to 0.9 of those within it, for
# generated:100000x384 and for normally distributed vectors of 24 latent dimensions.
FLATTER = 0.6


@dataclass(frozen=True)
class Vectors:
    """What was read. ``base`` (n, d), prepared for the metric; ``rows``: of the whole table, with a vector that is indexed."""

    base: NDArray[np.float32]
    rows: int
    without_direction: int = 0  # zero vectors, which an index by cosine leaves out

    @property
    def sampled(self) -> bool:
        return self.rows > len(self.base)


def read(connection: Connection, table: Table, rows: int, most: int = VALUES) -> Vectors:
    """Rows of the table (``rows`` in all, with a vector), at most ``most`` values. :class:`AyaError` when dimensions differ."""
    import numpy as np

    wanted = max(1, most // table.dimension)
    blocks = list(wire.read(connection, table, 100 * wanted / max(1, rows)))
    base = np.concatenate(blocks) if blocks else np.empty((0, table.dimension), np.float32)
    del blocks
    zero = ~base.any(axis=1) if table.metric.name == "cosine" else np.zeros(len(base), np.bool_)
    without = int(zero.sum())
    kept = base[~zero] if without else base
    total = len(kept) if rows <= wanted else round(rows * len(kept) / max(1, len(base)))
    return Vectors(table.metric.prepare(kept).astype(np.float32, copy=False), total, without)


@dataclass(frozen=True)
class Measured(Curve):
    """A curve whose recall may have been carried on from a sample; ``doubt`` (lists,): half of what was added to it."""

    doubt: NDArray[np.float64]

    def recall(self, probes: int) -> Recall:
        found, doubt = super().recall(probes), float(self.doubt[min(probes, self.lists) - 1])
        return Recall(found.value, max(0.0, found.low - doubt), min(1.0, found.high + doubt), found.queries)


@dataclass(frozen=True)
class Yardstick:
    """Vectors with their true neighbours. ``queries``: positions (q,) of rows that are asked for; each is left out of its own
    neighbours. Raises :class:`AyaError` with fewer than k + 2 rows."""

    vectors: Vectors
    metric: Metric
    k: int
    seed: int = 1

    def __post_init__(self) -> None:
        if len(self.vectors.base) < self.k + 2:
            raise AyaError(f"{len(self.vectors.base)} rows are too few for {self.k} neighbours")

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The rows shuffled: the first half and the first quarter are smaller samples."""
        import numpy as np

        return np.random.default_rng(self.seed).permutation(len(self.vectors.base))

    @cached_property
    def queries(self) -> NDArray[np.int64]:
        import numpy as np

        most = QUERIES_OF_A_SAMPLE if self.vectors.sampled else QUERIES
        return np.sort(self.order[-min(most, len(self.order)) :])

    @cached_property
    def truth(self) -> Truth:
        """The k nearest rows of each query among the rows that were read."""
        return self._truths[0][1]

    @cached_property
    def _truths(self) -> list[tuple[int, Truth, NDArray[np.int64]]]:
        """For each size of sample: rows, the true neighbours within it, and the numbers of the queries that have k there."""
        import numpy as np

        base = self.vectors.base
        shares = [1.0, *(SHARES if self.vectors.sampled else ())]
        deep = min(len(base), self.k + 1 if len(shares) == 1 else 8 * self.k + 24)
        found = truth.exact(base, base[self.queries], self.metric, deep)
        rank = np.empty(len(base), np.int64)
        rank[self.order] = np.arange(len(base))
        truths = []
        for share in shares:
            size = round(share * len(base))
            inside = (found.rows != self.queries[:, None]) & (rank[found.rows] < size)
            enough = np.flatnonzero(inside.sum(axis=1) >= self.k)
            first = np.argsort(~inside[enough], axis=1, kind="stable")[:, : self.k]
            distances = np.take_along_axis(found.distances[enough], first, axis=1)
            truths.append((size, Truth(np.take_along_axis(found.rows[enough], first, axis=1), distances), enough))
        return truths

    def curve(self, centres: NDArray[np.float32]) -> Measured:
        """The curve of a live index's centroids (lists, d), in rows of the whole table: every row that was read is assigned.

        An index of halves rounds what it holds; on 4,000 rows that moved none into another list.
        """
        lists_of = twins.nearest(self.vectors.base, centres, spherical=self.metric.name != "l2")
        return self._curve(centres, lists_of, lists_of)

    def twin(self, lists: int) -> Measured:
        """The curve that a fresh index of so many lists would have; its lists' sizes are estimated from a part of the rows."""
        import numpy as np

        base = self.vectors.base
        centres = self._k_means(lists)
        sized = self.order[:SIZED]
        wanted = np.unique(np.concatenate([sized, *(found.rows.ravel() for _, found, _ in self._truths)]))
        lists_of = np.zeros(len(base), np.int64)
        lists_of[wanted] = twins.nearest(base[wanted], centres, spherical=self.metric.name != "l2")
        return self._curve(centres, lists_of, lists_of[sized])

    def _curve(self, centres: NDArray[np.float32], lists_of: NDArray[np.int64], sized: NDArray[np.int64]) -> Measured:
        """``lists_of`` (n,): the list of every row that is somebody's neighbour; ``sized``: the lists of random rows."""
        import numpy as np

        asked = self.vectors.base[self.queries]
        sizes = np.bincount(sized, minlength=len(centres)) * (self.vectors.rows / len(sized))
        curves = [
            twins.ranked(asked[numbers], lists_of[found.rows], centres, self.metric, sizes) for _, found, numbers in self._truths
        ]
        whole, factor = curves[0], self._carried(curves)
        found = (1 - (1 - whole.by_query) * factor).astype(np.float32)
        doubt = (1 - whole.recalls) * (1 - factor) / 2
        return Measured(len(centres), found, whole.scanned, np.rint(sizes).astype(np.int64), doubt)

    def _carried(self, curves: list[Curve]) -> NDArray[np.float64]:
        """By what the share that is missed falls from the sample to the whole table, for each number of probes.

        The odds of a miss follow a power of the number of rows. Its exponent is the slope through samples of three sizes (the
        median over the probes at which between 2 and 90 % are missed), made flatter.
        """
        import numpy as np

        missed = np.clip([1 - curve.recalls for curve in curves], 1e-9, 1 - 1e-9)
        odds = np.log(missed / (1 - missed))
        of_use = ((missed > 0.02) & (missed < 0.9)).all(axis=0)
        if len(curves) < 2 or not of_use.any():
            return np.ones(curves[0].lists)
        sizes = np.log([size for size, _, _ in self._truths])
        exponent = FLATTER * min(0.0, float(np.median(np.polyfit(sizes, odds[:, of_use], 1)[0])))
        whole = 1 / (1 + np.exp(-odds[0] - exponent * np.log(self.vectors.rows / len(self.vectors.base))))
        return np.asarray(whole / missed[0], np.float64)

    def _k_means(self, lists: int) -> NDArray[np.float32]:
        """From as large a sample as pgvector takes, smaller where that would take long."""
        base = self.vectors.base
        each = 2 * lists * ((twins.ROUNDS - 1) * min(twins.SEEN, base.shape[1]) + base.shape[1])
        allowed = max(FEWEST_A_LIST * lists, math.floor(K_MEANS / each))
        size = min(len(base), allowed, max(SAMPLES_A_LIST * lists, SAMPLES_LEAST))
        return twins.centroids(base[self.order[:size]], lists, self.metric, self.seed)
