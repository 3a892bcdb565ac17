"""What makes both sides equal: the round's own comparison, asked for, and looked at afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.air import sync_now
from aya_lib.air.differ import Row
from aya_lib.air.link import lock
from aya_lib.air.patrol import STUCK, named
from aya_lib.air.sync_check.look import Comparison, look
from aya_lib.errors import AyaError
from aya_lib.node.node import Node, open_nodes

COMPARE = "UPDATE aya_sync.laptop SET snapshot = NULL"


@dataclass(frozen=True)
class CompareAgain:
    """Have the next round compare everything under its own locks, and fetch what differs. What only the laptop has, or has in
    another version, is kept whole among the conflicts before it goes. ``rows``: those that differ; :class:`AyaError` when they do
    so afterwards, for nothing that is waited for would change that."""

    rows: frozenset[Row]

    def command(self, node: Node) -> str:
        return f"{COMPARE}; NOTIFY aya_queue"

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection:
            lock(node.name, connection)  # the end of a round under way would store its own snapshot over this
            connection.execute(COMPARE)
        sync_now.sync(node.site)
        found = look(open_nodes(node.site))
        left = [row for row in found.differences if row.row in self.rows] if isinstance(found, Comparison) else []
        if left and isinstance(found, Comparison):
            why = "; ".join(found.silent) or STUCK
            raise AyaError(f"mending made no progress: {named(left)}: {why}", hint="Mend the cause, then compare again")
