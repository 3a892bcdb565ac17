"""What decides whether a node's PostgreSQL may start as its data directory is. Asked on the node, just before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster import server, state
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.state import State
from aya_lib.errors import SiteError
from aya_lib.node.node import Node, Nodes, on_the_spot
from aya_lib.node.unseen import Missing, Unseen


@dataclass(frozen=True)
class Guarded:
    """``peer``: the other node of the pair, None on a laptop; ``other``: what it is, None when it need not be asked."""

    node: str
    files: Files | Missing
    state: State | Unseen
    peer: str | None = None
    other: Cluster | Missing | None = None


def look(nodes: Nodes, name: str) -> Guarded:
    """The node's data directory without ssh, the site's state, and, before a start as a primary, the other node by SQL."""
    here = on_the_spot(nodes[name])
    files, known = server.look_files(here), _state(here)
    peer = next((other for other in here.site.pair if other != name), None) if name in here.site.pair else None
    ask = peer is not None and isinstance(files, Files) and not files.standby_signal and files.fenced is None
    return Guarded(name, files, known, peer, server.look(nodes[str(peer)]) if ask else None)


def _state(node: Node) -> State | Unseen:
    try:
        return state.read(node.site)
    except SiteError as error:
        return Unseen(node.name, str(state.path(node.site)), str(error))
