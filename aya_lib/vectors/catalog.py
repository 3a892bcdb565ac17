"""The live vector index of a table: what is there, how it is searched, what broken-off builds left, what a build could have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from psycopg import sql
from psycopg.rows import dict_row

from aya_lib.cluster import machine, roles
from aya_lib.errors import UsageError
from aya_lib.knowledge.search import DEFAULT_EF_SEARCH, Kind, default_probes
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows, statement, value
from aya_lib.node.unseen import Missing, seen
from aya_lib.vectors.index import Index, Table, hnsw, ivfflat, parts
from aya_lib.vectors.metric import METRICS, Metric

LOOK_S = 300  # counting the rows of a large table takes its time
IDLE_S = 60  # a transaction that was left for longer is named
DEFAULTS = {"ivfflat": {"lists": 100}, "hnsw": {"m": 16, "ef_construction": 64}}  # pgvector's, where an index names none


def canonical(index: Index) -> Index:
    """With its options in pgvector's order and the defaults for those that are not named, so that two can be compared."""
    given = dict(index.options)
    return Index(index.family, tuple((name, given.get(name, value)) for name, value in DEFAULTS.get(index.method, {}).items()))


def key_of(index: Index) -> str:
    """The key under which the value of its knob is stored: probes or ef_search."""
    return index.knob.split(".")[1]


@dataclass(frozen=True)
class LiveIndex:
    """An index as the catalog has it. ``options``: as declared, which after ALTER INDEX need not be what was built.

    ``filenode`` changes whenever the index is built anew; ``scans`` since the statistics were reset; ``dimension`` of what it
    indexes.
    """

    name: str
    method: str
    operator_class: str
    options: Mapping[str, int]
    dimension: int | None
    valid: bool
    partial: bool
    bytes: int
    scans: int
    filenode: int

    @property
    def kind(self) -> Kind:
        return cast(Kind, self.operator_class.split("_")[0])

    @property
    def metric(self) -> Metric | None:
        """What it orders by; None where its operator class does not tell (bits are ranked again by any distance)."""
        return METRICS.get(self.operator_class.split("_")[1])

    def index(self) -> Index:
        if self.method == "ivfflat":
            return ivfflat(self.options["lists"], "halfvec" if self.kind == "halfvec" else "vector")
        return hnsw(self.options["m"], self.options["ef_construction"], self.kind)


@dataclass(frozen=True)
class Build:
    """A build of an index that is under way on the table."""

    pid: int
    index: str
    command: str
    phase: str


@dataclass(frozen=True)
class Idle:
    """A transaction that was begun ``age_s`` ago and left."""

    pid: int
    role: str | None
    application: str
    age_s: float


@dataclass(frozen=True)
class RoleSetting:
    """A setting of a role, of a database, or of a role in a database, that decides how vectors are searched. None: every."""

    database: str | None
    role: str | None
    name: str
    value: int


@dataclass(frozen=True)
class Built:
    """What its rebuild recorded of an index: ``rows`` with a vector then, and, where it was proven, ``recall``@``k`` with its
    knob at ``value``."""

    rows: int
    recall: float | None
    k: int
    value: int


@dataclass(frozen=True)
class Live:
    """The table ``relation``, in ``schema``, its indexes on ``column``, and how they are searched.

    ``problem``: why there is nothing to index (all else is empty then). ``rows``: with a vector, counted. ``stored``: the
    settings that go with the data; ``roles``: those of roles and databases; ``configured``: those of the server's files.
    ``free_bytes``: of the data directory's disk; ``memory_bytes``: available to programs; ``maintenance_work_mem``: bytes.
    """

    node: str
    relation: str
    column: str
    problem: str = ""
    schema: str = ""
    key: str | None = None
    dimension: int = 0
    rows: int = 0
    indexes: tuple[LiveIndex, ...] = ()
    builds: tuple[Build, ...] = ()
    idle: tuple[Idle, ...] = ()
    settings_table: bool = False
    stored: Mapping[str, Any] = field(default_factory=dict)
    roles: tuple[RoleSetting, ...] = ()
    application_role: str = ""
    configured: Mapping[str, int] = field(default_factory=dict)
    in_recovery: bool = False
    maintenance_work_mem: int = 0
    workers: int = 0
    free_bytes: int | Missing = 0
    memory_bytes: int | Missing = 0

    @property
    def name(self) -> str:
        """What the index is called once it is live; a rebuild stages and keeps others beside it."""
        return self._table(METRICS["cosine"]).index_name

    @property
    def new_name(self) -> str:
        return f"{self.name}_new"

    @property
    def kept_name(self) -> str:
        return f"{self.name}_old"

    @property
    def current(self) -> LiveIndex | None:
        """The index that searches use: the one of that name, else the one that is scanned most."""
        usable = [
            index
            for index in self.indexes
            if index.valid and not index.partial and index.name not in (self.new_name, self.kept_name)
        ]
        return max(usable, key=lambda index: (index.name == self.name, index.scans), default=None)

    @property
    def leftovers(self) -> tuple[LiveIndex, ...]:
        """Invalid indexes that nobody is building: they serve no search and cost every write."""
        return () if self.builds else tuple(index for index in self.indexes if not index.valid)

    @property
    def built(self) -> Built | None:
        """The record of the live index's build; None when none was made, or it is that of an index which is gone."""
        record = self.stored.get("built") or {}
        if self.current is None or record.get("filenode") != self.current.filenode:
            return None
        return Built(record["rows"], record["recall"], record["k"], record["value"])

    def find(self, name: str) -> LiveIndex | None:
        return next((index for index in self.indexes if index.name == name), None)

    def qualified(self, index: LiveIndex) -> str:
        """Its name as SQL has it."""
        return sql.Identifier(self.schema, index.name).as_string()

    def as_table(self) -> Table:
        """For :mod:`aya_lib.vectors.index`; cosine where the live index tells no distance."""
        return self._table((self.current.metric if self.current else None) or METRICS["cosine"])

    def _table(self, metric: Metric) -> Table:
        return Table(self.relation, self.column, self.key or "ctid", self.dimension, metric)

    def value(self, index: Index) -> int:
        """The index's knob (probes or ef_search) as searches of the application role have it."""
        deciding = self._deciding(index)
        if deciding:
            return max(deciding, key=lambda setting: (setting.role is not None, setting.database is not None)).value
        return self.chosen(index)

    def chosen(self, index: Index) -> int:
        """The same where no setting of a role or a database decides."""
        default = default_probes(index.option("lists")) if index.method == "ivfflat" else DEFAULT_EF_SEARCH
        return int(self.stored.get(key_of(index)) or self.configured.get(index.knob) or default)

    def decided_by(self, index: Index) -> str:
        """Who chose :meth:`value`, in words."""
        if self._deciding(index):
            return "set for the role or the database"
        if self.stored.get(key_of(index)):
            return "chosen by the tuning"
        return "set in the configuration" if self.configured.get(index.knob) else "by default"

    def _deciding(self, index: Index) -> list[RoleSetting]:
        roles = (None, self.application_role)
        return [setting for setting in self.roles if setting.name == index.knob and setting.role in roles]


def node_of(nodes: Nodes, name: str = "", otherwise: Callable[[Nodes], Node] = roles.primary) -> Node:
    """The node called so, in any case of letters; without a name what ``otherwise`` finds. :class:`UsageError`."""
    if not name:
        return otherwise(nodes)
    named = {key.lower(): node for key, node in nodes.items()}
    if name.lower() not in named:
        raise UsageError(f"node '{name}': allowed are {', '.join(nodes)}")
    return named[name.lower()]


def look(node: Node, table: str = "chunks", column: str = "embedding") -> Live | Missing:
    """What is live on the node. :class:`UsageError` when ``table`` is no name."""
    name = ".".join(parts(table))
    return seen(node.name, f"look at the vector index of {table}", lambda: _read(node, name, column))


def _read(node: Node, name: str, column: str) -> Live:
    with node.session(deadline_s=LOOK_S) as connection:
        connection.execute("SELECT '[1]'::vector")  # loads pgvector, so that its settings are known
        with connection.cursor(row_factory=dict_row) as cursor:
            (row,) = cursor.execute(statement(__package__, "catalog_table"), {"table": name, "column": column})
        if row["problem"]:
            return Live(node.name, name, column, row["problem"])
        oid = row.pop("oid")
        count = sql.SQL("SELECT count({}) FROM {}").format(sql.Identifier(column), sql.Identifier(*parts(name)))
        chosen = "SELECT value FROM aya_settings WHERE key = 'search'"
        return Live(
            node.name,
            name,
            column,
            **row,
            rows=value(connection, count),
            indexes=tuple(rows(connection, __package__, "catalog_indexes", LiveIndex, oid=oid, column=column)),
            builds=tuple(rows(connection, __package__, "catalog_builds", Build, oid=oid)),
            idle=tuple(rows(connection, __package__, "catalog_idle", Idle, older_s=IDLE_S)),
            stored=(value(connection, chosen) if row["settings_table"] else None) or {},
            roles=tuple(rows(connection, __package__, "catalog_roles", RoleSetting)),
            application_role=node.site.database.application_role,
            free_bytes=machine.free_bytes(node),
            memory_bytes=machine.memory_bytes(node),
        )
