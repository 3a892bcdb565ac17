"""What may be deleted: pure. Any moment of the window stays restorable, and the last verified backup whatever its age."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from aya_lib.backup.records import Backup, Repository, Segment
from aya_lib.cluster.lsn import number
from aya_lib.cluster.wal import position

CLOCK_S = 3600.0  # clocks that are further apart say nothing about age


@dataclass(frozen=True)
class Expired:
    """``backups``: labels, in the order in which they may go: none before one that stands on it. ``segments``: WAL that no backup
    that stays needs. ``why``: why nothing is deleted, or from which backup on everything stays."""

    backups: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    why: str = ""

    @property
    def bytes(self) -> int:
        """Of the WAL."""
        return sum(segment.bytes for segment in self.segments)


def expired(repository: Repository, keep_days: float, clock: datetime | None = None) -> Expired:
    """What is not needed to restore any moment of the last ``keep_days``. ``clock``: another server's, to be sure of the age.

    The newest verified backup that is older than the window is what its first moments are restored from, so it stays, with what
    it stands on; and so does every later one. Nothing is deleted while no backup of the window is verified.
    """
    apart = abs((repository.now - clock).total_seconds()) if clock else 0.0
    if apart > CLOCK_S:
        return Expired(why=f"the clocks are {apart / 3600:.0f} h apart: nobody knows how old a backup is")
    if any(one.ended > repository.now + timedelta(seconds=CLOCK_S) for one in repository.backups):
        return Expired(why="a backup is of the future: the keeper's clock was set back")
    verified = [one for one in repository.backups if one.verified]
    since = repository.now - timedelta(days=keep_days)
    if not verified or verified[-1].ended < since:
        return Expired(why=f"no backup of the last {keep_days:g} days is verified, so nothing is deleted")
    old = [one for one in verified if (one.mark.position if one.mark else one.stop).at <= since]
    if not old:
        return Expired(why=f"the oldest verified backup, {verified[0].label}, is younger than {keep_days:g} days")
    anchor = old[-1]
    stay = [one for one in repository.backups if one.ended >= anchor.ended]
    labels = _with_parents(repository, stay)
    gone = [one.label for one in reversed(repository.backups) if one.label not in labels]
    gone += [label for label in repository.damaged if label < anchor.label]
    oldest = min(number(one.start.lsn) for one in stay)
    segments = (one for one in repository.segments if position(one.name, repository.segment_bytes) + one.bytes <= oldest)
    return Expired(tuple(gone), tuple(one for one in segments if not one.partial), f"everything from {anchor.label} on stays")


def _with_parents(repository: Repository, backups: Iterable[Backup]) -> set[str]:
    """Labels of these and of all that they stand on."""
    parents = {one.label: one.parent for one in repository.backups}
    found: set[str] = set()
    for one in backups:
        label: str | None = one.label
        while label is not None and label not in found:
            found.add(label)
            label = parents.get(label)
    return found
