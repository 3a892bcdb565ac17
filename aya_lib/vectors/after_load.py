"""After a load: the check-up's verdict on the vector index, which is built anew where that load was the first large one.

An index of lists takes its centres from the rows that are there when it is built: one from before a large load knows nothing of
what came.
"""

from __future__ import annotations

from dataclasses import replace

from aya_lib.errors import AyaError
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing
from aya_lib.plan.actions import CHECKPOINT_S, Sql
from aya_lib.plan.change import Plan, apply, change
from aya_lib.vectors import checkup, rebuild
from aya_lib.vectors.checkup import Checkup
from aya_lib.vectors.verdict import Facts, verdict

LARGE = 1000  # chunks of one load
MOST = 0.5  # of all rows, that came with it

checks = checkup.checks


def look(nodes: Nodes) -> Checkup | Missing:
    """The check-up of the index, as the pages and rows are now."""
    return checkup.look(nodes)


def plan(nodes: Nodes, found: Checkup | Missing, written: int) -> Plan:
    """The index anew, as the check-up finds best; nothing where a load of ``written`` chunks was a small part of the rows."""
    if not isinstance(found, Checkup) or not needed(found.facts, written):
        return Plan("The vector index stays as it is")
    node = nodes[found.live.node]
    steps = rebuild.plan(nodes, rebuild.look(nodes, found.facts.rebuilt, node=node.name))
    write = change(
        node,
        "Write the new index to disk, so that its pages can be read",
        Sql("CHECKPOINT", database=None, deadline_s=CHECKPOINT_S),
    )
    return replace(steps, changes=(*steps.changes, write)) if steps else steps


def needed(facts: Facts, written: int) -> bool:
    """Whether the index is missing, or has its centres from fewer than half of today's rows."""
    if written < max(LARGE, MOST * facts.rows) or facts.exact or facts.building:
        return False
    if not facts.index:
        return verdict(facts).request is not None
    return facts.method == "ivfflat" and (facts.built is None or facts.built.rows < MOST * facts.rows)


def settle(nodes: Nodes, written: int) -> dict[str, str]:
    """Look, build the index where it is needed, and give the verdict: ``verdict``, ``status``, ``why``, ``mend`` (a command).
    What cannot be looked at is *unknown*."""
    try:
        found = look(nodes)
        if steps := plan(nodes, found, written):
            apply(steps, nodes, lambda *_: None)
            found = look(nodes)
    except AyaError as error:
        return {"verdict": "unknown", "status": "unknown", "why": str(error), "mend": "aya vectors checkup"}
    if not isinstance(found, Checkup):
        return {"verdict": "unknown", "status": "unknown", "why": str(found), "mend": "aya vectors checkup"}
    said = found.verdict
    built = "built anew for what was loaded; " if steps else ""
    return {"verdict": said.word, "status": said.status, "why": built + said.why, "mend": said.mend}
