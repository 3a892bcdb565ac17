"""The recall of the live index, measured on the server as searches have it: their settings, their form of asking."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from aya_lib.errors import AyaError, ChangeFailed
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, statement
from aya_lib.vectors.catalog import Live, LiveIndex, look
from aya_lib.vectors.index import EF_SEARCH
from aya_lib.vectors.rebuild.hold import configure

MEASURE_S = 900  # the longest that measuring may take
TIE = 1e-6  # distances within so much of the last exact one count as found


def live_recall(node: Node, k: int = 10, queries: int = 100, table: str = "chunks", column: str = "embedding") -> float:
    """Share of the ``k`` nearest neighbours that the live index finds, from 0 to 1, for ``queries`` vectors of the table
    itself (a vector is not counted as its own neighbour).

    Raises :class:`ChangeFailed` when the search is not planned with the live index, and :class:`AyaError` when there is none.
    """
    live = look(node, table, column)
    if not isinstance(live, Live):
        raise AyaError(f"{node.name}: the vector index could not be looked at: {live}")
    if live.problem or live.current is None:
        raise AyaError(f"{node.name}: {live.problem or f'no index on {table}.{column}'}")
    with node.session(deadline_s=MEASURE_S) as connection:
        configure(connection, {"jit": "off"})
        sample = _composed("sample", live)
        asked = connection.execute(sample, {"queries": queries}).fetchall()
        configure(connection, {"enable_indexscan": "off"})
        exact = [_distances(connection, _composed("exact", live, k=sql.Literal(k)), one) for one in asked]
        configure(connection, {"enable_indexscan": "on", "enable_seqscan": "off"} | _settings(live, live.current))
        index = live.current.index()
        search = index.search(live.as_table(), k + 1, live.value(index))
        answers = _composed("answers", live, k=sql.Literal(k), search=search)
        _refuse_other(node, connection, answers, live.current, asked)
        found = [_distances(connection, answers, one) for one in asked]
    wanted = sum(len(one) for one in exact)
    hits = sum(
        sum(d <= near[-1] + abs(near[-1]) * TIE + TIE for d in got) for near, got in zip(exact, found, strict=True) if near
    )
    return hits / wanted if wanted else 1.0


def _composed(name: str, live: Live, **more: sql.Composable) -> sql.Composed:
    table = live.as_table()
    parts = {
        "key": sql.Identifier(table.key),
        "column": sql.Identifier(table.column),
        "table": table.identifier,
        "operator": sql.SQL(table.metric.operator),
    }
    return sql.SQL(statement(__package__, name)).format(**(parts | more))


def _settings(live: Live, current: LiveIndex) -> dict[str, str]:
    """As searches have them. While the old index is there too, it is made as dear as it can be, so that it is not chosen."""
    found = current.index().settings(live.value(current.index()))
    for other in live.indexes:
        if other.valid and other.method != current.method:
            most = other.options["lists"] if other.method == "ivfflat" else EF_SEARCH
            found |= other.index().settings(most)
    return found


def _distances(connection: Connection, query: sql.Composed, one: tuple[Any, ...]) -> list[float]:
    """``one``: key and vector, as text."""
    key, vector = one
    return [float(str(row[0])) for row in psycopg.RawCursor(connection).execute(query, (vector, key)).fetchall()]


def _refuse_other(node: Node, connection: Connection, query: sql.Composed, current: LiveIndex, asked: list[Any]) -> None:
    """What is measured must be the live index."""
    if not asked:
        return
    key, vector = asked[0]
    rows = psycopg.RawCursor(connection).execute(sql.SQL("EXPLAIN ") + query, (vector, key)).fetchall()
    lines = [str(row[0]).strip() for row in rows]
    if not any(f"using {current.name} on" in line for line in lines):
        used = next((line for line in lines if " using " in line or "Seq Scan" in line), lines[0])
        hint = "Its recall cannot be measured so: drop the other index, or wish for a smaller value of the knob"
        raise ChangeFailed(f"{node.name}: the search is planned without {current.name}: {used}", hint=hint)
