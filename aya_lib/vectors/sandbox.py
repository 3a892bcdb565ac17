"""A scratch database on the node that is measured: made, filled by binary COPY, indexed, dropped at the end, whatever happens.

Its table is unlogged, so nothing of it reaches a standby or the archive. While a benchmark lives, its session holds an
advisory lock; a database whose lock is free was left by a killed run, and the next benchmark drops it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from aya_lib.cluster import machine
from aya_lib.errors import AyaError, SqlFailed, UsageError
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows
from aya_lib.vectors import wire
from aya_lib.vectors.index import Index, Table, mb
from aya_lib.vectors.metric import Metric

PREFIX = "aya_bench_"
TABLE, INDEX = "bench", "bench_index"
DEADLINE_S = 24 * 3600  # of the whole benchmark
MEMORY_SHARE = 0.5  # of the memory that is free, for a build
SETTINGS = {"jit": "off", "synchronous_commit": "off", "idle_session_timeout": "0"}


@dataclass(frozen=True)
class Server:
    """What was measured on: its settings in their own words, sizes in bytes."""

    node: str
    version: str
    pgvector: str
    shared_buffers: int
    maintenance_work_mem: int
    parallel_maintenance: int
    cores: int


@dataclass(frozen=True)
class Built:
    """``seconds`` of CREATE INDEX, ``bytes`` of the index, ``memory`` (bytes) it was given; all 0 for exact search."""

    seconds: float = 0.0
    bytes: int = 0
    memory: int = 0
    workers: int = 0


@dataclass
class Sandbox:
    """The scratch database. ``connection``: its owner's session, which also builds. ``prewarm``: whether blocks can be read
    into the cache before searches are timed."""

    node: Node
    database: str
    connection: Connection
    server: Server
    prewarm: bool
    _stack: ExitStack

    def session(self) -> Connection:
        """Another session in it, which ends with it."""
        return self._stack.enter_context(self.node.session(database=self.database, write=True, deadline_s=DEADLINE_S))

    def load(self, vectors: NDArray[np.float32], metric: Metric) -> Table:
        """A table with these vectors (n, d) in place of the one before; the key is the position."""
        table = Table(TABLE, "embedding", "id", vectors.shape[1], metric)
        create = sql.SQL("DROP TABLE IF EXISTS {0}; CREATE UNLOGGED TABLE {0} (id int4, {1} vector({2}))")
        self.connection.execute(create.format(table.identifier, sql.Identifier(table.column), sql.Literal(table.dimension)))
        # Without it no parallel worker starts for a build: vectors are TOASTed, and the heap looks small.
        workers = sql.Literal(max(1, self.server.parallel_maintenance))
        self.connection.execute(sql.SQL("ALTER TABLE {} SET (parallel_workers = {})").format(table.identifier, workers))
        statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table.identifier)
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for block in wire.copy_in(vectors):
                copy.write(block)
        self.connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table.identifier))
        return table

    def build(self, index: Index, table: Table, count: int) -> Built:
        """Build it over ``count`` rows, in place of the one before, and bring it into the cache.

        Raises :class:`AyaError` when memory or disk do not suffice, before anything is built.
        """
        self.connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(INDEX)))
        if not index.method:
            self._warm(0)
            return Built()
        if lack := self.lacking(index, table, count):
            raise AyaError(f"{index} cannot be built: {lack}")
        memory = max(self.server.maintenance_work_mem, int(index.build_bytes(table, count) * 1.1))
        self.connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", (f"{memory // 1024}kB",))
        started = time.perf_counter()
        try:
            self.connection.execute(index.create(table, INDEX))
        except psycopg.errors.UndefinedTable:
            raise SqlFailed(self.node.name, "the scratch table is gone: somebody dropped it", hint="Run it again") from None
        seconds = time.perf_counter() - started
        size = int(str(_value(self.connection, "SELECT pg_relation_size(%s::regclass)", INDEX)))
        self._warm(size)
        return Built(round(seconds, 3), size, memory, self.server.parallel_maintenance)

    def lacking(self, index: Index, table: Table, count: int) -> str:
        """What a build lacks, in words; empty when nothing does. Memory and disk that cannot be seen refuse nothing: the server
        itself says when it lacks them."""
        if not index.method or (why := index.fits(table, count)):
            return why if index.method else ""
        need, free = int(index.build_bytes(table, count) * 1.1), machine.memory_bytes(self.node)
        if isinstance(free, int) and need > max(int(free * MEMORY_SHARE), self.server.maintenance_work_mem):
            return f"its build needs {mb(need)} of memory, half of what is free is {mb(free * MEMORY_SHARE)}"
        return no_room(self.node, index.bytes(table, count) * 2)

    def _warm(self, size: int) -> None:
        """Bring the index, if it has a size, and the table into shared buffers, or where they do not fit into the system's
        cache."""
        if not self.prewarm:
            return
        mode = "buffer" if size < 0.7 * self.server.shared_buffers else "read"
        for name in [INDEX, TABLE] if size else [TABLE]:
            self.connection.execute("SELECT pg_prewarm(%s::regclass, %s)", (name, mode))
        if not size:
            toast = "SELECT pg_prewarm(reltoastrelid, %s) FROM pg_class WHERE relname = %s AND reltoastrelid <> 0"
            self.connection.execute(toast, (mode, TABLE))


def no_room(node: Node, size: int) -> str:
    """Why so many bytes do not fit onto the node's disk, in words; empty when they do, or when the disk cannot be seen."""
    free = machine.free_bytes(node)
    return f"it needs about {mb(size)} of disk, {mb(free)} are free" if isinstance(free, int) and size > free else ""


@contextmanager
def open_sandbox(node: Node) -> Iterator[Sandbox]:
    """A scratch database on this node. Raises :class:`UsageError` on a standby, :class:`AyaError` where pgvector is missing."""
    name = f"{PREFIX}{datetime.now(UTC):%Y%m%dt%H%M%S}_{os.getpid()}_{time.monotonic_ns() % 100_000:05d}"
    with node.session(database="postgres", write=True, deadline_s=DEADLINE_S) as guard:
        if _value(guard, "SELECT pg_is_in_recovery()"):
            hint = "Measure on a node that accepts writes"
            raise UsageError(f"{node.name} is a standby: nothing can be built there", hint=hint)
        for left in abandoned(guard):
            _drop(guard, left)
        guard.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        try:
            guard.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            with ExitStack() as stack:
                connection = stack.enter_context(node.session(database=name, write=True, deadline_s=DEADLINE_S))
                server = _server(node, connection)
                _extension(connection, "pageinspect")  # centroids are read from the index itself
                yield Sandbox(node, name, connection, server, _extension(connection, "pg_prewarm"), stack)
        finally:
            # Over a session of its own, so that it happens also when the benchmark's session broke.
            with node.session(database="postgres", write=True, deadline_s=60) as last:
                _drop(last, name)


def abandoned(connection: Connection) -> list[str]:
    """Names of the scratch databases whose benchmark no longer lives. Asked in the database ``postgres``, where it is locked."""
    names = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (PREFIX,)).fetchall()
    gone = []
    for name in [str(row[0]) for row in names]:
        if _value(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", name):
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))
            gone.append(name)
    return gone


def _drop(connection: Connection, name: str) -> None:
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _server(node: Node, connection: Connection) -> Server:
    try:
        connection.execute("SET client_min_messages = error; CREATE EXTENSION vector")
    except psycopg.Error as error:
        raise AyaError(f"{node.name} has no pgvector: {error}", hint="Install pgvector 0.8 for its PostgreSQL") from None
    for name, value in SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    return rows(connection, __package__, "sandbox_server", Server, node=node.name, cores=os.cpu_count() or 1)[0]


def _extension(connection: Connection, name: str) -> bool:
    """Whether an extension could be had."""
    there = _value(connection, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = %s)", name)
    if there:
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
    return bool(there)


def _value(connection: Connection, query: str, *values: object) -> object:
    row = connection.execute(query.encode(), values or None).fetchone()
    return row[0] if row else None
