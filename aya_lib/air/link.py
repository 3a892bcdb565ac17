"""The two ends of the synchronisation: the laptop's database and the primary's, and whether they belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.air import fit, triggers
from aya_lib.air.fit import Apart, Columns, Fit
from aya_lib.air.position import Position, Snapshot, survives
from aya_lib.air.triggers import Side
from aya_lib.cluster import roles, server
from aya_lib.cluster.server import Cluster
from aya_lib.errors import DeadlinePassed, Locked, Unreachable, UsageError
from aya_lib.node.deadline import Watch
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows, statement, value
from aya_lib.site import Site

SCHEMA_VERSION = 3
ITSELF = {"primary": "state", "laptop": "laptop"}  # the table in which a side's schema says what it is
DAY_S = 86400
LOCK = 0x617961_73796E  # advisory lock of a round on the laptop: "aya" "syn"
LOCK_S = 5  # how long it is waited for: the server ends the session of a round that was killed only after its statement
# The primary may be frozen, and a frozen server keeps no timeout: the connection is given up after so long
STEP_S = 120  # without the answer to a statement,
FETCH_S = 60  # or without a row of those that are on their way, however long all of them take.
SLOWEST = 20_000  # bytes/s: what is sent in one statement has so much more time
At = Callable[[str], None]  # told the name of each step as it is reached
# A commit must be on disk when it returns, or its position would say more than a crash leaves.
DURABLE = "SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'"
# A session of a laptop that is gone keeps its locks on the primary, by default for two hours.
GONE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 60000"
IDLE_S = 30  # inside a transaction there, where nothing is waited for but what the laptop reads of itself
# A server that is told otherwise follows no references between the tables, either.
ROLE = "session_replication_role"
FIRING = f"SELECT set_config('{ROLE}', 'origin', false) WHERE current_setting('{ROLE}') <> 'origin'"
# Both sides write a value as the same text, whatever their configurations say.
ALIKE = (
    "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1;"
    " SET bytea_output = 'hex'"
)


@dataclass(frozen=True)
class Laptop:
    """What the laptop's database says of itself. ``snapshot``: everything that it shows of the primary is here; ``round``: the
    number of its last write on the primary whose commit it knows; 0: none. ``columns``: those in which both sides were equal
    after the last comparison; None: it was made by a version that had all or nothing."""

    client: str
    phase: str
    round: int
    snapshot: str | None
    log: int | None
    system_identifier: str | None
    timeline: int | None
    lsn: str | None
    copied_documents: int
    copied_chunks: int
    columns: list[str] | None

    @property
    def position(self) -> Position | None:
        if self.system_identifier is None or self.timeline is None or self.lsn is None:
            return None
        return Position(self.system_identifier, self.timeline, self.lsn)

    @property
    def cursor(self) -> Snapshot | None:
        return Snapshot.parse(self.snapshot) if self.snapshot else None


@dataclass(frozen=True)
class Log:
    """The primary's log of changes: what its reader sees, the table's oid, and below which transaction rows are gone."""

    snapshot: str
    oid: int
    pruned_below: int

    @classmethod
    def read(cls, there: Connection) -> Log:
        return rows(there, __package__, "log_state", cls)[0]

    def reaches(self, known: Laptop) -> bool:
        """Whether it names everything that changed since the laptop's cursor."""
        return known.cursor is not None and known.log == self.oid and known.cursor.xmin >= self.pruned_below


@dataclass(frozen=True)
class Ends:
    """Both sessions. ``here`` commits as it goes (autocommit), ``there`` too. ``cluster``: of the primary, when it was opened;
    ``silent``: triggers, on either side, that do not note what is written."""

    site: Site
    laptop: str
    primary: str
    here: Connection
    there: Connection
    cluster: Cluster
    fit: Fit
    silent: tuple[str, ...]

    def state(self) -> Laptop:
        return state(self.here)

    @property
    def noted(self) -> bool:
        """Whether the laptop's triggers fire in every session."""
        return not any(line.startswith(f"{self.laptop}:") for line in self.silent)

    @property
    def columns(self) -> Columns:
        """What is compared, and what of it for the first time."""
        known = self.state().columns
        return Columns(self.fit, tuple(name for name in self.fit.names if known is not None and name not in known))

    @property
    def moved(self) -> bool:
        """Whether the primary is not the one that the laptop knew: it lacks what the laptop has seen, or is another system.

        A server that was put back to a copy of its files goes on on its timeline, past the position that was seen: only the
        number of the laptop's last write tells. When the laptop never knew of that commit, the number that it knew then does.
        """
        known = self.state()
        with within(self.there, STEP_S):
            if known.position is not None and not survives(known.position, server.read(self.primary, self.there)):
                return True
            query = "SELECT round, known FROM aya_sync.clients WHERE client = %s"
            row = self.there.execute(query, (known.client,)).fetchone()
        return known.round != 0 and known.round not in (row or ())

    def sign(self, applied: str | None = None) -> int:
        """Leave the number of a write on the primary, in the transaction that is open there. The laptop must store it no later
        than what was written. ``applied``: a snapshot up to which the log is no longer needed."""
        known = self.state()
        values = {"client": known.client, "name": self.laptop, "applied": applied, "round": known.round}
        (drawn,) = self.there.execute(statement(__package__, "client_seen"), values).fetchone() or (0,)
        return int(str(drawn))

    def position(self) -> Position:
        """Up to where the primary's WAL is on disk: at or after everything that was committed over this session."""
        flushed = value(self.there, "SELECT pg_current_wal_flush_lsn()::text")
        return Position(self.cluster.system_identifier, self.cluster.timeline, flushed)

    @contextmanager
    def applying(self) -> Iterator[Connection]:
        """A transaction on the laptop whose changes are the primary's: they are not queued."""
        with self.here.transaction():
            self.here.execute("SET LOCAL aya.applying = 'on'")
            yield self.here


def laptop(site: Site) -> str:
    """Name of the site's laptop; :class:`UsageError` when it has none."""
    names = [name for name, config in site.nodes.items() if config.role == "laptop"]
    if not names:
        raise UsageError(f"site {site.name} has no node with the role laptop")
    return names[0]


def schema_version(connection: Connection, side: Side) -> int | None:
    """Version of the sync schema that a side has; None: it has none."""
    table = sql.Identifier("aya_sync", ITSELF[side])
    there = value(connection, "SELECT to_regclass(%s) IS NOT NULL", (f"aya_sync.{ITSELF[side]}",))
    return value(connection, sql.SQL("SELECT schema_version FROM {}").format(table)) if there else None


def require_schema(connection: Connection, side: Side, node: str) -> None:
    """:class:`Apart` when a side was never set up, or its schema is of another version than this program."""
    version = schema_version(connection, side)
    if version is None:
        what = "keeps no log of changes" if side == "primary" else "is not set up for synchronisation"
        raise Apart(f"{node} {what}", hint="Run: aya run air_setup")
    if version != SCHEMA_VERSION:
        raise Apart(f"{node} has sync schema {version}, this program {SCHEMA_VERSION}", hint="Run: aya run air_setup")


def state(connection: Connection) -> Laptop:
    """:class:`Apart` when the database was never set up."""
    require_schema(connection, "laptop", "the laptop")
    return rows(connection, __package__, "laptop_state", Laptop)[0]


@contextmanager
def open_ends(nodes: Nodes, name: str, primary: Node | None = None) -> Iterator[Ends]:
    """Sessions to the laptop and to the node that accepts writes (``primary``: known to), checked to fit together.

    :class:`Unreachable` while the laptop is offline, :class:`Apart` when schemas differ or an old primary came back,
    :class:`Locked` while another process has them open, whatever account it runs as.
    """
    with nodes[name].session(write=True, deadline_s=DAY_S) as here:
        lock(name, here)
        known = state(here)
        chosen = primary or roles.primary(nodes)
        with chosen.session(write=True, deadline_s=DAY_S) as there:
            with within(there, STEP_S):
                primary_now = server.read(chosen.name, there)
                if primary_now.in_recovery:
                    raise Unreachable(chosen.name, "synchronise", "it is a standby now")
                _require_newest(nodes, known, primary_now)
                require_schema(there, "primary", chosen.name)
                fitting = fit.look(chosen.name, name, there, here)
                there.execute(DURABLE)
                there.execute(GONE)
                there.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", (f"{IDLE_S}s",))
                silent = (*triggers.silent(there, "primary", chosen.name), *triggers.silent(here, "laptop", name))
                silent += triggers.unpassable(here, name, chosen.site.database.owner)
            for connection in (here, there):
                connection.execute(ALIKE)
                connection.execute(FIRING)
            # Whoever waits for us should not: of two that wait for each other, this session is the one that gives up.
            here.execute("SET deadlock_timeout = '100ms'; SET lock_timeout = '2s'")
            yield Ends(chosen.site, name, chosen.name, here, there, primary_now, fitting, silent)


def lock(name: str, here: Connection) -> None:
    """No round is made while this session to the laptop is open. :class:`Locked` when one is under way for longer than it may."""
    here.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_S}s",))
    try:
        here.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    except psycopg.errors.LockNotAvailable:
        raise Locked(f"another process synchronises {name} already", hint="See: aya air status") from None


@contextmanager
def within(there: Connection, seconds: float) -> Iterator[Watch]:
    """Cut the primary's connection when the block takes longer, or goes on for so long after it was renewed; what then fails is
    :class:`DeadlinePassed`. A frozen server keeps no timeout."""
    watch = Watch(there.fileno(), seconds)
    try:
        yield watch
    except psycopg.OperationalError:
        if watch.fired:
            raise DeadlinePassed("the primary", "SQL", f"nothing came for {seconds:g} s") from None
        raise
    finally:
        watch.end()


def _require_newest(nodes: Nodes, known: Laptop, primary: Cluster) -> None:
    """Not an old primary that came back: one on an earlier timeline is believed only when the other node was seen as well."""
    position = known.position
    if position is None or position.system_identifier != primary.system_identifier or position.timeline <= primary.timeline:
        return
    others = [server.look(nodes[name]) for name in nodes.site.pair if name != primary.node]
    if not all(isinstance(other, Cluster) for other in others):
        raise Apart(
            f"{primary.node} is on timeline {primary.timeline}, and {position.timeline} was seen: it may be an old primary",
            hint="Nothing is exchanged until the other node of the pair can be seen too. Run verify_replication",
        )
