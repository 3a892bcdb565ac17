"""Tables of a backup beside the present ones: what was copied, and how it differs from what is there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from psycopg import sql
from psycopg.rows import class_row

from aya_lib.backup.look import keeper
from aya_lib.cluster import roles, server
from aya_lib.cluster.server import Cluster
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, column, statement, value
from aya_lib.node.unseen import Missing, seen
from aya_lib.operations.restore_backup import aim as aims
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.tables.definition import (
    Definition,
    Reference,
    identifier,
    ordered,
    parsed,
    qualified,
)
from aya_lib.show import Shown, Table

DAY_S = 86_400.0  # how long a comparison or a copy of unknown size may take


@dataclass(frozen=True)
class Difference:
    """By primary key, rows that are: only in the backup (``missing``), only live (``added``), in both and not the same
    (``changed``). ``first``: the first keys of each."""

    missing: int = 0
    added: int = 0
    changed: int = 0
    first: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Copied:
    """One table, copied beside. ``live``: the present one's columns; None: there is none. ``lacking``: foreign keys that point
    here in the backup, and not now. ``difference``: None where rows cannot be told apart by a key, or nothing is live."""

    definition: Definition
    live: tuple[str, ...] | None
    lacking: tuple[Reference, ...] = ()
    difference: Difference | None = None

    @property
    def dropped(self) -> bool:
        return self.live is None

    @property
    def shared(self) -> tuple[str, ...]:
        """Columns that both have."""
        return tuple(name for name in self.definition.names if self.live is None or name in self.live)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that only the backup has."""
        return tuple(name for name in self.definition.names if name not in self.shared)

    @property
    def missing(self) -> int:
        """Rows that would be inserted."""
        return self.definition.rows if self.dropped else self.difference.missing if self.difference else 0


@dataclass(frozen=True, repr=False)
class Tables(Shown):
    """``names``: with their schemas. ``primary``: by fact. ``holds``: what the schema for the copies says of itself; None: there
    is none. ``copies``: those that are there, of this point in time."""

    nodes: Nodes
    aim: Aim | Missing
    names: tuple[str, ...]
    primary: Cluster | Missing
    room: int | Missing
    holds: str | Missing | None = None
    copies: Mapping[str, Copied] | Missing = field(default_factory=dict)

    @property
    def schema(self) -> str:
        return f"restored_{self.aim.backup.label[:16].lower()}" if isinstance(self.aim, Aim) else ""

    @property
    def copied(self) -> tuple[Copied, ...]:
        """All that were asked for, parents first; empty until all are there."""
        there = self.copies if isinstance(self.copies, Mapping) else {}
        if set(self.names) - set(there):
            return ()
        return tuple(there[one.name] for one in ordered(there[name].definition for name in self.names))

    def table(self) -> Table:
        rows = tuple(_row(one) for one in self.copied)
        columns = ("table", "in the backup", "missing", "only live", "changed since", "first missing")
        notes = (self.aim.point.removeprefix("aya: "),) if isinstance(self.aim, Aim) else (str(self.aim),)
        title = f"{self.schema} beside the live tables" if rows else f"{', '.join(self.names)}: not copied yet"
        return Table(title, columns if rows else (), rows, notes)


@dataclass(frozen=True)
class _Kind:
    kind: str
    rows: int
    first: list[str]


def look(nodes: Nodes, to: str, tables: Sequence[str], before: Tables | None = None) -> Tables:
    """The copies and the present tables. ``before``: what a look of this run found; the point in time stays that."""
    aim = before.aim if before else aims.look(nodes, to)
    node = seen(nodes.site.primary, "find the primary", lambda: roles.primary(nodes))
    primary = server.look(node) if isinstance(node, Node) else node
    found = Tables(nodes, aim, qualified(tables), primary, aims.free(keeper(nodes)))
    if not isinstance(aim, Aim) or not isinstance(node, Node):
        return found
    found = replace(found, holds=seen(node.name, f"look for {found.schema}", lambda: _holds(node, found.schema)))
    if found.holds != aim.point:
        return found
    return replace(found, copies=seen(node.name, "compare the tables", lambda: copied(node, found.schema)))


def copied(node: Node, schema: str) -> dict[str, Copied]:
    """What stands in the schema, by name."""
    with node.session(deadline_s=DAY_S) as connection:
        connection.execute("SET statement_timeout = 0; SET row_security = off")
        query = sql.SQL("SELECT definition FROM {}.aya_definitions ORDER BY place").format(sql.Identifier(schema))
        found = [_beside(connection, schema, parsed(content)) for content in column(connection, query)]
    return {one.definition.name: one for one in found}


def _holds(node: Node, schema: str) -> str | None:
    with node.session() as connection:
        return said(connection, schema)


def said(connection: Connection, schema: str) -> str | None:
    """The point in time that a schema of ours holds; None: there is none; empty: it is somebody else's."""
    query = "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s"
    found = value(connection, query, (schema,))
    return None if found is None else str(found)


def same(keys: tuple[str, ...]) -> sql.Composed:
    """``live`` and ``kept`` are the same row."""
    pair = sql.SQL("live.{0} = kept.{0}")
    return sql.SQL(" AND ").join(pair.format(sql.Identifier(key)) for key in keys)


def listed(names: tuple[str, ...], *of: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*of, name) for name in names)


def _beside(connection: Connection, schema: str, found: Definition) -> Copied:
    quoted = found.identifier.as_string()
    live = value(connection, statement(__package__, "live"), {"name": quoted})
    lacking = tuple(one for one in found.references if _lacks(connection, one))
    here = Copied(found, tuple(live) if live else None, lacking)
    if here.dropped or not found.keys or set(found.keys) - set(here.shared):
        return here
    return Copied(found, here.live, lacking, _difference(connection, schema, here))


def _row(one: Copied) -> tuple[str, ...]:
    found, rows = one.difference, f"{one.definition.rows:,}"
    if one.dropped:
        return one.definition.name, rows, f"{one.missing:,}: the table was dropped", "", "", ""
    if found is None:
        return one.definition.name, rows, "not known: no primary key", "", "", ""
    first = "; ".join(found.first.get("missing", ()))
    return one.definition.name, rows, f"{found.missing:,}", f"{found.added:,}", f"{found.changed:,}", first


def _lacks(connection: Connection, one: Reference) -> bool:
    child = identifier(one.child).as_string()
    return bool(value(connection, statement(__package__, "lacking"), {"child": child, "name": one.name}))


def _difference(connection: Connection, schema: str, here: Copied) -> Difference:
    keys = here.definition.keys
    either = [sql.SQL("coalesce(kept.{0}, live.{0}) AS {0}").format(sql.Identifier(key)) for key in keys]
    query = sql.SQL(statement(__package__, "difference")).format(
        key=sql.Identifier(keys[0]),
        keys=sql.SQL(", ").join(either),
        order=listed(keys),
        shown=sql.SQL("concat_ws(', ', {})").format(
            sql.SQL(", ").join(sql.SQL("coalesce(kept.{0}, live.{0})").format(sql.Identifier(key)) for key in keys)
        ),
        same=same(keys),
        kept=beside(schema, here.definition.name),
        live=here.definition.identifier,
        of_kept=listed(here.shared, "kept"),
        of_live=listed(here.shared, "live"),
    )
    with connection.cursor(row_factory=class_row(_Kind)) as cursor:
        found = cursor.execute(query).fetchall()
    return Difference(**{one.kind: one.rows for one in found}, first={one.kind: tuple(one.first) for one in found})


def beside(schema: str, name: str) -> sql.Identifier:
    """Where a table's copy stands: under its own name, with that of its schema before it where that is not public."""
    own, table = name.split(".", 1)
    return sql.Identifier(schema, table if own == "public" else f"{own}.{table}")
