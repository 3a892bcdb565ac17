"""The two ends of the synchronisation: the laptop's database and the primary's, and whether they belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg

from aya_lib.air.position import Position, Snapshot, survives
from aya_lib.cluster import roles
from aya_lib.cluster import server as cluster
from aya_lib.cluster.server import Cluster
from aya_lib.errors import AyaError, DeadlinePassed, Locked, Unreachable, UsageError
from aya_lib.node.deadline import Watch
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows, statement
from aya_lib.site import Site

SCHEMA_VERSION = 2
DAY_S = 86400
LOCK = 0x617961_73796E  # advisory lock of a round on the laptop: "aya" "syn"
LOCK_S = 5  # how long it is waited for: the server ends the session of a round that was killed only after its statement
MADE = " generated"  # of a column's type: it does not travel
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
# Both sides write a value as the same text, whatever their configurations say.
ALIKE = "SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1"


class Apart(AyaError):
    """The two databases do not fit together; nothing is transferred until they do."""


@dataclass(frozen=True)
class Laptop:
    """What the laptop's database says of itself. ``snapshot``: everything that it shows of the primary is here; ``round``: the
    number of its last write on the primary whose commit it knows; 0: none."""

    client: str
    schema_version: int
    phase: str
    round: int
    snapshot: str | None
    log: int | None
    system_identifier: str | None
    timeline: int | None
    lsn: str | None
    copied_documents: int
    copied_chunks: int

    @property
    def position(self) -> Position | None:
        if self.system_identifier is None or self.timeline is None or self.lsn is None:
            return None
        return Position(self.system_identifier, self.timeline, self.lsn)

    @property
    def cursor(self) -> Snapshot | None:
        return Snapshot.parse(self.snapshot) if self.snapshot else None


@dataclass(frozen=True)
class Ends:
    """Both sessions. ``here`` commits as it goes (autocommit), ``there`` too. ``cluster``: of the primary, when it was opened."""

    site: Site
    laptop: str
    primary: str
    here: Connection
    there: Connection
    cluster: Cluster
    documents: tuple[str, ...]
    chunks: tuple[str, ...]

    def state(self) -> Laptop:
        return state(self.here)

    @property
    def moved(self) -> bool:
        """Whether the primary is not the one that the laptop knew: it lacks what the laptop has seen, or is another system.

        A server that was put back to a copy of its files goes on on its timeline, past the position that was seen: only the
        number of the laptop's last write tells. When the laptop never knew of that commit, the number that it knew then does.
        """
        known = self.state()
        if known.position is not None and not survives(known.position, self.cluster):
            return True
        with within(self.there, STEP_S):
            query = "SELECT round, known FROM aya_sync.clients WHERE client = %s"
            row = self.there.execute(query, (known.client,)).fetchone()
        return known.round != 0 and known.round not in (row or ())

    def sign(self, applied: str | None = None) -> int:
        """Leave the number of a write on the primary, in the transaction that is open there. The laptop must store it no later
        than what was written. ``applied``: a snapshot up to which the log is no longer needed."""
        known = self.state()
        values = {"client": known.client, "name": self.laptop, "applied": applied, "round": known.round}
        row = self.there.execute(statement(__package__, "client_seen"), values).fetchone()
        assert row
        return int(str(row[0]))

    def position(self) -> Position:
        """Up to where the primary's WAL is on disk: at or after everything that was committed over this session."""
        row = self.there.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        return Position(self.cluster.system_identifier, self.cluster.timeline, str(row[0] if row else ""))

    @contextmanager
    def applying(self) -> Iterator[Connection]:
        """A transaction on the laptop whose changes are the primary's: they are not queued."""
        with self.here.transaction():
            self.here.execute("SET LOCAL aya.applying = 'on'")
            yield self.here


def laptop(site: Site) -> str:
    """Name of the site's laptop; :class:`UsageError` when it has none."""
    found = [name for name, wish in site.nodes.items() if wish.role == "laptop"]
    if not found:
        raise UsageError(f"site {site.name} has no node with the role laptop")
    return found[0]


def state(connection: Connection) -> Laptop:
    """:class:`Apart` when the database was never set up."""
    row = connection.execute("SELECT to_regclass('aya_sync.laptop') IS NOT NULL").fetchone()
    if not (row and row[0]):
        raise Apart("the laptop's database is not set up for synchronisation", hint="Run: aya run air_setup")
    _current("the laptop", connection, "laptop")
    return rows(connection, __package__, "laptop_state", Laptop)[0]


def _current(node: str, connection: Connection, table: Literal["laptop", "state"]) -> None:
    """:class:`Apart` when a side's schema is of another version than this program."""
    query = "SELECT schema_version FROM aya_sync.state" if table == "state" else "SELECT schema_version FROM aya_sync.laptop"
    row = connection.execute(query).fetchone()
    if not row or row[0] != SCHEMA_VERSION:
        version = row[0] if row else "none"
        raise Apart(f"{node} has sync schema {version}, this program {SCHEMA_VERSION}", hint="Run: aya run air_setup")


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
                found = cluster.read(chosen.name, there)
                if found.in_recovery:
                    raise Unreachable(chosen.name, "synchronise", "it is a standby now")
                _follow(nodes, known, found)
                columns = _fitting(name, chosen.name, here, there)
                there.execute(DURABLE)
                there.execute(GONE)
                there.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, false)", (f"{IDLE_S}s",))
            for connection in (here, there):
                connection.execute(ALIKE)
            # Whoever waits for us should not: of two that wait for each other, this session is the one that gives up.
            here.execute("SET deadlock_timeout = '100ms'; SET lock_timeout = '2s'")
            yield Ends(chosen.site, name, chosen.name, here, there, found, *columns)


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


def _follow(nodes: Nodes, known: Laptop, found: Cluster) -> None:
    """Not an old primary that came back: one on an earlier timeline is believed only when the other node was seen as well."""
    position = known.position
    if position is None or position.system_identifier != found.system_identifier or position.timeline <= found.timeline:
        return
    pair = nodes[found.node].site.pair
    others = [cluster.look(nodes[name]) for name in pair if name != found.node]
    if not all(isinstance(other, Cluster) for other in others):
        raise Apart(
            f"{found.node} is on timeline {found.timeline}, and {position.timeline} was seen: it may be an old primary",
            hint="Nothing is exchanged until the other node of the pair can be seen too. Run verify_replication",
        )


def _fitting(name: str, primary: str, here: Connection, there: Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of documents and chunks that travel; :class:`Apart` when version, columns or types differ."""
    row = there.execute("SELECT to_regclass('aya_sync.state') IS NOT NULL").fetchone()
    if not (row and row[0]):
        raise Apart(f"{primary} keeps no log of changes", hint="Run: aya run air_setup")
    _current(primary, there, "state")
    columns = []
    for table in ("documents", "chunks"):
        ours, theirs = (_columns(connection, table) for connection in (here, there))
        for column in sorted(ours.keys() | theirs.keys()):
            if ours.get(column) != theirs.get(column):
                there_is, here_is = (kinds.get(column, "missing") for kinds in (theirs, ours))
                said = f"{table}.{column} is {there_is} on {primary}, {here_is} on {name}"
                raise Apart(said, hint="Make the laptop's table like the primary's")
        columns.append(tuple(column for column, kind in theirs.items() if column != "chunk_terms" and MADE not in kind))
    return columns[0], columns[1]


def _columns(connection: Connection, table: str) -> dict[str, str]:
    query = """
        SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attgenerated <> '' THEN %s ELSE '' END FROM pg_attribute
         WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
    return {str(name): str(kind) for name, kind in connection.execute(query, (MADE, f"public.{table}")).fetchall()}
