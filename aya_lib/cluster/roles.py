"""Which node is the primary. Looked at, not assumed, because after a failover it is another one than the site names."""

from __future__ import annotations

from collections.abc import Collection

from aya_lib.cluster import server, state
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.state import State
from aya_lib.errors import Unreachable
from aya_lib.node.node import Node, Nodes
from aya_lib.site import Site


def primary(nodes: Nodes) -> Node:
    """The node of the pair that accepts writes. :class:`Unreachable` when there is none, or more than one."""
    clusters = {name: server.look(nodes[name]) for name in nodes.site.pair}
    writable = [name for name, cluster in clusters.items() if isinstance(cluster, Cluster) and not cluster.in_recovery]
    if len(writable) == 1:
        return nodes[writable[0]]
    if writable:
        raise Unreachable(" and ".join(writable), "find the primary", "both accept writes", hint="Run verify_replication first")
    seen = "; ".join(f"{name}: {'a standby' if isinstance(it, Cluster) else it}" for name, it in clusters.items())
    hint = "" if "password" in seen else "Run restore"  # what is said of a password says what to do
    raise Unreachable(nodes.site.primary, "find the primary", f"no node accepts writes ({seen})", hint=hint)


def readable(nodes: Nodes) -> Node:
    """The primary; when it does not answer, the standby."""
    clusters = {name: server.look(nodes[name]) for name in nodes.site.pair}
    recovering = {name: cluster.in_recovery for name, cluster in clusters.items() if isinstance(cluster, Cluster)}
    if not recovering:
        reasons = "; ".join(str(missing) for missing in clusters.values())
        raise Unreachable(nodes.site.primary, "read the knowledge base", reasons, hint="Run restore")
    return nodes[min(recovering, key=recovering.__getitem__)]


def agreed(site: Site, known: State | None = None) -> str:
    """Name of the node that should be the primary: that a failover made it, else that the site names. ``known``: its state."""
    return (known or state.read(site)).primary or site.primary


def chosen(site: Site, known: State, writable: Collection[str], away: Collection[str] = ()) -> str:
    """Name of the primary: the node of the pair that accepts writes and is not fenced; where none does, the one that is not
    ``away``: neither a standby nor fenced, as servers and data directories say; where that does not tell, as agreed."""
    able = [name for name in site.pair if name in writable and name not in known.fenced]
    left = [name for name in site.pair if name not in {*writable, *known.fenced, *away}]
    certain = able if len(able) == 1 else left if not any(name in site.pair for name in writable) else []
    return certain[0] if len(certain) == 1 else agreed(site, known)
