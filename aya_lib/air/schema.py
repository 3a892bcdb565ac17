"""What the synchronisation adds to both databases. Safe on live ones, and applied twice it changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from aya_lib import schema
from aya_lib.air.link import SCHEMA_VERSION, Side, schema_version
from aya_lib.node.node import Node
from aya_lib.node.sql import statement

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
    with node.session() as connection:
        return schema_version(connection, side)
