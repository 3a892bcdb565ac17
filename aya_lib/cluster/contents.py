"""What is in the tables: counts and checksums, so that two servers can be compared by content.

A standby that diverged says ``streaming`` all the same. Only the rows tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from aya_lib.cluster import server
from aya_lib.cluster.lsn import number
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows, statement, value
from aya_lib.node.unseen import Missing, Unseen, seen


@dataclass(frozen=True)
class TableSum:
    """``rows`` in all; ``compared`` of them (the newest) are in ``checksum``, which does not depend on their order."""

    rows: int
    compared: int
    checksum: str


@dataclass(frozen=True)
class Contents:
    """The tables of one server at one snapshot. ``lsn``: its position when the snapshot was taken; ``snapshot``: as
    pg_current_snapshot() shows it."""

    node: str
    lsn: str
    tables: Mapping[str, TableSum]
    snapshot: str = ""


@dataclass(frozen=True)
class Compared:
    """Both sides, the standby's taken when it had replayed what the primary had."""

    primary: Contents
    standby: Contents

    def differing(self) -> list[str]:
        """Names of the tables that are not equal, also those that only one side has."""
        names = sorted(set(self.primary.tables) | set(self.standby.tables))
        return [name for name in names if self.primary.tables.get(name) != self.standby.tables.get(name)]


@dataclass(frozen=True)
class _TableRow:
    schema: str
    name: str
    key: str | None


def look(nodes: Nodes, primary: str, standby: str, rows_each: int = 20_000, tries: int = 5) -> Compared | Missing:
    """Compare the newest ``rows_each`` rows of every table, and the count of all, on primary and standby.

    While clients write, the standby is later than what was read of the primary. So the primary is read once more, of the rows
    that the standby's snapshot shows: all that either has by then is in the comparison, and what came since is not. What was
    changed or deleted since is a difference all the same: it is believed only when the primary was the same before and after
    the standby was read; otherwise it is tried again, ``tries`` times. On another timeline the transactions' numbers mean
    other transactions, so such a standby is compared as it is.
    """
    leader, follower = nodes[primary], nodes[standby]
    for _ in range(tries):
        before = look_node(leader, rows_each)
        if not isinstance(before, Contents):
            return before
        apart = _never_follows(leader, follower)
        there = look_node(follower, rows_each) if apart else _look_after(follower, before.lsn, rows_each)
        if not isinstance(there, Contents):
            return there
        if before.tables == there.tables:
            return Compared(before, there)
        after = look_node(leader, rows_each)
        if not isinstance(after, Contents):
            return after
        if after.tables == before.tables:
            return Compared(before, there)
        same = Unseen(primary, "compare", "other timelines") if apart else look_node(leader, rows_each, there.snapshot)
        if isinstance(same, Contents) and same.tables == there.tables:
            return Compared(same, there)
    return Unseen(primary, f"compare contents with {standby}", f"rows changed during each of {tries} tries")


def look_node(node: Node, rows_each: int, of: str = "") -> Contents | Missing:
    """Counts and checksums of one server, all of one snapshot; ``of``: only of rows that this other snapshot shows too."""

    def ask() -> Contents:
        with node.session(deadline_s=60) as connection:
            return _read(node.name, connection, rows_each, of)

    return seen(node.name, "count and checksum the tables", ask)


def _never_follows(primary: Node, standby: Node) -> bool:
    """Both answer, and are on different timelines: the standby does not get where the primary is by waiting."""
    here, there = server.look(primary), server.look(standby)
    return isinstance(here, server.Cluster) and isinstance(there, server.Cluster) and here.timeline != there.timeline


def _look_after(node: Node, lsn: str, rows_each: int) -> Contents | Missing:
    """As :func:`look_node`, once the standby has replayed ``lsn``."""

    def ask() -> Contents:
        with node.session(deadline_s=60) as connection:
            wait.until(
                lambda: _replayed(connection),
                lambda seen_lsn: seen_lsn is None or number(seen_lsn) >= number(lsn),
                node=node.name,
                what=f"it has replayed {lsn}",
                deadline_s=node.site.deadlines.statement_s,
                poll_s=0.01,
            )
            return _read(node.name, connection, rows_each)

    return seen(node.name, "count and checksum the tables", ask)


def _replayed(connection: Connection) -> str | None:
    lsn = value(connection, "SELECT pg_last_wal_replay_lsn()::text")
    return None if lsn is None else str(lsn)


def _read(name: str, connection: Connection, rows_each: int, of: str = "") -> Contents:
    connection.execute("SET statement_timeout = '50s'")
    connection.execute("SET jit = off")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tables = rows(connection, __package__, "tables", _TableRow)
        snapshot = str(value(connection, "SELECT pg_current_snapshot()::text"))
        lsn = server.read(name, connection).lsn
        sums = {f"{table.schema}.{table.name}": _sum(connection, table, rows_each, of) for table in tables}
        return Contents(name, lsn, sums, snapshot)


def _sum(connection: Connection, table: _TableRow, rows_each: int, of: str) -> TableSum:
    name = sql.Identifier(table.schema, table.name)
    shown = sql.SQL("WHERE {}").format(_visible_in(of)) if of else sql.SQL("")
    newest = sql.SQL("ORDER BY {} DESC LIMIT {}").format(sql.Identifier(table.key or ""), sql.Literal(rows_each))
    query = sql.SQL(statement(__package__, "checksum")).format(
        name=name, shown=shown, newest=newest if table.key else sql.SQL("")
    )
    row = connection.execute(query).fetchone()
    assert row is not None
    return TableSum(int(str(row[0])), int(str(row[1])), str(row[2]))


def _visible_in(snapshot: str) -> sql.Composed:
    """Whether a row was inserted by a transaction that the snapshot shows. ``xmin`` has 32 bits: its epoch is the one that puts
    it nearest to the snapshot."""
    low = int(snapshot.split(":")[0])
    near = sql.SQL("(((xmin::text::bigint - {} + 2147483648) % 4294967296 + 4294967296) % 4294967296 - 2147483648)").format(
        sql.Literal(low % 2**32)
    )
    return sql.SQL("({near} < 0 OR pg_visible_in_snapshot(({low} + {near})::text::xid8, {snapshot}::pg_snapshot))").format(
        near=near, low=sql.Literal(low), snapshot=sql.Literal(snapshot)
    )
