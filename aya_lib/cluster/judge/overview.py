"""The state of a site at a glance: what every status page and every gate is made of."""

from __future__ import annotations

from dataclasses import replace

from aya_lib.check import Check, Judged, Status, conclude, evaluate, optional
from aya_lib.cluster.judge import replication, server, services
from aya_lib.cluster.overview import NodeSeen, Overview, SiteSeen
from aya_lib.cluster.replication import Receiver, Sender
from aya_lib.cluster.server import Cluster, Files
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing, Otherwise
from aya_lib.site import Site


def checks(found: SiteSeen) -> list[Check]:
    """:func:`judge`, for a runbook."""
    return judge(found.site, found.overview)


def judge(site: Site, seen: Overview) -> list[Check]:
    """Every check of the site. Laptops and what runs on them are shown, and carry no weight: they may be away."""
    away = [check for name, node in seen.nodes.items() if name not in site.pair for check in _other(node)]
    daemons = [check for name, node in seen.nodes.items() if name not in site.pair for check in daemon(node)]
    sender = sender_of(seen.pair(site)[0])
    return [*pair(site, seen), replication.slot_limit(site, sender), mode(site, seen), *optional(away), *daemons]


def pair(site: Site, seen: Overview) -> list[Check]:
    """The primary, the standby, replication between them, and their services, as configured."""
    primary, standby = seen.pair(site)
    leads = [server.alive(primary), server.primary(primary), server.vector_column(site, primary)]
    follows = [server.alive(standby), server.standby(standby)]
    return [
        server.as_configured(site, seen),
        *explained(site, primary, leads),
        *embedding(primary),
        *rejoined(primary, standby, explained(site, standby, [*follows, *stream(site, primary, standby)])),
        *([] if idle(site, standby) else embedding(standby)),
        server.one_primary([primary, standby]),
        server.same_system(primary, standby),
        server.not_diverged(standby, primary),
        *server.clocks(primary, standby),
        *(check(node) for node in (primary, standby) for check in (server.moving, server.room)),
    ]


def explained(site: Site, node: NodeSeen, checks: list[Check]) -> list[Check]:
    """The cause first, where the node's log gives one; what follows from it points there, and to no runbook that cannot help."""
    told = server.told(site, node)
    if told is None or all(check.status == "passed" for check in checks):
        return checks
    return [
        told,
        *(replace(check, hint=f"See {told.name}") if check.status in ("failed", "unknown") else check for check in checks),
    ]


def rejoined(primary: NodeSeen, standby: NodeSeen, checks: list[Check]) -> list[Check]:
    """For a standby that restore must not start as it is, the advice is what it would say."""
    if primary.writable and standby.writable:
        hint = "See 'no second primary'"
    elif isinstance(standby.cluster, Cluster) or not isinstance(standby.files, Files):
        return checks
    else:
        belongs = server.same_system(primary, standby), server.not_diverged(standby, primary)
        if standby.files.standby_signal and all(check.status != "failed" for check in belongs):
            return checks
        hint = f"Run rejoin: {standby.name} must not be started as it is"
    return [replace(check, hint=hint) if "restore" in check.hint.lower() else check for check in checks]


def stream(site: Site, primary: NodeSeen, standby: NodeSeen) -> list[Check]:
    """Replication from one node to the other: stream, slot, lag, and when each side last heard of the other."""
    sender, receiver = sender_of(primary), receiver_of(standby)
    return [
        replication.stream(site, sender, standby.name),
        replication.slot(site, sender),
        replication.receives_from(site, receiver, primary),
        server.replays(standby, replication.replaying(receiver)),
        *replication.silence(site, sender, receiver),
        replication.lag(site, sender, receiver),
    ]


def mode(site: Site, seen: Overview) -> Check:
    """Commits wait for the standby, or not, as configured and as was last agreed. Degraded warns until it is undone."""
    asked, known = site.replication.mode, seen.state
    undo = "undo it as soon as the standby is back: run replication_mode"

    def rule(sender: Sender) -> Judged:
        if sender.settings is None:
            return Judged("unknown", "not looked at")
        now = "synchronous" if sender.settings.synchronous else "asynchronous"
        if now == "synchronous" and not any(stream.synchronous for stream in sender.streams):
            waiting = f"synchronous, and no standby is there: commits wait ({sender.settings.waiting} now)"
            hint = "Run restore; if commits must go on without the standby: aya run replication_mode -p mode=degraded"
            if sender.streams:
                names = sender.settings.names
                hint = f"Commits wait for '{names}', which no standby here is: aya run replication_mode -p mode={asked}"
            return Judged("failed", waiting, hint)
        if known.mode == "degraded" and now == "asynchronous":
            since = f"degraded since {known.mode_since}, by {known.mode_by}: commits wait for nobody"
            return Judged("warning", since, f"A loss of {sender.node} now loses acknowledged writes; {undo}")
        if known.mode and now != known.mode:
            hint = f"Somebody changed {sender.node}'s settings past the runbook: run replication_mode with the mode that is meant"
            return Judged("warning", f"{now}, but {known.mode} was agreed {known.mode_since}, by {known.mode_by}", hint)
        hint = f"Run replication_mode to make it {asked}, or change replication.mode in site.yaml"
        return Judged("passed" if now == asked else "warning", now, hint)

    return evaluate("replication mode", asked, sender_of(seen.pair(site)[0]), rule)


def embedding(node: NodeSeen) -> list[Check]:
    """The node's embedding service; nothing when the site asks for none there."""
    service = node.embedding
    if service is None:
        return []
    port = services.port_free(node.name, "the embedding service", service.port, service.listener, service.process)
    return [services.process(service), port, services.healthy(service)]


def idle(site: Site, node: NodeSeen) -> bool:
    """Whether the site asks for the node's embedding service only while the node is the primary, which it is not."""
    service = site.nodes[node.name].embedding
    return service is not None and service.runs == "primary" and not node.writable


def sender_of(node: NodeSeen) -> Sender | Missing:
    """The node's sending side; why there is none when there is none."""
    return node.sender or _absent(node, "is a standby: it sends nothing")


def receiver_of(node: NodeSeen) -> Receiver | Missing:
    """The node's receiving side; why there is none when there is none."""
    return node.receiver or _absent(node, "is a primary itself: it receives nothing")


def _absent(node: NodeSeen, why: str) -> Missing:
    return node.cluster if isinstance(node.cluster, Missing) else Otherwise(node.name, why)


def _other(node: NodeSeen) -> list[Check]:
    """A laptop. Its services are there once air_setup has run; one that is stopped is nobody's worry here."""
    service = node.embedding
    stopped = service is not None and isinstance(service.process, ServiceState) and service.process.status == "stopped"
    checks = [server.answers(node), *([] if stopped else embedding(node))]
    hint = f"restore leaves {node.name} alone: start it there, or run air_setup"
    return [replace(check, hint=hint) if check.hint == "Run restore" else check for check in checks]


def daemon(node: NodeSeen) -> list[Check]:
    """A laptop's sync daemon, while the laptop is there: one that died leaves changes unsent. Stopped in order, or never set
    up, it is nobody's worry."""
    it = node.sync
    if not isinstance(it, ServiceState) or it.status == "stopped":
        return []
    hint = "Run air_setup: it starts the daemon again. Changes wait meanwhile, and none is lost"
    if it.status == "frozen":
        hint = f"On {node.name}: kill -CONT {it.pid}"
    status: Status = "passed" if it.status == "running" else "failed"
    return [conclude(f"{node.name} sync daemon", "running, or stopped in order", Judged(status, str(it), hint))]
