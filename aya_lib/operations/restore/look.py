"""What restore looks at: the whole site, and a sentence that comes back as a vector."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster import overview, services
from aya_lib.cluster.overview import SiteSeen
from aya_lib.cluster.services import Vector
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing


@dataclass(frozen=True, repr=False)
class Found(SiteSeen):
    """``stop_port_holder``: a foreign process that holds the embedding service's port may be stopped."""

    stop_port_holder: bool = False


def look(nodes: Nodes, stop_port_holder: bool = False) -> Found:
    """Every node, from outside and inside."""
    return Found(nodes, overview.look(nodes), stop_port_holder)


def look_vector(nodes: Nodes, found: Found) -> Vector | Missing:
    """A vector from the embedding service of the node that was found to be the primary."""
    return services.look_vector(nodes[found.primary.name])
