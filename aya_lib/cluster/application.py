"""Can the application work? Asked as its own role: a write that leaves nothing behind, a search, and what stands in the way.

The INSERT is that of a key which is there: rights, policies, triggers and constraints are asked, and no row is written, not even
a dead one for vacuum. The commit is that of a message in the WAL, which no table keeps, so that it waits for a standby exactly as
the application's own would; after its limit it is cancelled and waits no longer. What a killed run left waiting the next cancels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from psycopg import sql

from aya_lib.cluster.canary import writing
from aya_lib.cluster.overview import Overview, SiteSeen
from aya_lib.errors import DeadlinePassed, SqlFailed, Unreachable
from aya_lib.node.deadline import cancelled_after
from aya_lib.node.node import Node, Nodes
from aya_lib.node.refusal import PASSWORD
from aya_lib.node.sql import Connection, Refused, password, rows, statement, value
from aya_lib.node.unseen import Missing, Otherwise, seen

LOCK_MS = 1000  # an application whose writes wait longer than this for a table is at a standstill
COMMIT = "SELECT pg_logical_emit_message(true, 'aya canary', '')"
# Whether there is anything to search, by the size of its file: every other way waits for a lock on the table.
ROWS = "SELECT (pg_stat_file(pg_relation_filepath(to_regclass('public.chunks')), true)).size > 0"


@dataclass(frozen=True)
class Attempt:
    """``refused`` is empty when it worked. ``sqlstate``: of the statement that was refused; ``login``: whether that was the
    login; ``known``: whether the role's password is known on this machine at all; ``in_its_place``: whether, without
    it, it worked as the owner with SET ROLE."""

    refused: str = ""
    sqlstate: str | None = None
    login: bool = False
    known: bool = True
    in_its_place: bool = False


@dataclass(frozen=True)
class Obstacle:
    """``only_writes``: a search goes on all the same."""

    reason: str
    remedy: str
    only_writes: bool


@dataclass(frozen=True)
class Blocker:
    """Who holds a lock on a table that stops others. ``pid`` None: a prepared transaction, whose name is ``application``."""

    table: str
    mode: str
    pid: int | None
    application: str
    role: str
    since: str
    state: str
    query: str


@dataclass(frozen=True)
class VectorIndex:
    name: str
    valid: bool
    building: bool


@dataclass(frozen=True)
class IdleSlot:
    """A slot that nobody reads, not the site's own; ``bytes`` of WAL that it holds; ``since``: UTC, empty where not known."""

    name: str
    kind: str
    bytes: int
    since: str


@dataclass(frozen=True)
class Application:
    """``hung``: the commit did not return within the limit, while ``waits_for`` is synchronous_standby_names."""

    node: str
    role: str
    write: Attempt
    read: Attempt
    hung: bool
    waits_for: str
    vectors: bool
    obstacles: tuple[Obstacle, ...] = ()
    blockers: tuple[Blocker, ...] = ()
    indexes: tuple[VectorIndex, ...] = ()
    slots: tuple[IdleSlot, ...] = ()


@writing("one INSERT of a key that is there and one commit that no table keeps, as the application's role")
def look(nodes: Nodes, found: SiteSeen | Overview) -> Application | Missing:
    """On the node that accepts writes, as it was seen."""
    overview = found if isinstance(found, Overview) else found.overview
    primary, _ = overview.pair(nodes.site)
    if not primary.writable:
        missing = isinstance(primary.cluster, Missing)
        return primary.cluster if missing else Otherwise(primary.name, "is a standby, and no node accepts writes")  # type: ignore[return-value]
    return seen(primary.name, "work as the application does", lambda: ask(nodes[primary.name]))


def ask(node: Node) -> Application:
    """Try, then look for what stands in the way, as the owner and while it still does."""
    role, limit_s = node.site.database.application_role, node.site.replication.visible_within_s
    hung = threading.Event()
    write = _try(node, lambda connection: _write(connection, limit_s, hung))
    read = _try(node, lambda connection: connection.execute(statement(__package__, "canary_search")).fetchall())
    with node.session() as connection:
        connection.execute(statement(__package__, "canary_sweep"), {"older_s": 2 * limit_s, "commit": COMMIT})
        return Application(
            node.name,
            role,
            write,
            read,
            hung.is_set(),
            str(value(connection, "SHOW synchronous_standby_names")),
            bool(value(connection, ROWS)),
            tuple(rows(connection, __package__, "obstacles", Obstacle, role=role)),
            tuple(rows(connection, __package__, "blockers", Blocker)) if write.refused or read.refused else (),
            tuple(rows(connection, __package__, "vector_indexes", VectorIndex)),
            tuple(rows(connection, __package__, "idle_slots", IdleSlot, own=node.site.replication.slot)),
        )


def _try(node: Node, work: Callable[[Connection], object]) -> Attempt:
    """As the role itself. Where its password is not known here, as the owner in its place, which tells of everything but the
    login and settings of the role."""
    own = _attempt(node, work, node.site.database.application_role)
    if own.sqlstate != PASSWORD or own.known:
        return own
    in_its_place = _attempt(node, work, None)
    refused = in_its_place.refused and not in_its_place.login
    return in_its_place if refused else replace(own, in_its_place=not in_its_place.refused)


def _attempt(node: Node, work: Callable[[Connection], object], login: str | None) -> Attempt:
    """``login`` None: the owner's, and SET ROLE."""
    role, inside = node.site.database.application_role, False
    try:
        with node.session(role=login, write=True) as connection:
            if login is None:
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            inside = True
            connection.execute("SELECT set_config('lock_timeout', %s, false)", (str(LOCK_MS),))
            work(connection)
    except SqlFailed as error:
        return Attempt(error.reason, error.sqlstate, not inside)
    except DeadlinePassed as error:
        return Attempt(error.reason, "57014" if inside else None, not inside)
    except Unreachable as error:
        state = error.sqlstate if isinstance(error, Refused) else None
        return Attempt(error.reason, state, not inside, known=password(node, role, node.site.database.name) is not None)
    return Attempt()


def _write(connection: Connection, limit_s: float, hung: threading.Event) -> None:
    with connection.transaction(force_rollback=True):
        connection.execute(statement(__package__, "canary_write"))
        connection.execute("INSERT INTO public.chunks (document_id, chunk_text) SELECT 1, '' WHERE false")
    with cancelled_after(connection, limit_s) as late:
        connection.execute(COMMIT)
    if late.is_set():
        hung.set()
