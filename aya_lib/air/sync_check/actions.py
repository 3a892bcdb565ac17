"""The one step that waits for a round."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.air import sync_now
from aya_lib.air.link import lock
from aya_lib.node.node import Node

COMPARE = "UPDATE aya_sync.laptop SET snapshot = NULL"


@dataclass(frozen=True)
class CompareAgain:
    """Have the next round compare everything under its own locks, and fetch what differs. What only the laptop has, or has in
    another version, is kept whole among the conflicts before it goes."""

    def command(self, node: Node) -> str:
        return f"{COMPARE}; NOTIFY aya_queue"

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection:
            lock(node.name, connection)  # the end of a round under way would store its own snapshot over this
            connection.execute(COMPARE)
        sync_now.sync(node.site)
