"""Before loading or asking: who accepts writes, who embeds, what the schema has, and which model made the vectors there?"""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster import roles
from aya_lib.embedding.client import Served, encoder
from aya_lib.errors import AyaError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.provenance import Recorded
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.schema import knowledge as schema
from aya_lib.schema.knowledge import SchemaState


@dataclass(frozen=True)
class Ready:
    """The node that accepts writes, the encoder, the schema and what is recorded of the vectors (None: it has no place yet)."""

    node: str | Missing
    served: Served | Missing
    schema: SchemaState | Missing
    recorded: Recorded | Missing | None


def look(nodes: Nodes) -> Ready:
    """Look at the four; what cannot be had is a value."""
    try:
        node = roles.primary(nodes)
    except AyaError as error:
        gone = Unseen("the pair", "find the primary", str(error))
        return Ready(gone, gone, gone, gone)
    try:
        served: Served | Missing = encoder(nodes, near=node.name)[1]
    except AyaError as error:
        served = Unseen(node.name, "find an embedding service", str(error))
    state = schema.look(node)
    if not isinstance(state, SchemaState):
        return Ready(node.name, served, state, state)
    recorded = seen(node.name, "read which model made the vectors", lambda: _recorded(node)) if state.aya_settings else None
    return Ready(node.name, served, state, recorded)


def _recorded(node: Node) -> Recorded:
    with node.session() as connection:
        return provenance.read(connection)
