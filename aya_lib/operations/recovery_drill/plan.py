"""A drill is one change: it makes a copy beside, and takes it away again."""

from __future__ import annotations

from aya_lib.operations.recovery_drill.actions import Restore
from aya_lib.operations.recovery_drill.look import Found
from aya_lib.plan.change import Plan, change


def plan(found: Found) -> Plan:
    """Nothing where there is nothing to drill."""
    if not isinstance(found.aim, tuple):
        return Plan("Recovery drill", unwind=False)
    backup, target = found.aim
    asked = found.request
    source = f"{backup.label} from {asked.place}" if asked.place else backup.label
    title = f"Restore {source} to {target.kind} {target.value} beside, compare it, and remove it"
    act = Restore(backup.label, target, asked.light, asked.place, asked.identity)
    return Plan("Recovery drill", (change(found.keeper, title, act),), unwind=False)
