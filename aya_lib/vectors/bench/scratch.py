"""A scratch database on the node that is measured: made, filled by binary COPY, dropped at the end, whatever happens.

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
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection
from aya_lib.vectors import wire
from aya_lib.vectors.index import Table
from aya_lib.vectors.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREFIX = "aya_bench_"
DEADLINE_S = 24 * 3600  # of the whole benchmark
NAME = "bench"  # of the scratch table
INDEX = "bench_index"


@dataclass(frozen=True)
class Server:
    """What was measured on: its settings in their own words."""

    node: str
    version: str
    pgvector: str
    shared_buffers: int  # bytes
    maintenance_work_mem: int  # bytes
    parallel_maintenance: int
    cores: int


@dataclass
class Place:
    """The scratch database. ``connection``: its owner's session, which also builds."""

    node: Node
    database: str
    connection: Connection
    server: Server
    _stack: ExitStack
    prewarm: bool = False

    def session(self) -> Connection:
        """Another session in it, which ends with it."""
        return self._stack.enter_context(self.node.session(database=self.database, write=True, deadline_s=DEADLINE_S))

    def load(self, vectors: NDArray[np.float32], metric: Metric) -> Table:
        """A table with these vectors (n, d) in place of the one before; the key is the position."""
        table = Table(NAME, "embedding", "id", vectors.shape[1], metric)
        create = sql.SQL("DROP TABLE IF EXISTS {0}; CREATE UNLOGGED TABLE {0} (id int4, {1} vector({2}))")
        names = table.identifier, sql.Identifier(table.column), sql.Literal(table.dimension)
        self.connection.execute(create.format(*names))
        # Without it no parallel worker starts for a build: vectors are TOASTed, and the heap looks small.
        workers = sql.Literal(max(1, self.server.parallel_maintenance))
        self.connection.execute(sql.SQL("ALTER TABLE {} SET (parallel_workers = {})").format(table.identifier, workers))
        statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table.identifier)
        with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
            for block in wire.copy_in(vectors):
                copy.write(block)
        self.connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table.identifier))
        return table

    def warm(self, index: bool, bytes_: int) -> None:
        """Bring index (or table) into shared buffers, or, when it does not fit there, into the system's cache."""
        if self.prewarm:
            mode = "buffer" if bytes_ < 0.7 * self.server.shared_buffers else "read"
            names = [INDEX, NAME] if index else [NAME]
            toast = "SELECT pg_prewarm(reltoastrelid, %s) FROM pg_class WHERE relname = %s AND reltoastrelid <> 0"
            for name in names:
                self.connection.execute("SELECT pg_prewarm(%s::regclass, %s)", (name, mode))
            if not index:
                self.connection.execute(toast, (mode, NAME))


@contextmanager
def place(node: Node) -> Iterator[Place]:
    """A scratch database on this node. Raises :class:`UsageError` on a standby, :class:`AyaError` where pgvector is missing."""
    name = f"{PREFIX}{datetime.now(UTC):%Y%m%dt%H%M%S}_{os.getpid()}_{time.monotonic_ns() % 100_000:05d}"
    with node.session(database="postgres", write=True, deadline_s=DEADLINE_S) as guard:
        if _one(guard, "SELECT pg_is_in_recovery()"):
            raise UsageError(
                f"{node.name} is a standby: nothing can be built there", hint="Measure on a node that accepts writes"
            )
        sweep(guard)
        guard.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
        try:
            guard.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
            with ExitStack() as stack:
                session = node.session(database=name, write=True, deadline_s=DEADLINE_S)
                connection = stack.enter_context(session)
                made = Place(node, name, connection, _extend(node, connection), stack)
                made.prewarm = _optional(connection, "pg_prewarm")
                _optional(connection, "pageinspect")  # centroids are read from the index itself
                yield made
        finally:
            _drop(node, name)


def sweep(guard: Connection) -> list[str]:
    """Drop the databases whose benchmark no longer lives; returns their names."""
    swept = abandoned(guard)
    for name in swept:
        guard.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    return swept


def abandoned(connection: Connection) -> list[str]:
    """Names of the scratch databases whose benchmark no longer lives. Asked in the database ``postgres``, where it is locked."""
    found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (PREFIX,)).fetchall()
    gone = []
    for name in [str(row[0]) for row in found]:
        if _one(connection, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", name):
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (name,))
            gone.append(name)
    return gone


def _drop(node: Node, name: str) -> None:
    """Over a session of its own, so that it happens also when the benchmark's session broke."""
    with node.session(database="postgres", write=True, deadline_s=60) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _extend(node: Node, connection: Connection) -> Server:
    try:
        connection.execute("SET client_min_messages = error; CREATE EXTENSION vector")
    except psycopg.Error as error:
        raise AyaError(f"{node.name} has no pgvector: {error}", hint="Install pgvector 0.8 for its PostgreSQL") from None
    for name, value in (("jit", "off"), ("synchronous_commit", "off"), ("idle_session_timeout", "0")):
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    values = [
        _one(connection, "SHOW server_version"),
        _one(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'"),
        _one(connection, "SELECT pg_size_bytes(current_setting('shared_buffers'))"),
        _one(connection, "SELECT pg_size_bytes(current_setting('maintenance_work_mem'))"),
        _one(connection, "SELECT current_setting('max_parallel_maintenance_workers')::int"),
    ]
    numbers = [int(str(value)) for value in values[2:]]
    return Server(node.name, str(values[0]), str(values[1]), numbers[0], numbers[1], numbers[2], os.cpu_count() or 1)


def _optional(connection: Connection, name: str) -> bool:
    """Whether an extension could be had."""
    there = _one(connection, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = %s)", name)
    if there:
        connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
    return bool(there)


def _one(connection: Connection, query: str, *values: object) -> object:
    row = connection.execute(query.encode(), values or None).fetchone()
    return row[0] if row else None
