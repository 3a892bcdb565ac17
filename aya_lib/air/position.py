"""Where a server was: without system, timeline and LSN beside it, a snapshot or an acknowledged write means nothing after a
failover, for the promoted node uses the same transaction ids again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Cluster


@dataclass(frozen=True)
class Position:
    system_identifier: str
    timeline: int
    lsn: str


def survives(position: Position, cluster: Cluster) -> bool:
    """Whether the server has everything that was there at this position: it is on its own timeline's past.

    False after a failover that lost it, a restore to an earlier point, and on a server of another system.
    """
    if position.system_identifier != cluster.system_identifier:
        return False
    if position.timeline == cluster.timeline:
        return number(position.lsn) <= number(cluster.lsn)
    ends = [switch.lsn for switch in cluster.history if switch.timeline == position.timeline]
    return bool(ends) and number(position.lsn) <= number(ends[0])


@dataclass(frozen=True)
class Snapshot:
    """A ``pg_snapshot``: transactions below ``xmax`` are visible, but for those in ``running``."""

    xmin: int
    xmax: int
    running: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """From PostgreSQL's text, ``xmin:xmax:xip,xip``."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), tuple(int(xid) for xid in running.split(",") if xid))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.running))}"

    def sees(self, xid: int) -> bool:
        return xid < self.xmax and xid not in self.running


def advanced(old: Snapshot, now: Snapshot, taken: Sequence[int], left: Sequence[int]) -> Snapshot:
    """The snapshot that sees what ``old`` sees and the transactions ``taken``, and none of those ``left``: for a part of what is
    new in ``now``. Every transaction in ``left`` is newer than those taken, or at least not one of them."""
    if not left:
        return now
    xmax = max([old.xmax, *(xid + 1 for xid in taken)])
    running = tuple(sorted({xid for xid in (*now.running, *left) if xid < xmax}))
    return Snapshot(running[0] if running else xmax, xmax, running)
