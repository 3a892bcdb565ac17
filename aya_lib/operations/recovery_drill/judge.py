"""May it be drilled, and did the backup restore?"""

from __future__ import annotations

from aya_lib.backup.judge import size
from aya_lib.backup.records import Backup, Repository, Target
from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.node.unseen import Missing, Unseen
from aya_lib.operations.recovery_drill.history import Drill
from aya_lib.operations.recovery_drill.look import Found, needed

NEAR = 0.8  # of the neighbours found by exact search, an index finds so many with a careful search; fewer: it is broken
RUN = "Run backup: it makes and verifies another one"


def preconditions(found: Found) -> list[Check]:
    """Everything that must hold before anything is copied."""
    held, keeper = found.repository, found.keeper.name

    def whole(aim: tuple[Backup, Target]) -> Judged:
        backup, target = aim
        said = f"{backup.label} to {target.kind} {target.value}"
        return Judged("passed" if backup.verified else "warning", said, "It was never verified: aya backup verify")

    def room(free: int) -> Judged:
        if not isinstance(held, Repository) or not isinstance(found.aim, tuple):
            return Judged("unknown", "nobody knows how much")
        wants = needed(held, found.aim[0], fetched=bool(found.request.place))
        return passed_if(free > wants, f"{size(free)} free, at most {size(wants)} needed", "Make room on the keeper's disk")

    def idle(seen: Repository) -> Judged:
        return passed_if(not seen.busy, seen.busy or "nobody", "Wait until it has ended, or end it there")

    return [
        evaluate("a backup to restore", "one that reaches the point", found.aim, whole, hint="Run backup"),
        evaluate("nobody else is at work", "no backup, verification or other drill", held, idle),
        evaluate(f"room on {keeper}", "the restored copy, and its dump loaded", found.free, room),
    ]


def drilled(found: Found, drill: Drill | Missing) -> list[Check]:
    """What the drill of this run found; one that was written down before this run's look is not it."""
    if isinstance(found.past, tuple) and drill in found.past:
        drill = Unseen(found.keeper.name, "read what the drill found", "this run has made none")
    return [
        evaluate("it was restored", "to the very point", drill, _restored),
        evaluate("contents are equal", "every table and object as at the mark", drill, _equal),
        *optional([evaluate("searches find", "the neighbours known at the mark", drill, _found)]),
        *optional([evaluate("recovery time", "as before, for the size", drill, lambda one: _time(found, one))]),
    ]


def forecast(found: Found, drill: Drill) -> float | None:
    """Seconds for the present size: what is read and copied grows with the bytes. None: not known."""
    if not drill.bytes or not isinstance(found.present, int):
        return None
    return drill.seconds * max(1.0, found.present / drill.bytes)


def _restored(drill: Drill) -> Judged:
    return passed_if(not drill.fault, drill.fault or f"{drill.backup} to {drill.target}, {drill.rows:,} rows", RUN)


def _equal(drill: Drill) -> Judged:
    if drill.fault:
        return Judged("failed", "it was not restored", RUN)
    if drill.differing:
        more = f"; and {len(drill.differing) - 3} more" if len(drill.differing) > 3 else ""
        return Judged("failed", "; ".join(drill.differing[:3]) + more, RUN)
    if drill.unsaid:
        return Judged("warning", drill.unsaid, "Drill to a mark, which was counted: leave to empty")
    return passed_if(drill.tables > 0, f"{drill.tables} tables equal")


def _found(drill: Drill) -> Judged:
    if drill.found is None:
        return Judged("passed", "nothing is known of neighbours there")
    got, of = drill.found
    return Judged("passed" if got >= NEAR * of else "warning", f"{got} of {of}", "aya vectors checkup on the primary")


def _time(found: Found, drill: Drill) -> Judged:
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in drill.phases.items())
    ahead = forecast(found, drill)
    said = f"; {ahead:.0f} s forecast for the present {size(found.present)}" if ahead and isinstance(found.present, int) else ""
    return Judged("passed", f"{drill.seconds:.1f} s ({phases}){said}")
