"""The whole site at one moment: every node looked at from outside and inside, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from aya_lib.facts import cluster, replication, services
from aya_lib.facts.cluster import Cluster, Files
from aya_lib.facts.replication import Receiver, Sender
from aya_lib.facts.services import Embedding, Health
from aya_lib.facts.unseen import Down, Missing, Starting, Unseen
from aya_lib.node.node import Node, Nodes
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.show import Badge, Cell, Shown, Table, Tone


@dataclass(frozen=True)
class NodeSeen:
    """One node. ``sender`` is there when it is a primary, ``receiver`` when it is in recovery."""

    name: str
    process: ServiceState | Missing
    listener: Listener | Missing | None
    files: Files | Missing
    cluster: Cluster | Missing
    sender: Sender | Missing | None
    receiver: Receiver | Missing | None
    embedding: Embedding | None

    @property
    def writable(self) -> bool:
        """Seen to be a primary. False says only that it was not seen to be one."""
        return isinstance(self.cluster, Cluster) and not self.cluster.in_recovery


@dataclass(frozen=True, repr=False)
class Overview(Shown):
    """What was seen of every node, by name. ``at`` is when looking began."""

    at: datetime
    nodes: Mapping[str, NodeSeen]

    def writable(self) -> list[NodeSeen]:
        return [node for node in self.nodes.values() if node.writable]

    def table(self) -> Table:
        rows = tuple(_row(node) for node in self.nodes.values())
        columns = ("node", "PostgreSQL", "role", "timeline", "position", "replication", "embedding service")
        return Table("The site as seen", columns, rows, (f"looked at {self.at:%Y-%m-%d %H:%M:%S} UTC",))


def look(nodes: Nodes) -> Overview:
    """Look at all nodes at once: a deaf one costs its deadline, not everybody's."""
    at = datetime.now(UTC)
    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        return Overview(at, dict(zip(nodes, pool.map(look_node, nodes.values()), strict=True)))


def look_node(node: Node) -> NodeSeen:
    found = cluster.look(node)
    recovery = found.in_recovery if isinstance(found, Cluster) else None
    return NodeSeen(
        node.name,
        services.look_process(node, "postgresql"),
        services.look_listener(node, node.wish.postgresql.port),
        cluster.look_files(node),
        found,
        replication.look_sender(node) if recovery is False else None,
        replication.look_receiver(node) if recovery is True else None,
        services.look_embedding(node),
    )


def _row(node: NodeSeen) -> tuple[Cell, ...]:
    found = node.cluster
    role, timeline, lsn = ("", "", "") if not isinstance(found, Cluster) else (found.role, str(found.timeline), found.lsn)
    return (node.name, _server(node), role, timeline, lsn, _replication(node), _embedding(node.embedding))


def _server(node: NodeSeen) -> Badge:
    if isinstance(node.cluster, Cluster):
        return Badge("passed", "running")
    if isinstance(node.process, ServiceState) and node.process.status != "running":
        return Badge("failed", node.process.status)
    return Badge(_tone(node.cluster), _word(node.cluster))


def _replication(node: NodeSeen) -> Cell:
    if isinstance(node.sender, Sender):
        count = len(node.sender.streams)
        return f"sends {count} stream{'' if count == 1 else 's'}"
    if isinstance(node.receiver, Receiver):
        return f"receives: {node.receiver.status or 'nothing'}"
    return Badge("unknown") if isinstance(node.sender or node.receiver, Unseen) else ""


def _embedding(service: Embedding | None) -> Cell:
    if service is None:
        return ""
    if isinstance(service.health, Health):
        return Badge("passed" if service.health.status == "healthy" else "warning", service.health.status)
    return Badge(_tone(service.health), _word(service.health))


def _tone(missing: object) -> Tone:
    return "failed" if isinstance(missing, Down | Starting) else "unknown"


def _word(missing: object) -> str:
    return {Down: "down", Starting: "starting"}.get(type(missing), "unknown")
