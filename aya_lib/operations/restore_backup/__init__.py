"""Restore from a backup on the bad day: the whole cluster to a point in time, or single tables beside the live ones. Which of
both is told by ``tables``; the steps are the same: look, prepare beside, look at it, put it in place, look again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aya_lib.check import Check
from aya_lib.cluster.judge.application import checks as works
from aya_lib.cluster.overview import SiteSeen, look_site
from aya_lib.node.node import Nodes
from aya_lib.operations.restore_backup.tables import judge as table_judge
from aya_lib.operations.restore_backup.tables import look as table_look
from aya_lib.operations.restore_backup.tables import plan as table_plan
from aya_lib.operations.restore_backup.tables.look import Tables
from aya_lib.operations.restore_backup.whole import judge as whole_judge
from aya_lib.operations.restore_backup.whole import look as whole_look
from aya_lib.operations.restore_backup.whole import plan as whole_plan
from aya_lib.operations.restore_backup.whole.look import Whole
from aya_lib.plan.change import Plan
from aya_lib.site import Site

Found = Tables | Whole


def look(nodes: Nodes, to: str, tables: Sequence[str], node: str = "", confirmed_by: str = "", by: str = "") -> Found:
    """What there is, and what is asked for. :class:`UsageError` for a point in time that cannot be restored."""
    if tables:
        return table_look.look(nodes, to, tables)
    return whole_look.look(nodes, to, node, confirmed_by, by)


def again(nodes: Nodes, found: Found) -> Found:
    """The same anew; the point in time stays what it was."""
    if isinstance(found, Tables):
        return table_look.look(nodes, "", found.names, found)
    return whole_look.look(nodes, "", "", "", found.by, found)


def preconditions(found: Found) -> list[Check]:
    return table_judge.preconditions(found) if isinstance(found, Tables) else whole_judge.preconditions(found)


def prepare(found: Found) -> Plan:
    return table_plan.prepare(found) if isinstance(found, Tables) else whole_plan.prepare(found)


def beside(found: Found) -> list[Check]:
    """What was restored beside is what it should be, and how it differs."""
    return table_judge.compared(found) if isinstance(found, Tables) else whole_judge.proven(found)


def put(found: Found, merge: bool) -> Plan:
    return table_plan.put(found, merge) if isinstance(found, Tables) else whole_plan.put(found)


def serves(found: Found) -> Callable[[Site, SiteSeen], list[Check]]:
    """The judgement that somebody accepts writes: the node that was restored, or the primary that there is."""
    return whole_judge.serves(found) if isinstance(found, Whole) else table_judge.serves(found)


def rest(found: Found, merge: bool, keep: bool) -> Plan:
    return table_plan.rest(found, merge, keep) if isinstance(found, Tables) else whole_plan.rest(found)


def remains(found: Found, merge: bool) -> list[Check]:
    """What is there now, and what is still to be done, each with its command."""
    return table_judge.merged(found, merge) if isinstance(found, Tables) else whole_judge.remains(found)


__all__ = ["again", "beside", "look", "look_site", "preconditions", "prepare", "put", "remains", "rest", "serves", "works"]
