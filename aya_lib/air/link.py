"""The two ends of the synchronisation: the laptop's database and the primary's, and whether they belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aya_lib.air.position import Position, Snapshot, survives
from aya_lib.errors import AyaError, Unreachable, UsageError
from aya_lib.facts import cluster
from aya_lib.facts.cluster import Cluster
from aya_lib.knowledge import where
from aya_lib.node.deadline import Watch
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows
from aya_lib.site import Site

SCHEMA_VERSION = 1
DAY_S = 86400
STEP_S = 120  # of one exchange with the primary, which may be frozen: then the connection is given up
FETCH_S = 1800  # of one batch of rows, or of reading every row's hash: a slow link must be able to end it
At = Callable[[str], None]  # told the name of each step as it is reached
# A commit must be on disk when it returns, or its position would say more than a crash leaves.
DURABLE = "SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off'"


class Apart(AyaError):
    """The two databases do not fit together; nothing is transferred until they do."""


@dataclass(frozen=True)
class Laptop:
    """What the laptop's database says of itself. ``snapshot``: everything that it shows of the primary is here."""

    client: str
    schema_version: int
    phase: str
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
        """Whether the primary is not the one that the laptop knew: it lacks what the laptop has seen, or is another system."""
        position = self.state().position
        return position is not None and not survives(position, self.cluster)

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
        raise Apart("the laptop's database is not set up for synchronisation", hint="Run: aya air prepare")
    found = rows(connection, __package__, "laptop_state", Laptop)
    if not found:
        raise Apart("the laptop's table aya_sync.laptop is empty", hint="Run: aya air prepare")
    return found[0]


@contextmanager
def open_ends(nodes: Nodes, name: str, primary: Node | None = None) -> Iterator[Ends]:
    """Sessions to the laptop and to the node that accepts writes (``primary``: known to), checked to fit together.

    :class:`Unreachable` while the laptop is offline, :class:`Apart` when schemas differ or an old primary came back.
    """
    with nodes[name].session(write=True, deadline_s=DAY_S) as here:
        known = state(here)
        chosen = primary or where.writable(nodes)
        with chosen.session(write=True, deadline_s=DAY_S) as there:
            with within(there, STEP_S):
                found = cluster.read(chosen.name, there)
                if found.in_recovery:
                    raise Unreachable(chosen.name, "synchronise", "it is a standby now")
                _follow(nodes, known, found)
                columns = _fitting(name, chosen.name, here, there)
                there.execute(DURABLE)
            # Whoever waits for us should not: of two that wait for each other, this session is the one that gives up.
            here.execute("SET deadlock_timeout = '100ms'; SET lock_timeout = '2s'")
            yield Ends(chosen.site, name, chosen.name, here, there, found, *columns)


@contextmanager
def within(connection: Connection, seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer: a frozen server keeps no timeout."""
    watch = Watch(connection.fileno(), seconds)
    try:
        yield
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
        raise Apart(f"{primary} keeps no log of changes", hint="Run: aya air prepare")
    for node, connection, table in ((primary, there, "state"), (name, here, "laptop")):
        query = "SELECT schema_version FROM aya_sync.state" if table == "state" else "SELECT schema_version FROM aya_sync.laptop"
        found = connection.execute(query).fetchone()
        if not found or found[0] != SCHEMA_VERSION:
            version = found[0] if found else "none"
            raise Apart(f"{node} has sync schema {version}, this program {SCHEMA_VERSION}", hint="Run: aya air prepare")
    columns = []
    for table in ("documents", "chunks"):
        ours, theirs = (_columns(connection, table) for connection in (here, there))
        for column in sorted(ours.keys() | theirs.keys()):
            if ours.get(column) != theirs.get(column):
                there_is, here_is = (kinds.get(column, "missing") for kinds in (theirs, ours))
                said = f"{table}.{column} is {there_is} on {primary}, {here_is} on {name}"
                raise Apart(said, hint="Make the laptop's table like the primary's")
        columns.append(tuple(column for column in theirs if column != "chunk_terms"))
    return columns[0], columns[1]


def _columns(connection: Connection, table: str) -> dict[str, str]:
    query = """
        SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
    return {str(name): str(kind) for name, kind in connection.execute(query, (f"public.{table}",)).fetchall()}
