"""What restore does that waits for something."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psycopg

from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import value
from aya_lib.plan.actions import CreateSlot

DROP = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"
LOST = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"


@dataclass(frozen=True)
class RenewSlot:
    """Drop a lost slot and create it, holding WAL from now on. Its standby keeps asking for it, so dropping is tried again."""

    slot: str

    def command(self, node: Node) -> str:
        return f"SELECT pg_drop_replication_slot('{self.slot}'); {CreateSlot(self.slot).command(node)}"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True) as connection:

            def gone() -> bool:
                with suppress(psycopg.errors.ObjectInUse):
                    connection.execute(DROP, (self.slot,))
                return not value(connection, LOST, (self.slot,))

            what = f"the lost slot {self.slot} can be dropped"
            wait.until(gone, bool, node=node.name, what=what, deadline_s=node.site.deadlines.command_s)
        CreateSlot(self.slot).run(node)
