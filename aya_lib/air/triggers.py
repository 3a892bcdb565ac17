"""The triggers that note what is written: a side on which one does not fire changes without a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aya_lib.node.sql import Connection, rows, statement, stream

Side = Literal["primary", "laptop"]

NAMES: dict[Side, dict[str, tuple[str, ...]]] = {
    "primary": {
        "documents": ("version", "insert", "update", "delete", "truncate"),
        "chunks": ("insert", "update", "delete", "truncate"),
    },
    "laptop": {"documents": ("before", "after", "truncate"), "chunks": ("insert", "update", "delete", "truncate")},
}
STATES = {None: "is missing", "D": "is disabled"}  # the others fire in some sessions only


def silent(connection: Connection, side: Side, node: str) -> tuple[str, ...]:
    """One line for each trigger that is missing, disabled, or does not fire in every session."""
    wanted = [(table, f"aya_sync_{name}") for table, names in NAMES[side].items() for name in names]
    relations, names = zip(*wanted, strict=True)
    found = stream(connection, statement(__package__, "triggers"), relations=list(relations), names=list(names))
    return tuple(
        f"{node}: trigger {name} of {table} {STATES.get(state, 'does not fire in sessions that replicate or restore')}"
        for table, name, state in found
    )


@dataclass(frozen=True)
class Foreign:
    """Triggers of somebody's own on the tables that travel; empty: none. ``passable``: this role may write without them."""

    names: str
    passable: bool


def unpassable(connection: Connection, node: str, role: str) -> tuple[str, ...]:
    """Why what comes may be changed again here: triggers that this role may not pass."""
    found = foreign(connection)
    if not found.names or found.passable:
        return ()
    return (f"{node}: {found.names}: changes what comes. GRANT SET ON PARAMETER session_replication_role TO {role}",)


def foreign(connection: Connection) -> Foreign:
    return rows(connection, __package__, "foreign_triggers", Foreign)[0]
