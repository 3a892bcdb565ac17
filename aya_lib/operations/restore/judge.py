"""May restore act on each part, and did it succeed? The gate is shut wherever starting something would do harm."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aya_lib.check import Check, Judged, absent, conclude, evaluate, optional, passed_if, worst
from aya_lib.cluster.application import Application
from aya_lib.cluster.judge import application, replication, server, services
from aya_lib.cluster.judge.overview import pair, receiver_of, sender_of
from aya_lib.cluster.log import Log
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.services import Vector
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing, Planned, Starting, Unseen
from aya_lib.operations.restore.look import Found
from aya_lib.site import Site

SITE = "the site"  # the part of the gate that concerns every change
SHORT_S = 20.0  # for what was started beside something that stays down: a model is loaded, a standby has caught up


def gate(found: Found) -> dict[str, list[Check]]:
    """What must be known, and must hold, before a change of each part: of :data:`SITE`, of a node's server, of its embedding
    service (see :func:`service_of`). What is wrong with one part keeps no other from being brought back.

    With two primaries, a passed-over primary, or a node that might be one and cannot be asked, nothing is changed at all.
    """
    site, overview = found.site, found.overview
    primary, standby = overview.pair(site)
    parts = {
        SITE: [*_alone(overview, standby, server.one_primary([primary, standby])), server.not_passed_over(site, overview)],
        primary.name: [known(primary), server.not_fenced(primary, overview), may_start(primary, "primary"), port(site, primary)],
        standby.name: [*_follower(overview, standby, primary), port(site, standby), *replay(standby)],
    }
    if primary.writable:
        lost = replication.slot_not_lost(site, sender_of(primary), standby.name, replication.bridge(site, overview))
        parts[standby.name].append(lost)
    elif not overview.fenced(standby.name):
        parts[SITE].append(parts[standby.name].pop(0))  # unknown, it might be the primary
    return parts | {service_of(node): service_port(node, found.stop_port_holder) for node in (primary, standby)}


def service_of(node: NodeSeen) -> str:
    return f"{node.name}'s embedding service"


def shut(checks: Iterable[Check]) -> bool:
    return worst(checks) in ("failed", "unknown")


def patience(found: Found, deadline_s: float) -> float:
    """How long to wait for the end (seconds): what the gate keeps shut, or a log has a cause for, waiting does not mend."""
    known = any(server.cause(found.site, node) for node in (found.primary, found.standby))
    return min(deadline_s, SHORT_S) if known or any(map(shut, gate(found).values())) else deadline_s


def _alone(overview: Overview, standby: NodeSeen, check: Check) -> list[Check]:
    """Two primaries stop everything; a fenced node that cannot be asked does not, for its fence is what holds it."""
    return optional([check]) if check.status == "unknown" and overview.fenced(standby.name) else [check]


def _follower(overview: Overview, standby: NodeSeen, primary: NodeSeen) -> list[Check]:
    """May the standby be started? A fenced one is left alone, and does not keep the primary from being brought back."""
    if overview.fenced(standby.name):
        return optional([known(standby), server.not_fenced(standby, overview)])
    return [known(standby), may_start(standby, "standby"), server.same_system(primary, standby), related(standby, primary)]


def known(node: NodeSeen) -> Check:
    """Whether the server runs is known; if it runs, what it is; if not, what its data directory is."""
    name, expected = f"state of {node.name} is known", "running and answering, or known to be down"
    if not isinstance(node.process, ServiceState):
        return absent(name, expected, node.process)
    if node.process.status in ("running", "frozen") or isinstance(node.cluster, Cluster):
        later = "Let it finish: its log tells how far it is, and aya status when it is there"
        hint = later if isinstance(node.cluster, Starting) else server.server_hint(node)
        return evaluate(name, expected, node.cluster, lambda cluster: Judged("passed", f"running, {cluster.role}"), hint=hint)
    state = f"{node.process.status} ({node.process.detail})" if node.process.detail else node.process.status
    told = "Look at its data directory"
    return evaluate(name, expected, node.files, lambda files: Judged("passed", f"{state}; {files.state}"), hint=told)


def may_start(node: NodeSeen, role: str) -> Check:
    """A server that is down and is to be the standby has ``standby.signal``, or it would be a second primary; one that is to be
    the primary has none."""
    signal, expected = role == "standby", "standby.signal is there, or it runs already"
    hint = f"Without standby.signal {node.name} starts as a second primary. Run rejoin: it makes {node.name} a standby again"
    if not signal:
        expected = "no standby.signal, or it runs already"
        hint = f"{node.name} was made a standby, so another node is or was the primary: find it before starting anything"

    def rule(files: Files) -> Judged:
        return passed_if(
            files.standby_signal == signal, f"down, {'with' if files.standby_signal else 'without'} standby.signal", hint
        )

    name = f"{node.name} would start as a {role}"
    if isinstance(node.cluster, Cluster):
        return Check(name, "passed", expected, f"it runs: {node.cluster.role}")
    return evaluate(name, expected, node.files, rule)


def related(standby: NodeSeen, primary: NodeSeen) -> Check:
    """The standby has nothing that the primary lacks; with the primary down, it is on no later timeline."""
    if isinstance(primary.cluster, Cluster):
        return server.not_diverged(standby, primary)
    name, expected = f"{standby.name} was not promoted", f"its timeline is not later than {primary.name}'s"
    here, there = server.position(standby), server.position(primary)
    if here is None or there is None:
        files = standby.files if here is None else primary.files
        return absent(name, expected, Unseen(standby.name, name, "no position") if isinstance(files, Files) else files)
    hint = f"{standby.name} was promoted while {primary.name} was away: decide which one has the data to keep, rebuild the other"
    observed = f"{standby.name} timeline {here[0]}, {primary.name} timeline {there[0]}"
    return conclude(name, expected, passed_if(here[0] <= there[0], observed, hint))


def port(site: Site, node: NodeSeen) -> Check:
    """The server's port is free or its own."""
    return services.port_free(node.name, "PostgreSQL", site.nodes[node.name].postgresql.port, node.listener, node.process)


def service_port(node: NodeSeen, stop_port_holder: bool) -> list[Check]:
    """The port of the node's embedding service is free, its own, or may be freed."""
    service = node.embedding
    if service is None or stop_port_holder:
        return []
    return [services.port_free(node.name, "the embedding service", service.port, service.listener, service.process)]


def replay(standby: NodeSeen) -> list[Check]:
    """A replay that is paused because of smaller settings is not to be resumed."""
    found = server.replays(standby, replication.replaying(receiver_of(standby)))
    return [found] if server.too_small(standby) else []


def restored(site: Site, found: Found) -> list[Check]:
    """The success criteria of restore, apart from the vector. What stays wrong is not for restore to mend: no hint says so."""
    return [_beyond(found, check) for check in pair(site, found.overview)]


def _beyond(found: Found, check: Check) -> Check:
    if "run restore" not in check.hint.lower() or "Then run restore" in check.hint:  # which follows on what a person mends first
        return check
    standby = found.standby
    node = standby if standby.name in check.name or "standby" in check.name or not standby.receives else found.primary
    where = f"{node.name}'s log {node.log.file}" if isinstance(node.log, Log) else f"{node.name}'s log and that of its services"
    return replace(check, hint=f"restore did what it can, and this stays: read {where}")


def works(found: Found, tried: Application | Missing) -> list[Check]:
    """Somebody can write and search again."""
    return application.checks(found.site, tried)


def embeds(found: Found, vector: Vector | Missing) -> Check:
    """The primary's embedding service turns a sentence into a vector."""
    node = found.primary.name if isinstance(vector, Planned) else vector.node
    return _beyond(found, services.vector(found.site, node, vector))
