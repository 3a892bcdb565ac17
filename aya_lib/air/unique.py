"""Unique values that go from one document to another: all are given up before any is taken, or a swap would never go through.

PostgreSQL looks for a second one at every row. So the column is emptied first (where it must not be empty, filled with what
nobody else has), in the transaction that gives each document its new value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby

from psycopg import sql

from aya_lib.air import tables
from aya_lib.node.sql import Connection, rows

EMPTY = {
    "null": sql.SQL("NULL"),
    "text": sql.SQL("md5(random()::text || d.id)"),
    "uuid": sql.SQL("gen_random_uuid()"),
    "number": sql.SQL("d.id - 2147483648"),
}


@dataclass(frozen=True)
class Unique:
    """A column of a unique index. ``kind``: of :data:`EMPTY`, or ``""`` when nothing can stand in it for a moment; ``plain``: the
    index is over whole columns and all rows."""

    index: str
    name: str
    plain: bool
    kind: str


def look(connection: Connection) -> list[Unique]:
    """Of the documents."""
    return rows(connection, __package__, "unique", Unique)


def emptied(found: Iterable[Unique], changed: Collection[str]) -> sql.Composed | None:
    """``a = NULL, b = ...``: one column of each index, of those that change; None: none of an index does."""
    chosen: dict[str, str] = {}
    for _, columns in groupby(found, lambda one: one.index):
        first = next((one for one in columns if one.name in changed and one.kind), None)
        if first:
            chosen[first.name] = first.kind
    parts = [sql.SQL("{} = {}").format(sql.Identifier(name), EMPTY[kind]) for name, kind in chosen.items()]
    return sql.SQL(", ").join(parts) if parts else None


def give_up(there: Connection, number: int | None, base: int | None, assignments: sql.Composed) -> int | None:
    """Empty the columns of a document of this version; the version it has then. The same when it has another, or is gone."""
    query = sql.SQL("UPDATE documents d SET {} WHERE d.id = %s AND d.version = %s RETURNING d.version").format(assignments)
    row = there.execute(query, (number, base)).fetchone()
    return int(str(row[0])) if row else base


def same(found: Iterable[Unique]) -> list[sql.Composed]:
    """For each index ``(d.a, d.b) = (i.a, i.b)``."""
    indexes = [list(columns) for _, columns in groupby(found, lambda one: one.index)]
    plain = [[one.name for one in columns] for columns in indexes if all(one.plain for one in columns)]
    pair = sql.SQL("({}) = ({})")
    return [pair.format(tables.listed(names, "d"), tables.listed(names, "i")) for names in plain]
