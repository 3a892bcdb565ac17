"""The first copy: all rows by binary COPY in ranges of ids, each with how far it got, so that it goes on where it was killed.

The log is followed from the snapshot taken before it, so what changes meanwhile comes with the pull after it. Ranges that do
not fit as they are (a chunk whose document came later, a source_uri that is taken here) are fetched by that pull as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.air import pull
from aya_lib.air.link import FETCH_S, STEP_S, At, Ends, within
from aya_lib.air.position import Snapshot
from aya_lib.node.sql import Connection, rows, statement

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
    known = ends.state()
    if known.phase == "copying":
        return True
    query = "SELECT EXISTS (SELECT FROM documents WHERE id > 0) OR EXISTS (SELECT FROM chunks WHERE id > 0)"
    row = ends.here.execute(query).fetchone()
    return known.phase == "new" and not (row and row[0])


def copy(ends: Ends, at: At = lambda step: None) -> None:
    """Copy everything, then build the vector indexes that the primary has; the pull brings what changed meanwhile."""
    if ends.state().phase == "new":
        _begin(ends)
        at("copy: begun")
    for table, columns in (("documents", ends.documents), ("chunks", ends.chunks)):
        while _range(ends, table, columns):
            at(f"copy: {table}")
    _indexes(ends)
    at("copy: indexes built")
    ends.here.execute("UPDATE aya_sync.laptop SET phase = 'ready'")


def _begin(ends: Ends) -> None:
    """The snapshot from which the log is followed; what is copied is newer."""
    with within(ends.there, STEP_S):
        row = ends.there.execute(statement(__package__, "log_state")).fetchone()
        assert row
        snapshot, log = Snapshot.parse(str(row[0])), int(str(row[1]))
        mark = pull.durable(ends, str(snapshot))
    with ends.here.transaction():
        pull.remember(ends.here, snapshot, log, mark)
        ends.here.execute("UPDATE aya_sync.laptop SET phase = 'copying'")


def _range(ends: Ends, table: str, columns: Sequence[str]) -> bool:
    """Copy the next range; False when there is none."""
    known = ends.state()
    after = known.copied_documents if table == "documents" else known.copied_chunks
    name, done = sql.Identifier(table), sql.Identifier(f"copied_{table}")
    with within(ends.there, FETCH_S) as watch:
        ids = sql.SQL("SELECT id FROM {} WHERE id > %s ORDER BY id LIMIT %s").format(name)
        query = sql.SQL("SELECT max(id) FROM ({}) AS next").format(ids)
        row = ends.there.execute(query, (after, ROWS[table])).fetchone()
        last = row[0] if row else None
        if last is None:
            return False
        which = sql.SQL("SELECT {} FROM {} WHERE id > {} AND id <= {}").format(
            pull.listed(columns), name, sql.Literal(after), sql.Literal(last)
        )
        progress = sql.SQL("UPDATE aya_sync.laptop SET {} = %s").format(done)
        try:
            with ends.applying() as here:
                pull.transfer(ends, which, table, columns, watch)
                here.execute(progress, (last,))
        except psycopg.errors.IntegrityError:
            owner = "id" if table == "documents" else "document_id"
            text = sql.SQL("SELECT DISTINCT {} FROM {} WHERE id > %s AND id <= %s AND {} IS NOT NULL").format(
                sql.Identifier(owner), name, sql.Identifier(owner)
            )
            found = [number for (number,) in ends.there.execute(text, (after, last)).fetchall()]
            with ends.applying() as here:
                query_ = "INSERT INTO aya_sync.refetch SELECT 'd', unnest(%s::int[]) ON CONFLICT DO NOTHING"
                here.execute(query_, (found,))
                here.execute(progress, (last,))
    return True


def _indexes(ends: Ends) -> None:
    """The vector indexes of the primary, built after the rows: IVFFlat takes its centroids from those that are there."""
    wanted = vector_indexes(ends.there)
    ends.here.execute("SET client_min_messages = error")
    for one in wanted:
        there = ends.here.execute("SELECT to_regclass(%s) IS NOT NULL", (one.name,)).fetchone()
        if not (there and there[0]):
            ends.here.execute(one.made.encode())
