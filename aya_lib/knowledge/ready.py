"""Before loading or asking: who accepts writes, who embeds, and do the vectors and the encoder belong together?"""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster import roles
from aya_lib.embedding.client import Served, encoder
from aya_lib.errors import AyaError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.provenance import Recorded
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.plan.change import Plan
from aya_lib.schema import knowledge as schema


@dataclass(frozen=True)
class Ready:
    """The node that accepts writes, the encoder, and what is recorded of the vectors there (None: no table of settings yet)."""

    node: str | Missing
    served: Served | Missing
    recorded: Recorded | Missing | None


def look(nodes: Nodes) -> Ready:
    """Look at the three; what cannot be had is a value."""
    try:
        node = roles.primary(nodes)
    except AyaError as error:
        gone = Unseen("the pair", "find the primary", str(error))
        return Ready(gone, gone, gone)
    try:
        served: Served | Missing = encoder(nodes, near=node.name)[1]
    except AyaError as error:
        served = Unseen(node.name, "find an embedding service", str(error))
    return Ready(node.name, served, seen(node.name, "read which model made the vectors", lambda: _recorded(node)))


def _recorded(node: Node) -> Recorded | None:
    with node.session() as connection:
        return provenance.read(connection) if schema.read(connection).aya_settings else None


def check(found: Ready) -> list[Check]:
    """The three as checks; a model that is not recorded passes, because loading verifies and records it."""

    def same(recorded: Recorded | None) -> Judged:
        if isinstance(found.served, Served) and recorded:
            try:
                provenance.refuse(recorded, found.served)
            except provenance.WrongModel as error:
                return passed_if(False, error.message, error.hint)
        name = recorded.model if recorded and recorded.model else "not recorded yet: loading verifies it"
        return passed_if(True, name)

    def encoder(served: Served) -> Judged:
        return passed_if(True, f"{served.model}, {served.dimension} dimensions, on {served.node}")

    return [
        evaluate("one node accepts writes", "one", found.node, lambda name: passed_if(True, name), hint="Run restore"),
        evaluate("an embedding service is healthy", "one", found.served, encoder, hint="Run restore"),
        evaluate("the vectors are of this encoder", "the same model", found.recorded, same),
    ]


def plan(nodes: Nodes) -> Plan:
    """What the schema lacks. :class:`AyaError` when it cannot be read."""
    node = roles.primary(nodes)
    state = schema.look(node)
    if not isinstance(state, schema.SchemaState):
        raise AyaError(f"{node.name}: the schema could not be read: {state}", hint="Run restore")
    return schema.plan(node, state)
