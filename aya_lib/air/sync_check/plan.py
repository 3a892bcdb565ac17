"""What makes the laptop like the primary."""

from __future__ import annotations

from psycopg import sql

from aya_lib.air.initial_copy import Index
from aya_lib.air.sync_check.actions import CompareAgain
from aya_lib.air.sync_check.look import Comparison
from aya_lib.node.node import Node
from aya_lib.node.unseen import Missing
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Change, Plan, change

BUILD_S = 86400.0


def plan(found: Comparison | Missing, mend: bool = True) -> Plan:
    """Nothing when both sides are equal, when they could not be seen, or unless ``mend``."""
    steps: list[Change] = []
    if isinstance(found, Comparison) and mend:
        node, count = found.nodes[found.laptop], len(found.differences)
        if count:
            rows = "1 row that differs" if count == 1 else f"{count} rows that differ"
            differing = CompareAgain(frozenset(row.row for row in found.differences))
            steps.append(change(node, f"Fetch {rows}; keep what only the laptop has", differing))
        steps += [_build(node, index) for index in found.indexes_missing]
    return Plan("Make the laptop like the primary", tuple(steps), unwind=False)


def _build(node: Node, index: Index) -> Change:
    """As the primary has it; an invalid one of that name goes first, in the same transaction."""
    drop = sql.SQL("DROP INDEX IF EXISTS public.{}; ").format(sql.Identifier(index.name)).as_string()
    return change(node, f"Build the index {index.name}", Sql(drop + index.made, database=None, deadline_s=BUILD_S))
