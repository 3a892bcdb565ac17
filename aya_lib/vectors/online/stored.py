"""What is stored for those who search: written in one transaction, and waited for until every searcher has read it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from aya_lib.errors import DeadlinePassed
from aya_lib.knowledge import search
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, statement
from aya_lib.vectors.index import Index

MARGIN_S = 0.5  # between reading a setting and searching with it
KEYS = ("probes", "ef_search", "built")  # of the stored settings, those that a rebuild writes
DEFAULTS = {"ivfflat": {"lists": 100}, "hnsw": {"m": 16, "ef_construction": 64}}  # pgvector's, where an index names none
STANDBY_S = 60  # a standby that is further behind than this is not waited for


@dataclass(frozen=True)
class RoleSetting:
    """A setting of a role, of a database, or of a role in a database, that decides how vectors are searched. None: every."""

    database: str | None
    role: str | None
    name: str
    value: int


@dataclass(frozen=True)
class Note:
    """What stands in the stored settings while a rebuild is under way: ``before`` are the settings it found.

    ``name`` and ``filenode``: of the index as it was; another file node under its name means that it was built anew.
    """

    wish: Index
    was: Index | None
    name: str
    filenode: int
    before: Mapping[str, Any]
    roles: tuple[RoleSetting, ...]

    @property
    def beside(self) -> bool:
        """Whether the new index is built beside the old one, under another name."""
        return self.was is None or self.was.family != self.wish.family

    def json(self) -> dict[str, Any]:
        return {
            "to": _plain(self.wish),
            "from": _plain(self.was) if self.was else None,
            "name": self.name,
            "filenode": self.filenode,
            "before": dict(self.before),
            "roles": [vars(role) for role in self.roles],
        }

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Note:
        was = _index(found["from"]) if found["from"] else None
        roles = tuple(RoleSetting(**role) for role in found["roles"])
        return cls(_index(found["to"]), was, found["name"], found["filenode"], found["before"], roles)


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


def write(connection: Connection, settings: Settings) -> None:
    """Write all of it or nothing."""
    connection.execute("SELECT '[1]'::vector")  # loads pgvector, so that its settings are checked
    with connection.transaction():
        values = {"put": Jsonb(dict(settings.put)), "drop": list(settings.drop)}
        connection.execute(statement(__package__, "rebuild_settings"), values)
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
        row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        position = {"lsn": row[0] if row else None}
        with suppress(DeadlinePassed):  # a standby that is so far behind may not hold up the primary
            wait.until(
                lambda: connection.execute(statement(__package__, "rebuild_standbys"), position).fetchone(),
                lambda behind: not behind or behind[0] == 0,
                node=node.name,
                what="the standbys have replayed the settings",
                deadline_s=STANDBY_S,
            )
    let_pass(node, search.FRESH_S + MARGIN_S)


def let_pass(node: Node, seconds: float) -> None:
    """Return after so many seconds."""
    end = time.monotonic() + seconds
    wait.until(time.monotonic, lambda now: now >= end, node=node.name, what="time has passed", deadline_s=seconds + 1)


def _plain(index: Index) -> dict[str, Any]:
    return {"family": index.family, "options": dict(index.options)}


def _index(found: Mapping[str, Any]) -> Index:
    return canonical(Index(found["family"], tuple(found["options"].items())))


def canonical(index: Index) -> Index:
    """With its options in pgvector's order and the defaults for those that are not named, so that two can be compared."""
    given = dict(index.options)
    return Index(index.family, tuple((name, given.get(name, value)) for name, value in DEFAULTS.get(index.method, {}).items()))
