"""Lists of columns that go into statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql


def listed(names: Iterable[str], *of: str) -> sql.Composed:
    """``a, b``; or ``x.a, x.b`` of one table."""
    return sql.SQL(", ").join(sql.Identifier(*of, name) for name in names)


def assigned(names: Sequence[str], source: str, *but: str) -> sql.Composed:
    """``a = source.a, b = source.b`` for the columns, but for some."""
    assignment = sql.SQL("{} = {}")
    return sql.SQL(", ").join(
        assignment.format(sql.Identifier(name), sql.Identifier(source, name)) for name in names if name not in but
    )
