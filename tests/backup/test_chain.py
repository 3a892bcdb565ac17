"""Chains, gaps, windows, and from which backup a moment is restored: on records, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aya_lib.backup import chain
from aya_lib.backup.records import Backup, Mark, Position, Proof, Receiver, Repository, Segment
from aya_lib.errors import UsageError

SIZE = 16 * 2**20
ZERO = datetime(2026, 1, 1, tzinfo=UTC)


def place(segment: float, timeline: int = 1) -> Position:
    """A position, in segments; one is written in an hour."""
    return Position(timeline, f"0/{int(segment * SIZE):X}", ZERO + timedelta(hours=segment))


def file(number: int, timeline: int = 1, *, partial: bool = False, size: int = SIZE) -> Segment:
    return Segment(f"{timeline:08X}00000000{number:08X}", size, partial)


def backup(
    label: str, at: float, *, timeline: int = 1, parent: str | None = None, verified: bool = True, fault: str = ""
) -> Backup:
    start, stop, mark = (place(at + each, timeline) for each in (0.1, 0.2, 0.3))
    proof = Proof(stop.at, 1, 1, True, 1, 1.0) if verified else None
    kind: Any = "incremental" if parent else "full"
    times = start.at, stop.at
    return Backup(label, kind, parent, "ALPHA", start, stop, *times, 1, Mark(f"mark {label}", mark), proof=proof)


def repository(*backups: Backup, segments: list[Segment], end: Position, history: dict[int, str] | None = None) -> Repository:
    now = end.at + timedelta(minutes=1)
    return Repository("BETA", "/r", "1", SIZE, backups, tuple(segments), history or {}, Receiver("receiving"), end, 1, now)


def plain(*, without: tuple[int, ...] = ()) -> Repository:
    """Three backups (the last one incremental) on one timeline: whole segments 1 to 8, and a begun one."""
    files = [file(number) for number in range(1, 9) if number not in without] + [file(9, partial=True)]
    made = backup("a", 1), backup("b", 3), backup("c", 5, parent="b")
    return repository(*made, segments=files, end=place(9.5))


# Timeline 1 was left within segment 4, timeline 2 goes on from there.
SWITCH = {2: f"1\t{place(4.5).lsn}\tno recovery target specified\n"}


def switched(*, without: tuple[str, ...] = ()) -> Repository:
    old = [file(1), file(2), file(3), file(4, partial=True)]
    files = [*old, file(4, 2), file(5, 2), file(6, 2, partial=True)]
    kept = [one for one in files if one.name + (".partial" if one.partial else "") not in without]
    return repository(backup("a", 1), segments=kept, end=place(6.5, 2), history=SWITCH)


def found(repository: Repository, start: Position, end: Position) -> list[tuple[str, str, str]]:
    return [(gap.first[-2:], gap.last[-2:], gap.reason) for gap in chain.gaps(repository, start, end)]


def test_a_copy_serves_only_with_all_wal_from_its_start_to_its_mark() -> None:
    whole, over = plain(), switched()
    names = {one.name for one in whole.segments}
    assert chain.unserved(whole, whole.backups[1], names) == ""
    assert chain.unserved(whole, whole.backups[1], names - {file(3).name}) == file(3).name
    late = replace(over.backups[0], mark=Mark("m", place(5.5, 2)))
    assert chain.unserved(over, late, {file(n).name for n in (1, 2, 3)} | {file(4, 2).name, file(5, 2).name}) == ""
    assert chain.unserved(over, late, {file(n).name for n in (1, 2, 3)} | {file(4, 2).name}) == file(5, 2).name


def test_links_are_the_full_backup_first_and_a_missing_or_damaged_one_is_said() -> None:
    whole = plain()
    assert [one.label for one in chain.links(whole, whole.backups[2])] == ["b", "c"]
    with pytest.raises(UsageError, match="c stands on b, which is not there"):
        chain.links(replace(whole, backups=whole.backups[::2]), whole.backups[2])
    bad = replace(whole, backups=(whole.backups[0], replace(whole.backups[1], fault="a flipped bit"), whole.backups[2]))
    with pytest.raises(UsageError, match="damaged: a flipped bit"):
        chain.links(bad, bad.backups[2])
    assert [one.backup for one in chain.windows(bad)] == ["a"]


def test_whole_wal_has_no_gap_and_every_missing_stretch_is_named() -> None:
    assert found(plain(), place(1.1), place(9.5)) == []
    assert found(plain(without=(3, 4, 7)), place(1.1), place(9.5)) == [("03", "04", "missing"), ("07", "07", "missing")]
    assert found(plain(), place(1.1), place(11)) == [("09", "09", "only begun (.partial)"), ("0A", "0A", "missing")]
    assert found(plain(), place(2), place(4)) == []  # segment 4 is not needed for a position at its very beginning


@pytest.mark.parametrize(("broken", "reason"), [(file(3, size=0), "0 bytes"), (file(9, partial=True, size=4096), "4096 bytes")])
def test_a_segment_of_another_size_is_a_gap(broken: Segment, reason: str) -> None:
    others = [one for one in plain().segments if one.name != broken.name]
    gap = chain.gaps(replace(plain(), segments=(*others, broken)), place(1.1), place(9.5))
    assert [(one.first, reason in one.reason) for one in gap] == [(broken.name, True)]


def test_over_a_switch_of_timelines_the_new_one_holds_the_segment_in_which_it_was() -> None:
    assert found(switched(), place(1.1), place(6.5, 2)) == []
    old = file(4).name + ".partial"
    assert found(switched(without=(old,)), place(1.1), place(6.5, 2)) == []  # the new one has the beginning too
    assert found(switched(without=(file(4, 2).name,)), place(1.1), place(6.5, 2)) == [("04", "04", "missing")]
    assert found(switched(without=(file(4, 2).name,)), place(1.1), place(4.4, 2)) == []  # before it, the .partial is enough
    assert found(switched(without=(file(4, 2).name,)), place(1.1), place(4.4)) == []
    assert found(switched(without=(old,)), place(1.1), place(4.4)) == [("04", "04", "missing")]


def test_a_history_that_is_missing_and_a_start_on_a_dead_branch_are_gaps() -> None:
    bare = replace(switched(), history={})
    assert [one.first for one in chain.gaps(bare, place(1.1), place(6.5, 2))] == ["00000002.history"]
    (gap,) = chain.gaps(switched(), place(4.7), place(6.5, 2))
    assert "timeline 2 left timeline 1 at 0/4800000, before" in gap.reason
    late = replace(switched(), backups=(backup("late", 4.6),))
    assert chain.windows(late) == ()


def test_windows_end_at_the_first_gap_and_only_verified_backups_have_one() -> None:
    ends = [(one.backup, one.end.lsn) for one in chain.windows(plain(without=(4,)))]
    assert ends == [("a", place(4).lsn), ("b", place(4).lsn), ("c", place(9.5).lsn)]
    first = chain.windows(plain(without=(4,)))[0]
    assert first.end.at == place(3.3).at  # of the mark of b: the last time known before the gap
    assert chain.windows(plain(without=(1,)))[0].backup == "b"
    fresh = replace(plain(), backups=(*plain().backups[:1], backup("new", 6, verified=False)))
    assert [one.backup for one in chain.windows(fresh)] == ["a"]
    assert [(one.start.timeline, one.end) for one in chain.windows(switched())] == [(1, place(6.5, 2))]


@pytest.mark.parametrize(
    ("wanted", "label", "kind"),
    [
        ("", "c", "name"),
        ("latest", "c", "latest"),
        ("mark a", "a", "name"),
        (place(4).lsn.lower(), "b", "lsn"),
        ("2026-01-01T05:00:00+00:00", "b", "time"),
        ("2026-01-01T05:30:00+02:00", "b", "time"),
        ("2026-01-01 09:00:00Z", "c", "time"),
    ],
)
def test_a_moment_is_restored_from_the_newest_backup_before_it(wanted: str, label: str, kind: str) -> None:
    chosen, target = chain.locate(plain(), wanted)
    assert (chosen.label, target.kind, target.timeline) == (label, kind, 1)
    assert target.inclusive is (kind != "lsn")


def test_a_backup_may_be_chosen_and_a_verified_one_goes_before_a_newer_one() -> None:
    assert chain.locate(plain(), "latest", backup="a")[0].label == "a"
    fresh = replace(plain(), backups=(*plain().backups, backup("new", 6, verified=False)))
    assert chain.locate(fresh, "latest")[0].label == "c"
    assert chain.locate(replace(fresh, backups=fresh.backups[3:]), "latest")[0].label == "new"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("2026-01-01T00:30:00Z", "before the first backup; what can be restored: 2026-01-01 01:12:00"),
        ("2027-01-01T00:30:00Z", "in the future; what can be restored"),
        ("2026-01-01T09:30:30Z", "later than the WAL that is safe; what can be restored"),
        ("2026-01-01T04:30:00", "has no time zone"),
        ("0/1", "0/1 is before the first backup"),
        ("0/F0000000", "past the end of the WAL"),
        ("mark q", "did you mean 'mark"),
        ("yesterday", "allowed are a time such as"),
    ],
)
def test_a_moment_that_cannot_be_is_one_line_with_what_there_is(wanted: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        chain.locate(plain(), wanted)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_moment_in_a_gap_on_another_timeline_or_without_a_backup_is_said() -> None:
    holed = replace(plain(without=(4,)), backups=plain().backups)
    with pytest.raises(UsageError, match=r"in a gap of the WAL; what can be restored: .* and 2026"):
        chain.locate(holed, place(4.5).lsn)
    dead = replace(switched(), backups=(backup("a", 1), backup("dead", 4.6)))
    with pytest.raises(UsageError, match="another timeline: timeline 2 left timeline 1"):
        chain.locate(dead, "mark dead")
    with pytest.raises(UsageError, match="there is none; run backup"):
        chain.locate(replace(plain(), backups=()), "latest")
    with pytest.raises(UsageError, match="has no backup 'x'"):
        chain.locate(plain(), "latest", backup="x")
    unreceived = replace(plain(), flushed=place(5.15))
    with pytest.raises(UsageError, match=r"c cannot be restored from: its WAL, .* has not been received"):
        chain.locate(unreceived, "latest", backup="c")
