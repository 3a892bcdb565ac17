"""What a repository holds, as values: backups, their marks, stretches of WAL, and where a restore is to end.

::

    <backup.directory>/                     on the keeper, of the cluster's account, mode 0700
      repository.json                       which cluster it is of
      wal/                                  pg_receivewal's folder: segments, .partial, .history; one writer
      backups/<label>/                      has this name only when it is whole; before, <label>.part
        backup.json                         a Backup; it is all the catalogue there is
        data/                               as pg_basebackup writes it, with its backup_manifest
        tablespaces/<oid>/                  those outside the data directory
        dumps/<database>.dump, globals.sql  the logical dump, of the mark's own snapshot
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Kind = Literal["full", "incremental"]


@dataclass(frozen=True)
class Position:
    """A place in the WAL: the timeline and the LSN on it, and the server's clock when it was there."""

    timeline: int
    lsn: str
    at: datetime


@dataclass(frozen=True)
class Mark:
    """A named restore point, and what every table held there, exactly: no write was under way while it was made.

    ``tables``: database -> table -> (rows, checksum). ``facts``: what else must be equal after a restore, in words each
    (roles, extensions, indexes, sequences). ``neighbours``: ids of the chunks nearest to that of ``probe``, by exact search;
    both empty when there are no vectors. ``unsaid``: why there are no tables (a writer that held its locks too long).
    """

    name: str
    position: Position
    tables: Mapping[str, Mapping[str, tuple[int, str]]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    probe: int | None = None
    neighbours: tuple[int, ...] = ()
    unsaid: str = ""


@dataclass(frozen=True)
class Proof:
    """A verification that found nothing wrong: when, how far it went, how long it took (seconds)."""

    at: datetime
    files: int
    wal_segments: int
    started: bool
    compared_tables: int
    took_s: float


@dataclass(frozen=True)
class Backup:
    """One base backup that is whole. ``parent``: label that an incremental one stands on. ``source``: the node it was read from.
    ``start`` to ``stop``: what it needs of the WAL to be consistent. ``bytes``: on the keeper's disk. ``dumps``: the files below
    ``dumps/`` -> (bytes, SHA-256); none where no dump was asked for, or it failed. ``fault``: what a verification found; such a
    backup is never counted, and never a parent."""

    label: str
    kind: Kind
    parent: str | None
    source: str
    start: Position
    stop: Position
    began: datetime
    ended: datetime
    bytes: int
    mark: Mark | None = None
    dumps: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    proof: Proof | None = None
    fault: str = ""

    @property
    def verified(self) -> bool:
        return self.proof is not None and not self.fault


@dataclass(frozen=True)
class Segment:
    """A file of the ``wal`` folder: a whole segment, or one that is being written (``partial``; ``name`` is without it).
    ``folder``: below ``wal``, into which the receiver moved what no server goes on from; it is part of the archive."""

    name: str
    bytes: int
    partial: bool = False
    folder: str = ""


@dataclass(frozen=True)
class Receiver:
    """What the WAL receiver says of itself, and when (the keeper's clock). ``state``: receiving, waiting (``reason``), gone.
    ``gaps``: WAL that it could not receive any more, in words."""

    state: Literal["receiving", "waiting", "gone"]
    at: datetime | None = None
    reason: str = ""
    source: str = ""
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repository:
    """All of it, as seen in one look. ``backups``: oldest first, whole ones only. ``left``: names of half ones that nobody
    works on. ``history``: timeline -> its history file's text. ``flushed``: how far WAL is safe on the keeper's disk, and when
    all that was known of was last safe; ``now``: the keeper's clock. ``free_bytes``: of the keeper's disk. ``damaged``: label ->
    why a backup's record cannot be read. ``busy``: who works on it now (makes, verifies or deletes a backup)."""

    node: str
    directory: str
    system_identifier: str
    segment_bytes: int
    backups: tuple[Backup, ...]
    segments: tuple[Segment, ...]
    history: Mapping[int, str]
    receiver: Receiver
    flushed: Position | None
    free_bytes: int
    now: datetime
    left: tuple[str, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)
    busy: str = ""

    def backup(self, label: str) -> Backup | None:
        return next((one for one in self.backups if one.label == label), None)

    @property
    def proven(self) -> Backup | None:
        """The newest backup that was verified."""
        return next((one for one in reversed(self.backups) if one.verified), None)


@dataclass(frozen=True)
class Gap:
    """WAL that is not there, or not as it was: from which segment to which, and what is wrong with it."""

    first: str
    last: str
    reason: str


@dataclass(frozen=True)
class Window:
    """Every moment from ``start`` to ``end`` can be restored from ``backup`` (label), for there is no gap between."""

    backup: str
    start: Position
    end: Position


@dataclass(frozen=True)
class Target:
    """Where a restore ends; exactly one way of saying it. ``latest`` is the end of the WAL there is, as an LSN, never "no
    target": recovery without a target takes a damaged segment for the end. ``timeline``: that the target lies on."""

    kind: Literal["time", "lsn", "name", "latest"]
    value: str
    timeline: int
    inclusive: bool = True
