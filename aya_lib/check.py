"""A check: a pure judgement of facts. Unknown is never passed, and points to what could not be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from aya_lib.node.unseen import Down, Missing, Planned, Starting, Unseen
from aya_lib.show import Badge, Shown, Table

Status = Literal["passed", "warning", "failed", "unknown", "planned"]
T = TypeVar("T")

WORST: tuple[Status, ...] = ("failed", "unknown", "planned", "warning", "passed")


@dataclass(frozen=True)
class Check:
    """One judgement. ``required``: whether the verdict rests on it. ``hint``: what to do when it did not pass."""

    name: str
    status: Status
    expected: str
    observed: str
    hint: str = ""
    unseen: Unseen | None = None
    required: bool = True


@dataclass(frozen=True)
class Judged:
    """What a judge says of a fact that was seen."""

    status: Status
    observed: str
    hint: str = ""


def evaluate(
    name: str, expected: str, fact: T | Unseen | Down | Starting | Planned, rule: Callable[[T], Judged], *, hint: str = ""
) -> Check:
    """Judge a fact with ``rule``; a fact that is not there gives *unknown*, *failed* (known to be down) or *planned*."""
    match fact:
        case Unseen() | Down() | Starting() | Planned():
            return absent(name, expected, fact, hint)
        case _:
            return conclude(name, expected, rule(fact), hint)


def absent(name: str, expected: str, missing: Missing, hint: str = "") -> Check:
    """A check of what is not there to be judged."""
    match missing:
        case Unseen():
            return Check(name, "unknown", expected, f"could not be seen: {missing}", hint, unseen=missing)
        case Planned():
            return Check(name, "planned", expected, f"not done in a dry run: {missing}", hint)
        case _:
            return Check(name, "failed", expected, str(missing), hint)


def conclude(name: str, expected: str, judged: Judged, hint: str = "") -> Check:
    """A check from a judgement; ``hint`` where the judgement has none of its own, and none when it passed."""
    return Check(name, judged.status, expected, judged.observed, "" if judged.status == "passed" else judged.hint or hint)


def passed_if(condition: bool, observed: str, hint: str = "") -> Judged:
    """Passed or failed."""
    return Judged("passed" if condition else "failed", observed, hint)


def optional(checks: Iterable[Check]) -> list[Check]:
    """The same checks, shown but without weight in the verdict (a laptop may be away)."""
    return [replace(check, required=False) for check in checks]


def worst(checks: Iterable[Check]) -> Status:
    """The worst status among the required checks; passed when there are none."""
    statuses = {check.status for check in checks if check.required}
    return next((status for status in WORST if status in statuses), "passed")


@dataclass(frozen=True, repr=False)
class Checks(Shown):
    """Several checks shown as one table, with the hints below it."""

    title: str
    checks: tuple[Check, ...]

    def table(self) -> Table:
        rows = tuple((Badge(c.status), c.name, c.expected, c.observed) for c in self.checks)
        notes = tuple(f"{c.name}: {c.hint}" for c in self.checks if c.hint and c.status not in ("passed", "planned"))
        return Table(self.title, ("", "check", "expected", "observed"), rows, notes, tone=worst(self.checks))
