"""What must be done to bring a site back: a pure function of what was seen, safe to call again after every step."""

from __future__ import annotations

from collections.abc import Iterator

from aya_lib.check import Check, optional
from aya_lib.cluster.judge import replication
from aya_lib.cluster.judge.overview import idle
from aya_lib.cluster.overview import NodeSeen
from aya_lib.cluster.replication import Receiver, Sender
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.services import Embedding, Health
from aya_lib.node.node import Node
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Down, Missing
from aya_lib.operations.restore.actions import renew
from aya_lib.operations.restore.judge import SITE, gate, service_of, shut
from aya_lib.operations.restore.look import Found
from aya_lib.plan.actions import CreateSlot, Service, Sql, Terminate, drop_slot
from aya_lib.plan.change import Change, Plan, change


def plan(found: Found) -> Plan:
    """The changes that are missing, in order: primary, its embedding service, standby, replication.

    Only what was seen to be down is started. What the gate is shut for yields no change, and the rest goes on.
    """
    nodes, overview = found.nodes, found.overview
    leader, follower = overview.pair(found.site)
    primary, standby = nodes[leader.name], nodes[follower.name]
    kept = {part for part, checks in gate(found).items() if shut(checks)}
    parts = [
        (leader.name, _server(primary, leader)),
        (service_of(leader), _embedding(primary, leader, found.stop_port_holder)),
        (SITE, _slot(primary, leader, replication.bridge(found.site, overview))),
        (follower.name, () if overview.fenced(standby.name) else _server(standby, follower)),
        (service_of(follower), () if idle(found.site, follower) else _embedding(standby, follower, found.stop_port_holder)),
        (follower.name, _replay(standby, follower)),
    ]
    steps = [step for part, changes in parts if not {part, SITE} & kept for step in changes]
    return Plan("What restore changes", tuple(steps), unwind=False)


def preconditions(found: Found) -> list[Check]:
    """The gate, for all parts. One that is shut for a part which the plan leaves alone carries no weight while there is another
    change to make."""
    more, parts = bool(plan(found)), gate(found)
    return [
        check
        for part, checks in parts.items()
        for check in (optional(checks) if part != SITE and more and shut(checks) else checks)
    ]


def _server(node: Node, seen: NodeSeen) -> Iterator[Change]:
    if isinstance(seen.process, ServiceState) and seen.process.status in ("stopped", "stale", "failed"):
        title = f"Start PostgreSQL ({_why(seen.process)})"
        yield change(node, title, Service("start", "postgresql"), undo=Service("stop", "postgresql"))


def _embedding(node: Node, seen: NodeSeen, stop_port_holder: bool) -> Iterator[Change]:
    service = seen.embedding
    if service is None or not isinstance(service.process, ServiceState):
        return
    state = service.process
    if state.status in ("stopped", "stale", "failed"):
        if stop_port_holder and isinstance(service.listener, Listener) and service.listener.pid:
            yield _stop_holder(node, service.listener)
        title = f"Start the embedding service ({_why(state)})"
        yield change(node, title, Service("start", "embedding"), undo=Service("stop", "embedding"))
    elif not _answering(service):
        title = f"Restart the embedding service ({_complaint(service)})"
        yield change(node, title, Service("restart", "embedding"), interrupts=True)


def _stop_holder(node: Node, holder: Listener) -> Change:
    title = f"Stop the process that holds port {holder.port} ({holder.command})"
    return change(node, title, Terminate(holder.pid or 0, holder.command, holder.port), interrupts=True, destroys=True)


def _slot(node: Node, seen: NodeSeen, bridge: replication.Bridge | Missing | None) -> Iterator[Change]:
    """Create the slot that is missing; one that is lost is made anew only once the standby is seen to read the archive."""
    name = node.site.replication.slot
    if not isinstance(seen.sender, Sender):
        return
    slot = seen.sender.slot(name)
    if slot is None:
        yield change(node, f"Create the slot {name}", CreateSlot(name), undo=drop_slot(name))
    elif slot.wal_status == "lost" and isinstance(bridge, replication.Bridge) and bridge.holds and bridge.reads:
        yield change(node, f"Make the lost slot {name} anew (the archive has its WAL)", renew(node, name))


def _replay(node: Node, seen: NodeSeen) -> Iterator[Change]:
    paused = isinstance(seen.receiver, Receiver) and seen.receiver.replay_state != "not paused"
    if isinstance(seen.cluster, Cluster) and paused:
        undo = Sql("SELECT pg_wal_replay_pause()")
        yield change(node, "Resume replay", Sql("SELECT pg_wal_replay_resume()"), undo=undo)


def _answering(service: Embedding) -> bool:
    """Healthy, or loading and so to be waited for."""
    return isinstance(service.health, Health) and service.health.status in ("healthy", "loading")


def _complaint(service: Embedding) -> str:
    if isinstance(service.health, Health):
        return f"it says {service.health.status}"
    return "its port is closed" if isinstance(service.health, Down) else "it does not answer"


def _why(state: ServiceState) -> str:
    return f"{state.status}: {state.detail}" if state.detail else state.status
