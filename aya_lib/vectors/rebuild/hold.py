"""Building an index beside the running system, watched over another session, and held just before it becomes valid; touching
one for a moment, with a lock that is asked for briefly and again; cleaning up what broke off.

REINDEX INDEX CONCURRENTLY waits twice for transactions that might write the table: before it builds, and before it
validates. A transaction with a ROW EXCLUSIVE lock, which hinders no reader and no writer, therefore holds the finished
build for as long as is needed to let everybody know how the new index is to be searched.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.errors import AyaError, ChangeFailed, DeadlinePassed
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, rows, statement, value
from aya_lib.vectors.index import Table, parts
from aya_lib.vectors.measure import configure

BUILD_S = 12 * 3600  # the longest that a build may take
WATCH_S = 0.1  # how often a build is looked at
CANCEL_S = 5  # how long a cancelled statement may take to end
LOCK_MS = 200  # searches queue behind a lock that is waited for: so long, and no longer, at each try
LOCK_S = 60.0  # tries go on for so long
PAUSE_S = 0.5  # between two tries
CLEAN_S = 20.0  # cleaning up after a failure may take so long; the next run finds what is left
BEFORE_BUILD = "waiting for writers before build"
BEFORE_VALIDATION = "waiting for writers before validation"

# Of a session with a long concurrent statement. lock_timeout would also end its waits for other transactions, of which it
# has several; the locks it asks for hinder nobody. It ends when its client is gone.
LASTING = {
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

Progress = Callable[[str, int, int], None]  # phase, done, total (0: not known)


@dataclass(frozen=True)
class Place:
    """The table that is indexed, and the schema that its indexes stand in."""

    schema: str
    table: Table

    def index(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier(self.schema, parts(self.table.name)[-1])

    def filenode(self, connection: Connection, name: str) -> int | None:
        """The file of an index, another one whenever it was built anew; None when there is no such index."""
        query = "SELECT pg_relation_filenode(to_regclass(%s))::bigint"
        filenode: int | None = value(connection, query, (self.index(name).as_string(),))
        return filenode


@dataclass(frozen=True)
class Resources:
    """What a build may take: ``memory`` (maintenance_work_mem) in bytes, parallel ``workers``, and time.
    ``progress``: a function that hears of it in place of a bar."""

    memory: int
    workers: int
    deadline_s: float = BUILD_S
    progress: Progress | None = None

    def settings(self) -> dict[str, str]:
        """Of the session that builds. Vectors lie outside of the heap, which therefore looks too small for parallel workers."""
        return {
            "maintenance_work_mem": f"{self.memory // 1024}kB",
            "max_parallel_maintenance_workers": str(self.workers),
            "min_parallel_table_scan_size": "0",
        } | LASTING


@dataclass(frozen=True)
class Phase:
    """What the server tells of a build. ``lockers_total``: transactions that are waited for."""

    phase: str = "starting"
    blocks_done: int = 0
    blocks_total: int = 0
    tuples_done: int = 0
    tuples_total: int = 0
    lockers_total: int = 0

    def __str__(self) -> str:
        return self.phase

    def report(self, progress: Progress) -> None:
        waits = self.phase.startswith("waiting")
        by_rows, by_pages = (self.tuples_done, self.tuples_total), (self.blocks_done, self.blocks_total)
        progress(self.phase, *((0, 0) if waits else by_rows if self.tuples_total else by_pages))


class Sent:
    """A statement that was sent and is not waited for. No thread waits either, so an interruption comes through."""

    def __init__(self, connection: Connection, query: str) -> None:
        self.connection = connection
        self._broken: psycopg.Error | None = None
        connection.pgconn.send_query(query.encode())
        connection.pgconn.flush()

    def ended(self) -> bool:
        """Whether :meth:`finish` would return at once."""
        try:
            self.connection.pgconn.consume_input()
            return not self.connection.pgconn.is_busy()
        except psycopg.Error as error:
            self._broken = error
            return True

    def finish(self) -> None:
        """Raise what the server said, if it was an error."""
        if self._broken:
            raise self._broken
        while (result := self.connection.pgconn.get_result()) is not None:
            if result.status == psycopg.pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self.connection.info.encoding)

    def cancel(self, node: Node) -> None:
        """End it on the server. When that cannot be asked for, the server ends it itself, as its client is gone then."""
        if self.ended():
            return
        with suppress(psycopg.Error, AyaError):
            self.connection.cancel_safe(timeout=CANCEL_S)
            wait.until(self.ended, bool, node=node.name, what="the cancelled statement has ended", deadline_s=CANCEL_S)


def build(
    node: Node,
    query: str,
    table: sql.Identifier,
    resources: Resources,
    before_valid: Callable[[], None] | None = None,
) -> None:
    """Run REINDEX or CREATE INDEX CONCURRENTLY. ``before_valid`` is called when the new index is complete and not yet valid;
    the build goes on when it returns. Whatever breaks this off cancels the build too; an invalid index may be left."""
    end = time.monotonic() + resources.deadline_s
    with (
        _shown(resources.progress) as progress,
        node.session(deadline_s=resources.deadline_s + 60) as watcher,
        node.session(write=True, deadline_s=resources.deadline_s) as builder,
    ):
        configure(builder, resources.settings())
        pid = builder.info.backend_pid
        with ExitStack() as holds:
            let_build = holds.enter_context(_held(node, table, pid, resources)) if before_valid else None
            sent = Sent(builder, query)

            def until(phase: str | None) -> bool:
                """Whether the build came to the phase and waits there, and did not end before."""
                reached = wait.until(
                    lambda: None if sent.ended() else _look(watcher, pid, progress),
                    lambda seen: seen is None or (seen.phase == phase and seen.lockers_total > 0),
                    node=node.name,
                    what=phase or "the index is built",
                    deadline_s=max(0.0, end - time.monotonic()),
                    poll_s=WATCH_S,
                )
                return reached is not None

            try:
                if before_valid and let_build and until(BEFORE_BUILD):
                    let_validate = holds.enter_context(_held(node, table, pid, resources))
                    let_build()
                    if until(BEFORE_VALIDATION):
                        before_valid()
                    let_validate()
                until(None)
            except BaseException:
                sent.cancel(node)  # before the locks are let go: nothing becomes valid by an interruption
                raise
        sent.finish()


@contextmanager
def _held(node: Node, table: sql.Identifier, builder: int, resources: Resources) -> Iterator[Callable[[], None]]:
    """Hold the lock for which a build waits, until the function that is given is called, or the builder is gone.

    The lock is held by a statement that the server runs, and not by our being here: were we killed, the build would else
    go on before the server sees that it has no client.
    """
    with node.session(write=True, deadline_s=resources.deadline_s) as connection:
        configure(connection, {"aya.builder": str(builder), "transaction_timeout": "0", "client_connection_check_interval": "0"})
        connection.execute("BEGIN")
        connection.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(table))
        sent = Sent(connection, statement(__package__, "hold"))
        try:
            yield lambda: sent.cancel(node)
        finally:
            sent.cancel(node)


def _look(watcher: Connection, pid: int, progress: Progress) -> Phase:
    phase = next(iter(rows(watcher, __package__, "progress", Phase, pid=pid)), None)
    if phase is None:
        return Phase()
    phase.report(progress)
    return phase


@contextmanager
def _shown(progress: Progress | None) -> Iterator[Progress]:
    """Where a build's progress goes: to the caller's function, else to a bar that appears when it takes a while."""
    if progress:
        yield progress
        return
    from tqdm import tqdm

    with tqdm(leave=False, file=sys.stdout, delay=5, mininterval=0.5, miniters=0, unit_scale=True) as bar:

        def draw(phase: str, done: int, total: int) -> None:
            if bar.desc != f"{phase}: ":
                bar.set_description(phase, refresh=False)
                bar.n = bar.last_print_n = 0
            bar.total = total or None
            bar.update(done - bar.n)

        yield draw


@dataclass(frozen=True)
class _Holder:
    pid: int
    application: str
    age_s: float


def patiently(node: Node, place: Place, name: str, act: Callable[[Connection], object]) -> None:
    """Do what needs a lock on an index. Each try waits ``LOCK_MS`` for it; :class:`ChangeFailed` after ``LOCK_S``."""
    held_by = ""

    def attempt() -> str:
        """Who stands in the way; empty when it is done."""
        nonlocal held_by
        with node.session(write=True) as connection:
            configure(connection, {"lock_timeout": f"{LOCK_MS}ms"})
            try:
                act(connection)
            except psycopg.errors.LockNotAvailable:
                holders = rows(connection, __package__, "holders", _Holder, index=place.index(name).as_string())
                held_by = ", ".join(f"PID {held.pid} ({held.application}, {held.age_s:.0f} s)" for held in holders) or "somebody"
                return held_by
        return ""

    try:
        wait.until(attempt, lambda by: not by, node=node.name, what=f"{name} is free", deadline_s=LOCK_S, poll_s=PAUSE_S)
    except DeadlinePassed:
        if not held_by:
            raise
        hint = "Wait for that transaction, or end it with pg_terminate_backend(PID), and run this again"
        raise ChangeFailed(f"{node.name}: {name} was locked for {LOCK_S:g} s by {held_by}", hint=hint) from None


def drop(node: Node, place: Place, name: str, deadline_s: float = BUILD_S) -> None:
    """DROP INDEX CONCURRENTLY, which waits for the transactions that may use it."""
    with node.session(write=True, deadline_s=deadline_s) as connection:
        configure(connection, LASTING)
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(place.index(name)))


def sweep(node: Node, place: Place) -> None:
    """Drop the invalid indexes that a build which broke off left on the table."""
    with node.session() as connection:
        invalid = column(connection, statement(__package__, "invalid"), {"table": place.relation.as_string()})
    for name in invalid:
        drop(node, place, name, CLEAN_S)
