"""Touching a live index for a moment: with a lock that is asked for briefly and again, and with what broke off cleaned up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.errors import ChangeFailed, DeadlinePassed
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, rows, statement, value
from aya_lib.vectors.index import Table, parts
from aya_lib.vectors.measure import configure
from aya_lib.vectors.rebuild.hold import BUILD_S, LASTING

LOCK_MS = 200  # searches queue behind a lock that is waited for: so long, and no longer, at each try
LOCK_S = 60.0  # tries go on for so long
PAUSE_S = 0.5  # between two tries
CLEAN_S = 20.0  # cleaning up after a failure may take so long; the next run finds what is left


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
