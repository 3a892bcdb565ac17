"""Which node accepts writes, and which one answers: looked at, not assumed, because after a failover it differs."""

from __future__ import annotations

from aya_lib.cluster import server
from aya_lib.cluster.server import Cluster
from aya_lib.errors import Unreachable
from aya_lib.node.node import Node, Nodes


def primary(nodes: Nodes) -> Node:
    """The node of the pair that accepts writes. :class:`Unreachable` when there is none, or more than one."""
    site = nodes.site
    seen = {name: server.look(nodes[name]) for name in site.pair}
    found = [name for name, one in seen.items() if isinstance(one, Cluster) and not one.in_recovery]
    if len(found) == 1:
        return nodes[found[0]]
    if found:
        raise Unreachable(" and ".join(found), "find the primary", "both accept writes", hint="Run verify_replication first")
    told = "; ".join(f"{name}: {'a standby' if isinstance(one, Cluster) else one}" for name, one in seen.items())
    raise Unreachable(site.primary, "find the primary", f"no node accepts writes ({told})", hint="Run restore")


def readable(nodes: Nodes) -> Node:
    """The primary; when it does not answer, the standby."""
    site = nodes.site
    seen = {name: server.look(nodes[name]) for name in site.pair}
    ready = [name for name, one in seen.items() if isinstance(one, Cluster)]
    if not ready:
        told = "; ".join(str(one) for one in seen.values())
        raise Unreachable(site.primary, "read the knowledge base", told, hint="Run restore")
    return nodes[min(ready, key=lambda name: getattr(seen[name], "in_recovery", True))]
