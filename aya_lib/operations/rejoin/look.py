"""A node that is to come back as a standby: what it holds, what it has that the primary never received, what a way costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aya_lib.cluster import contents, machine, overview, wal
from aya_lib.cluster.contents import Compared
from aya_lib.cluster.overview import NodeSeen, SiteSeen
from aya_lib.cluster.replication import Login, Receiver, Slot, look_login, source_conninfo
from aya_lib.cluster.server import Cluster, ControlData, Files, Switch, look_control
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, seen
from aya_lib.operations.rejoin import waldump
from aya_lib.operations.rejoin.report import Newest, Salvaged
from aya_lib.operations.rejoin.salvage import look_salvage
from aya_lib.operations.rejoin.staging import Journal, Staging, look_slots, look_staging
from aya_lib.operations.rejoin.waldump import NOWHERE, Past

SMALL_MB, LARGE_MB = 4, 32  # what is moved to measure a link: the small one, and the large one where that took no time
QUICK_S = 0.5


@dataclass(frozen=True)
class Control:
    """Lines of pg_controldata. ``hints``: wal_log_hints. pg_rewind works with either of the two."""

    checksums: bool
    hints: bool
    segment_bytes: int


@dataclass(frozen=True)
class Source:
    """The primary: bytes of its databases and its WAL, further tablespaces, and whether pg_rewind may read its files.
    ``prepared``: transactions not decided there, by xid."""

    bytes: int
    wal_bytes: int
    tablespaces: int
    readable: bool
    prepared: Mapping[str, str] = field(default_factory=dict)

    def undecided(self, past: Past) -> list[str]:
        """Those that the node committed, and the primary did not hear of it."""
        return [gid for xid, gid in self.prepared.items() if int(xid) in past.xids]


@dataclass(frozen=True)
class Details:
    """Looked at only when the node is not a standby already. ``fork``: where its history left the primary's; None: nowhere.

    ``past``: its WAL from there on.  ``checkpoint``: the WAL back to the last common checkpoint is at hand.  ``archive``: a
    restore_command is set.  ``link``: bytes a second from the primary.  ``free`` and ``wal_free``: bytes on
    the disks of the data directory and of pg_wal.  ``slots``: over which others read the node's WAL.
    """

    control: Control | Missing
    fork: Switch | Missing | None
    past: Past | Missing | None
    checkpoint: bool | Missing
    archive: bool | Missing
    source: Source | Missing
    login: Login | Missing
    link: float | Missing
    free: int | Missing
    wal_free: int | Missing
    slots: tuple[Slot, ...] | Missing = ()


@dataclass(frozen=True, repr=False)
class Rejoin(SiteSeen):
    """``name``: the node's. ``compared``: contents, if it streams. ``details``: None for a standby. ``salvage``: saved before."""

    name: str
    staging: Staging | Missing
    compared: Compared | Missing | None
    salvage: tuple[Salvaged, ...] | Missing
    details: Details | None

    @property
    def node(self) -> NodeSeen:
        return self.overview.nodes[self.name]

    @property
    def newest(self) -> Newest:
        """What was saved last of the node, to be shown."""
        return Newest(self.salvage)

    @property
    def streams(self) -> bool:
        """It receives from the primary on the primary's timeline, and holds the same rows."""
        return isinstance(self.compared, Compared) and not self.compared.differing()

    @property
    def prepared(self) -> bool:
        """A clone or a finished rewind is in place: it may be started as a standby of this primary."""
        journal = self.journal
        return journal is not None and journal.done and not (journal.method == "clone" and self._has_incoming)

    @property
    def incoming(self) -> bool:
        """A whole clone stands beside the data directory and waits to be put in its place."""
        return self.journal is not None and self.journal.method == "clone" and self.journal.done and self._has_incoming

    @property
    def half_rewound(self) -> bool:
        """pg_rewind began and did not end: the data directory is of no use, and holds nothing that is not saved."""
        journal = self.staging.journal if isinstance(self.staging, Staging) else None
        return journal is not None and journal.node == self.node.name and journal.method == "rewind" and not journal.done

    @property
    def journal(self) -> Journal | None:
        """The journal of an earlier run, while it speaks of this node, this system and the primary's timeline of now."""
        journal, leader = self.staging.journal if isinstance(self.staging, Staging) else None, self.primary.cluster
        if journal is None or not isinstance(leader, Cluster):
            return None
        speaks_of = (journal.node, journal.system_identifier, journal.timeline)
        return journal if speaks_of == (self.node.name, leader.system_identifier, leader.timeline) else None

    @property
    def _has_incoming(self) -> bool:
        return isinstance(self.staging, Staging) and self.staging.incoming


def look(nodes: Nodes, node: str = "") -> Rejoin:
    """Everything that a rejoin of ``node`` depends on; default: the node of the pair that is not the primary.

    Raises :class:`UsageError` for a node that the site does not have. A node that streams is compared with the primary and
    not looked into any further.
    """
    site_seen = overview.look(nodes)
    primary, standby = site_seen.pair(nodes.site)
    name = node or standby.name
    if name not in nodes:
        raise UsageError(f"unknown node '{name}'", hint=f"Nodes of {nodes.site.name} are {', '.join(nodes)}")
    here, target = nodes[name], site_seen.nodes[name]
    staging = seen(name, f"look beside {here.data_directory}", lambda: look_staging(here))
    follows = name != primary.name and _receives(target, primary)
    compared = contents.look(nodes, primary.name, name) if follows else None
    salvage = seen(name, "look for what was saved", lambda: look_salvage(here))
    found = Rejoin(nodes, site_seen, name, staging, compared, salvage, None)
    if found.streams or name == primary.name:
        return found
    return replace(found, details=_details(here, nodes[primary.name], target, primary))


def control_of(data: ControlData) -> Control:
    """The lines that a copy depends on."""
    checksums, log_hints = data["Data page checksum version"] != "0", data["wal_log_hints setting"] == "on"
    return Control(checksums, log_hints, int(data["Bytes per WAL segment"]))


def _details(here: Node, leader: Node, target: NodeSeen, primary: NodeSeen) -> Details:
    files, cluster = target.files, primary.cluster
    control = seen(here.name, "pg_controldata", lambda: control_of(look_control(here)))
    fork: Switch | Missing | None = None
    past: Past | Missing | None = None
    checkpoint: bool | Missing = False
    if isinstance(files, Files) and isinstance(cluster, Cluster) and isinstance(control, Control):
        left = seen(here.name, "pg_waldump of its WAL", lambda: waldump.look_past(here, files, cluster, control.segment_bytes))
        fork, past = left if isinstance(left, tuple) else (left, left)
        if isinstance(fork, Switch) and fork != NOWHERE:
            tried = "look for the last common checkpoint"
            checkpoint = seen(here.name, tried, lambda: waldump.look_checkpoint(here, fork, control.segment_bytes))
    return Details(
        control,
        fork,
        past,
        checkpoint,
        seen(here.name, "restore_command", lambda: _archive(here)),
        seen(leader.name, "how much it holds", lambda: _source(leader)),
        look_login(here, leader),
        seen(here.name, f"measure the link from {leader.name}", lambda: _link(here, leader)),
        machine.free_bytes(here, here.data_directory.parent),
        machine.free_bytes(here, wal.folder(here)),
        seen(here.name, "list its slots", lambda: look_slots(here)),
    )


def _receives(standby: NodeSeen, primary: NodeSeen) -> bool:
    """It streams, on the primary's timeline, as both say."""
    here, there, receiver = standby.cluster, primary.cluster, standby.receiver
    if not isinstance(here, Cluster) or not isinstance(there, Cluster) or not isinstance(receiver, Receiver):
        return False
    same = (here.system_identifier, here.timeline) == (there.system_identifier, there.timeline)
    return same and here.in_recovery and not there.in_recovery and receiver.status == "streaming"


def _archive(node: Node) -> bool:
    """Whether the node's settings name a restore_command; also asked of a server that does not run."""
    output = node.postgresql("postgres", "-D", str(node.data_directory), "-C", "restore_command").checked()
    return bool(output.stdout.strip())


def _source(primary: Node) -> Source:
    with primary.session(database="postgres", deadline_s=60) as connection:
        return rows(connection, __package__, "rejoin_source", Source, role=primary.site.database.replication_role)[0]


def _link(node: Node, primary: Node) -> float:
    """Bytes a second over a session of the kind that a clone uses: the time of a COPY of so many MB, login and all."""
    dsn = source_conninfo(node, primary)

    def seconds(megabytes: int) -> float:
        copy = f"COPY (SELECT repeat(md5(n::text), 32768) FROM generate_series(1, {megabytes}) AS n) TO STDOUT"
        words = ("-X", "-q", "-w", "-o", "/dev/null", "-d", f"{dsn} dbname=postgres", "-c", copy)
        return node.postgresql("psql", *words, timeout_s=120).checked().seconds

    took = seconds(SMALL_MB)
    if took >= QUICK_S:
        return SMALL_MB * 2**20 / took
    return LARGE_MB * 2**20 / seconds(LARGE_MB)
