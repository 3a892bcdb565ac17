"""May restore act, and did it succeed? The gate refuses wherever starting something would do harm."""

from __future__ import annotations

from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.cluster.judge import archive, replication, server, services
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.services import Vector
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing, Planned, Starting, Unseen
from aya_lib.site import Site


def preconditions(site: Site, seen: Overview, *, stop_port_holder: bool = False) -> list[Check]:
    """Everything that must be known, and must hold, before the first change.

    With two primaries, an unseen fact, a passed-over primary, a missing ``standby.signal``, a foreign or diverged data
    directory, a lost slot or a foreign process on a port, one of these is not passed.
    """
    primary, standby = seen.pair(site)
    checks = [
        known(primary),
        *_alone(seen, standby, server.one_primary([primary, standby])),
        server.not_passed_over(site, seen),
        server.not_fenced(primary, seen),
        may_start_as_primary(primary),
        *_follower(seen, standby, primary),
        *(port for node in (primary, standby) for port in ports(site, node, stop_port_holder)),
    ]
    if primary.writable:
        checks.append(replication.slot_not_lost(site, glance.sender_of(primary), standby.name, archive.bridge(site, seen)))
    return checks


def _alone(seen: Overview, standby: NodeSeen, check: Check) -> list[Check]:
    """Two primaries stop everything; a fenced node that cannot be asked does not, for its fence is what holds it."""
    return optional([check]) if check.status == "unknown" and seen.fenced(standby.name) else [check]


def _follower(seen: Overview, standby: NodeSeen, primary: NodeSeen) -> list[Check]:
    """May the standby be started? A fenced one is left alone, and does not keep the primary from being brought back."""
    if seen.fenced(standby.name):
        return optional([known(standby), server.not_fenced(standby, seen)])
    return [
        known(standby),
        may_start_as_standby(standby),
        server.same_system(primary, standby),
        related(standby, primary),
    ]


def known(node: NodeSeen) -> Check:
    """Whether the server runs is known; if it runs, what it is; if not, what its data directory is."""
    name, expected = f"state of {node.name} is known", "running and answering, or known to be down"
    if not isinstance(node.process, ServiceState):
        return evaluate(name, expected, node.process, lambda _: passed_if(False, ""))
    running = node.process.status in ("running", "frozen") or isinstance(node.cluster, Cluster)
    if running and isinstance(node.cluster, Starting):
        return Check(
            name,
            "failed",
            expected,
            str(node.cluster),
            "Let it finish (its log tells how far it is), then run restore again",
        )
    if running:
        return evaluate(
            name,
            expected,
            node.cluster,
            lambda c: Judged("passed", f"running, {c.role}"),
            hint=server.server_hint(node),
        )
    return evaluate(
        name,
        expected,
        node.files,
        lambda f: Judged("passed", f"{_state(node)}; {f.state}"),
        hint="Look at its data directory",
    )


def may_start_as_primary(node: NodeSeen) -> Check:
    """A server that is down and is to be the primary has no ``standby.signal``."""
    name, expected = f"{node.name} would start as a primary", "no standby.signal, or it runs already"
    if isinstance(node.cluster, Cluster):
        return Check(name, "passed", expected, f"it runs: {node.cluster.role}")
    hint = f"{node.name} was made a standby, so another node is or was the primary: find it before starting anything"
    return evaluate(name, expected, node.files, lambda f: passed_if(not f.standby_signal, _signal(f), hint))


def may_start_as_standby(node: NodeSeen) -> Check:
    """A server that is down and is to be the standby has ``standby.signal``; without it, it would be a second primary."""
    name, expected = f"{node.name} would start as a standby", "standby.signal is there, or it runs already"
    if isinstance(node.cluster, Cluster):
        return Check(name, "passed", expected, f"it runs: {node.cluster.role}")
    hint = (
        f"Without standby.signal {node.name} starts as a second primary. Find out who removed it; if {node.name} was never "
        f"promoted, put an empty standby.signal into its data directory, else make it anew with pg_basebackup"
    )
    return evaluate(name, expected, node.files, lambda f: passed_if(f.standby_signal, _signal(f), hint))


def related(standby: NodeSeen, primary: NodeSeen) -> Check:
    """The standby has nothing that the primary lacks; with the primary down, it is on no later timeline."""
    if isinstance(primary.cluster, Cluster):
        return server.not_diverged(standby, primary)
    name, expected = f"{standby.name} was not promoted", f"its timeline is not later than {primary.name}'s"
    here, there = server.position(standby), server.position(primary)
    if here is None or there is None:
        missing = standby.files if here is None else primary.files
        return evaluate(
            name,
            expected,
            missing if isinstance(missing, Missing) else Unseen(standby.name, name, "no position"),
            _never,
        )
    hint = f"{standby.name} was promoted while {primary.name} was away: decide which one has the data to keep, rebuild the other"
    good = here[0] <= there[0]
    told = f"{standby.name} timeline {here[0]}, {primary.name} timeline {there[0]}"
    return Check(name, "passed" if good else "failed", expected, told, "" if good else hint)


def ports(site: Site, node: NodeSeen, stop_port_holder: bool = False) -> list[Check]:
    """The ports of the node's services are free or their own."""
    postgres = services.port_free(node.name, "PostgreSQL", site.nodes[node.name].postgresql.port, node.listener, node.process)
    service = node.embedding
    if service is None or stop_port_holder:
        return [postgres]
    return [
        postgres,
        services.port_free(node.name, "the embedding service", service.port, service.listener, service.process),
    ]


def restored(site: Site, seen: Overview) -> list[Check]:
    """The success criteria of restore, apart from the vector."""
    return glance.pair(site, seen)


def embeds(site: Site, vector: Vector | Missing) -> Check:
    """The primary's embedding service turns a sentence into a vector."""
    where = site.primary if isinstance(vector, Planned) else vector.node
    return services.vector(site, where, vector)


def _state(node: NodeSeen) -> str:
    state = node.process
    assert isinstance(state, ServiceState)
    return f"{state.status} ({state.detail})" if state.detail else state.status


def _signal(files: Files) -> str:
    return f"down, {'with' if files.standby_signal else 'without'} standby.signal"


def _never(_: object) -> Judged:
    return Judged("failed", "")
