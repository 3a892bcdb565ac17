"""What brings tables back: copies beside the present ones first, then what is missing, then the copies away. Nothing here drops,
empties or overwrites a live table."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from aya_lib.backup.look import keeper
from aya_lib.cluster.server import Cluster
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.tables.actions import Clear, Fetch, Merge
from aya_lib.operations.restore_backup.tables.definition import identifier
from aya_lib.operations.restore_backup.tables.look import Copied, Tables
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Change, Plan, change


def prepare(found: Tables) -> Plan:
    """Copy what is not copied yet, out of a scratch cluster."""
    title = f"How {', '.join(found.names)} come beside the live ones"
    return Plan(title, tuple(_prepare(found)), unwind=False)


def put(found: Tables, merge: bool) -> Plan:
    """Insert what is missing, in one transaction."""
    tables = tuple(one.definition.name for one in found.copied if _mergeable(one)) if merge else ()
    title = f"What is merged from {found.schema}"
    if not tables or not isinstance(found.primary, Cluster):
        return Plan(title)
    rows = sum(one.missing for one in found.copied)
    words = f"Insert {rows:,} rows that are missing into {', '.join(tables)}"
    merging = change(found.nodes[found.primary.node], words, Merge(found.schema, tables), destroys=True)
    return Plan(title, (merging, *_validate(found)), unwind=False)


def rest(found: Tables, merge: bool, keep: bool) -> Plan:
    """Remove the copies once they are merged, or nothing of them is missing; else they stay, to be looked at."""
    title = f"What is left of {found.schema}"
    left = any(one.missing or (one.difference is None and not one.dropped) for one in found.copied)
    if keep or left or not found.copied or not isinstance(found.primary, Cluster):
        return Plan(title)
    clear = change(found.nodes[found.primary.node], f"Remove the copies in {found.schema}", Clear(found.schema))
    return Plan(title, (clear,), unwind=False)


def _prepare(found: Tables) -> Iterator[Change]:
    if not isinstance(found.aim, Aim) or not isinstance(found.primary, Cluster) or found.copied:
        return
    primary = found.nodes[found.primary.node]
    if isinstance(found.holds, str) and found.holds != found.aim.point:
        yield change(primary, f"Remove the copies of another point in time from {found.schema}", Clear(found.schema))
    fetch = Fetch(found.aim, keeper(found.nodes), found.schema, found.names)
    yield change(primary, f"Copy {', '.join(found.names)} of {found.aim.backup.label} into {found.schema}", fetch)


def _mergeable(one: Copied) -> bool:
    return bool(one.dropped or one.lacking or one.missing) and bool(one.dropped or one.difference)


def _validate(found: Tables) -> Iterator[Change]:
    """Foreign keys that come back are held to by new rows at once; the old ones are looked at afterwards."""
    names = {one.definition.name for one in found.copied if one.dropped}
    for one in found.copied:
        for key in one.lacking:
            if key.child not in names and isinstance(found.primary, Cluster):
                child, name = identifier(key.child), sql.Identifier(key.name)
                text = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(child, name).as_string()
                title = f"See that every row of {key.child} keeps {key.name}"
                yield change(found.nodes[found.primary.node], title, Sql(text, database=None, deadline_s=3600), vital=False)
