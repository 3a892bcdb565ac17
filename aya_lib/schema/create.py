"""Create what is missing of the schema. Names and types are a contract with the databases that exist."""

from __future__ import annotations

from psycopg import sql

from aya_lib.node.sql import Connection, statement
from aya_lib.schema import knowledge
from aya_lib.site import Site


def create(connection: Connection, site: Site, *, offline_queue: bool = False) -> None:
    """Tables, indexes and grants of the site's database; applied twice it changes nothing.

    ``offline_queue``: also the laptop's ``write_queue``.
    """
    role = sql.Identifier(site.database.application_role)
    values = {"dimension": sql.Literal(site.embedding.dimension), "role": role}
    with connection.transaction():
        for name in ["schema", *(["write_queue"] if offline_queue else []), "grants"]:
            connection.execute(sql.SQL(statement(__package__, name)).format(**values))
    state = knowledge.read(connection, site)
    for name in [*knowledge.COLUMNS, *knowledge.INDEXES]:
        if not getattr(state, name):
            connection.execute(knowledge.text(site, name).encode())
    if knowledge.read(connection, site).unfilled:
        knowledge.fill_terms(connection, site)


def create_index(connection: Connection) -> None:
    """The vector index as it is at first (IVFFlat, cosine, lists = 100); to be called when rows are there."""
    connection.execute("SET client_min_messages = error")  # few rows, low recall: the tuning runbook speaks of that
    connection.execute(statement(__package__, "index"))
