"""Restores of a small cluster with writers: to points in time, over a promotion, of damaged WAL, and after a killed run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backup_story import Story, told

from aya_lib.backup import chain, mark, points, reading, replay
from aya_lib.backup.records import Target
from aya_lib.cluster import scratch as server
from aya_lib.errors import ChangeFailed, UsageError
from aya_lib.show import as_text

FULL, INCREMENTAL = "20260101T000000Z-full", "20260102T000000Z-incremental"


@pytest.fixture(scope="module")
def story(place: Path) -> Iterator[Story]:
    with told(place, "restored") as story:
        yield story


def rows(story: Story, sockets: Path) -> set[int]:
    text = server.psql(story.keeper, sockets, "aya_rag", "SELECT id FROM written")
    return {int(line) for line in text.split()}


def test_over_twenty_points_in_time_the_rows_are_exactly_what_was_acknowledged(story: Story) -> None:
    """One restore that goes on from point to point, forward, over the promotion in the middle; every third one is a time."""
    seen = story.seen()
    assert len(story.points) == 20
    backup, _ = chain.locate(seen, story.points[0].lsn)
    assert backup.label == FULL
    for place, point in enumerate(story.points):
        wanted = point.at.isoformat() if place % 3 == 2 else point.lsn
        _, target = chain.locate(seen, wanted, FULL)
        expected = story.rows(at=point.at) if target.kind == "time" else story.rows(point.lsn)
        assert point.acknowledged <= expected <= point.begun
        if place == 0:
            replay.restore(story.keeper, seen, backup, target, story.into)
        else:
            replay.aim(story.keeper, seen, backup, target, story.into)
        with replay.scratch(story.keeper, story.into) as sockets:
            assert rows(story, sockets) == expected, wanted
    assert len(story.rows(story.points[-1].lsn)) > len(story.rows(story.points[0].lsn)) > 0


def test_an_incremental_backup_with_a_tablespace_is_what_its_mark_says(story: Story) -> None:
    seen = story.seen()
    backup, target = chain.locate(seen, f"aya-{INCREMENTAL}")
    assert (backup.label, target.kind) == (INCREMENTAL, "name")
    replay.restore(story.keeper, seen, backup, target, story.into)
    replay.aim(story.keeper, seen, backup, target, story.into, promote=True)
    with replay.scratch(story.keeper, story.into) as sockets:
        assert backup.mark
        assert mark.compare(backup.mark, story.keeper, sockets).differing == ()
        assert server.psql(story.keeper, sockets, "aya_rag", "SELECT count(*) FROM far").strip() == "1000"
        assert server.psql(story.keeper, sockets, "aya_rag", "SELECT pg_is_in_recovery()").strip() == "f"
    (link,) = (story.into / "data" / "pg_tblspc").iterdir()
    assert link.readlink().is_relative_to(story.into)
    replay.remove(story.keeper, story.into)
    assert not story.into.exists()


@pytest.mark.parametrize("wanted", ["latest", "later"])
def test_the_end_of_the_wal_is_a_target_of_its_own(story: Story, wanted: str) -> None:
    """A time after the last commit too: recovery to that time would end with a fault, for nothing later ever comes."""
    seen = story.seen()
    assert seen.flushed
    backup, target = chain.locate(seen, "latest" if wanted == "latest" else seen.flushed.at.isoformat())
    told = reading.settled(story.keeper, seen, backup, target)
    assert (told.kind, told.inclusive) == ("lsn", True)
    replay.restore(story.keeper, seen, backup, target, story.into)
    with replay.scratch(story.keeper, story.into) as sockets:
        assert rows(story, sockets) == story.acknowledged


def test_whole_wal_is_read_through_over_the_promotion_without_a_word(story: Story) -> None:
    seen = story.seen()
    assert seen.flushed
    assert reading.read_through(story.keeper, seen, seen.backups[0].start, seen.flushed) == ()
    assert [part.timeline for part in reading.parts(seen, seen.backups[0].start, seen.flushed)] == [1, 2]


@pytest.fixture
def segment(story: Story) -> Iterator[Path]:
    """A segment between the two marks and the end, to be damaged; it is whole again afterwards."""
    seen = story.seen()
    second = seen.backups[1].stop
    found = next(file for part in reading.parts(seen, second, story.flushed or second) for file in part.files.values())
    assert found
    path = Path(found)
    whole, owner = path.read_bytes(), path.stat()
    yield path
    path.write_bytes(whole)
    os.chown(path, owner.st_uid, owner.st_gid)


def _bit(path: Path) -> None:
    """One bit in the middle of what was written."""
    content = bytearray(path.read_bytes())
    place = len(content.rstrip(b"\0")) // 2
    content[place] ^= 4
    path.write_bytes(content)


def _other(path: Path) -> None:
    """The segment before it, under its name."""
    before = sorted(path.parent.glob("0" * 7 + "1" + "0" * 13 + "???"))[0]
    path.write_bytes(before.read_bytes())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _bit,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:70_000]),
    "doubled": _other,
    "empty": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_wal_is_found_before_a_restore_and_by_the_restore_itself(story: Story, segment: Path, damage: str) -> None:
    """Never by rows that are missing: recovery that takes the damage for the end of the WAL has not reached its target."""
    whole = story.seen()
    assert whole.flushed
    DAMAGES[damage](segment)
    seen = story.seen()
    found = reading.read_through(story.keeper, seen, seen.backups[0].start, whole.flushed)
    assert [gap.first for gap in found] == [segment.name.removesuffix(".partial")], found
    if damage in ("a flipped bit", "doubled"):
        backup, target = chain.locate(whole, story.points[-1].lsn)
        replay.restore(story.keeper, whole, backup, Target("lsn", story.points[-1].lsn, target.timeline), story.into)
        with (
            pytest.raises(ChangeFailed, match=r"recovery ended at .*, before the LSN .*: .* at 0/"),
            replay.scratch(story.keeper, story.into),
        ):
            pass


def test_what_a_killed_run_left_is_ended_and_deleted_and_nothing_else(story: Story) -> None:
    seen = story.seen()
    backup, target = chain.locate(seen, "latest")
    replay.restore(story.keeper, seen, backup, target, story.into)
    server.start(story.keeper, story.into / "data", story.into, {"config_file": str(story.into / "scratch.conf")}).checked()
    replay.remove(story.keeper, story.into)
    assert not story.into.exists()
    replay.remove(story.keeper, story.into)
    with pytest.raises(UsageError, match="not a folder of ours"):
        replay.clear(story.keeper, story.source.data_directory)
    with pytest.raises(UsageError, match="cannot be used: it holds files that are not ours"):
        replay.restore(story.keeper, seen, backup, target, story.source.data_directory.parent)
    assert (story.source.data_directory / "PG_VERSION").exists()


def test_just_before_that_delete_is_found_in_the_wal_and_restored(story: Story) -> None:
    """Also in the file that the table had before it was emptied; what was rolled back is none of it."""
    seen = story.seen()
    events = points.find(story.keeper, seen, "lost", points.files_of(story.source, "lost")).events
    assert [(one.deleted, one.updated, one.rewritten) for one in events] == [(40, 0, False), (0, 5, False), (0, 0, True)]
    for event, rows in zip(events, (100, 60, 60), strict=True):
        backup, target = chain.locate(seen, event.lsn)
        if event is events[0]:
            replay.restore(story.keeper, seen, backup, target, story.into)
        # Before the commit of a TRUNCATE its lock is held: only a promotion gives it back, and comes last for that.
        replay.aim(story.keeper, seen, backup, target, story.into, promote=event.rewritten)
        with replay.scratch(story.keeper, story.into) as sockets:
            assert server.psql(story.keeper, sockets, "aya_rag", "SELECT count(*) FROM lost").strip() == str(rows)


def test_a_table_that_is_gone_is_found_among_the_dropped(story: Story) -> None:
    seen = story.seen()
    found = points.find(story.keeper, seen, "gone", points.files_of(story.source, "gone"), since=story.points[-1].at)
    assert found.files == ()
    backup, target = chain.locate(seen, found.events[-1].lsn)
    replay.restore(story.keeper, seen, backup, target, story.into)
    replay.aim(story.keeper, seen, backup, target, story.into, promote=True)
    with replay.scratch(story.keeper, story.into) as sockets:
        assert server.psql(story.keeper, sockets, "aya_rag", "SELECT count(*) FROM gone").strip() == "1"
    assert "no table gone now" in as_text(found.table())
