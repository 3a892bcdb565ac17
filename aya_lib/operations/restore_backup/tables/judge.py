"""May tables be brought back, what do they lack, and is it there now?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aya_lib.check import Check, Judged, absent, conclude, evaluate, passed_if
from aya_lib.cluster.overview import SiteSeen
from aya_lib.cluster.server import Cluster
from aya_lib.errors import nearest
from aya_lib.node.unseen import Missing, Planned
from aya_lib.operations.restore_backup import aim
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.tables.definition import without
from aya_lib.operations.restore_backup.tables.look import Copied, Tables
from aya_lib.site import Site

MERGE = "Look at them in that schema; then merge = True inserts them"


def preconditions(found: Tables) -> list[Check]:
    """Nothing is changed unless all of these hold."""
    system = found.primary.system_identifier if isinstance(found.primary, Cluster) else found.primary
    expected = "one node that accepts writes"
    return [
        evaluate(
            "a primary answers", expected, found.primary, lambda one: passed_if(not one.in_recovery, one.node), hint="Run restore"
        ),
        *aim.checks(found.aim, system, found.room),
        *([_known(found, found.aim), _own(found, found.aim)] if isinstance(found.aim, Aim) else []),
    ]


def compared(found: Tables) -> list[Check]:
    """What the copies have that is not live: warnings, for a person to decide on."""
    if isinstance(found.copies, Missing):
        return [absent("the tables are compared", "by primary key", found.copies)]
    if not found.copied:
        return [absent("the tables are compared", "by primary key", Planned("they are not copied yet"))]
    checks = [_compared(one, found.schema) for one in found.copied]
    for child, parents in without(one.definition for one in found.copied).items():
        told = f"its rows went with those of {', '.join(parents)}"
        hint = f"Name it too: {child}"
        checks.append(Check(f"{child} is brought back as well", "warning", "named in tables", told, hint, required=False))
    return checks


def serves(found: Tables) -> Callable[[Site, SiteSeen], list[Check]]:
    """The judgement that the primary goes on accepting writes."""

    def judge_it(_: Site, seen: SiteSeen) -> list[Check]:
        name = found.primary.node if isinstance(found.primary, Cluster) else seen.primary.name
        cluster = seen.overview.nodes[name].cluster
        return [evaluate(f"{name} serves", "accepts writes", cluster, lambda one: passed_if(not one.in_recovery, one.role))]

    return judge_it


def merged(found: Tables, merge: bool) -> list[Check]:
    """Every row of the backup is live again, by its key."""
    if not merge:
        return [_waits(found)]
    if isinstance(found.copies, Mapping) and found.copied:
        return [_merged(one) for one in found.copied]
    return [
        absent("rows are merged", "by primary key", found.copies if isinstance(found.copies, Missing) else Planned("no copies"))
    ]


def _waits(found: Tables) -> Check:
    name, expected, missing = "nothing waits to be merged", "no row is missing", sum(one.missing for one in found.copied)
    if missing or any(one.dropped or one.lacking for one in found.copied):
        return Check(name, "warning", expected, f"{missing:,} rows, in {found.schema}", MERGE)
    return Check(name, "passed", expected, "nothing is missing" if found.copied else "nothing was copied")


def _known(found: Tables, to: Aim) -> Check:
    name, expected = "the backup has the tables", ", ".join(found.names) or "at least one"
    mark = to.backup.mark.tables.get(found.nodes.site.database.name) if to.backup.mark else None
    if not mark:
        return Check(name, "warning", expected, "its mark does not say which it has", "A table that it lacks ends the copying")
    missing = [one for one in found.names if one not in mark]
    hint = nearest(missing[0], list(mark)).strip("; ") if missing else "Name them: tables"
    good = bool(found.names) and not missing
    return conclude(name, expected, passed_if(good, f"not {', '.join(missing)}" if missing else expected), hint)


def _own(found: Tables, to: Aim) -> Check:
    def of(holds: str) -> Judged:
        hint = "Rename it, or drop it, if nobody needs it"
        return passed_if(holds.startswith("aya: "), holds or "a schema of somebody else", hint)

    holds = f"aya: nothing yet, for {to.point}" if found.holds is None else found.holds
    return evaluate(f"{found.schema} is free for the copies", "no such schema, or one of ours", holds, of)


def _compared(one: Copied, schema: str) -> Check:
    name, expected = f"{one.definition.name} has what the backup has", "every key"
    left = f"; columns that are live no more, left out: {', '.join(one.left_out)}" if one.left_out else ""
    if one.dropped:
        return Check(name, "warning", expected, f"it was dropped; the backup has {one.definition.rows:,} rows", MERGE)
    if one.difference is None:
        hint = f"Without a primary key nothing is merged: compare with the copy in {schema} by hand"
        return Check(name, "warning", expected, "rows cannot be told apart", hint)
    if one.difference.missing or one.lacking:
        lacks = f"{one.difference.missing:,} rows are missing, first {'; '.join(one.difference.first.get('missing', ('none',)))}"
        keys = "".join(f"; {key.child} lacks its foreign key {key.name}" for key in one.lacking)
        return Check(name, "warning", expected, lacks + keys + left, MERGE)
    return Check(name, "passed", expected, f"{one.difference.changed:,} changed and {one.difference.added:,} added since{left}")


def _merged(one: Copied) -> Check:
    name, expected = f"{one.definition.name} is merged", "no key of the backup is missing"
    if one.difference is None and not one.dropped:
        return Check(name, "warning", expected, "rows cannot be told apart: nothing was merged", "Compare by hand")
    lacking = "".join(f"; {key.child} lacks its foreign key {key.name}" for key in one.lacking)
    observed = "it is not there" if one.dropped else f"{one.missing:,} are missing{lacking}"
    good = not one.dropped and not one.missing and not one.lacking
    return Check(name, "passed" if good else "failed", expected, observed, "" if good else "Run it again")
