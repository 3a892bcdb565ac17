"""Which `lists`? Twins outside PostgreSQL answer without a build: up and down the scale until the predicted cost rises."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from aya_lib.vectors import twins
from aya_lib.vectors.bench.result import Twin
from aya_lib.vectors.corpus.corpus import Corpus
from aya_lib.vectors.cost import Cost
from aya_lib.vectors.index import LISTS
from aya_lib.vectors.truth import Truth

STEP = 1.4  # from one number of lists to the next; the cost is flat around its best
WORTH = 0.03  # a share of the predicted cost that is not worth more lists: k-means takes time and memory with their square
ROWS_A_LIST = 4  # fewer make no list
SHOWN = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)  # probes of a curve that are kept


@dataclass
class Explorer:
    """Twins of one corpus. ``margin``: standard errors that a recall must lie above the target to count as reaching it."""

    corpus: Corpus
    truth: Truth
    target: float
    margin: float
    say: Callable[[int], None] = lambda lists: None
    curves: dict[int, twins.Curve] = field(default_factory=dict)

    def curve(self, lists: int) -> twins.Curve:
        """The twin of so many lists, made once."""
        if lists not in self.curves:
            self.say(lists)
            c = self.corpus
            self.curves[lists] = twins.twin(c.base, c.choose, self.truth, lists, c.metric)
        return self.curves[lists]

    def probes(self, lists: int) -> int | None:
        return self.curve(lists).probes(self.target, self.margin)

    def us(self, lists: int, cost: Cost) -> float:
        """Microseconds of a search at the target, predicted; infinite when it is never reached."""
        probes = self.probes(lists)
        return math.inf if probes is None else cost.us(lists, self.curve(lists).scans(probes))

    def explore(self, cost: Cost, most: int = LISTS, start: float = 0.0) -> None:
        """Make twins around the best number of lists, from ``start`` on (4 x sqrt(rows) when none is given): upwards while the
        predicted cost falls by what is worth it, downwards while it rises by less."""
        most = max(1, min(most, self.corpus.rows // ROWS_A_LIST, LISTS))
        at = _round(min(most, start or 4 * math.sqrt(self.corpus.rows)))
        here = at
        while (there := _round(min(most, here * STEP))) > here and self.us(there, cost) < self.us(here, cost) * (1 - WORTH):
            here = there
        best, here = here, at
        while (there := _round(max(1, here / STEP))) < here and self.us(there, cost) <= self.us(best, cost) * (1 + WORTH):
            here = there
            best = min(best, here, key=lambda lists: self.us(lists, cost))

    def ranked(self, cost: Cost) -> list[int]:
        """Numbers of lists, the cheapest first."""
        return sorted(self.curves, key=lambda lists: self.us(lists, cost))

    def twins(self, cost: Cost) -> tuple[Twin, ...]:
        found = []
        for lists, curve in sorted(self.curves.items()):
            shown = [probes for probes in (*SHOWN, lists) if probes <= lists]
            recalls = curve.recalls
            points = tuple((p, round(float(recalls[p - 1]), 5), round(curve.scans(p), 1)) for p in dict.fromkeys(shown))
            us = self.us(lists, cost)
            found.append(Twin(lists, points, self.probes(lists), round(us, 1) if math.isfinite(us) else None))
        return tuple(found)


def _round(value: float) -> int:
    """Two significant digits, as a person would choose."""
    whole = max(1, int(value))
    step = 10 ** max(0, len(str(whole)) - 2)
    return max(1, int(round(whole / step) * step))
