"""Which node to write to, to read from, and to embed on: looked at, not assumed, because after a failover it differs."""

from __future__ import annotations

import time

from aya_lib.embedding.client import Client, Served
from aya_lib.errors import Unreachable
from aya_lib.facts import cluster
from aya_lib.facts.cluster import Cluster
from aya_lib.node.node import Node, Nodes


def writable(nodes: Nodes) -> Node:
    """The node of the pair that accepts writes. :class:`Unreachable` when there is none, or more than one."""
    site = next(iter(nodes.values())).site
    seen = {name: cluster.look(nodes[name]) for name in site.pair}
    found = [name for name, one in seen.items() if isinstance(one, Cluster) and not one.in_recovery]
    if len(found) == 1:
        return nodes[found[0]]
    if found:
        raise Unreachable(" and ".join(found), "find the primary", "both accept writes", hint="Run verify_replication first")
    told = "; ".join(f"{name}: {'a standby' if isinstance(one, Cluster) else one}" for name, one in seen.items())
    raise Unreachable(site.primary, "find the primary", f"no node accepts writes ({told})", hint="Run restore")


def readable(nodes: Nodes) -> Node:
    """The primary; when it does not answer, the standby."""
    site = next(iter(nodes.values())).site
    seen = {name: cluster.look(nodes[name]) for name in site.pair}
    ready = [name for name, one in seen.items() if isinstance(one, Cluster)]
    if not ready:
        told = "; ".join(str(one) for one in seen.values())
        raise Unreachable(site.primary, "read the knowledge base", told, hint="Run restore")
    return nodes[min(ready, key=lambda name: getattr(seen[name], "in_recovery", True))]


def encoder(nodes: Nodes, *, near: str, patience_s: float = 20) -> tuple[Client, Served]:
    """A healthy embedding service, that of ``near`` before others, and what it runs; waited for, for ``patience_s``."""
    wishing = [node for node in sorted(nodes.values(), key=lambda node: node.name != near) if node.wish.embedding]
    give_up = time.monotonic() + patience_s
    while True:
        reasons = []
        for node in wishing:
            client = Client(node, patience_s=patience_s)
            try:
                return client, client.served()
            except Unreachable as error:
                reasons.append(f"{node.name}: {error.reason}")
        if time.monotonic() >= give_up or not wishing:
            told = "; ".join(reasons) or "the site wishes none"
            raise Unreachable(near, "embed a text", f"no embedding service is healthy ({told})", hint="Run restore")
        time.sleep(0.3)
