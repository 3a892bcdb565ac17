"""Does the archive hold what a standby that lost its slot still needs? Pure arithmetic on positions and names."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster import wal
from aya_lib.cluster.archive import Archive
from aya_lib.cluster.judge import server
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Receiver
from aya_lib.cluster.server import Cluster
from aya_lib.node.unseen import Missing
from aya_lib.site import Site


@dataclass(frozen=True)
class Bridge:
    """The archived files from the standby's position to the oldest WAL of the primary. ``reads``: the standby's
    restore_command takes them from there; None while that cannot be seen, because the standby is down."""

    directory: str
    needed: tuple[str, ...]
    missing: tuple[str, ...]
    reads: bool | None

    @property
    def holds(self) -> bool:
        return not self.missing and self.reads is not False


def bridge(site: Site, seen: Overview) -> Bridge | Missing | None:
    """What mends a lost slot; None when no archive was looked at."""
    primary, standby = seen.pair(site)
    found, place = seen.archive, server.position(standby)
    if not isinstance(found, Archive):
        return found
    if place is None or not isinstance(primary.cluster, Cluster):
        return standby.files if isinstance(standby.files, Missing) else None
    names = needed(found, primary.cluster, *place)
    missing = tuple(name for name in names if not _whole(found, name))
    return Bridge(found.directory, names, missing, _reads(found, standby))


def needed(found: Archive, leader: Cluster, timeline: int, lsn: str) -> tuple[str, ...]:
    """Names of the files from a position on a timeline to the primary's oldest, each on the timeline that was valid there."""
    size = found.segment_bytes
    timelines = [*(switch.timeline for switch in leader.history), leader.timeline]
    begins = [0, *(number(switch.lsn) // size for switch in leader.history)]
    names = []
    for segment in range(number(lsn) // size, wal.position(found.oldest, size) // size):
        valid = [tli for begin, tli in zip(begins, timelines, strict=True) if begin <= segment][-1]
        names.append(wal.name(valid, segment * size, size))
    return tuple(names + [f"{tli:08X}.history" for tli in timelines if tli > timeline])


def _whole(found: Archive, name: str) -> bool:
    size = found.files.get(name)
    return size is not None and (size == found.segment_bytes or name.endswith(".history"))


def _reads(found: Archive, standby: NodeSeen) -> bool | None:
    return found.directory in standby.receiver.restore_command if isinstance(standby.receiver, Receiver) else None
