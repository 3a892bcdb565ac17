"""The whole site at one moment: every node looked at from outside and inside, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from aya_lib.cluster import archive, log, machine, replication, roles, server, services, state
from aya_lib.cluster.archive import Archive
from aya_lib.cluster.log import Log
from aya_lib.cluster.machine import Machine
from aya_lib.cluster.replication import Receiver, Sender
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.services import Embedding, Health
from aya_lib.cluster.state import State
from aya_lib.node.node import Node, Nodes
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Down, Missing, Starting, Unseen, seen
from aya_lib.show import Badge, Cell, Shown, Table
from aya_lib.site import Site


@dataclass(frozen=True)
class NodeSeen:
    """One node. ``sender`` is there when it is a primary, ``receiver`` when it is in recovery. ``autostart``: whether its
    PostgreSQL starts by itself at boot; None: no unit is there that could. ``log``: only of a server that does not answer, or
    does not receive and replay. ``sync``: a laptop's daemon."""

    name: str
    process: ServiceState | Missing
    listener: Listener | Missing | None
    files: Files | Missing
    cluster: Cluster | Missing
    sender: Sender | Missing | None
    receiver: Receiver | Missing | None
    embedding: Embedding | None
    autostart: bool | Missing | None = None
    machine: Machine | Missing | None = None
    log: Log | Missing | None = None
    sync: ServiceState | Missing | None = None

    @property
    def receives(self) -> bool:
        """Seen to receive and to replay."""
        it = self.receiver
        return isinstance(it, Receiver) and it.status == "streaming" and it.replay_state == "not paused"

    @property
    def writable(self) -> bool:
        """Seen to be a primary. False says only that it was not seen to be one."""
        return isinstance(self.cluster, Cluster) and not self.cluster.in_recovery

    @property
    def follows(self) -> bool:
        """Seen to be a standby: its server is in recovery, or, where that does not answer, would start as one."""
        if isinstance(self.cluster, Cluster):
            return self.cluster.in_recovery
        return isinstance(self.files, Files) and self.files.standby_signal


@dataclass(frozen=True, repr=False)
class Overview(Shown):
    """What was seen of every node, by name. ``at`` is when looking began; ``state``: what runbooks agreed on before;
    ``archive`` is looked at only when the standby's slot is lost and the site keeps one."""

    at: datetime
    nodes: Mapping[str, NodeSeen]
    state: State = field(default_factory=State)
    archive: Archive | Missing | None = None

    def writable(self) -> list[NodeSeen]:
        return [node for node in self.nodes.values() if node.writable]

    def pair(self, site: Site) -> tuple[NodeSeen, NodeSeen]:
        """Primary and standby as they are; see :func:`aya_lib.cluster.roles.chosen`."""
        away = [name for name, node in self.nodes.items() if node.follows or self.fenced(name)]
        primary = roles.chosen(site, self.state, [node.name for node in self.writable()], away)
        other = next(name for name in site.pair if name != primary)
        return self.nodes[primary], self.nodes[other]

    def fenced(self, name: str) -> str:
        """Why a node must not be started as a primary; empty when nothing says so."""
        fence, files = self.state.fenced.get(name), self.nodes[name].files
        if fence:
            return f"fenced {fence}"
        if isinstance(files, Files) and files.fenced is not None:
            return f"its data directory carries a fence: {' '.join(files.fenced.split())[:200]}"
        return ""

    def table(self) -> Table:
        rows = tuple(_row(node) for node in self.nodes.values())
        columns = ("node", "PostgreSQL", "role", "timeline", "position", "replication", "embedding service")
        return Table("The site as seen", columns, rows, (f"looked at {self.at:%Y-%m-%d %H:%M:%S} UTC",))


@dataclass(frozen=True, repr=False)
class SiteSeen(Shown):
    """What was seen of a site, with its nodes, so that a plan can be made from it."""

    nodes: Nodes
    overview: Overview

    @property
    def site(self) -> Site:
        return self.nodes.site

    @property
    def primary(self) -> NodeSeen:
        """As it is; see :meth:`Overview.pair`."""
        return self.overview.pair(self.site)[0]

    @property
    def standby(self) -> NodeSeen:
        return self.overview.pair(self.site)[1]

    def table(self) -> Table:
        return self.overview.table()


def look_site(nodes: Nodes) -> SiteSeen:
    return SiteSeen(nodes, look(nodes))


def look(nodes: Nodes) -> Overview:
    """Look at all nodes at once: a deaf one costs its deadline, not everybody's."""
    at = datetime.now(UTC)
    known = state.read(nodes.site)
    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        overview = Overview(at, dict(zip(nodes, pool.map(look_node, nodes.values()), strict=True)), known)
    primary, standby = overview.pair(nodes.site)
    sender = replication.by_one_clock(nodes.site, primary.sender, standby.receiver)
    if sender is not None:
        overview = replace(overview, nodes={**overview.nodes, primary.name: replace(primary, sender=sender)})
    return replace(overview, archive=_look_archive(nodes, overview))


def look_node(node: Node) -> NodeSeen:
    """One node, by SQL and by shell at the same time. A host that a first command does not reach is not tried again and again:
    what the shell would have shown is unseen for the same reason."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        asked = pool.submit(_ask, node)
        process = services.look_process(node, "postgresql")
        lost = process if node.config.ssh and isinstance(process, Unseen) else None
        listener = lost or services.look_listener(node, node.config.postgresql.port)
        files = lost or server.look_files(node)
        autostart = lost or _look_autostart(node)
        below = lost or machine.look(node)
        sync = (lost or services.look_process(node, "sync")) if "sync" in node.supervisor.units else None
        embedding = services.look_embedding(node, lost)
        cluster, sender, receiver = asked.result()
    found = NodeSeen(node.name, process, listener, files, cluster, sender, receiver, embedding, autostart, below, sync=sync)
    well = found.writable or found.receives
    return found if well else replace(found, log=lost or log.look(node))


def _look_autostart(node: Node) -> bool | Missing | None:
    return seen(node.name, "autostart of postgresql", lambda: node.supervisor.enabled("postgresql"))


def _ask(node: Node) -> tuple[Cluster | Missing, Sender | Missing | None, Receiver | Missing | None]:
    cluster = server.look(node)
    if not isinstance(cluster, Cluster):
        return cluster, None, None
    if cluster.in_recovery:
        return cluster, None, replication.look_receiver(node)
    return cluster, replication.look_sender(node), None


def _look_archive(nodes: Nodes, overview: Overview) -> Archive | Missing | None:
    primary, standby = overview.pair(nodes.site)
    slot = primary.sender.slot(nodes.site.replication.slot) if isinstance(primary.sender, Sender) else None
    return archive.look(nodes[standby.name], nodes[primary.name]) if slot and slot.wal_status == "lost" else None


def _row(node: NodeSeen) -> tuple[Cell, ...]:
    it = node.cluster
    place = (it.role, str(it.timeline), it.lsn) if isinstance(it, Cluster) else ("", "", "")
    return (node.name, _server(node), *place, _replication(node), _embedding(node.embedding))


def _server(node: NodeSeen) -> Badge:
    if isinstance(node.cluster, Cluster):
        return Badge("passed", "running")
    if isinstance(node.process, ServiceState) and node.process.status != "running":
        return Badge("failed", node.process.status)
    return badge(node.cluster)


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
    if service.runs == "primary" and isinstance(service.health, Down):
        return "not wanted here now"
    if service.runs == "laptop" and isinstance(service.process, ServiceState) and service.process.status == "stopped":
        return "stopped"
    if isinstance(service.health, Health):
        return Badge("passed" if service.health.status == "healthy" else "warning", service.health.status)
    return badge(service.health)


def badge(missing: object) -> Badge:
    """What is not there, in a word: down, starting or unknown."""
    word = {Down: "down", Starting: "starting"}.get(type(missing), "unknown")
    return Badge("unknown" if word == "unknown" else "failed", word)
