"""The live vector index of a table: what is there, how it is searched, what broken-off builds left, what a build could have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from psycopg import sql

from aya_lib.cluster import machine
from aya_lib.knowledge.search import DEFAULT_EF_SEARCH, Kind, default_probes
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown
from aya_lib.show import Table as Drawn
from aya_lib.vectors.index import Index, Table, hnsw, ivfflat, mb, parts
from aya_lib.vectors.metric import METRICS, Metric
from aya_lib.vectors.online.stored import DEFAULTS, Note, RoleSetting

LOOK_S = 300  # counting the rows of a large table takes its time
IDLE_S = 60  # a transaction that was left for longer is named


@dataclass(frozen=True)
class LiveIndex:
    """An index as the catalog has it. ``options``: as declared, which after ALTER INDEX need not be what was built.

    ``filenode`` changes whenever the index is built anew; ``scans`` since the statistics were reset.
    """

    name: str
    method: str
    operator_class: str
    options: Mapping[str, int]
    dimension: int | None
    valid: bool
    ready: bool
    partial: bool
    bytes: int
    scans: int
    filenode: int
    definition: str

    @property
    def kind(self) -> Kind:
        return cast(Kind, self.operator_class.split("_")[0])

    @property
    def metric(self) -> Metric | None:
        """What it orders by; None where its operator class does not tell (bits are ranked again by any distance)."""
        return METRICS.get(self.operator_class.split("_")[1])

    def index(self) -> Index:
        """As data, with pgvector's defaults for options that were not given."""
        if self.method == "ivfflat":
            return ivfflat(self.options["lists"], "halfvec" if self.kind == "halfvec" else "vector")
        return hnsw(self.options["m"], self.options["ef_construction"], self.kind)


@dataclass(frozen=True)
class Build:
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
    idle_s: float
    age_s: float


@dataclass(frozen=True, repr=False)
class Live(Shown):
    """The table ``relation``, in ``schema``, its indexes on ``column``, and how they are searched.

    ``problem``: why there is nothing to index (all else is empty then). ``rows``: with a vector, counted.
    ``free_bytes``: of the data directory's disk; ``memory_bytes``: available to programs.
    """

    node: str
    relation: str
    column: str
    problem: str = ""
    schema: str = ""
    key: str | None = None
    dimension: int = 0
    rows: int = 0
    rows_estimated: int = 0
    bytes: int = 0
    indexes: tuple[LiveIndex, ...] = ()
    builds: tuple[Build, ...] = ()
    idle: tuple[Idle, ...] = ()
    settings_table: bool = False
    stored: Mapping[str, Any] | None = None
    roles: tuple[RoleSetting, ...] = ()
    application_role: str = ""
    configured: tuple[tuple[str, int], ...] = ()
    in_recovery: bool = False
    maintenance_work_mem: int = 0
    workers: int = 0
    free_bytes: int | Missing = 0
    memory_bytes: int | Missing = 0

    @property
    def name(self) -> str:
        """What the index is called once it is live."""
        return self._table(METRICS["cosine"]).index_name

    @property
    def current(self) -> LiveIndex | None:
        """The index that searches use: the one of that name, else the one that is scanned most."""
        beside = (f"{self.name}_new", f"{self.name}_old")
        there = [one for one in self.indexes if one.valid and not one.partial and one.name not in beside]
        return max(there, key=lambda one: (one.name == self.name, one.scans), default=None)

    @property
    def leftovers(self) -> tuple[LiveIndex, ...]:
        """Invalid indexes that nobody is building: they serve no search and cost every write."""
        return () if self.builds else tuple(one for one in self.indexes if not one.valid)

    @property
    def note(self) -> Note | None:
        """Of a rebuild that is under way, or broke off."""
        found = (self.stored or {}).get("rebuilding")
        return Note.parse(found) if found else None

    def find(self, name: str) -> LiveIndex | None:
        return next((one for one in self.indexes if one.name == name), None)

    def as_table(self) -> Table:
        """For :mod:`aya_lib.vectors.index`; cosine where the live index tells no distance."""
        return self._table((self.current.metric if self.current else None) or METRICS["cosine"])

    def _table(self, metric: Metric) -> Table:
        return Table(self.relation, self.column, self.key or "ctid", self.dimension, metric)

    def value(self, index: Index) -> int:
        """The index's knob (probes or ef_search) as searches of the application role have it."""
        of_role = [one for one in self.roles if one.name == index.knob and one.role in (None, self.application_role)]
        if of_role:
            return max(of_role, key=lambda one: (one.role is not None, one.database is not None)).value
        return self.chosen(index)

    def chosen(self, index: Index) -> int:
        """The same where no setting of a role or a database decides."""
        chosen = (self.stored or {}).get(index.knob.split(".")[1]) or dict(self.configured).get(index.knob)
        default = default_probes(index.option("lists")) if index.method == "ivfflat" else DEFAULT_EF_SEARCH
        return int(chosen or default)

    def table(self) -> Drawn:
        lines = tuple(
            (
                one.name,
                str(one.index()),
                mb(one.bytes),
                f"{one.scans:,}",
                f"{one.index().knob} = {self.value(one.index())}",
                "valid" if one.valid else "invalid: left by a build that broke off",
            )
            for one in self.indexes
        )
        title = f"{self.relation}.{self.column} on {self.node}: " + (self.problem or f"{self.rows:,} rows of {self.dimension}")
        return Drawn(title, ("index", "built as", "size", "scans", "searched with", "state"), lines)


@dataclass(frozen=True)
class _Index:
    name: str
    method: str
    operator_class: str
    reloptions: list[str]
    dimension: int | None
    valid: bool
    ready: bool
    partial: bool
    bytes: int
    scans: int
    filenode: int
    definition: str


def look(node: Node, table: str = "chunks", column: str = "embedding") -> Live | Missing:
    """What is live on the node. :class:`UsageError` when ``table`` is no name."""
    name = ".".join(parts(table))

    def ask() -> Live:
        with node.session(deadline_s=LOOK_S) as connection:
            return _read(node, connection, name, column)

    return seen(node.name, f"look at the vector index of {table}", ask)


@dataclass(frozen=True)
class _Table:
    oid: int
    schema: str
    name: str
    type: str | None
    dimension: int | None
    rows_estimated: int
    bytes: int
    key: str | None


@dataclass(frozen=True)
class _Server:
    in_recovery: bool
    maintenance_work_mem: int
    workers: int
    settings_table: bool
    configured_probes: int | None
    configured_ef_search: int | None


def _read(node: Node, connection: Connection, name: str, column: str) -> Live:
    connection.execute("SELECT '[1]'::vector")  # loads pgvector, so that its settings are known
    table = next(iter(rows(connection, __package__, "live_table", _Table, table=name, column=column)), None)
    problem = _problem(name, column, table)
    if not table or problem:
        return Live(node.name, name, column, problem)
    count = sql.SQL("SELECT count({}) FROM {}").format(sql.Identifier(column), sql.Identifier(table.schema, table.name))
    counted = connection.execute(count).fetchone()
    server = rows(connection, __package__, "live_server", _Server)[0]
    chosen = "SELECT value FROM aya_settings WHERE key = 'search'"
    stored: Any = connection.execute(chosen).fetchone() if server.settings_table else None
    configured = {"ivfflat.probes": server.configured_probes, "hnsw.ef_search": server.configured_ef_search}
    return Live(
        node.name,
        name,
        column,
        schema=table.schema,
        key=table.key,
        dimension=table.dimension or 0,
        rows=int(str(counted[0])) if counted else 0,
        rows_estimated=table.rows_estimated,
        bytes=table.bytes,
        indexes=tuple(
            _live_index(one) for one in rows(connection, __package__, "live_indexes", _Index, oid=table.oid, column=column)
        ),
        builds=tuple(rows(connection, __package__, "live_builds", Build, oid=table.oid)),
        idle=tuple(rows(connection, __package__, "live_idle", Idle, older_s=IDLE_S)),
        settings_table=server.settings_table,
        stored=stored[0] if stored else None,
        roles=tuple(rows(connection, __package__, "live_roles", RoleSetting)),
        application_role=node.site.database.application_role,
        configured=tuple((knob, value) for knob, value in configured.items() if value),
        in_recovery=server.in_recovery,
        maintenance_work_mem=server.maintenance_work_mem,
        workers=server.workers,
        free_bytes=machine.free_bytes(node),
        memory_bytes=machine.memory_bytes(node),
    )


def _problem(name: str, column: str, table: _Table | None) -> str:
    if table is None:
        return f"there is no table {name}"
    if table.type is None:
        return f"{name} has no column {column}"
    if table.type != "vector":
        return f"{name}.{column} is of type {table.type}, not vector"
    return "" if table.dimension else f"{name}.{column} has no dimension: its type is vector, not vector(n)"


def _live_index(row: _Index) -> LiveIndex:
    given = {name: int(value) for name, value in (option.split("=", 1) for option in row.reloptions) if value.isdigit()}
    options = {name: given.get(name, default) for name, default in DEFAULTS[row.method].items()}
    return LiveIndex(**{**{key: value for key, value in vars(row).items() if key != "reloptions"}, "options": options})
