"""What the synchronisation adds to both databases. Safe on live ones, and applied twice it changes nothing."""

from __future__ import annotations

from psycopg import sql

from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.node.node import Node
from aya_lib.node.sql import statement


def prepare_primary(node: Node) -> None:
    """The log of changes and its triggers, on the node that accepts writes; a standby receives them by replication."""
    _run(node, "primary")


def prepare_laptop(node: Node) -> None:
    """The queue's triggers, the place of the watermark, and ids below zero, on the laptop."""
    _run(node, "laptop")


def _run(node: Node, name: str) -> None:
    text = sql.SQL(statement(__package__, name)).format(version=sql.Literal(SCHEMA_VERSION))
    with node.session(write=True, deadline_s=60) as connection, connection.transaction():
        connection.execute(text)
