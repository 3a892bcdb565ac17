"""The two tables that travel, their columns, and the lists of columns that go into statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from aya_lib.node.sql import Connection, statement, stream

TABLES = {"d": "documents", "c": "chunks"}  # by the letter that the log of changes has for them
GENERATED = " generated"  # at the end of a column's type


def columns(connection: Connection, table: str) -> dict[str, str]:
    """Name and type of every column, in the table's order."""
    return dict(stream(connection, statement(__package__, "columns"), table=f"public.{table}"))


def travelling(kinds: dict[str, str]) -> tuple[str, ...]:
    """The columns that are carried; the others are generated, on each side by itself."""
    return tuple(name for name, kind in kinds.items() if name != "chunk_terms" and GENERATED not in kind)


def listed(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def assigned(names: Sequence[str], source: str, *but: str) -> sql.Composed:
    """``a = source.a, b = source.b`` for the columns, but for some."""
    assignment = sql.SQL("{} = {}")
    return sql.SQL(", ").join(
        assignment.format(sql.Identifier(name), sql.Identifier(source, name)) for name in names if name not in but
    )
