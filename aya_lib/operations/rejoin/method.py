"""The methods by which a node can come back as a standby, what each costs, and which one is taken."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster.lsn import number
from aya_lib.cluster.replication import Sender, Slot
from aya_lib.cluster.server import Cluster, Files, Switch
from aya_lib.node.unseen import Missing
from aya_lib.operations.rejoin.look import Control, Details, Rejoin, Source
from aya_lib.operations.rejoin.staging import Staging
from aya_lib.operations.rejoin.waldump import NOWHERE, Past
from aya_lib.show import Shown, Table

# The rule of the estimates: a clone moves all of the primary; a rewind its WAL, and a page for every record of the old one's,
# taken as twice the WAL's bytes. Measured with 1 GB on 2 cores (benchmarks/rejoin.json): 2.5 s and 0.6 s, over a link that
# moved more than the disk took; 1.1 GB at best 3.1 s, so 350 MB/s at most.
DISK_RATE = 350e6
CLONE_S, REWIND_S = 1.0, 1.0
WAS_STANDBY = "shut down in recovery"  # pg_controldata's state; "in archive recovery" is also what pg_rewind leaves
WORTH_S = 60.0  # a clone keeps the old directory and is simpler: a rewind must save more than half of at least this


@dataclass(frozen=True, repr=False)
class Choice(Shown):
    """The method, and why. ``cannot``: what speaks against pg_rewind; empty when it can work. Seconds: None if not known."""

    method: str
    why: str
    cannot: str
    clone_s: float | None
    rewind_s: float | None

    def table(self) -> Table:
        rows = (
            ("clone", seconds(self.clone_s), "a base backup into a new directory; the old one is kept"),
            ("rewind", seconds(self.rewind_s), self.cannot or "pg_rewind changes the old directory in place"),
        )
        return Table(f"By {self.method}: {self.why}", ("method", "estimated", ""), rows)


def choose(seen: Rejoin, method: str = "auto") -> Choice:
    """Clone or rewind: what was asked for, else a clone unless there is nothing to rewind, or a rewind is much faster."""
    clone_s, rewind_s = estimates(seen.details)
    cannot = cannot_rewind(seen)

    def by(taken: str, why: str) -> Choice:
        return Choice(taken, why, cannot, clone_s, rewind_s)

    if method in ("clone", "rewind"):
        return by(method, "as asked for")
    if cannot:
        return by("clone", cannot)
    if nothing_to_rewind(seen):
        return by("rewind", f"it stopped exactly where {seen.primary.name} went on, which pg_rewind only has to see")
    if tablespaces(seen):
        return by("rewind", f"{seen.primary.name} has tablespaces of its own, which a clone would have to be told where to put")
    if wal_elsewhere(seen):
        return by("rewind", "its pg_wal lies on another disk, where a clone's would not")
    if clone_s and rewind_s and clone_s > WORTH_S and rewind_s * 2 < clone_s:
        return by("rewind", "a clone would take more than twice as long")
    return by("clone", "simpler, keeps the old directory, and is fast enough" if clone_s else "simpler, keeps the old directory")


def tablespaces(seen: Rejoin) -> int:
    """How many the primary has outside its data directory, as far as it could be asked."""
    return seen.details.source.tablespaces if seen.details and isinstance(seen.details.source, Source) else 0


def wal_elsewhere(seen: Rejoin) -> bool:
    """The node's pg_wal is a link to a folder elsewhere."""
    return isinstance(seen.staging, Staging) and seen.staging.wal_link


def ready(seen: Rejoin, method: str = "auto") -> bool:
    """A copy is in place and may be started; unless the WAL that it needs is lost, or a clone is asked for after a rewind."""
    again = method == "clone" and seen.journal is not None and seen.journal.method == "rewind"
    return seen.prepared and not lost(seen) and not again


def may_just_start(seen: Rejoin) -> bool:
    """A standby of the primary's own history that is down, also without standby.signal if it ended as a standby; or one that has
    only just started and was not compared yet."""
    details, files, leader = seen.details, seen.node.files, seen.primary.cluster
    if details is None or not isinstance(files, Files) or not isinstance(leader, Cluster) or seen.compared is not None:
        return False
    if seen.half_rewound:  # with the primary's settings in it
        return False
    standby = files.standby_signal or files.state == WAS_STANDBY
    return standby and files.timeline == leader.timeline and details.fork is None and not lost(seen)


def lost(seen: Rejoin) -> bool:
    """The primary no longer has the WAL that the standby needs."""
    slot = slot_of(seen)
    return slot is not None and slot.wal_status == "lost"


def slot_of(seen: Rejoin) -> Slot | None:
    """The slot on the primary through which the node receives, if it is there."""
    return seen.primary.sender.slot(seen.site.replication.slot) if isinstance(seen.primary.sender, Sender) else None


def cannot_rewind(seen: Rejoin) -> str:
    """Why pg_rewind cannot work; empty when it can."""
    details = seen.details
    if seen.half_rewound:
        return "an earlier pg_rewind did not end, so the old directory is of no use"
    if seen.incoming:
        return "a whole clone is there already"
    if details is None or not isinstance(details.control, Control) or isinstance(details.fork, Missing):
        return "too little of the old directory could be seen"
    if details.fork is None or details.fork == NOWHERE:
        return f"its history does not leave that of {seen.primary.name}"
    if not (details.control.checksums or details.control.hints):
        return "the old directory has neither data checksums nor wal_log_hints"
    if not nothing_to_rewind(seen) and details.checkpoint is not True and details.archive is not True:
        return "its WAL back to the last common checkpoint is gone, and no archive is set"
    return ""


def nothing_to_rewind(seen: Rejoin) -> bool:
    """It ended by an orderly stop, at the very position from which the primary went on."""
    details, files = seen.details, seen.node.files
    if details is None or not isinstance(details.past, Past) or not isinstance(details.fork, Switch):
        return False
    at_the_fork = number(details.past.end) <= number(details.fork.lsn) and not details.past.gone
    return isinstance(files, Files) and files.clean and at_the_fork


def estimates(details: Details | None) -> tuple[float | None, float | None]:
    """Seconds of a clone and of a rewind, by the rule above; None where the link or a size is not known."""
    if details is None or not isinstance(details.link, float) or not isinstance(details.source, Source):
        return None, None
    rate = min(details.link, DISK_RATE)
    past = details.past.bytes if isinstance(details.past, Past) else 0
    clone = CLONE_S + (details.source.bytes + details.source.wal_bytes) / rate
    return clone, REWIND_S + (2 * past + details.source.wal_bytes) / rate


def seconds(value: float | None) -> str:
    """An estimate in words."""
    return "not known" if value is None else f"{value:.0f} s"
