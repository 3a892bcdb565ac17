"""Building an index on the scratch table: how long it took, how large it is, with how much memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.cluster import machine
from aya_lib.errors import AyaError, DeadlinePassed, SqlFailed
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows
from aya_lib.vectors.bench.scratch import INDEX, Place
from aya_lib.vectors.index import Index, Table, index_bytes, mb

WATCH_S = 0.2
MEMORY_SHARE = 0.5  # of the memory that is free


@dataclass(frozen=True)
class Built:
    """``seconds`` of CREATE INDEX, ``bytes`` of the index, ``memory`` (bytes) it was given; all 0 for exact search."""

    seconds: float = 0.0
    bytes: int = 0
    memory: int = 0
    workers: int = 0


@dataclass(frozen=True)
class _Progress:
    phase: str
    share: float | None


Watch = Callable[[str, float | None], None]


def build(place: Place, index: Index, table: Table, count: int, watch: Watch = lambda phase, share: None) -> Built:
    """Build it, in place of the one before. ``count``: rows. ``watch`` hears the phase, and the share done where known.

    Raises :class:`AyaError` when memory or disk do not suffice, before anything is built.
    """
    connection = place.connection
    connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(INDEX)))
    if not index.method:
        return Built()
    refuse(place, index, table, count)
    memory = max(place.server.maintenance_work_mem, int(index.build_bytes(table, count) * 1.1))
    connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", (f"{memory // 1024}kB",))
    started = time.perf_counter()
    with _watched(place, connection.info.backend_pid, watch):
        try:
            connection.execute(index.create(table, INDEX))
        except psycopg.errors.UndefinedTable:
            raise SqlFailed(place.node.name, "the scratch table is gone: somebody dropped it", hint="Run it again") from None
    seconds = time.perf_counter() - started
    row = connection.execute("SELECT pg_relation_size(%s::regclass)", (INDEX,)).fetchone()
    return Built(round(seconds, 3), int(str(row[0])) if row else 0, memory, place.server.parallel_maintenance)


def refuse(place: Place, index: Index, table: Table, count: int) -> None:
    """:class:`AyaError` when the build would not fit into the node's memory or onto its disk."""
    why = lacking(place, index, table, count)
    if why:
        raise AyaError(f"{index} cannot be built: {why}")


def lacking(place: Place, index: Index, table: Table, count: int) -> str:
    """What a build lacks, in words; empty when nothing does. Memory and disk that cannot be seen refuse nothing: the server
    itself says when it lacks them."""
    why = index.fits(table, count)
    if why or not index.method:
        return why
    need, free = int(index.build_bytes(table, count) * 1.1), machine.memory_bytes(place.node)
    if isinstance(free, int) and need > max(int(free * MEMORY_SHARE), place.server.maintenance_work_mem):
        return f"its build needs {mb(need)} of memory, half of what is free is {mb(free * MEMORY_SHARE)}"
    return no_room(place.node, index_bytes(index, table, count) * 2)


def no_room(node: Node, bytes_: int) -> str:
    """Why so much does not fit onto the node's disk, in words; empty when it does, or when the disk cannot be seen."""
    free = machine.free_bytes(node)
    return f"it needs about {mb(bytes_)} of disk, {mb(free)} are free" if isinstance(free, int) and bytes_ > free else ""


class _watched:
    """Look at the build's progress over another session until it ends."""

    def __init__(self, place: Place, pid: int, watch: Watch) -> None:
        self._place, self._pid, self._watch = place, pid, watch
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._place.node.session(database=self._place.database, deadline_s=24 * 3600) as connection:
                while not self._ended.wait(WATCH_S):
                    self._tell(connection)
        except (AyaError, DeadlinePassed):
            return  # only the picture of the progress is lost: the build itself says how it ended

    def _tell(self, connection: Connection) -> None:
        for found in rows(connection, __package__, "progress", _Progress, pid=self._pid):
            self._watch(found.phase, found.share)
