"""Replication as each side shows it: streams and slots on the sending server, the receiver on the standby."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace

from psycopg.conninfo import make_conninfo

from aya_lib.node import refusal
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, rows, statement
from aya_lib.node.unseen import looking
from aya_lib.site import Site

ONE_NAME = r'(?:"(?:[^"]|"")*"|[^\s",()]+)'
WAITED_FOR = ("sync", "quorum")  # pg_stat_replication.sync_state of a standby that commits wait for


@dataclass(frozen=True)
class Stream:
    """One row of pg_stat_replication. Bytes count from the primary's current position; ages are in seconds.

    ``reply_age_s`` is the primary's clock less a time by the standby's, until both are known: see :func:`by_one_clock`.
    """

    application_name: str
    client: str
    pid: int
    state: str
    sync_state: str
    bytes_behind: int | None
    reply_age_s: float | None
    replay_lag_s: float | None

    @property
    def synchronous(self) -> bool:
        """Whether commits wait for this standby. (PostgreSQL: pg_stat_replication.sync_state.)"""
        return self.sync_state in WAITED_FOR


@dataclass(frozen=True)
class Slot:
    """One replication slot. ``safe_wal_size`` (bytes) tells before ``wal_status`` does that it will be lost. ``failover`` and
    ``synced``: a logical one that standbys are to keep a copy of (PostgreSQL 17 and later), and such a copy."""

    name: str
    active: bool
    active_pid: int | None
    wal_status: str | None
    safe_wal_size: int | None
    logical: bool = False
    database: str = ""
    temporary: bool = False
    failover: bool = False
    synced: bool = False

    def __str__(self) -> str:
        of = f" of {self.database}" if self.database else ""
        return f"{self.name} ({'logical' if self.logical else 'physical'}{of})"


def commits_wait(names: str, commit: str) -> bool:
    """Whether a commit waits for a standby, by synchronous_standby_names and synchronous_commit."""
    return bool(names) and commit in ("remote_write", "on", "remote_apply")


def every_commit_waits_for(names: str, standby: str) -> bool | None:
    """Whether none is acknowledged that the receiver called ``standby`` does not have: by synchronous_standby_names, without it
    there are too few others. None when they cannot be read. (PostgreSQL: FIRST counts by priority those that are connected, ANY
    counts whoever comes first; a bare list is FIRST 1.)"""
    found = re.fullmatch(r"\s*(?:(?:FIRST|ANY)\s+)?(\d+)\s*\((.*)\)\s*", names, re.IGNORECASE | re.DOTALL)
    count, listed = (int(found[1]), found[2]) if found else (1, names)
    if not re.fullmatch(rf"\s*{ONE_NAME}(?:\s*,\s*{ONE_NAME})*\s*", listed):
        return None
    known = {name.strip('"').replace('""', '"').lower() for name in re.findall(ONE_NAME, listed)}
    return standby.lower() in known and "*" not in known and count >= len(known)


@dataclass(frozen=True)
class Settings:
    """What the sending server promises: for whom commits wait, how many wait now, and how much WAL a slot may hold.

    ``slot_keep_mb`` is max_slot_wal_keep_size (-1: without limit). ``clock_s``: what its clock says.
    """

    names: str
    commit: str
    slot_keep_mb: int
    waiting: int
    clock_s: float | None = None

    @property
    def synchronous(self) -> bool:
        return commits_wait(self.names, self.commit)


@dataclass(frozen=True)
class Sender:
    node: str
    streams: tuple[Stream, ...]
    slots: tuple[Slot, ...]
    settings: Settings | None = None
    ahead_s: float | None = None  # by how much its clock is ahead of ours

    def slot(self, name: str) -> Slot | None:
        return next((slot for slot in self.slots if slot.name == name), None)

    def stream(self, slot: str) -> Stream | None:
        """The stream that goes over a slot; not those of pg_basebackup or pg_receivewal beside it."""
        used = self.slot(slot)
        return next((stream for stream in self.streams if used and stream.pid == used.active_pid), None)

    def standby(self, site: Site) -> Stream | None:
        """The stream to the other node of the pair: over the site's slot, else under that node's name."""
        names = [name.lower() for name in site.pair if name != self.node]
        named = (stream for stream in self.streams if stream.application_name.lower() in names)
        return self.stream(site.replication.slot) or next(named, None)


@dataclass(frozen=True)
class Receiver:
    """The standby's side. ``status`` is None when no walreceiver runs; ``receipt_age_s``: since the last message, by its clock.

    ``timeout_s`` is wal_receiver_timeout (0: off); on an idle pair the standby asks for a sign of life after half of it.
    ``delay_s``: recovery_min_apply_delay.
    """

    node: str
    status: str | None
    slot_name: str | None
    sender_host: str | None
    sender_port: int | None
    receipt_age_s: float | None
    replay_state: str
    has_conninfo: bool
    timeout_s: float
    restore_command: str = ""
    clock_s: float | None = None
    delay_s: float = 0.0
    slots: tuple[Slot, ...] = ()
    ahead_s: float | None = None


@looking("pg_stat_replication")
def look_sender(node: Node) -> Sender:
    """Streams and slots of a server that is a primary."""
    with node.session() as connection:
        streams = rows(connection, __package__, "streams", Stream)
        slots = rows(connection, __package__, "slots", Slot)
        settings = rows(connection, __package__, "settings", Settings)[0]
        return Sender(node.name, tuple(streams), tuple(slots), settings, _ahead(settings.clock_s))


@looking("pg_stat_wal_receiver")
def look_receiver(node: Node) -> Receiver:
    """The receiver of a server in recovery."""
    with node.session() as connection:
        found = rows(connection, __package__, "receiver", Receiver, node=node.name)[0]
        ahead_s = _ahead(found.clock_s)
        return replace(found, ahead_s=ahead_s, slots=tuple(rows(connection, __package__, "slots", Slot)))


@dataclass(frozen=True)
class Login:
    """Whether the replication role gets in from ``node`` to ``to``. ``said``: why not, empty when it does; ``file``: where the
    node has its password."""

    node: str
    to: str
    role: str
    file: str
    said: str


@looking("log in to {to.name} for replication")
def look_login(node: Node, to: Node) -> Login:
    """Try as the node itself does: as the account of its server, with its file. A stream that runs logged in long ago."""
    source = f"{source_conninfo(node, to, 'aya')} replication=true"
    output = node.postgresql("psql", "-X", "-q", "-w", "-o", "/dev/null", "-d", source, "-c", "IDENTIFY_SYSTEM")
    said = refusal.said(output.stderr) or ("no password supplied" if "no password supplied" in output.stderr else "")
    if not said:
        output.checked()  # nobody listens, or psql could not be run: it was not refused
    file = node.config.postgresql.replication_passfile
    where = str(node.site.path(file)) if file else "~/.pgpass of its account"
    return Login(node.name, to.name, node.site.database.replication_role, where, said if output.status else "")


def source_conninfo(node: Node, primary: Node, name: str = "") -> str:
    """How a node reaches the primary for replication. The password is in the file that the node has for it, never here."""
    config, file = primary.config, node.config.postgresql.replication_passfile
    return make_conninfo(
        host=config.host,
        port=config.postgresql.port,
        user=node.site.database.replication_role,
        **({"passfile": str(node.site.path(file))} if file else {}),
        application_name=name or node.name.lower(),
        connect_timeout=3,
    )


def clocks_apart(sender: object, receiver: object) -> float | None:
    """Seconds by which the standby's clock is ahead of the primary's, as good as an answer takes to come; None: not known."""
    if not isinstance(sender, Sender) or not isinstance(receiver, Receiver) or sender.ahead_s is None or receiver.ahead_s is None:
        return None
    return receiver.ahead_s - sender.ahead_s


def by_one_clock(site: Site, sender: object, receiver: object) -> Sender | None:
    """The sender, with the age of the standby's last reply by the primary's own clock; None where the clocks are not known."""
    apart = clocks_apart(sender, receiver)
    if apart is None or not isinstance(sender, Sender):
        return None
    own = sender.standby(site)
    streams = (
        replace(one, reply_age_s=max(0.0, one.reply_age_s + apart)) if one is own and one.reply_age_s is not None else one
        for one in sender.streams
    )
    return replace(sender, streams=tuple(streams))


def _ahead(clock_s: float | None) -> float | None:
    return None if clock_s is None else clock_s - time.time()


def exempt(connection: Connection) -> list[str]:
    """Roles and databases with a synchronous_commit of their own under which a commit waits for no standby."""
    return column(connection, statement(__package__, "exempt"))
