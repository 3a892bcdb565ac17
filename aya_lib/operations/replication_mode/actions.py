"""What a change of the mode waits for: that commits really wait."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster.replication import WAITED_FOR, Sender, look_sender
from aya_lib.node import wait
from aya_lib.node.node import Node


@dataclass(frozen=True)
class AwaitSync:
    """The primary says that commits wait for the standby."""

    slot: str

    def command(self, node: Node) -> str:
        return "wait until pg_stat_replication.sync_state is sync"

    def run(self, node: Node) -> None:
        def sync_state() -> str:
            sender = look_sender(node)
            stream = sender.stream(self.slot) if isinstance(sender, Sender) else None
            return stream.sync_state if stream else "no stream"

        what, limit = "commits wait for the standby", node.site.deadlines.command_s
        wait.until(sync_state, lambda state: state in WAITED_FOR, node=node.name, what=what, deadline_s=limit)
