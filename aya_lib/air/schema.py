"""What the synchronisation adds to both databases, as a plan. Safe on live ones, and applied twice it changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from aya_lib import schema
from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.node.node import Node
from aya_lib.node.sql import statement
from aya_lib.plan.change import Change, Plan, change

Side = Literal["primary", "laptop"]
SHOWN = {
    "primary": "schema aya_sync (changes, clients, mutations, state), column documents.version, triggers that note what changes",
    "laptop": "schema aya_sync (laptop, refetch, conflicts, renamed), columns and triggers of write_queue, ids below 0",
}


@dataclass(frozen=True)
class Prepare:
    """Create what is missing, in one transaction; it waits for a lock on documents for a moment, and gives up after that."""

    side: Side

    def command(self, node: Node) -> str:
        return SHOWN[self.side]

    def run(self, node: Node) -> None:
        text = sql.SQL(statement(__package__, self.side)).format(version=sql.Literal(SCHEMA_VERSION))
        with node.session(write=True, deadline_s=60) as connection:
            if self.side == "laptop":
                schema.create(connection, node.site, offline_queue=True)
            with connection.transaction():
                connection.execute(text)


def version(node: Node, side: Side) -> int | None:
    """Which version of the sync schema the node has; None: none."""
    table = "state" if side == "primary" else "laptop"
    with node.session() as connection:
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"aya_sync.{table}",)).fetchone()
        if not (row and row[0]):
            return None
        query = sql.SQL("SELECT schema_version FROM {}").format(sql.Identifier("aya_sync", table))
        found = connection.execute(query).fetchone()
        return int(str(found[0])) if found else None


def plan(primary: Node, laptop: Node) -> Plan:
    """What is missing, on the node that accepts writes (its standby receives it by replication) and on the laptop."""
    changes: list[Change] = []
    if version(primary, "primary") != SCHEMA_VERSION:
        changes.append(change(primary, "Keep a log of what changes, and take the laptop's writes", Prepare("primary")))
    if version(laptop, "laptop") != SCHEMA_VERSION:
        changes.append(change(laptop, "Queue what is written on the laptop", Prepare("laptop")))
    return Plan("Synchronise the laptop", tuple(changes), unwind=False)


def prepare(primary: Node, laptop: Node) -> Plan:
    """Apply :func:`plan`, and say what it was."""
    found = plan(primary, laptop)
    for step in found.changes:
        step.action.run(primary if step.node == primary.name else laptop)
    return found
