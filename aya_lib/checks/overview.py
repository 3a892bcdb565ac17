"""The state of a site at a glance: what every status page and every gate is made of."""

from __future__ import annotations

from aya_lib.checks import cluster, replication, services
from aya_lib.checks.check import Check, optional
from aya_lib.facts.overview import NodeSeen, Overview
from aya_lib.facts.replication import Receiver, Sender
from aya_lib.facts.unseen import Down, Missing
from aya_lib.site import Site


def judge(site: Site, seen: Overview) -> list[Check]:
    """Every check of the site. Laptops and what runs on them are shown, and carry no weight: they may be away."""
    away = [check for name, node in seen.nodes.items() if name not in site.pair for check in _other(node)]
    return [*pair(site, seen), *optional(away)]


def pair(site: Site, seen: Overview) -> list[Check]:
    """The primary, the standby, replication between them, and their services, as the site wishes them."""
    primary, standby = (seen.nodes[name] for name in site.pair)
    return [
        cluster.alive(primary),
        cluster.primary(primary),
        cluster.vector_column(site, primary),
        *embedding(primary),
        cluster.alive(standby),
        cluster.standby(standby),
        *embedding(standby),
        cluster.one_primary([primary, standby]),
        cluster.same_system(primary, standby),
        cluster.not_diverged(standby, primary),
        *stream(site, primary, standby),
    ]


def stream(site: Site, primary: NodeSeen, standby: NodeSeen) -> list[Check]:
    """Replication from one node to the other: stream, slot, lag, and when each side last heard of the other."""
    sender, receiver = sender_of(primary), receiver_of(standby)
    return [
        replication.stream(site, sender, standby.name),
        replication.slot(site, sender),
        replication.receives_from(site, receiver, primary),
        replication.replaying(receiver),
        *replication.silence(site, sender, receiver),
        replication.lag(site, sender),
    ]


def embedding(node: NodeSeen) -> list[Check]:
    """The node's embedding service; nothing when the site wishes none there."""
    service = node.embedding
    if service is None:
        return []
    port = services.port_free(node.name, "the embedding service", service.port, service.listener, service.process)
    return [services.process(service), port, services.healthy(service)]


def sender_of(node: NodeSeen) -> Sender | Missing:
    """The node's sending side; why there is none when there is none."""
    return node.sender or _absent(node, "it is not a primary")


def receiver_of(node: NodeSeen) -> Receiver | Missing:
    """The node's receiving side; why there is none when there is none."""
    return node.receiver or _absent(node, "it is not in recovery")


def _absent(node: NodeSeen, why: str) -> Missing:
    return node.cluster if isinstance(node.cluster, Missing) else Down(node.name, why)


def _other(node: NodeSeen) -> list[Check]:
    return [cluster.answers(node), *embedding(node)]
