"""What is in the tables: counts and checksums, so that two servers can be compared by content.

A standby that diverged says ``streaming`` all the same. Only the rows tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from psycopg import sql

from aya_lib.cluster import server
from aya_lib.cluster.lsn import number
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, column, rows, statement, value
from aya_lib.node.unseen import Missing, Unseen, looking, seen


@dataclass(frozen=True)
class TableSum:
    """``rows`` in all; ``compared`` of them (the newest) are in ``checksum``, which does not depend on their order."""

    rows: int
    compared: int
    checksum: str


@dataclass(frozen=True)
class Contents:
    """What one server holds, at one snapshot a database. ``lsn``: its position when the snapshot was taken; ``snapshot``: as
    pg_current_snapshot() shows it. ``sequences``: the last value of each, and how far WAL may be ahead of it: so much a standby
    can be ahead, or behind one that was a standby itself.

    ``unlogged``: tables that no standby has. ``prepared``: transactions that were prepared and not decided.
    """

    node: str
    lsn: str
    tables: Mapping[str, TableSum]
    snapshot: str = ""
    sequences: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unlogged: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()

    def plus(self, other: Contents) -> Contents:
        """This and what another database holds."""
        return replace(
            self,
            tables={**self.tables, **other.tables},
            sequences={**self.sequences, **other.sequences},
            unlogged=self.unlogged + other.unlogged,
            prepared=self.prepared + other.prepared,
        )


@dataclass(frozen=True)
class Compared:
    """Both sides, the standby's taken when it had replayed what the primary had. ``uncompared``: further databases that could
    not be read, and why."""

    primary: Contents
    standby: Contents
    uncompared: Mapping[str, Missing] = field(default_factory=dict)

    def differing(self) -> list[str]:
        """Names of the tables that are not equal, also those that only one side has; then of sequences that are behind."""
        here, there = self.primary, self.standby
        names = sorted(set(here.tables) | set(there.tables))
        tables = [name for name in names if here.tables.get(name) != there.tables.get(name)]
        return tables + [name for name in here.sequences if self._behind(name)]

    def _behind(self, name: str) -> bool:
        (last, ahead), there = self.primary.sequences[name], self.standby.sequences.get(name)
        return there is None or there[0] < last - ahead

    def difference(self, name: str) -> str:
        """In words, of one that is differing."""
        one, two = self.primary.tables.get(name), self.standby.tables.get(name)
        if one is None and two is None:
            here, there = (side.sequences.get(name, ("nothing",))[0] for side in (self.primary, self.standby))
            return f"a sequence at {here} on {self.primary.node}, {there} on {self.standby.node}"
        if one is None or two is None:
            return f"only on {self.primary.node if one else self.standby.node}"
        if one.rows == two.rows:
            return f"{one.rows} rows on both, checksums differ"
        return f"{one.rows} rows on {self.primary.node}, {two.rows} on {self.standby.node}"

    def left_out(self) -> list[str]:
        """What equal contents say nothing about, in words."""
        here, found = self.primary, []
        if here.unlogged:
            found.append(f"unlogged and so never on {self.standby.node}: {', '.join(here.unlogged)}")
        if here.prepared:
            found.append(f"prepared and not decided: {', '.join(here.prepared)}")
        return found + [f"not compared: {database} ({missing})" for database, missing in self.uncompared.items()]


@dataclass(frozen=True)
class _TableRow:
    schema: str
    name: str
    keys: list[str]
    collated: list[bool]


@dataclass(frozen=True)
class _Aside:
    sequences: dict[str, tuple[int, int]] | None
    unlogged: list[str]
    prepared: list[str]


def look(nodes: Nodes, primary: str, standby: str, rows_each: int = 20_000, tries: int = 5) -> Compared | Missing:
    """Compare the newest ``rows_each`` rows of every table, the count of all, large objects and sequences on primary and standby,
    in every database; one that cannot be read beside the site's own is named, and does not end the whole."""
    leader, follower = nodes[primary], nodes[standby]
    others = seen(primary, "list the databases", lambda: _databases(leader))
    if not isinstance(others, list):
        return others
    apart = _never_follows(leader, follower)
    found = _compare(leader, follower, nodes.site.database.name, rows_each, tries, apart)
    if not isinstance(found, Compared):
        return found
    there = seen(standby, "list the databases", lambda: _databases(follower))
    for database in others:
        if isinstance(there, list) and database not in there:
            only_here = Contents(primary, "", {f"database {database}": TableSum(0, 0, "")})
            found = replace(found, primary=found.primary.plus(only_here))
            continue
        other = _compare(leader, follower, database, rows_each, tries, apart)
        if isinstance(other, Compared):
            found = Compared(found.primary.plus(other.primary), found.standby.plus(other.standby), found.uncompared)
        else:
            found = replace(found, uncompared={**found.uncompared, database: other})
    return found


def _databases(node: Node) -> list[str]:
    """Those beside the site's own."""
    with node.session() as connection:
        return [str(name) for name in column(connection, statement(__package__, "databases"))]


def _compare(leader: Node, follower: Node, database: str, rows_each: int, tries: int, apart: bool) -> Compared | Missing:
    """One database on both.

    While clients write, the standby is later than what was read of the primary. So the primary is read once more, of the rows
    that the standby's snapshot shows: all that either has by then is in the comparison, and what came since is not. What was
    changed or deleted since is a difference all the same: it is believed only when the primary was the same before and after
    the standby was read; otherwise it is tried again, ``tries`` times. On another timeline (``apart``) the transactions' numbers
    mean other transactions, so such a standby is compared as it is.
    """
    for _ in range(tries):
        before = _look_node(leader, database, rows_each)
        if not isinstance(before, Contents):
            return before
        there = _look_node(follower, database, rows_each, after="" if apart else before.lsn)
        if not isinstance(there, Contents):
            return there
        found = Compared(before, there)
        if not found.differing():
            return found
        after = _look_node(leader, database, rows_each)
        if not isinstance(after, Contents):
            return after
        if (after.tables, after.sequences) == (before.tables, before.sequences):
            return found
        same = before if apart else _look_node(leader, database, rows_each, there.snapshot)
        found = Compared(replace(same, sequences=before.sequences), there) if isinstance(same, Contents) else found
        if not found.differing():
            return found
    return Unseen(leader.name, f"compare contents with {follower.name}", f"rows changed during each of {tries} tries")


@looking("count and checksum the tables")
def _look_node(node: Node, database: str, rows_each: int, of: str = "", after: str = "") -> Contents:
    """One database of one server, all of one snapshot; ``of``: only of rows that this other snapshot shows too; ``after``: once
    the standby has replayed this position."""
    with node.session(database=database, deadline_s=60) as connection:
        if after:
            wait.until(
                lambda: _replayed(connection),
                lambda seen_lsn: seen_lsn is None or number(seen_lsn) >= number(after),
                node=node.name,
                what=f"it has replayed {after}",
                deadline_s=node.site.deadlines.statement_s,
                poll_s=0.01,
            )
        prefix = "" if database == node.site.database.name else f"{database}: "
        return _read(node.name, connection, rows_each, of, prefix)


def _never_follows(primary: Node, standby: Node) -> bool:
    """Both answer, and are on different timelines: the standby does not get where the primary is by waiting."""
    here, there = server.look(primary), server.look(standby)
    return isinstance(here, server.Cluster) and isinstance(there, server.Cluster) and here.timeline != there.timeline


def _replayed(connection: Connection) -> str | None:
    lsn = value(connection, "SELECT pg_last_wal_replay_lsn()::text")
    return None if lsn is None else str(lsn)


def _read(name: str, connection: Connection, rows_each: int, of: str, prefix: str) -> Contents:
    # A policy that hides rows is an error then, not a smaller count.
    connection.execute("SET statement_timeout = '50s'; SET jit = off; SET row_security = off")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        tables = rows(connection, __package__, "tables", _TableRow)
        snapshot = str(value(connection, "SELECT pg_current_snapshot()::text"))
        lsn = server.read(name, connection).lsn
        sums = {f"{prefix}{table.schema}.{table.name}": _sum(connection, table, rows_each, of) for table in tables}
        aside = rows(connection, __package__, "aside", _Aside)[0]
        sequences = {prefix + key: last for key, last in (aside.sequences or {}).items()}
        unlogged, prepared = (tuple(prefix + one for one in names) for names in (aside.unlogged, aside.prepared))
        return Contents(name, lsn, sums, snapshot, sequences, unlogged, prepared)


def _sum(connection: Connection, table: _TableRow, rows_each: int, of: str) -> TableSum:
    name = sql.Identifier(table.schema, table.name)
    shown = sql.SQL("WHERE {}").format(_visible_in(of)) if of else sql.SQL("")
    bytewise = sql.SQL(' COLLATE "C"'), sql.SQL("")  # another system's library may order text in another way
    keys = [
        sql.SQL("{}{} DESC").format(sql.Identifier(key), bytewise[not collated])
        for key, collated in zip(table.keys, table.collated, strict=True)
    ]
    newest = sql.SQL("ORDER BY {} LIMIT {}").format(sql.SQL(", ").join(keys), sql.Literal(rows_each))
    query = sql.SQL(statement(__package__, "checksum")).format(name=name, shown=shown, newest=newest if keys else sql.SQL(""))
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
