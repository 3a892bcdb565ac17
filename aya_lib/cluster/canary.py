"""The few measurements that must write. Each removes what it wrote, also when it fails or is interrupted.

A probe's rows stand in a table of its own, ``aya_probe_<time>_<pid>``, on the primary. While the probe lives its session
holds an advisory lock; a table whose lock is free was left by a killed run, and the next probe drops it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import psycopg
from psycopg import sql

from aya_lib.cluster.replication import commits_wait
from aya_lib.errors import DeadlinePassed
from aya_lib.node import wait
from aya_lib.node.deadline import cancelled_after
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, value
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table

PREFIX = "aya_probe_"
LEVELS = ("local", "remote_write", "on", "remote_apply")  # synchronous_commit, from what is local to what readers see there
PATIENCE = 50  # times as many rows, until one that should wait was caught at it
P = ParamSpec("P")
T = TypeVar("T")


class Hung(Exception):
    """A commit did not return."""


@dataclass(frozen=True)
class Visibility:
    """Milliseconds from each commit on the primary to the row being visible on the standby; None: not within the limit. Each
    includes the time of one look at the standby."""

    primary: str
    standby: str
    milliseconds: tuple[float | None, ...]
    limit_s: float

    @property
    def seen(self) -> list[float]:
        return sorted(value for value in self.milliseconds if value is not None)

    def percentile(self, percent: float) -> float | None:
        """Nearest-rank percentile of the rows that became visible; None when none did."""
        values = self.seen
        return values[min(len(values) - 1, max(0, -(-int(len(values) * percent) // 100) - 1))] if values else None


@dataclass(frozen=True)
class Refusal:
    """What a server said to an INSERT. ``sqlstate`` is None when it was accepted."""

    node: str
    sqlstate: str | None
    message: str


@dataclass(frozen=True)
class Leftover:
    """Probe tables that are still on a node."""

    node: str
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Level:
    """Marked commits under one synchronous_commit: how many, their median time (ms), and whether one was seen to wait for a
    standby (wait event SyncRep)."""

    level: str
    rows: int
    milliseconds: float
    waited: bool


@dataclass(frozen=True, repr=False)
class Commits(Shown):
    """What a commit costs under each synchronous_commit; ``usual`` is the one that sessions get."""

    primary: str
    usual: Level
    levels: tuple[Level, ...]

    def table(self) -> Table:
        lines = tuple(
            (
                it.level + (" (as set)" if it.level == self.usual.level else ""),
                f"{it.milliseconds:.1f} ms",
                "yes" if it.waited else "no",
            )
            for it in self.levels
        )
        return Table(f"Marked commits on {self.primary}", ("synchronous_commit", "median", "waits for the standby"), lines)


def writing(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Mark a measurement as one that writes; a dry run shows ``what`` instead of doing it."""

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs)

        call.__dict__["writes"] = what
        return call

    return mark


def writes(function: Callable[..., object]) -> str:
    """What a measurement would write; empty for one that only looks."""
    return str(getattr(function, "writes", ""))


@writing("marked rows into a table of its own on the primary, removed at the end")
def visibility(nodes: Nodes, primary: str, standby: str, rows: int) -> Visibility | Missing:
    """Write ``rows`` marked rows one by one and time each from its commit to its being visible on the standby."""
    site = nodes[primary].site
    limit = site.replication.visible_within_s
    budget = rows * (limit + 1) + site.deadlines.statement_s

    def measure() -> Visibility:
        with marked(nodes[primary], budget) as (writer, table), nodes[standby].session(deadline_s=budget) as reader:
            _wait_for_table(nodes[standby], reader, table, limit)
            return Visibility(
                primary, standby, tuple(_time_row(writer, reader, table, number, limit) for number in range(rows)), limit
            )

    return seen(standby, f"marked rows from {primary}", measure)


@writing("some dozens of marked rows into a table of its own on the primary, removed at the end")
def commits(nodes: Nodes, primary: str, rows: int = 20) -> Commits | Missing:
    """Commit marked rows one by one under each synchronous_commit, and see from outside whether they wait for a standby.

    Where they should wait and none of ``rows`` was caught waiting, more are written: a wait may be shorter than a look.
    """
    node = nodes[primary]
    limit_s = node.site.deadlines.command_s
    budget = limit_s * (len(LEVELS) + 1)

    def measure() -> Commits:
        with marked(node, budget) as (writer, table), node.session(deadline_s=budget) as watcher:
            names, usual = (str(value(writer, f"SHOW {name}")) for name in ("synchronous_standby_names", "synchronous_commit"))
            levels = {}
            for number, level in enumerate(dict.fromkeys((*LEVELS, usual))):
                writer.execute("SELECT set_config('synchronous_commit', %s, false)", (level,))
                levels[level] = _level(writer, watcher, table, level, number * 10_000, rows, commits_wait(names, level), limit_s)
            return Commits(primary, levels[usual], tuple(levels.values()))

    return seen(primary, "marked commits", measure)


@writing("one INSERT on the standby, which must be refused")
def refused_write(nodes: Nodes, standby: str) -> Refusal | Missing:
    """Try to write on the standby, in a transaction that is rolled back should it be accepted."""

    def attempt() -> Refusal:
        with nodes[standby].session(write=True) as connection:
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute("INSERT INTO documents (content) VALUES ('aya probe: must be refused')")
            except psycopg.errors.ReadOnlySqlTransaction as error:
                return Refusal(standby, error.sqlstate, error.diag.message_primary or "")
            return Refusal(standby, None, "the INSERT was accepted (and rolled back)")

    return seen(standby, "INSERT INTO documents", attempt)


def leftover(nodes: Nodes, *names: str) -> tuple[Leftover | Missing, ...]:
    """The probe tables that each of these nodes shows."""

    def ask(name: str) -> Leftover:
        with nodes[name].session() as connection:
            return Leftover(name, tuple(_tables(connection)))

    return tuple(seen(name, "tables left by a probe", partial(ask, name)) for name in names)


@contextmanager
def marked(node: Node, deadline_s: float) -> Iterator[tuple[Connection, str]]:
    """A table for marked rows on the primary and the session that owns it; dropped at the end, over a new session
    when the first one broke. Tables of killed probes are dropped first. Only the rows wait for a synchronous standby."""
    table = f"{PREFIX}{datetime.now(UTC):%Y%m%dt%H%M%S}_{time.monotonic_ns() % 1_000_000:06d}"
    try:
        with node.session(write=True, deadline_s=deadline_s) as connection:
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (table,))
            connection.execute("SET synchronous_commit = local")
            sweep(connection)
            statement = "CREATE TABLE {} (number int PRIMARY KEY, written_at timestamptz DEFAULT clock_timestamp())"
            connection.execute(sql.SQL(statement).format(sql.Identifier(table)))
            connection.execute("RESET synchronous_commit")
            yield connection, table
    except Hung as error:
        raise DeadlinePassed(node.name, "commit of a marked row", str(error)) from None
    finally:
        _drop(node, table)


def sweep(connection: Connection) -> list[str]:
    """Drop the tables whose probe no longer lives; returns their names."""
    swept = []
    for table in _tables(connection):
        if value(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (table,)):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (table,))
            swept.append(table)
    return swept


def _drop(node: Node, table: str) -> None:
    """Drop over a session of its own, so that it happens also when the probe's session broke."""
    with node.session(write=True) as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)))


def _tables(connection: Connection) -> list[str]:
    statement = "SELECT relname FROM pg_class WHERE relkind = 'r' AND starts_with(relname, %s) ORDER BY 1"
    return [str(row[0]) for row in connection.execute(statement, (PREFIX,)).fetchall()]


def _wait_for_table(node: Node, reader: Connection, table: str, limit_s: float) -> None:
    wait.until(
        lambda: value(reader, "SELECT to_regclass(%s) IS NOT NULL", (table,)),
        bool,
        node=node.name,
        what=f"the table {table} is visible",
        deadline_s=limit_s,
        poll_s=0.005,
    )


def _commit(writer: Connection, insert: sql.Composed, number: int, limit_s: float) -> None:
    with cancelled_after(writer, limit_s) as late:
        writer.execute(insert, (number,))
    if late.is_set():
        names = value(writer, "SHOW synchronous_standby_names")
        raise Hung(f"no return within {limit_s:g} s: it waits for a standby (synchronous_standby_names = '{names}')")


def _time_row(writer: Connection, reader: Connection, table: str, number: int, limit_s: float) -> float | None:
    insert = sql.SQL("INSERT INTO {} (number) VALUES (%s)").format(sql.Identifier(table))
    select = sql.SQL("SELECT 1 FROM {} WHERE number = %s").format(sql.Identifier(table))
    _commit(writer, insert, number, limit_s)
    committed = time.perf_counter()
    while True:
        visible = reader.execute(select, (number,)).fetchone() is not None
        elapsed = time.perf_counter() - committed
        if visible:
            return elapsed * 1000
        if elapsed > limit_s:
            return None


def _level(
    writer: Connection, watcher: Connection, table: str, level: str, first: int, rows: int, patient: bool, limit_s: float
) -> Level:
    """Commit rows under the session's synchronous_commit while the other session watches what it waits for."""
    insert = sql.SQL("INSERT INTO {} (number) VALUES (%s)").format(sql.Identifier(table))
    event = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    waited, taken = False, list[float]()

    def commit(number: int) -> float:
        started = time.perf_counter()
        _commit(writer, insert, number, limit_s)
        return (time.perf_counter() - started) * 1000

    with ThreadPoolExecutor(1) as pool:
        while len(taken) < rows or (patient and not waited and len(taken) < rows * PATIENCE):
            future = pool.submit(commit, first + len(taken))
            while not (waited or future.done()):
                waited = value(watcher, event, (writer.info.backend_pid,)) == "SyncRep"
            taken.append(future.result())
    return Level(level, len(taken), sorted(taken)[len(taken) // 2], waited)
