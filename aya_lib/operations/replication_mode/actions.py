"""What a change of the mode waits for: that commits really wait, and that a restarted server answers again."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster.replication import WAITED_FOR, Sender, look_sender
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.operations.replication_mode.look import Server, look_server
from aya_lib.plan.actions import Service


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


@dataclass(frozen=True)
class Restart:
    """Restart PostgreSQL and wait until it answers: not every supervisor waits."""

    def command(self, node: Node) -> str:
        return Service("restart", "postgresql").command(node)

    def run(self, node: Node) -> None:
        Service("restart", "postgresql").run(node)
        wait.until(
            lambda: look_server(node),
            lambda server: isinstance(server, Server),
            node=node.name,
            what="PostgreSQL answers again",
            deadline_s=node.site.deadlines.start_s,
        )
