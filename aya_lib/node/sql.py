"""SQL on a node: every session has a connect timeout, a statement timeout, a name, and a deadline kept by the client.

The server keeps its own timeouts, but a frozen server keeps none: so the client shuts its end of the socket when
the deadline has passed, and the session ends with :class:`DeadlinePassed` instead of hanging.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.abc import Query
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed

from aya_lib import secrets
from aya_lib.errors import AyaError, DeadlinePassed, SqlFailed, Unreachable
from aya_lib.node import refusal
from aya_lib.node import session as sessions
from aya_lib.node.deadline import Watch
from aya_lib.node.host import Host

Row = TypeVar("Row")
# A link that is cut says nothing: it is noticed after 5 + 3 x 2 s of silence, or 10 s (in ms) without an acknowledgement.
SILENCE: dict[str, Any] = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
MESSAGE = 400  # characters of a server's message that are shown
Connection = psycopg.Connection[tuple[object, ...]]
Values = Mapping[str, object] | Sequence[object] | None


class NotListening(Unreachable):
    """The host answered that nobody listens on the port: the server is down, and that is known."""


class NotAccepting(Unreachable):
    """The server is there but takes no sessions: starting up, in crash recovery, or shutting down."""


class Refused(Unreachable):
    """The server is there and refused the login: a password, a right, a limit. ``sqlstate``: empty when it is not known."""

    def __init__(self, node: str, tried: str, reason: str, *, sqlstate: str, hint: str = "") -> None:
        super().__init__(node, tried, reason, hint=hint)
        self.sqlstate = sqlstate


@contextmanager
def session(
    node: Host,
    *,
    database: str | None = None,
    role: str | None = None,
    write: bool = False,
    deadline_s: float | None = None,
) -> Iterator[Connection]:
    """An autocommit session; read-only on the server's side unless ``write``. All of it must end within ``deadline_s``.

    Raises :class:`NotListening`, :class:`NotAccepting`, :class:`DeadlinePassed`, :class:`Refused`, :class:`Unreachable` (no
    route) and :class:`SqlFailed` (a statement was refused).
    """
    limits = node.site.deadlines
    deadline_s = deadline_s or limits.statement_s
    where = f"SQL on {node.config.host}:{node.config.postgresql.port}"
    connection = _connect(node, where, database, role, write, deadline_s)
    watch = Watch(connection.fileno(), deadline_s)
    try:
        yield connection
    except psycopg.errors.QueryCanceled as error:
        raise DeadlinePassed(node.name, where, str(error)) from None
    except psycopg.Error as error:
        if watch.fired:
            raise DeadlinePassed(node.name, where, f"no answer within {deadline_s:g} s") from None
        if isinstance(error, psycopg.OperationalError) and connection.broken:
            raise Unreachable(node.name, where, str(error)) from None
        raise SqlFailed(node.name, _message(error), sqlstate=error.sqlstate) from None
    finally:
        watch.end()
        connection.close()


def _connect(node: Host, where: str, database: str | None, role: str | None, write: bool, deadline_s: float) -> Connection:
    limits, config = node.site.deadlines, node.site.database
    wanted = sessions.settings(deadline_s, limits.statement_s / 2, write=write)
    role = role or config.owner
    tunnel_socket = node.tunnel_socket(node.config.postgresql.port)
    known = _password(node, role, database or config.name)
    server: dict[str, Any] = {
        "host": str(tunnel_socket.parent) if tunnel_socket else node.config.host,
        "hostaddr": "",  # not what the environment says
        "port": node.config.postgresql.port,
        "connect_timeout": max(1, math.ceil(limits.connect_s)),
        **SILENCE,
        "dbname": database or config.name,
        "user": role,
        "password": known.reveal() if known else None,
        "passfile": str(node.site.path(config.passfile)) if config.passfile else None,
        "application_name": f"aya {node.site.name}",
        "target_session_attrs": "any",
        "client_encoding": sessions.ENCODING,
        "options": sessions.options(wanted),
    }
    try:
        connection = psycopg.connect(**server, autocommit=True)
        reported = {name: connection.info.parameter_status(name) for name in wanted}
        for setting in sessions.differing(wanted, reported):
            connection.execute("SELECT set_config(%s, %s, false)", setting)
        return connection
    except psycopg.errors.ConnectionTimeout:
        raise DeadlinePassed(node.name, where, f"no answer within {limits.connect_s:g} s") from None
    except psycopg.OperationalError as error:
        needs_password = bool(error.pgconn and error.pgconn.needs_password)
        told = secrets.mask(str(error))
        state = refusal.PASSWORD if needs_password else ""
        if not state and "Connection refused" not in told:
            state = refusal.sqlstate(make_conninfo(**server), told, limits.connect_s)
        raise _refused(node, where, role, told, state) from None


def _refused(node: Host, where: str, role: str, message: str, state: str) -> AyaError:
    """What a failed login means, by its SQLSTATE where a server refused it."""
    said = refusal.said(message)
    if "Connection refused" in message:
        return NotListening(node.name, where, "connection refused")
    if state == refusal.CANNOT_NOW or state in refusal.STOPPING:
        return NotAccepting(node.name, where, said or message)
    if node.config.tunnel and "closed the connection" in message and node.listener(node.config.postgresql.port) is None:
        return NotListening(node.name, where, "nobody listens there")
    if state == refusal.PASSWORD:
        hint = f"Put it into ~/.pgpass, or set {secrets.variable(node.site.name, f'{role} password')}"
        return Refused(node.name, where, f"no valid password for role {role}", sqlstate=state, hint=hint)
    if state == refusal.NO_PARAMETER:
        return Unreachable(node.name, where, f"PostgreSQL 18 is needed there: {said or message}")
    if said:
        return Refused(node.name, where, f"SQLSTATE {state}: {said}" if state else said, sqlstate=state)
    return Unreachable(node.name, where, message)


def password(node: Host, role: str, database: str) -> secrets.Secret | None:
    """A role's password on a node, as it is known here: from the password file, else from the environment or the keyring. In the
    file a tunnelled node stands under the name by which ssh reaches it."""
    host = node.config.ssh.host if node.config.tunnel and node.config.ssh else node.config.host
    in_file = secrets.from_passfile(_passfile(node), (host, str(node.config.postgresql.port), database, role))
    return in_file or secrets.find(node.site.name, f"{role} password")


def _password(node: Host, role: str, database: str) -> secrets.Secret | None:
    """None: libpq finds it in the password file by itself. It cannot for a tunnel, where the host's name is that of a socket."""
    there = node.site.database.passfile is not None or _passfile(node).exists()
    return None if there and not node.config.tunnel else password(node, role, database)


def _passfile(node: Host) -> Path:
    named = node.site.database.passfile
    return node.site.path(named) if named else Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")


def _message(error: psycopg.Error) -> str:
    """One line; a value that the server repeats in full (a vector, a document) is cut."""
    message = error.diag.message_primary or " ".join(str(error).split())
    return message if len(message) <= MESSAGE else f"{message[:MESSAGE]} ..."


def statement(package: str, name: str) -> LiteralString:
    """The text of ``<package>/sql/<name>.sql``: SQL is named and stands in files."""
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def value(connection: Connection, query: LiteralString | SQL | Composed, values: Values = None) -> Any:
    """The first column of the first row; None when there is no row."""
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None


def column(connection: Connection, query: LiteralString | SQL | Composed, values: Values = None) -> list[Any]:
    """The first column of every row."""
    return [row[0] for row in connection.execute(query, values).fetchall()]


def rows(connection: Connection, package: str, name: str, row: type[Row], **values: object) -> list[Row]:
    """Run a named statement and give its rows as dataclasses whose fields are the columns' names."""
    with connection.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(statement(package, name), values).fetchall()


def stream(connection: Connection, query: Query, watch: Watch | None = None, **values: object) -> list[tuple[Any, ...]]:
    """The rows of a query, one by one: each renews the deadline ``watch``, so that a long answer is seen to go on."""
    found = []
    for row in connection.cursor().stream(query, values):
        found.append(row)
        if watch:
            watch.renew()
    return found
