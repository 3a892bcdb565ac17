"""Which WAL a restore needs, what of it is missing, and from which backup a moment can be restored. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from aya_lib.backup.history import Stretch, off, path_of
from aya_lib.backup.records import Backup, Gap, Mark, Position, Repository, Segment, Target, Window
from aya_lib.cluster import wal
from aya_lib.cluster.lsn import lsn, number
from aya_lib.errors import UsageError, nearest

LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


def links(repository: Repository, backup: Backup) -> tuple[Backup, ...]:
    """The backups that this one is put together from, the full one first. :class:`UsageError`: one is missing or damaged."""
    known = {one.label: one for one in repository.backups}
    found = [backup]
    while (label := found[0].parent) is not None:
        parent = known.get(label)
        if parent is None or parent in found:
            raise UsageError(f"backup {backup.label} stands on {label}, which is not there")
        if parent.fault:
            raise UsageError(f"backup {backup.label} stands on {label}, which is damaged: {parent.fault}")
        found.insert(0, parent)
    return tuple(found)


def gaps(repository: Repository, start: Position, end: Position) -> tuple[Gap, ...]:
    """What is missing of the WAL from ``start`` to ``end``, in order, or has another size than it must have.

    Along the history of the timeline of ``end``. As PostgreSQL does it, the segment in which a timeline was left is read from the
    newest one that has it, for that holds the earlier part too. A ``.partial`` serves at the end, and where a timeline was left.
    """
    path = path_of(repository, end.timeline)
    if path is None:
        file = f"{end.timeline:08X}.history"
        return (Gap(file, file, "the history of this timeline is missing"),)
    if reason := off(path, start):
        file = wal.name(start.timeline, number(start.lsn), repository.segment_bytes)
        return (Gap(file, file, reason),)
    present: dict[str, list[Segment]] = {}
    for segment in repository.segments:
        present.setdefault(segment.name, []).append(segment)
    return tuple(_joined(_faults(path, present, number(start.lsn), number(end.lsn), repository.segment_bytes), repository))


def window(repository: Repository, backup: Backup) -> Window | None:
    """Which moments can be restored from this backup; None: none. Where a gap ends it, its time is that of the last position
    whose time is known."""
    try:
        links(repository, backup)
    except UsageError:
        return None
    tip = tip_of(repository, backup.stop)
    if tip is None or number(tip.lsn) < number(backup.stop.lsn):
        return None
    found = gaps(repository, backup.start, tip)
    if not found:
        return Window(backup.label, backup.stop, tip)
    if not wal.SEGMENT.fullmatch(found[0].first):
        return None
    end = wal.position(found[0].first, repository.segment_bytes)
    path = path_of(repository, tip.timeline)
    if end <= number(backup.stop.lsn) or path is None:
        return None
    timeline = next(part.timeline for part in path if part.end is None or end <= part.end)
    return Window(backup.label, backup.stop, Position(timeline, lsn(end), _time(repository, path, end, backup.stop.at)))


def windows(repository: Repository) -> tuple[Window, ...]:
    """Those of the verified backups, oldest first: what may be relied on."""
    found = (window(repository, backup) for backup in repository.backups if backup.verified)
    return tuple(one for one in found if one)


def unserved(repository: Repository, backup: Backup, files: set[str]) -> str:
    """The first segment that a restore to the backup's mark needs and that is not among ``files``; empty: none."""
    size, end = repository.segment_bytes, backup.mark.position if backup.mark else backup.stop
    for place in range(number(backup.start.lsn) // size, (number(end.lsn) - 1) // size + 1):
        names = [wal.name(timeline, place * size, size) for timeline in (end.timeline, backup.start.timeline)]
        if not files & {*names}:
            return names[0]
    return ""


def marks(repository: Repository) -> tuple[Mark, ...]:
    """The marks of the backups that are not damaged, oldest first."""
    return tuple(one.mark for one in repository.backups if one.mark and not one.fault)


def position(repository: Repository, target: Target) -> Position | None:
    """Where in the WAL a target lies; None for a time, which only the WAL itself tells."""
    if target.kind == "name":
        return next((mark.position for mark in marks(repository) if mark.name == target.value), None)
    return None if target.kind == "time" else Position(target.timeline, target.value, repository.now)


def locate(repository: Repository, wanted: str = "", backup: str = "") -> tuple[Backup, Target]:
    """From which backup, and to where. ``wanted``: a time with its zone, an LSN (everything before it), the name of a mark,
    ``latest``, or nothing: the newest mark. ``backup``: a label, or nothing: the newest verified one that reaches there, and
    else the newest that is not damaged.

    Raises :class:`UsageError`, one line, with the window that there is.
    """
    able = [(one, found) for one in _candidates(repository, backup) if (found := window(repository, one))]
    if not able:
        what = f"backup {backup}" if backup else "no backup"
        raise UsageError(f"{repository.node}: {what} can{'not' if backup else ''} be restored from: {_why(repository, backup)}")
    target = _target(repository, wanted, [one for one, _ in able])
    fitting = [one for one, found in able if _within(repository, found, target)]
    if not fitting:
        raise UsageError(f"{_outside(repository, target, able)}; {described([found for _, found in able])}")
    return max(fitting, key=lambda one: (one.verified, number(one.stop.lsn))), target


def described(found: Iterable[Window]) -> str:
    """What can be restored, in words: overlapping windows are one."""
    spans: list[tuple[Position, Position]] = []
    for one in sorted(found, key=lambda each: each.start.at):
        if spans and one.start.at <= spans[-1][1].at:
            spans[-1] = spans[-1][0], max(spans[-1][1], one.end, key=lambda end: end.at)
        else:
            spans.append((one.start, one.end))
    words = [f"{_stamp(start.at)} ({start.lsn}) to {_stamp(end.at)} ({end.lsn})" for start, end in spans]
    return f"what can be restored: {', and '.join(words) or 'nothing'}"


def _faults(path: list[Stretch], present: dict[str, list[Segment]], start: int, end: int, size: int) -> Iterator[tuple[str, str]]:
    """The name of each segment that is not as it must be, and the reason."""
    for place in range(start // size, max(start, end - 1) // size + 1):
        first, until = place * size, min(end, (place + 1) * size)
        able = [one for one in path if one.start < (place + 1) * size and (one.end is None or one.end > first)]
        names = [wal.name(one.timeline, first, size) for one in able]
        chosen = next((one for one, name in zip(able[::-1], names[::-1], strict=True) if name in present), None)
        if chosen is None:
            yield names[-1], "missing"
            continue
        name, upto = wal.name(chosen.timeline, first, size), until if chosen.end is None else min(until, chosen.end)
        whole = next((one for one in present[name] if not one.partial), None)
        if upto < until:
            yield names[-1], "missing"
        elif whole and whole.bytes != size:
            yield name, f"{whole.bytes} bytes, not {size}"
        elif not whole and until == (place + 1) * size and end > until:
            yield name, "only begun (.partial)"
        elif not whole and present[name][0].bytes < upto - first:
            yield name, f"its .partial has {present[name][0].bytes} bytes, not {upto - first}"


def _joined(faults: Iterable[tuple[str, str]], repository: Repository) -> Iterator[Gap]:
    """Neighbours with the same reason are one gap."""
    gap: Gap | None = None
    for name, reason in faults:
        size = repository.segment_bytes
        if gap and gap.reason == reason and wal.position(name, size) == wal.position(gap.last, size) + size:
            gap = Gap(gap.first, name, reason)
            continue
        if gap:
            yield gap
        gap = Gap(name, name, reason)
    if gap:
        yield gap


def tip_of(repository: Repository, place: Position) -> Position | None:
    """The end of the WAL that goes on from a position: what is safe, when that is of the same history; else the end of the whole
    segments of the newest timeline that is."""
    flushed = repository.flushed
    if flushed and (path := path_of(repository, flushed.timeline)) and not off(path, place):
        return flushed
    size = repository.segment_bytes
    for timeline in sorted({place.timeline, *repository.history}, reverse=True):
        whole = [one.name for one in repository.segments if not one.partial and int(one.name[:8], 16) == timeline]
        path = path_of(repository, timeline)
        if whole and path and not off(path, place):
            end = wal.position(max(whole), size) + size
            return Position(timeline, lsn(end), _time(repository, path, end, place.at))
    return None


def _time(repository: Repository, path: list[Stretch], end: int, known: datetime) -> datetime:
    """The latest time known of a position up to ``end`` on a history."""
    places = [place for one in repository.backups for place in (one.start, one.stop, *([one.mark.position] if one.mark else []))]
    return max([known, *(place.at for place in places if number(place.lsn) <= end and not off(path, place))])


def _candidates(repository: Repository, label: str) -> list[Backup]:
    if not label:
        return [one for one in repository.backups if not one.fault]
    found = next((one for one in repository.backups if one.label == label), None)
    if found is None:
        labels = [one.label for one in repository.backups]
        raise UsageError(f"{repository.node} has no backup '{label}'{nearest(label, labels) or _list(labels)}")
    if found.fault:
        raise UsageError(f"backup {label} is damaged: {found.fault}")
    return [found]


def _why(repository: Repository, label: str) -> str:
    if not repository.backups:
        return "there is none; run backup"
    one = next((each for each in repository.backups if each.label == label), repository.backups[-1])
    if one.fault:
        return f"{one.label} is damaged: {one.fault}"
    try:
        links(repository, one)
    except UsageError as error:
        return error.message
    tip = tip_of(repository, one.stop)
    if tip is None or number(tip.lsn) < number(one.stop.lsn):
        return f"its WAL, from {one.start.lsn} to {one.stop.lsn} on timeline {one.stop.timeline}, has not been received"
    return "; ".join(f"{gap.first} to {gap.last}: {gap.reason}" for gap in gaps(repository, one.start, tip)[:3])


def _target(repository: Repository, wanted: str, able: list[Backup]) -> Target:
    wanted = wanted.strip()
    tip = tip_of(repository, able[-1].stop)
    assert tip is not None  # each of them has a window
    if not wanted:
        found = [one.mark for one in able if one.mark]
        if not found:
            raise UsageError("no backup has a mark: say a time, an LSN, or latest")
        wanted = found[-1].name
    if wanted == "latest":
        return Target("latest", tip.lsn, tip.timeline)
    if LSN.fullmatch(wanted):
        return Target("lsn", lsn(number(wanted)), tip.timeline, inclusive=False)
    named = {mark.name: mark for mark in marks(repository)}
    if wanted in named:
        timeline = named[wanted].position.timeline
        path = path_of(repository, tip.timeline)
        return Target("name", wanted, tip.timeline if path and not off(path, named[wanted].position) else timeline)
    return Target("time", moment(wanted, list(named)).isoformat(), tip.timeline)


def moment(wanted: str, names: Sequence[str] = ()) -> datetime:
    """A time as a person gives it; :class:`UsageError` without a zone, or when it is none (nor one of ``names``)."""
    try:
        at = datetime.fromisoformat(wanted)
    except ValueError:
        allowed = nearest(wanted, names) or "; allowed are a time such as 2026-01-31T03:00:00Z, an LSN, latest, a mark"
        raise UsageError(f"to: found '{wanted}'{allowed}") from None
    if at.tzinfo is None:
        raise UsageError(f"to: '{wanted}' has no time zone; write {wanted}Z for UTC, or {wanted}+02:00")
    return at


def _within(repository: Repository, found: Window, target: Target) -> bool:
    if target.kind == "time":
        return found.start.at <= datetime.fromisoformat(target.value) <= found.end.at
    place, path = position(repository, target), path_of(repository, found.end.timeline)
    if place is None or path is None or off(path, place):
        return False
    return number(found.start.lsn) <= number(place.lsn) <= number(found.end.lsn)


def _outside(repository: Repository, target: Target, able: list[tuple[Backup, Window]]) -> str:
    """Why no window holds a target."""
    what = _stamp(datetime.fromisoformat(target.value)) if target.kind == "time" else target.value
    first, last = min(one.start.at for _, one in able), max(one.end.at for _, one in able)
    place = position(repository, target)
    if place and (path := path_of(repository, able[-1][1].end.timeline)) and (reason := off(path, place)):
        return f"{what} lies on another timeline: {reason}"
    if target.kind == "time":
        at = datetime.fromisoformat(target.value)
        if at > repository.now:
            return f"{what} is in the future"
        where = "before the first backup" if at < first else "later than the WAL that is safe" if at > last else ""
        return f"{what} is {where or 'in a gap of the WAL'}"
    here = number(place.lsn) if place else 0
    if here < min(number(one.start.lsn) for _, one in able):
        return f"{what} is before the first backup"
    return (
        f"{what} is {'past the end of the WAL' if here > max(number(one.end.lsn) for _, one in able) else 'in a gap of the WAL'}"
    )


def _list(names: list[str]) -> str:
    return f"; there are {', '.join(names[-5:])}" if names else "; there is none"


def _stamp(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="seconds")
