"""One PostgreSQL server: what it says by SQL, and what its data directory says when it does not run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aya_lib.cluster.lsn import number
from aya_lib.cluster.state import MARK
from aya_lib.errors import CommandFailed
from aya_lib.node.node import Node
from aya_lib.node.shell import exists
from aya_lib.node.shell import read as read_file
from aya_lib.node.sql import Connection, rows, statement, value
from aya_lib.node.unseen import looking

# A standby with less than its WAL asks for pauses its replay, and ends when that is resumed. (PostgreSQL: Hot Standby,
# Administrator's Overview.) Setting -> line of pg_controldata, which has what the server that wrote the WAL had.
SIZES = {
    "max_connections": "max_connections setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_worker_processes": "max_worker_processes setting",
}

# Settings of postgresql.auto.conf that a node in another role must not bring along.
OF_A_ROLE = re.compile(r"\s*(primary_conninfo|primary_slot_name|synchronous_standby_names|recovery_target\w*)\s*=", re.IGNORECASE)


@dataclass(frozen=True)
class Switch:
    """Where a timeline ended: the position from which the next one goes on."""

    timeline: int
    lsn: str


@dataclass(frozen=True)
class Cluster:
    """A server that answers. ``lsn``: written or, on a standby, replayed. ``history``: ends of earlier timelines.

    ``vector_dimension``: of the column ``chunks.embedding``; None when there is no such column, or it has no dimension.
    ``sizes``: its own of :data:`SIZES`. ``clock_s``: how far its clock is before this machine's (seconds); None: not asked.
    """

    node: str
    system_identifier: str
    in_recovery: bool
    version: str
    timeline: int
    lsn: str
    vector_dimension: int | None = None
    history: tuple[Switch, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    clock_s: float | None = None

    @property
    def role(self) -> str:
        return "standby" if self.in_recovery else "primary"


@dataclass(frozen=True)
class Files:
    """What the data directory says, server running or not. ``state`` is pg_controldata's *Database cluster state*.

    ``lsn`` is the furthest position known from the control file: the end of recovery, or the last checkpoint. ``fenced``: what
    the mark says that a failover left there; None: no mark. ``asks``: what its WAL asks of a standby, see :data:`SIZES`.
    """

    node: str
    standby_signal: bool
    system_identifier: str
    timeline: int
    state: str
    lsn: str
    fenced: str | None = None
    asks: Mapping[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether the server ended by an orderly stop, as a primary or as a standby."""
        return self.state in ("shut down", "shut down in recovery")


@looking("SQL on {node.config.host}:{node.config.postgresql.port}")
def look(node: Node) -> Cluster:
    """Ask the server what it is."""
    with node.session() as connection:
        return read(node.name, connection)


def read(name: str, connection: Connection) -> Cluster:
    """The same over a session that is open already."""
    asked = time.time()
    cluster = rows(connection, __package__, "cluster", Cluster, node=name, sizes=list(SIZES))[0]
    clock_s = (cluster.clock_s or asked) - (asked + time.time()) / 2
    history = value(connection, statement(__package__, "history"), {"timeline": cluster.timeline})
    return replace(cluster, clock_s=clock_s, history=parse_history(str(history or "")))


@looking("pg_controldata {node.data_directory}")
def look_files(node: Node) -> Files:
    """Read ``standby.signal``, a fence's mark and pg_controldata, as the cluster's owner."""
    signal = exists(node.shell, node.data_directory / "standby.signal", account=node.account)
    mark = read_file(node.shell, node.data_directory / MARK, account=node.account)
    return files_of(node.name, look_control(node), standby_signal=signal, fenced=mark)


class ControlData(dict[str, str]):
    """What pg_controldata printed (messages untranslated), line by line; :class:`CommandFailed` for a line that is not there."""

    def __init__(self, node: str, text: str) -> None:
        super().__init__(re.findall(r"^([^:\n]+):\s*(.*)$", text, re.MULTILINE))
        self.node = node

    def __missing__(self, line: str) -> str:
        raise CommandFailed(self.node, ["pg_controldata"], 0, f"no line '{line}' in its output")


def look_control(node: Node) -> ControlData:
    """The control file of the node's data directory, as the cluster's owner reads it."""
    output = node.postgresql("pg_controldata", "-D", str(node.data_directory)).checked()
    return ControlData(node.name, output.stdout)


def files_of(node: str, control: ControlData, *, standby_signal: bool, fenced: str | None = None) -> Files:
    """The control file's part of :class:`Files`."""
    ends = (control["Latest checkpoint location"], control["Minimum recovery ending location"])
    timelines = (control["Latest checkpoint's TimeLineID"], control["Min recovery ending loc's timeline"])
    return Files(
        node,
        standby_signal,
        control["Database system identifier"],
        max(map(int, timelines)),
        control["Database cluster state"],
        max(ends, key=number),
        fenced,
        {name: int(control[line]) for name, line in SIZES.items() if line in control},
    )


def parse_history(text: str) -> tuple[Switch, ...]:
    """The lines of a timeline history file: timeline, position of the switch, reason."""
    return tuple(Switch(int(tli), lsn) for tli, lsn in re.findall(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", text, re.MULTILINE))
