"""Is each server there, is it what it should be, and do the two belong together?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from aya_lib.check import Check, Judged, Status, absent, conclude, evaluate, passed_if
from aya_lib.cluster import log, roles
from aya_lib.cluster.lsn import number
from aya_lib.cluster.machine import Machine
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.server import Cluster, Files
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Missing, Unseen
from aya_lib.site import Site

SPLIT = (
    "Split brain: stop the clients, compare what each node has, and stop the one to give up. Then run rejoin: it keeps what only "
    "that one has, and makes it a standby"
)
MB = 1024**2
FULL_MB = 64  # four segments of WAL: the next burst of writes ends the server
TIGHT_MB = 1024  # max_wal_size by default: what a checkpoint may let grow
APART_S = 2.0  # more than a look takes on a slow link


def alive(node: NodeSeen) -> Check:
    """The server's process is alive, and its PID file names that process and no other."""

    def rule(state: ServiceState) -> Judged:
        return passed_if(state.status == "running", str(state), server_hint(node))

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
        hint = SPLIT
        return Check(name, "failed", expected, f"{' and '.join(writable)} accept writes", hint)
    hidden = next((node.cluster for node in nodes if isinstance(node.cluster, Unseen) and not _stopped(node)), None)
    if hidden is not None:
        return absent(name, expected, hidden, "Look at that node by hand")
    return Check(name, "passed", expected, f"{writable[0]} does" if writable else "none does")


def _stopped(node: NodeSeen) -> bool:
    """Known not to run, whoever it is that listens on its port."""
    return isinstance(node.process, ServiceState) and node.process.status == "stopped"


def same_system(a: NodeSeen, b: NodeSeen) -> Check:
    """Both data directories come from one initdb."""
    name, expected = f"{a.name} and {b.name} are one system", "the same system identifier"
    for node in (a, b):
        if identity(node) is None and not isinstance(node.files, Files):
            return absent(name, expected, node.files)
    one, two = identity(a), identity(b)
    hint = f"{b.name} holds another cluster's data: run rejoin, which makes it anew from {a.name}"
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
    hint = f"Do not start {follower.name} as it is: run rejoin, which keeps what only it has and makes it a standby"
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
    hint = SPLIT if len(writable) > 1 else hint
    return conclude(name, expected, passed_if(writable in ([], [known]), f"primary: {', '.join(writable) or 'none'}", hint))


def as_configured(site: Site, overview: Overview) -> Check:
    """The roles are as configured; a warning after a failover, until somebody switches back."""
    primary, _ = overview.pair(site)
    name, expected = "roles are as configured", f"{site.primary} is the primary"
    if primary.name == site.primary:
        return Check(name, "passed", expected, f"{site.primary} is", required=False)
    if roles.agreed(site, overview.state) != primary.name:
        observed = f"{primary.name} is, and no failover made it so"
        hint = f"Run verify_replication: it compares what both hold. Then rejoin for {site.primary}, before any switchback"
    else:
        observed = f"{primary.name} is, since a failover"
        hint = "With everything else passed run switchback when it suits, or change the roles in site.yaml"
    return Check(name, "warning", expected, observed, hint, required=False)


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
    """What to do about a server that does not answer, or not as it should. What it said goes before any guess."""
    state, port = node.process, node.listener
    if not isinstance(state, ServiceState):
        return f"Get a shell on {node.name} and look at its PostgreSQL log"
    if state.status == "frozen":
        return f"The process is stopped by a signal: let it go on with kill -CONT {state.pid} (and its children), or restart it"
    if isinstance(port, Listener) and (port.pid != state.pid if port.pid else state.status != "running"):
        return f"Its port {port.port} is held by another program, PID {port.pid or 'not visible'} ({port.command}): stop that one"
    if state.status != "running":
        return "Run restore"
    said = str(node.cluster)
    hint = next((hint for words, hint in SAID.items() if re.search(words, said)), "The process is there: read {node}'s log")
    return hint.format(node=node.name)


SAID = {  # what a server says to the owner's login -> what to do
    r"53300|too many|remaining connection|connection slots": "Every connection to {node} is taken: end what is idle there, or "
    "raise max_connections (on the standby first) and restart it",
    r'database "\S+" does not exist|3D000': "{node} answers, and the site's database is not there: was it dropped or renamed? "
    "See database.name in site.yaml; a backup may have it",
    r"pg_hba\.conf": "Let this machine in: a line in pg_hba.conf on {node}, then SELECT pg_reload_conf() there",
    r"password": "The owner's password is not as it is known here: put the right one into ~/.pgpass",
    r"no answer within": "It is there and does not answer: is it frozen, is its machine overloaded? Look at it on {node} with ps",
}


def told(site: Site, node: NodeSeen) -> Check | None:
    """The cause that the server's own log gives, where it was looked at and has one."""
    found = cause(site, node)
    if found is None:
        return None
    stopped = isinstance(node.process, ServiceState) and node.process.status in ("stopped", "stale", "failed")
    hint = f"{found.next}. Then run restore" if stopped and "run rejoin" not in found.next.lower() else found.next
    return Check(f"{node.name}'s log", "failed", "nothing that keeps it from its work", str(found), hint)


def cause(site: Site, node: NodeSeen) -> log.Cause | None:
    if not isinstance(node.log, log.Log) or node.name not in site.pair:
        return None
    peer = next(name for name in site.pair if name != node.name)
    config = site.nodes[node.name].postgresql
    return log.cause(node.log, peer=peer, data=site.path(config.data_directory), port=config.port)


def room(node: NodeSeen) -> Check:
    """There is room for what comes: a server whose disk is full stops, and a standby stops receiving."""

    def rule(found: Machine) -> Judged:
        folder, least = min(found.free.items(), key=lambda one: one[1])
        hint = f"Make room on {node.name}: du -xh --max-depth=1 {folder}; never delete files in pg_wal by hand"
        status: Status = "failed" if least < FULL_MB * MB else "warning" if least < TIGHT_MB * MB else "passed"
        return Judged(status, "there is" if status == "passed" else f"{least / MB:,.0f} MiB at {folder}", hint)

    return evaluate(f"{node.name} has room on its disks", f"{TIGHT_MB:,} MiB or more", _machine(node), rule)


def moving(node: NodeSeen) -> Check:
    """None of the server's processes is stopped by a signal: a frozen walreceiver says streaming, and takes nothing."""

    def rule(found: Machine) -> Judged:
        pids = " ".join(line.split()[0] for line in found.stopped)
        return passed_if(
            not found.stopped, "; ".join(found.stopped) or "none is", f"Let them go on, on {node.name}: kill -CONT {pids}"
        )

    return evaluate(f"{node.name}'s processes move", "none is stopped by a signal", _machine(node), rule)


def _machine(node: NodeSeen) -> Machine | Missing:
    return node.machine or Unseen(node.name, "df", "not looked at")


def clocks(a: NodeSeen, b: NodeSeen) -> list[Check]:
    """Both clocks tell the same time, as far as a look can tell. Nothing while one of the two does not answer."""
    times = [node.cluster.clock_s for node in (a, b) if isinstance(node.cluster, Cluster)]
    if len(times) < 2 or None in times:
        return []
    apart = (times[1] or 0) - (times[0] or 0)
    far = abs(apart) > APART_S
    observed = f"{b.name}'s is {abs(apart):,.0f} s {'ahead' if apart > 0 else 'behind'}" if far else "alike"
    hint = "Ages, lag in seconds and logs cannot be compared: set the clock (timedatectl, chronyc tracking; macOS: sntp -sS)"
    name, expected = f"clocks of {a.name} and {b.name}", f"less than {APART_S:g} s apart"
    return [conclude(name, expected, Judged("warning" if far else "passed", observed, hint))]


def too_small(node: NodeSeen) -> dict[str, tuple[int, int]]:
    """Settings of a standby that are smaller than its WAL asks for: name -> (its own, asked). A replay that is paused for them
    must not be resumed: the server would end."""
    if not isinstance(node.cluster, Cluster) or not node.cluster.in_recovery or not isinstance(node.files, Files):
        return {}
    own, asked = node.cluster.sizes, node.files.asks
    return {name: (own[name], value) for name, value in asked.items() if own.get(name, value) < value}


def replays(node: NodeSeen, check: Check) -> Check:
    """The check of the replay, with the settings that hold it up named."""
    small = too_small(node)
    if not small or check.status == "passed":
        return check
    told = ", ".join(f"{name} = {own}, its primary had {asked}" for name, (own, asked) in small.items())
    sets = "; ".join(f"ALTER SYSTEM SET {name} = {asked}" for name, (_, asked) in small.items())
    hint = f"On {node.name}: {sets}; then restart its PostgreSQL. Do not resume the replay before: the server would end"
    return replace(check, status="failed", observed=f"{check.observed}, because of smaller settings: {told}", hint=hint)
