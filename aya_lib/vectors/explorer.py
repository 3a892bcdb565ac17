"""Which `lists`? Twins outside PostgreSQL answer without a build: each tells the best number of lists for its probes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from aya_lib.vectors import ivf_model
from aya_lib.vectors.corpus import Corpus
from aya_lib.vectors.index import LISTS
from aya_lib.vectors.ivf_model import ROWS_A_LIST, Cost, Curve
from aya_lib.vectors.result import Twin
from aya_lib.vectors.truth import Truth

JUMPS = 4  # from the best lists of one twin's probes to the next; two are usual
NEAR = 1.1  # numbers of lists within this factor need no twins of their own; the cost is flat around its best
WORTH = 0.05  # a share of the predicted cost that is not worth more lists: k-means takes time and memory with their square
AIMED = 0.7  # of that share, where the fewest lists are sought: their own twin may then cost a little more than foretold
SHOWN = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)  # probes of a curve that are kept


@dataclass
class Explorer:
    """Twins of one corpus. ``margin``: standard errors that a recall must lie above the target to count as reaching it."""

    corpus: Corpus
    truth: Truth
    target: float
    margin: float
    curves: dict[int, Curve] = field(default_factory=dict)

    def curve(self, lists: int) -> Curve:
        """The twin of so many lists, made once."""
        if lists not in self.curves:
            self.curves[lists] = ivf_model.twin(self.corpus.base, self.corpus.choose, self.truth, lists, self.corpus.metric)
        return self.curves[lists]

    def probes(self, lists: int) -> int | None:
        return self.curve(lists).probes(self.target, self.margin)

    def us(self, lists: int, cost: Cost) -> float:
        """Microseconds of a search at the target, predicted; infinite when it is never reached."""
        scanned = self.curve(lists).scans_for(self.target, self.margin)
        return math.inf if scanned is None else cost.us(lists, scanned)

    def explore(self, cost: Cost, most: int = LISTS) -> None:
        """Make the twins that decide, beginning at 4 x sqrt(rows): from the probes that a twin asks for follows the best number
        of lists, from its twin the next, until that is near one that was made. Then the twin of the fewest lists that should
        cost nearly as little."""
        most = max(1, min(most, self.corpus.rows // ROWS_A_LIST, LISTS))
        lists = _round(min(most, 4 * math.sqrt(self.corpus.rows)))
        for _ in range(JUMPS):
            probes = self.probes(lists)
            if probes is None:
                break
            lists = _round(min(most, cost.best_lists(self.corpus.rows, probes)))
            if self._near(lists):
                break
            self.curve(lists)
        best = self.ranked(cost)[0]
        scanned = self.curve(best).scans_for(self.target, self.margin)
        fewer = _round(cost.fewest_lists(best, scanned, AIMED * WORTH)) if scanned is not None else best
        if not self._near(fewer):
            self.curve(fewer)

    def _near(self, lists: int) -> bool:
        return any(1 / NEAR <= lists / made <= NEAR for made in self.curves)

    def ranked(self, cost: Cost) -> list[int]:
        """Numbers of lists, the cheapest first."""
        return sorted(self.curves, key=lambda lists: self.us(lists, cost))

    def frugal(self, allowed: list[int], cost: Cost) -> int | None:
        """The fewest lists of those allowed that are predicted to cost nearly as little as the best: k-means takes time and
        memory with the square of them, and the cost is flat around its bottom."""
        least = min((self.us(lists, cost) for lists in allowed), default=0.0)
        return min((lists for lists in allowed if self.us(lists, cost) <= least * (1 + WORTH)), default=None)

    def twins(self, cost: Cost) -> tuple[Twin, ...]:
        made = []
        for lists, curve in sorted(self.curves.items()):
            shown = dict.fromkeys(probes for probes in (*SHOWN, lists) if probes <= lists)
            points = tuple((p, round(float(curve.recalls[p - 1]), 5), round(curve.scans(p), 1)) for p in shown)
            us = self.us(lists, cost)
            made.append(Twin(lists, points, self.probes(lists), round(us, 1) if math.isfinite(us) else None))
        return tuple(made)


def _round(value: float) -> int:
    """Two significant digits, as a person would choose."""
    whole = max(1, int(value))
    step = 10 ** max(0, len(str(whole)) - 2)
    return max(1, int(round(whole / step) * step))
