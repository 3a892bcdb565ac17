"""Is each server there, is it what it should be, and do the two belong together?"""

from __future__ import annotations

from collections.abc import Sequence

from aya_lib.check import Check, Judged, absent, conclude, evaluate, passed_if
from aya_lib.cluster import roles
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.server import Cluster, Files
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Unseen
from aya_lib.site import Site


def alive(node: NodeSeen) -> Check:
    """The server's process is alive, and its PID file names that process and no other."""

    def rule(state: ServiceState) -> Judged:
        return passed_if(state.status == "running", str(state), _process_hint(state))

    return evaluate(f"{node.name} PostgreSQL process", "running, with a valid PID", node.process, rule)


def primary(node: NodeSeen) -> Check:
    """The server answers SQL and accepts writes."""

    def rule(cluster: Cluster) -> Judged:
        hint = f"{node.name} is in recovery: find out which node was promoted before anything is started or stopped"
        return passed_if(not cluster.in_recovery, f"{cluster.role}, timeline {cluster.timeline}", hint)

    return evaluate(f"{node.name} is the primary", "accepts writes", node.cluster, rule, hint=server_hint(node))


def standby(node: NodeSeen) -> Check:
    """The server answers SQL, is in recovery and so refuses every write."""

    def rule(cluster: Cluster) -> Judged:
        hint = f"{node.name} accepts writes. Stop the clients, then decide which of the two nodes to keep"
        return passed_if(cluster.in_recovery, f"{cluster.role}, timeline {cluster.timeline}", hint)

    return evaluate(f"{node.name} is a standby", "in recovery and read-only", node.cluster, rule, hint=server_hint(node))


def answers(node: NodeSeen) -> Check:
    """The server answers SQL, whatever its role."""

    def rule(cluster: Cluster) -> Judged:
        return Judged("passed", f"{cluster.role}, PostgreSQL {cluster.version}, timeline {cluster.timeline}")

    return evaluate(f"{node.name} answers SQL", "takes sessions", node.cluster, rule, hint=server_hint(node))


def vector_column(site: Site, node: NodeSeen) -> Check:
    """The column for embeddings takes vectors of the site's dimension."""
    of_site = site.embedding.dimension

    def rule(cluster: Cluster) -> Judged:
        dimension = cluster.vector_dimension
        hint = "Site and database speak of different models: correct embedding in site.yaml, or embed the chunks anew"
        return passed_if(dimension == of_site, "no such column" if dimension is None else f"{dimension} dimensions", hint)

    return evaluate(f"{node.name} chunks.embedding", f"{of_site} dimensions", node.cluster, rule, hint=server_hint(node))


def one_primary(nodes: Sequence[NodeSeen]) -> Check:
    """No two nodes of the pair accept writes. A node that runs and cannot be asked leaves it unknown."""
    writable = [node.name for node in nodes if node.writable]
    name, expected = "no second primary", f"at most one of {' and '.join(node.name for node in nodes)} accepts writes"
    if len(writable) > 1:
        hint = "Split brain: stop the clients and one of the nodes, compare what each has, keep one, rebuild the other from it"
        return Check(name, "failed", expected, f"{' and '.join(writable)} accept writes", hint)
    hidden = next((node.cluster for node in nodes if isinstance(node.cluster, Unseen)), None)
    if hidden is not None:
        return absent(name, expected, hidden, "Look at that node by hand")
    return Check(name, "passed", expected, f"{writable[0]} does" if writable else "none does")


def same_system(a: NodeSeen, b: NodeSeen) -> Check:
    """Both data directories come from one initdb."""
    name, expected = f"{a.name} and {b.name} are one system", "the same system identifier"
    for node in (a, b):
        if identity(node) is None and not isinstance(node.files, Files):
            return absent(name, expected, node.files)
    one, two = identity(a), identity(b)
    hint = f"{b.name} holds another cluster's data: make it anew with pg_basebackup from {a.name}"
    observed = str(one) if one == two else f"{a.name} {one}, {b.name} {two}"
    return conclude(name, expected, passed_if(one == two, observed, hint))


def not_diverged(follower: NodeSeen, leader: NodeSeen) -> Check:
    """What ``follower`` has is part of the history of ``leader``. (PostgreSQL: timeline history files.)

    On the leader's timeline, or on an earlier one and not past the position where that one ended.
    """
    name, expected = f"{follower.name} has not diverged", f"its WAL is part of {leader.name}'s history"
    if not isinstance(leader.cluster, Cluster):
        return absent(name, expected, leader.cluster)
    if not isinstance(follower.cluster, Cluster) and not isinstance(follower.files, Files):
        return absent(name, expected, follower.files)
    timeline, lsn = position(follower) or (0, "0/0")
    hint = (
        f"Do not start {follower.name} as it is. Keep its data directory, and make it anew from {leader.name}: "
        f"pg_basebackup into an empty directory, or pg_rewind"
    )
    if timeline == leader.cluster.timeline:
        return Check(name, "passed", expected, f"both on timeline {timeline}")
    end = next((switch.lsn for switch in leader.cluster.history if switch.timeline == timeline), None)
    where = f"{follower.name} at {lsn} on timeline {timeline}, {leader.name} on timeline {leader.cluster.timeline}"
    if end is None:
        return Check(name, "failed", expected, f"{where}, which does not descend from it", hint)
    within = number(lsn) <= number(end)
    return conclude(name, expected, passed_if(within, f"{where}, which left timeline {timeline} at {end}", hint))


def not_passed_over(site: Site, overview: Overview) -> Check:
    """The node that accepts writes, if any does, is the one that should: as configured, or as a failover left it."""
    writable = [node.name for node in overview.writable() if node.name in site.pair]
    known = roles.agreed(site, overview.state)
    name, expected = f"{known} was not passed over", f"{known} is the primary, or nobody is"
    hint = (
        f"{', '.join(writable)} accepts writes without a failover runbook: {known} must not be started as it is. Leave "
        f"{', '.join(writable)} in charge, and make {known} its standby: run rejoin"
    )
    return conclude(name, expected, passed_if(writable in ([], [known]), f"primary: {', '.join(writable) or 'none'}", hint))


def as_configured(site: Site, overview: Overview) -> Check:
    """The roles are as configured; a warning after a failover, until somebody switches back."""
    primary, _ = overview.pair(site)
    name, expected = "roles are as configured", f"{site.primary} is the primary"
    if primary.name == site.primary:
        return Check(name, "passed", expected, f"{site.primary} is", required=False)
    hint = "Works, and is not what site.yaml says: run switchback when it suits, or change the roles in site.yaml"
    return Check(name, "warning", expected, f"{primary.name} is, since a failover", hint, required=False)


def not_fenced(node: NodeSeen, overview: Overview) -> Check:
    """No failover has fenced the node: neither the site's state nor a mark in its data directory says so."""
    name, expected = f"{node.name} is not fenced", "no failover left it behind"
    hint = f"It must not be started as a primary again: run rejoin, which makes {node.name} a standby and lifts the fence"
    if overview.state.under_way:
        hint = "A failover is under way: run it again with the same parameters, or take_back=true while nobody was promoted"
    why = overview.fenced(node.name)
    return conclude(name, expected, passed_if(not why, why or "no fence", hint))


def identity(node: NodeSeen) -> str | None:
    """System identifier, from the server or from its files; None when neither could be seen."""
    found = node.cluster if isinstance(node.cluster, Cluster) else node.files
    return found.system_identifier if isinstance(found, Cluster | Files) else None


def position(node: NodeSeen) -> tuple[int, str] | None:
    """Timeline and furthest known position, from the server or from its files."""
    found = node.cluster if isinstance(node.cluster, Cluster) else node.files
    return (found.timeline, found.lsn) if isinstance(found, Cluster | Files) else None


def server_hint(node: NodeSeen) -> str:
    """What to do about a server that does not answer."""
    if isinstance(node.process, ServiceState):
        return _process_hint(node.process)
    return f"Get a shell on {node.name} and look at its PostgreSQL log"


def _process_hint(state: ServiceState) -> str:
    if state.status == "frozen":
        return f"The process is stopped by a signal: let it go on with kill -CONT {state.pid} (and its children), or restart it"
    if state.status == "running":
        return "The process is there: read its log, and look who else listens on the port"
    return "Run restore"
