"""What restore does that waits for something."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import value
from aya_lib.plan.actions import Call, CreateSlot

DROP = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"
LOST = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"


def renew(node: Node, slot: str) -> Call:
    """Drop a lost slot and create it, holding WAL from now on."""
    shown = f"SELECT pg_drop_replication_slot('{slot}'); {CreateSlot(slot).command(node)}"
    return Call(shown, lambda node: _renew(node, slot))


def _renew(node: Node, slot: str) -> None:
    """Its standby keeps asking for it, so dropping is tried again."""
    with node.session(database="postgres", write=True) as connection:

        def gone() -> bool:
            with suppress(psycopg.errors.ObjectInUse):
                connection.execute(DROP, (slot,))
            return not value(connection, LOST, (slot,))

        what, limit = f"the lost slot {slot} can be dropped", node.site.deadlines.command_s
        wait.until(gone, bool, node=node.name, what=what, deadline_s=limit)
    CreateSlot(slot).run(node)
