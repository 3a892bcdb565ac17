"""Create what is missing of the schema. Names and types are a contract with the databases that exist."""

from __future__ import annotations

from psycopg import sql

from aya_lib.node.sql import Connection, statement


def create(connection: Connection, dimension: int, application_role: str, *, offline_queue: bool = False) -> None:
    """Tables, indexes and grants, in one transaction; applied twice it changes nothing.

    ``dimension``: of the embedding column. ``offline_queue``: also the laptop's ``write_queue``.
    """
    values = {"dimension": sql.Literal(dimension), "role": sql.Identifier(application_role)}
    with connection.transaction():
        for name in ["schema", *(["write_queue"] if offline_queue else []), "grants"]:
            connection.execute(sql.SQL(statement(__package__, name)).format(**values))


def create_index(connection: Connection) -> None:
    """The vector index as it is at first (IVFFlat, cosine, lists = 100); to be called when rows are there."""
    connection.execute("SET client_min_messages = error")  # few rows, low recall: the tuning runbook speaks of that
    connection.execute(statement(__package__, "index"))
