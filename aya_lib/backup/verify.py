"""Prove a backup: every file of its chain read, its WAL there, started from it once, and equal to its mark.

A fault is written into the record; a proof takes an earlier fault away. What could not be looked at is neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aya_lib.backup import chain, mark, reading, replay
from aya_lib.backup.engine import record, sums
from aya_lib.backup.held import held
from aya_lib.backup.look import folder, look_at, section
from aya_lib.backup.records import Backup, Gap, Position, Proof, Repository, Target
from aya_lib.cluster.lsn import number
from aya_lib.errors import AyaError, ChangeFailed, CommandFailed, UsageError
from aya_lib.node import wait
from aya_lib.node.node import Node

AGAIN = "Run backup: it makes another one"
NO_ROOM = ("No space left", "out of memory", "Cannot allocate memory", "Disk quota")  # the keeper's fault, not the backup's
SCRATCH = "scratch"  # the restored copy, below the repository; gone afterwards


class Damaged(AyaError):
    """A verification found that a backup is not as it was made, or cannot be restored."""


@dataclass(frozen=True)
class Verify:
    """Prove a backup; nobody else works on the repository meanwhile. Raises :class:`Damaged`, after writing it down."""

    label: str

    def command(self, keeper: Node) -> str:
        return f"aya backup verify {self.label} --site {keeper.site.name}"

    def run(self, keeper: Node) -> None:
        with held(keeper, folder(keeper.site), "backup verify") as still:
            verify(keeper, self.label, still)


def verify(keeper: Node, label: str, still: Callable[[], None] = lambda: None) -> Backup:
    """The backup with its proof. Only who holds the repository may: ``still`` raises when that is over.

    Raises :class:`Damaged`, :class:`UsageError` for a backup that is not there, and what keeps it from being looked at.
    """
    repository = _repository(keeper)
    backup = repository.backup(label)
    if backup is None:
        known = ", ".join(one.label for one in repository.backups) or "none"
        raise UsageError(f"{keeper.name} has no backup '{label}'{_damage(repository, label)}", hint=f"There are {known}")
    began = time.monotonic()
    try:
        read = files(keeper, repository, backup, still)
        repository = _arrived(keeper, backup)
        segments = _wal(keeper, repository, backup)
        compared = _started(keeper, repository, backup)
    except Damaged as error:
        still()
        record(keeper, replace(backup, fault=error.message, proof=None))
        raise
    still()
    proof = Proof(repository.now, read, segments, True, compared, round(time.monotonic() - began, 1))
    proven = replace(backup, proof=proof, fault="")
    record(keeper, proven)
    _before(keeper, repository, backup)
    return proven


def _repository(keeper: Node) -> Repository:
    found = look_at(keeper)
    if not isinstance(found, Repository):
        raise CommandFailed(keeper.name, ["ls", str(folder(keeper.site))], 1, str(found), hint="Run backup")
    return found


def _damage(repository: Repository, label: str) -> str:
    return f": {repository.damaged[label]}" if label in repository.damaged else ""


def files(keeper: Node, repository: Repository, backup: Backup, still: Callable[[], None]) -> int:
    """Read every file of the backup and of what it stands on: how many there are. A damaged parent is written down too."""
    count = 0
    try:
        links = chain.links(repository, replace(backup, fault=""))
    except UsageError as error:
        raise Damaged(error.message, hint=AGAIN) from None
    for link in links:
        try:
            count += _verified(keeper, Path(repository.directory) / "backups" / link.label, link)
        except Damaged as error:
            if link.label == backup.label or repository.directory != str(folder(keeper.site)):
                raise
            still()
            record(keeper, replace(link, fault=error.message, proof=None))
            raise Damaged(f"it stands on {link.label}, which is damaged: {error.message}", hint=AGAIN) from None
    return count


def _verified(keeper: Node, where: Path, link: Backup) -> int:
    limit_s = mark.limit(link.bytes)
    output = keeper.postgresql("pg_verifybackup", str(where / "data"), timeout_s=limit_s)
    if output.status:
        lines = [line.partition("error: ")[2] for line in output.stderr.splitlines() if "error: " in line]
        said = "; ".join(lines[:3] or [output.stderr[-200:]])
        raise Damaged(f"{link.label}: {said}{f' ({len(lines)} errors)' if len(lines) > 3 else ''}", hint=AGAIN)
    found = sums(keeper, where / "dumps", limit_s)
    differing = sorted(name for name in {*found, *link.dumps} if found.get(name) != link.dumps.get(name))
    if differing:
        raise Damaged(f"{link.label}: not as they were written: {', '.join(f'dumps/{name}' for name in differing)}", hint=AGAIN)
    for name in link.dumps:
        if name.endswith(".dump"):
            restored = keeper.postgresql("pg_restore", "-f", "/dev/null", str(where / "dumps" / name), timeout_s=limit_s)
            if restored.status:
                raise Damaged(f"{link.label}: dumps/{name} cannot be read: {restored.stderr.strip()[:200]}", hint=AGAIN)
    manifest = ["grep", "-c", '"Path"', str(where / "data" / "backup_manifest")]
    return int(keeper.shell.run(manifest, account=keeper.account).checked().stdout) + len(found)


def _arrived(keeper: Node, backup: Backup) -> Repository:
    """The repository, once the WAL up to the mark is on the keeper's disk."""
    end, seen = backup.mark.position if backup.mark else backup.stop, _repository(keeper)
    while not _reaches(seen, end):
        last = seen.flushed.lsn if seen.flushed else None
        seen = wait.until(
            lambda: _repository(keeper),
            _further(last),
            node=keeper.name,
            what=f"the receiver goes on from {last or 'nowhere'} to {end.lsn} ({seen.receiver.reason or seen.receiver.state})",
            deadline_s=section(keeper.site).rpo_s,
            poll_s=0.5,
        )
    return seen


def _further(last: str | None) -> Callable[[Repository], bool]:
    return lambda seen: (seen.flushed.lsn if seen.flushed else None) != last


def _reaches(seen: Repository, end: Position) -> bool:
    flushed = seen.flushed
    return flushed is not None and (flushed.timeline, number(flushed.lsn)) >= (end.timeline, number(end.lsn))


def _wal(keeper: Node, repository: Repository, backup: Backup) -> int:
    """Read every record from the start to the mark: how many segments that are."""
    end = backup.mark.position if backup.mark else backup.stop
    found = reading.read_through(keeper, repository, backup.start, end)
    if found:
        raise Damaged(f"WAL: {_words(found)}", hint=AGAIN)
    size = repository.segment_bytes
    return (number(end.lsn) - 1) // size - number(backup.start.lsn) // size + 1


def _before(keeper: Node, repository: Repository, backup: Backup) -> None:
    """Read the WAL since the verified backup before this one. What is damaged is put aside, so that the gap is seen by everybody:
    to go on past it, a restore has to begin with a later backup. Raises :class:`Damaged`, which takes nothing from the proof."""
    earlier = [one for one in repository.backups if one.verified and number(one.stop.lsn) < number(backup.start.lsn)]
    if not earlier:
        return
    last = earlier[-1]
    found = reading.read_through(keeper, repository, last.mark.position if last.mark else last.stop, backup.stop)
    names = {one.name: one.folder for one in repository.segments if not one.partial}
    damaged = [gap for gap in found if gap.first in names and gap.first == gap.last]
    for gap in damaged:
        path = str(folder(keeper.site) / "wal" / names[gap.first] / gap.first)
        keeper.shell.run(["mv", "--", path, f"{path}.damaged"], account=keeper.account).checked()
    if damaged:
        line = f"{backup.label} is proven, but WAL between {last.label} and it is damaged, and was put aside: {_words(damaged)}"
        raise Damaged(line, hint="Moments from there to the new backup cannot be restored; those after it can")


def _words(found: Sequence[Gap]) -> str:
    return "; ".join(f"{gap.first}{f' to {gap.last}' if gap.last != gap.first else ''}: {gap.reason}" for gap in found[:3])


def _started(keeper: Node, repository: Repository, backup: Backup) -> int:
    """Restore it beside, start it, and compare: how many tables are equal; 0 where the mark has none."""
    if backup.mark is None:
        raise AyaError(f"{backup.label} has no mark to be compared with", hint=AGAIN)
    into, target = folder(keeper.site) / SCRATCH, Target("name", backup.mark.name, backup.mark.position.timeline)
    try:
        replay.restore(keeper, repository, backup, target, into)
        with replay.scratch(keeper, into) as sockets:
            found = mark.compare(backup.mark, keeper, sockets)
    except ChangeFailed as error:
        if any(words in error.message for words in NO_ROOM):
            raise
        raise Damaged(f"it does not recover to its mark: {error.message[-300:]}", hint=AGAIN) from None
    finally:
        replay.remove(keeper, into)
    if found.differing:
        more = f" and {len(found.differing) - 3} more" if len(found.differing) > 3 else ""
        raise Damaged(f"restored, it differs from its mark: {'; '.join(found.differing[:3])}{more}", hint=AGAIN)
    return found.compared
