"""Now and then a part of the rows is compared, so that what no trigger noted is noticed: written while triggers were off or
missing, or past them, or rewritten by ALTER TABLE. It is mended as every other difference, by :mod:`aya_lib.air.reconcile`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aya_lib.air import differ
from aya_lib.air.compare import Compared, Difference, compare, moment
from aya_lib.air.differ import Range
from aya_lib.air.link import FETCH_S, At, Ends, within
from aya_lib.air.pull import Incomplete, pull
from aya_lib.air.reconcile import reconcile

EVERY_S = 60.0  # between two looks, and at once after what lets rows differ has changed
BUDGET_S = 0.3  # for each: half a hundredth of the time; more rows take more looks
MOST = 1000  # ranges in one look
UNNOTED = "written past the triggers (session_replication_role, a restored dump), while they were off, or by ALTER TABLE"
STUCK = "fetched, and differ still: a trigger or rule here changes them, or a chunk's document is missing on the primary"


def portion(every: Sequence[Range], next_at: int, count: int) -> tuple[list[Range], int]:
    """The ranges to look at, and where to go on: ``count`` from ``next_at``, and the newest of each table, where rows are most
    often missing."""
    chosen = list(every[next_at : next_at + count])
    newest = [max((one for one in every if one[0] == relation), default=None) for relation in ("d", "c")]
    chosen += [one for one in newest if one is not None and one not in chosen]
    return chosen, next_at + count if next_at + count < len(every) else 0


@dataclass
class Patrol:
    """``stuck``: rows that were fetched and differ still, as far as seen; ``notes``: of the columns, when it looked last."""

    next_at: int = 0
    count: int = 4
    looked: float | None = None
    notes: tuple[str, ...] = ()
    stuck: dict[differ.Row, Difference] = field(default_factory=dict)

    def due(self, ends: Ends) -> bool:
        """A minute after the last look; at once while a trigger is silent, and when a column came or went."""
        over = self.looked is None or time.monotonic() - self.looked > EVERY_S
        return over or bool(ends.silent) or self.notes != ends.fit.notes

    def go(self, ends: Ends, at: At = lambda step: None) -> str:
        """Compare the next part, and mend it. What was mended, in a line; empty when there was nothing."""
        self.notes = ends.fit.notes
        of, self.next_at = portion(_every(ends), self.next_at, self.count)
        started = time.monotonic()
        found = _compare(ends, of)
        self.looked = time.monotonic()
        self.count = max(1, min(MOST, int(len(of) * BUDGET_S / max(self.looked - started, 0.001)), 2 * self.count))
        self.stuck = {row: one for row, one in self.stuck.items() if _range(row) not in of or one in found.differences}
        new = [one for one in found.differences if one.row not in self.stuck]
        if found.inexact or not new:
            return ""
        reconcile(ends, at)
        with suppress(Incomplete):  # the next round compares everything
            pull(ends, at)
        self.stuck |= {one.row: one for one in _compare(ends, of).differences}
        return f"{named(new)}: {'; '.join(ends.silent) or UNNOTED}"

    @property
    def notices(self) -> list[str]:
        return [f"{named(list(self.stuck.values()))}: {STUCK}"] if self.stuck else []


def _range(row: differ.Row) -> Range:
    return row[0], row[1] // differ.RANGE


def _every(ends: Ends) -> list[Range]:
    """All ranges of both sides, documents first."""
    with within(ends.there, FETCH_S):
        return sorted({*differ.ranges(ends.here), *differ.ranges(ends.there)}, key=lambda one: (one[0] == "c", one[1]))


def _compare(ends: Ends, of: Sequence[Range]) -> Compared:
    with moment(ends.here), within(ends.there, FETCH_S):
        return compare(ends.here, ends.there, ends.primary, ends.state(), ends.columns, of=of)


def named(rows: Sequence[Difference]) -> str:
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(map(str, rows[:3])) + more
