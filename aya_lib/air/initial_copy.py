"""The first copy: all rows by binary COPY in ranges of ids, each with how far it got, so that it goes on where it was killed.

The log is followed from the snapshot taken before it, so what changes meanwhile comes with the pull after it. Ranges that do
not fit as they are (a chunk whose document came later, a source_uri that is taken here) are fetched by that pull as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.air import pull, tables
from aya_lib.air.link import FETCH_S, STEP_S, At, Ends, Log, within
from aya_lib.node.sql import Connection, column, rows, statement, value

ROWS = {"documents": 2_000, "chunks": 10_000}  # of one range


@dataclass(frozen=True)
class Index:
    """A vector index, and the statement that makes it."""

    name: str
    made: str


def vector_indexes(connection: Connection) -> list[Index]:
    """Those of the chunks that can be used."""
    return rows(connection, __package__, "vector_indexes", Index)


def needed(ends: Ends) -> bool:
    """Whether the laptop has nothing of the primary yet, or a first copy was broken off."""
    phase = ends.state().phase
    query = "SELECT EXISTS (SELECT FROM documents WHERE id > 0) OR EXISTS (SELECT FROM chunks WHERE id > 0)"
    return phase == "copying" or (phase == "new" and not value(ends.here, query))


def copy(ends: Ends, at: At = lambda step: None) -> None:
    """Copy everything, then build the vector indexes that the primary has; the pull brings what changed meanwhile."""
    if ends.state().phase == "new":
        _begin(ends)
        at("copy: begun")
    for table, columns in (("documents", ends.fit.documents), ("chunks", ends.fit.chunks)):
        while _range(ends, table, columns):
            at(f"copy: {table}")
    _build_indexes(ends)
    at("copy: indexes built")
    ends.here.execute("UPDATE aya_sync.laptop SET phase = 'ready'")


def _begin(ends: Ends) -> None:
    """The snapshot from which the log is followed; what is copied is newer."""
    with within(ends.there, STEP_S):
        log = Log.read(ends.there)
        mark = pull.durable(ends, log.snapshot)
    with ends.here.transaction():
        pull.remember(ends.here, log.snapshot, log, mark)
        ends.here.execute("UPDATE aya_sync.laptop SET phase = 'copying'")


def _range(ends: Ends, table: str, columns: Sequence[str]) -> bool:
    """Copy the next range; False when there is none."""
    known = ends.state()
    after = known.copied_documents if table == "documents" else known.copied_chunks
    names = {
        "table": sql.Identifier(table),
        "columns": tables.listed(columns),
        "document": sql.Identifier("id" if table == "documents" else "document_id"),
        "after": sql.Literal(after),
    }
    with within(ends.there, FETCH_S) as watch:
        query = sql.SQL("SELECT max(id) FROM (SELECT id FROM {table} WHERE id > {after} ORDER BY id LIMIT %s) AS next")
        last = value(ends.there, query.format(**names), (ROWS[table],))
        if last is None:
            return False
        span = sql.SQL("{table} WHERE id > {after} AND id <= {last}").format(**names, last=sql.Literal(last))
        progress = sql.SQL("UPDATE aya_sync.laptop SET {} = {}").format(sql.Identifier(f"copied_{table}"), sql.Literal(last))
        try:
            with ends.applying() as here:
                pull.transfer(ends, sql.SQL("SELECT {columns} FROM ").format(**names) + span, table, columns, watch)
                here.execute(progress)
        except psycopg.errors.IntegrityError:
            owners = column(ends.there, sql.SQL("SELECT DISTINCT {document} FROM ").format(**names) + span)
            with ends.applying() as here:
                refetched = [("d", number) for number in owners if number is not None]
                here.cursor().executemany(statement(__package__, "refetch"), refetched)
                here.execute(progress)
    return True


def _build_indexes(ends: Ends) -> None:
    """The vector indexes of the primary, built after the rows: IVFFlat takes its centroids from those that are there."""
    ends.here.execute("SET client_min_messages = error")
    for index in vector_indexes(ends.there):
        if not value(ends.here, "SELECT to_regclass(%s) IS NOT NULL", (index.name,)):
            ends.here.execute(index.made.encode())
