"""After a build: the new index on disk, where the check-up reads its pages."""

from __future__ import annotations

from psycopg import sql

from aya_lib.errors import AyaError
from aya_lib.node.node import Node
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Plan, change
from aya_lib.vectors.health import centroids
from aya_lib.vectors.health.pages import NotWritten
from aya_lib.vectors.online import live
from aya_lib.vectors.online.live import Live

CHECKPOINT_S = 600
TITLE = "Write the new index to disk, so that its pages can be read"


def plan(node: Node, table: str, column: str) -> Plan:
    """A checkpoint, where the centroids of the live index are not on disk yet and pageinspect is not there to read them."""
    found = live.look(node, table, column)
    current = found.current if isinstance(found, Live) else None
    if not isinstance(found, Live) or current is None or current.method != "ivfflat":
        return Plan(TITLE)
    try:
        with node.session() as connection:
            centroids.read(connection, sql.Identifier(found.schema, current.name).as_string())
    except NotWritten:
        return Plan(TITLE, (change(node, TITLE, Sql("CHECKPOINT", database=None, deadline_s=CHECKPOINT_S)),), unwind=False)
    except AyaError:
        return Plan(TITLE)  # the check-up says what it cannot read
    return Plan(TITLE)
