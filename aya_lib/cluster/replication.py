"""Replication as each side shows it: streams and slots on the sending server, the receiver on the standby."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, rows, statement
from aya_lib.node.unseen import Missing, seen

ONE_NAME = r'(?:"(?:[^"]|"")*"|[^\s",()]+)'
WAITED_FOR = ("sync", "quorum")  # pg_stat_replication.sync_state of a standby that commits wait for


@dataclass(frozen=True)
class Stream:
    """One row of pg_stat_replication. Bytes count from the primary's current position; ages are in seconds."""

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
    """One replication slot. ``safe_wal_size`` (bytes) tells before ``wal_status`` does that it will be lost."""

    name: str
    active: bool
    active_pid: int | None
    wal_status: str | None
    safe_wal_size: int | None


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

    ``slot_keep_mb`` is max_slot_wal_keep_size (-1: without limit).
    """

    names: str
    commit: str
    slot_keep_mb: int
    waiting: int

    @property
    def synchronous(self) -> bool:
        return commits_wait(self.names, self.commit)


@dataclass(frozen=True)
class Sender:
    node: str
    streams: tuple[Stream, ...]
    slots: tuple[Slot, ...]
    settings: Settings | None = None

    def slot(self, name: str) -> Slot | None:
        return next((slot for slot in self.slots if slot.name == name), None)

    def stream(self, slot: str) -> Stream | None:
        """The stream that goes over a slot; not those of pg_basebackup or pg_receivewal beside it."""
        used = self.slot(slot)
        return next((stream for stream in self.streams if used and stream.pid == used.active_pid), None)


@dataclass(frozen=True)
class Receiver:
    """The standby's side. ``status`` is None when no walreceiver runs; ``receipt_age_s``: since the last message.

    ``timeout_s`` is wal_receiver_timeout (0: off); on an idle pair the standby asks for a sign of life after half of it.
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


def look_sender(node: Node) -> Sender | Missing:
    """Streams and slots of a server that is a primary."""

    def ask() -> Sender:
        with node.session() as connection:
            streams = rows(connection, __package__, "streams", Stream)
            slots = rows(connection, __package__, "slots", Slot)
            return Sender(node.name, tuple(streams), tuple(slots), rows(connection, __package__, "settings", Settings)[0])

    return seen(node.name, "pg_stat_replication", ask)


def look_receiver(node: Node) -> Receiver | Missing:
    """The receiver of a server in recovery."""

    def ask() -> Receiver:
        with node.session() as connection:
            return rows(connection, __package__, "receiver", Receiver, node=node.name)[0]

    return seen(node.name, "pg_stat_wal_receiver", ask)


def exempt(connection: Connection) -> list[str]:
    """Roles and databases with a synchronous_commit of their own under which a commit waits for no standby."""
    return column(connection, statement(__package__, "exempt"))
