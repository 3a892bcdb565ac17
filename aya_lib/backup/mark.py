"""The truth that a restore is compared with: a named restore point at which nobody writes, and what every table holds there.

Writers pause for milliseconds: all tables of all databases are locked against them, the restore point is made, one session for
each database has its snapshot, and the locks are given back. What is counted after that, and what pg_dump reads, is the snapshot.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from aya_lib.backup.records import Mark, Position
from aya_lib.cluster import scratch
from aya_lib.errors import AyaError, DeadlinePassed, SqlFailed
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, statement, value

PAUSE_MS = 400  # writers wait no longer for the locks of one database: below deadlock_timeout, which is 1000
HOLD_S = 30.0  # for all that is done while they wait: some round trips to a server that may be far
TRIES, AGAIN_S = 20, 0.5
SLOW = 2 * 2**20  # bytes a second: no table is read, and no dump written, slower than this
LIMIT_S = 600.0
SETTLED = "SET jit = off; SET row_security = off; "
SIZE = sql.SQL("SELECT sum(pg_database_size(oid))::bigint FROM pg_database")
HAS_VECTORS = sql.SQL(
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.chunks') AND attname = 'embedding')"
)


@dataclass(frozen=True)
class Moment:
    """The mark without its tables, the databases, and for each the session that still sees it, the snapshot that it exported, the
    tables that were locked. No sessions: somebody did not let us, and the mark says who."""

    point: Mark
    site_database: str
    databases: Sequence[str] = ()
    sessions: Mapping[str, Connection] = field(default_factory=dict)
    snapshots: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def mark(self) -> Mark:
        """Count and checksum every table, at leisure."""
        counted: dict[str, Mapping[str, tuple[int, str]]] = {}
        for database, session in self.sessions.items():
            session.execute(SETTLED.encode())
            counted[database] = _counted(json.loads(str(value(session, _tables(self.tables[database])))))
        found = replace(self.point, tables=counted)
        if self.site_database not in self.sessions or not value(self.sessions[self.site_database], HAS_VECTORS):
            return found
        session = self.sessions[self.site_database]
        session.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
        probe, near = json.loads(str(value(session, statement(__package__, "mark_neighbours"))))
        return replace(found, probe=probe, neighbours=tuple(near))


@dataclass(frozen=True)
class Comparison:
    """``compared``: how many tables; ``differing``: each difference in words; ``unsaid``: why nothing could be compared."""

    compared: int
    differing: tuple[str, ...]
    unsaid: str = ""

    @property
    def equal(self) -> bool:
        return not self.differing and not self.unsaid


@contextmanager
def moment(primary: Node, name: str) -> Iterator[Moment]:
    """Make the restore point; its snapshots last as long as the block, and no table can be dropped or altered meanwhile.

    ``name``: at most 63 bytes. Raises what a session raises when the restore point cannot be made at all.
    """
    with primary.session(database="postgres") as connection:
        databases = ["postgres", *column(connection, statement("aya_lib.cluster", "databases"))]
        limit_s = limit(int(value(connection, SIZE)))
    with ExitStack() as stack:
        sessions = {one: stack.enter_context(primary.session(database=one, deadline_s=limit_s)) for one in databases}
        yield _taken(primary, name, sessions)


def make(primary: Node, name: str) -> Mark:
    """Make the restore point, and count what is there."""
    with moment(primary, name) as here:
        return here.mark()


def limit(size: int) -> float:
    """How long reading or writing so many bytes may take (s)."""
    return LIMIT_S + 2 * size / SLOW


def _taken(primary: Node, name: str, sessions: Mapping[str, Connection]) -> Moment:
    for _ in range(TRIES):
        try:
            return _attempt(primary, name, sessions)
        except (DeadlinePassed, SqlFailed) as error:
            last: AyaError = error
            for session in sessions.values():
                session.rollback()
            time.sleep(AGAIN_S)
    with primary.session(write=True) as connection:
        writers = column(connection, statement(__package__, "mark_writers"))
        point = _point(connection, name)
    held = f"held by {'; '.join(writers)}" if writers else last.message
    unsaid = f"the tables could not be locked in any of {TRIES} tries: {held}"
    return Moment(replace(point, unsaid=unsaid), primary.site.database.name, [*sessions])


def _attempt(primary: Node, name: str, sessions: Mapping[str, Connection]) -> Moment:
    snapshots: dict[str, str] = {}
    tables: dict[str, Sequence[str]] = {}
    with ExitStack() as stack:
        lockers = {
            database: stack.enter_context(primary.session(database=database, write=True, deadline_s=HOLD_S))
            for database in sessions
        }
        for database, locker in lockers.items():
            locker.execute(f"BEGIN; SET LOCAL statement_timeout = {PAUSE_MS}".encode())
            locker.execute(statement(__package__, "mark_lock"))
            locker.execute(f"SET LOCAL statement_timeout = {int(HOLD_S * 1000)}".encode())
            tables[database] = column(locker, statement(__package__, "mark_locked"))
        facts: dict[str, str] = json.loads(str(value(lockers["postgres"], statement(__package__, "mark_cluster"))))
        for database, session in sessions.items():
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshots[database] = str(value(session, sql.SQL("SELECT pg_export_snapshot()")))
            if tables[database]:
                session.execute(f"LOCK TABLE ONLY {', ONLY '.join(tables[database])} IN ACCESS SHARE MODE".encode())
            here = json.loads(str(value(session, statement(__package__, "mark_facts"))))
            facts |= {f"{database}: {what}": said for what, said in here.items()}
        point = _point(lockers["postgres"], name)
    return Moment(replace(point, facts=facts), primary.site.database.name, [*sessions], dict(sessions), snapshots, tables)


def _point(connection: Connection, name: str) -> Mark:
    row = connection.execute(statement(__package__, "mark_point"), {"name": name}).fetchone()
    assert row is not None
    timeline, lsn, at = row
    assert isinstance(at, datetime)
    return Mark(name, Position(int(str(timeline)), str(lsn), at))


def compare(mark: Mark, node: Node, sockets: Path) -> Comparison:
    """What a server holds that was restored to exactly the mark, beside it: by psql on the node, over the socket in a folder."""
    if mark.unsaid:
        return Comparison(0, (), mark.unsaid)

    def ask(database: str, query: str, limit_s: float = 60) -> Any:
        return _asked(node, sockets, database, query, limit_s)

    limit_s = limit(int(ask("postgres", SIZE.as_string())))
    differing: list[str] = []
    found: dict[str, str] = ask("postgres", statement(__package__, "mark_cluster"))
    for database, tables in mark.tables.items():
        try:
            there = _counted(ask(database, _tables([*tables]).as_string(), limit_s))
            facts = ask(database, statement(__package__, "mark_facts"))
        except AyaError as error:
            differing.append(f"{database} cannot be read: {error.message}")
            continue
        found |= {f"{database}: {what}": said for what, said in facts.items()}
        differing += [_difference(f"{database}: {table}", tables[table], there.get(table)) for table in tables]
    differing += [_other(what, said, found.get(what)) for what, said in mark.facts.items()]
    return Comparison(sum(map(len, mark.tables.values())), tuple(filter(None, differing)))


def counted(node: Node, sockets: Path, database: str, names: Sequence[str], limit_s: float) -> dict[str, tuple[int, str]]:
    """Rows and checksum of each table of a database that such a server has, as a mark counts them."""
    return _counted(_asked(node, sockets, database, _tables(names).as_string(), limit_s))


def _asked(node: Node, sockets: Path, database: str, query: str, limit_s: float) -> Any:
    return json.loads(scratch.ask(node, sockets, database, f"{SETTLED}\n{query}", timeout_s=limit_s).checked().stdout)


def _difference(table: str, then: tuple[int, str], now: tuple[int, str] | None) -> str:
    """Between two sums of a table; empty when there is none."""
    if then == now:
        return ""
    if now is None:
        return f"{table} is not there"
    return f"{table}: {then[0]} rows at the mark, {now[0]} restored{', with another checksum' if then[0] == now[0] else ''}"


def _other(what: str, then: str, now: str | None) -> str:
    """The same of another fact. A sequence may be ahead, or behind by no more than WAL was ahead of it."""
    if ": sequence " in what and now is not None:
        (last, ahead), there = then.split(), now.split()[0]
        then, now = last, last if int(there) >= int(last) - int(ahead) else there
    return "" if then == now else f"{what}: {then} at the mark, {now or 'nothing'} restored"


def _tables(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(statement(__package__, "mark_tables")).format(names=sql.Literal([*names]))


def _counted(found: Mapping[str, Sequence[Any]]) -> dict[str, tuple[int, str]]:
    return {name: (int(rows), str(checksum)) for name, (rows, checksum) in found.items()}
