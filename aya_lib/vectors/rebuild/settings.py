"""What is stored for those who search, and for a rebuild that broke off: written in one transaction, and waited for until
every searcher has read it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter, ValidationError

from aya_lib.errors import AyaError, DeadlinePassed
from aya_lib.knowledge import search
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, statement, value
from aya_lib.vectors.catalog import Live, RoleSetting
from aya_lib.vectors.index import Index

MARGIN_S = 0.5  # between reading a setting and searching with it
KEYS = ("probes", "ef_search", "built")  # of the stored settings, those that a rebuild writes
STANDBY_S = 60  # a standby that is further behind than this is not waited for


@dataclass(frozen=True)
class Settings:
    """Keys of the stored settings to write and to drop, and settings of roles and databases; everything else stays."""

    put: Mapping[str, Any] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    roles: tuple[RoleSetting, ...] = ()

    def lines(self) -> Iterator[str]:
        """As a person would type it."""
        dropped = "".join(f" - '{key}'" for key in self.drop)
        put = f" || {sql.Literal(json.dumps(dict(self.put))).as_string()}" if self.put else ""
        if dropped or put:
            yield f"UPDATE aya_settings SET value = value{dropped}{put} WHERE key = 'search'"
        yield from (alter(role).as_string() for role in self.roles)


@dataclass(frozen=True)
class Note:
    """What stands in the stored settings while a rebuild from ``was`` to ``to`` is under way; ``before``: the settings it found.

    ``name`` and ``filenode``: of the index as it was; another file node under its name means that it was built anew.
    """

    to: Index
    was: Index | None
    name: str
    filenode: int
    before: Mapping[str, Any]
    roles: tuple[RoleSetting, ...]

    @property
    def staged(self) -> bool:
        """Whether the new index is built beside the old one, under another name."""
        return self.was is None or self.was.family != self.to.family

    def json(self) -> dict[str, Any]:
        """As it is stored; :func:`noted` reads it."""
        stored: dict[str, Any] = NOTE.dump_python(self, mode="json")
        return stored


NOTE = TypeAdapter(Note)


def noted(live: Live) -> Note | None:
    """The rebuild that is under way, or broke off. :class:`AyaError` when another version noted it otherwise."""
    stored = live.stored.get("rebuilding")
    try:
        return NOTE.validate_python(stored) if stored else None
    except ValidationError:
        away = "UPDATE aya_settings SET value = value - 'rebuilding' WHERE key = 'search'"
        message = f"{live.node}: a rebuild was begun by another version, which noted it in a form that is not known here"
        raise AyaError(message, hint=f"Let that version finish it; or look at the indexes yourself, then: {away}") from None


def write(connection: Connection, settings: Settings) -> None:
    """Write all of it or nothing."""
    connection.execute("SELECT '[1]'::vector")  # loads pgvector, so that its settings are checked
    with connection.transaction():
        values = {"put": Jsonb(dict(settings.put)), "drop": list(settings.drop)}
        connection.execute(statement(__package__, "settings"), values)
        for role in settings.roles:
            connection.execute(alter(role))


def alter(role: RoleSetting) -> sql.Composed:
    """ALTER ROLE or ALTER DATABASE that gives a role's or a database's setting its value."""
    if role.role is None and role.database is not None:
        whose = sql.SQL("DATABASE {}").format(sql.Identifier(role.database))
    else:
        whose = sql.SQL("ROLE {}").format(sql.SQL("ALL") if role.role is None else sql.Identifier(role.role))
        whose += sql.SQL(" IN DATABASE {}").format(sql.Identifier(role.database)) if role.database else sql.SQL("")
    return sql.SQL("ALTER {} SET {} TO {}").format(whose, sql.Identifier(*role.name.split(".")), sql.Literal(role.value))


def until_read(node: Node) -> None:
    """Return when every searcher has read what was written before: here, and on the standbys that stream."""
    with node.session(deadline_s=STANDBY_S + node.site.deadlines.statement_s) as connection:
        position = {"lsn": value(connection, "SELECT pg_current_wal_lsn()::text")}
        with suppress(DeadlinePassed):  # a standby that is so far behind may not hold up the primary
            wait.until(
                lambda: value(connection, statement(__package__, "standbys"), position),
                lambda behind: behind == 0,
                node=node.name,
                what="the standbys have replayed the settings",
                deadline_s=STANDBY_S,
            )
    passed_s = search.FRESH_S + MARGIN_S
    end = time.monotonic() + passed_s
    wait.until(
        time.monotonic, lambda now: now >= end, node=node.name, what="searchers have read the settings", deadline_s=passed_s + 1
    )
