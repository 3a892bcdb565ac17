"""What may be deleted, what is said of what stays, and how a repository is read: decisions, without a cluster."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aya_lib.backup import judge
from aya_lib.backup.held import left_running
from aya_lib.backup.look import NoRepository, parse, receiver_of, written
from aya_lib.backup.records import Backup, Kind, Mark, Position, Proof, Receiver, Repository, Segment
from aya_lib.backup.retain import expired
from aya_lib.cluster.lsn import lsn, number
from aya_lib.cluster.wal import name
from aya_lib.site import Site, load_site

SEGMENT = 16 * 2**20
NOW = datetime(2026, 11, 29, 3, tzinfo=UTC)


def made(days_ago: float, *, parent: str | None = None, verified: bool = True, fault: str = "") -> Backup:
    """A backup of so many days ago; a segment of WAL is written every hour."""
    at = NOW - timedelta(days=days_ago)
    kind: Kind = "incremental" if parent else "full"
    place = Position(1, lsn(int((1000 - days_ago) * 24) * SEGMENT), at)
    proof = Proof(at, 1000, 1, True, 3, 60.0) if verified else None
    mark = Mark(f"aya-{at:%Y%m%dT%H%M%SZ}", place)
    label = f"{at:%Y%m%dT%H%M%SZ}-{kind}"
    return Backup(label, kind, parent, "ALPHA", place, place, at, at, 2**30, mark, {}, proof, fault)


def repository(*backups: Backup, now: datetime = NOW) -> Repository:
    """With a segment for each of the last thousand hours."""
    wal = [Segment(name(1, (24_000 - hour) * SEGMENT, SEGMENT), SEGMENT) for hour in range(1000, 0, -1)]
    flushed = Position(1, lsn(24_000 * SEGMENT), now)
    ordered = tuple(sorted(backups, key=lambda one: one.ended))
    receiver = Receiver("receiving", now, "", "BETA")
    return Repository("BETA", "/backups", "7", SEGMENT, ordered, tuple(wal), {}, receiver, flushed, 2**40, now)


def test_the_newest_verified_backup_before_the_window_stays_with_all_it_stands_on() -> None:
    full = made(20)
    middle, last = made(9, parent=full.label), made(8, parent=full.label)
    found = expired(repository(made(30), full, middle, last, made(1, parent=full.label)), 7)
    assert found.backups == (middle.label, made(30).label)
    assert last.label in found.why
    assert max(one.name for one in found.segments) < name(1, number(last.start.lsn), SEGMENT)


def test_children_go_before_what_they_stand_on() -> None:
    full = made(30)
    child = made(29, parent=full.label)
    grandchild = made(28, parent=child.label)
    assert expired(repository(full, child, grandchild, made(8), made(1)), 7).backups == (
        grandchild.label,
        child.label,
        full.label,
    )


@pytest.mark.parametrize(
    "backups",
    [
        (made(400),),
        (made(400), made(1, verified=False)),
        (made(400), made(1, fault="a flipped bit")),
        (made(30, verified=False), made(20, verified=False), made(1, verified=False)),
        (made(3), made(2)),
    ],
    ids=["the last one, however old", "a newer one not verified", "a newer one damaged", "none verified", "a young repository"],
)
def test_nothing_is_deleted_that_the_site_may_still_rest_on(backups: tuple[Backup, ...]) -> None:
    found = expired(repository(*backups), 7)
    assert (found.backups, found.segments) == ((), ())
    assert found.why


@pytest.mark.parametrize("hours", [-24 * 365, 24 * 365])
def test_a_clock_that_jumped_deletes_nothing(hours: int) -> None:
    """Beside another clock; and without one, when it was set back behind what it wrote."""
    held = repository(made(30), made(8), made(1), now=NOW + timedelta(hours=hours))
    found = expired(held, 7, clock=NOW)
    assert (found.backups, found.segments) == ((), ())
    assert "clocks are" in found.why
    assert hours > 0 or "set back" in expired(held, 7).why


def test_whatever_there_is_the_last_verified_one_and_its_chain_stay_and_are_restorable() -> None:
    draw = random.Random(7)
    for _ in range(300):
        backups: list[Backup] = []
        for day in sorted(draw.sample(range(60), draw.randint(1, 12)), reverse=True):
            parent = draw.choice([None, *backups])
            fault = "damaged" if draw.random() < 0.2 else ""
            backups.append(made(day, parent=parent.label if parent else None, verified=draw.random() < 0.6, fault=fault))
        held = repository(*backups, now=NOW + timedelta(hours=draw.choice([0, 0, 200, -200])))
        gone = expired(held, draw.choice([1, 7, 30]))
        left = [one for one in held.backups if one.label not in gone.backups]
        assert all(one.parent is None or one.parent in {each.label for each in left} for one in left)
        assert held.proven is None or held.proven in left
        if held.proven:
            first = name(1, number(held.proven.start.lsn), SEGMENT)
            assert not [one for one in gone.segments if one.name >= first]


LISTING = """wal:
total 32784
-rw------- 1 1 1 16777216 Nov 29 03:00 000000010000000000000003
-rw------- 1 1 1 16777216 Nov 29 03:00 000000010000000000000004.partial
-rw------- 1 1 1       41 Nov 29 03:00 00000002.history
drwx------ 2 1 1     4096 Nov 29 03:00 before-gap-000000010000000000000002

wal/before-gap-000000010000000000000002:
total 16392
-rw------- 1 1 1 16777216 Nov 29 02:00 000000010000000000000002
"""


def said(backup: str, **parts: str) -> str:
    """What the look prints of a repository with one backup."""
    usual = {
        "now": "1764385200",
        "disk": "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 50 50 50% /\n",
        "id": '{"system_identifier": "7", "segment_bytes": 16777216}',
        "receiver": "",
        "wal": LISTING,
        "history 00000002.history": "1\t0/3000000\tno recovery target specified\n",
        f"backup {made(1).label}": backup,
        "busy": "",
    }
    return "".join(f"\n\x1e{what}\n{text}" for what, text in (usual | parts).items())


def test_a_repository_is_read_and_a_record_comes_back_as_it_was_written() -> None:
    found = parse("BETA", "/backups", said(written(made(1))))
    assert isinstance(found, Repository)
    assert found.backups == (made(1),)
    assert [(one.name[-1], one.partial, one.folder) for one in found.segments] == [
        ("2", False, "before-gap-000000010000000000000002"),
        ("3", False, ""),
        ("4", True, ""),
    ]
    assert (found.free_bytes, found.receiver.state, list(found.history)) == (50 * 1024, "gone", [2])


@pytest.mark.parametrize(
    "text", ["", "{", written(made(1))[:200], written(made(2)), "\ufffd\ufffd", "cat: backup.json: No such file"]
)
def test_a_damaged_record_is_a_fault_of_that_backup_and_not_the_end_of_the_look(text: str) -> None:
    found = parse("BETA", "/backups", said(text))
    assert isinstance(found, Repository)
    assert list(found.damaged) == [made(1).label]
    assert found.backups == ()
    whole = next(check for check in judge.checks(_site(), found) if check.name == "backups are whole")
    assert (whole.status, made(1).label in whole.observed) == ("failed", True)


def test_a_damaged_identity_is_no_empty_repository() -> None:
    with pytest.raises(Exception, match="it is damaged"):
        parse("BETA", "/backups", said("", id="{"))
    assert isinstance(parse("BETA", "/backups", said("", id="cat: repository.json: No such file or directory")), NoRepository)


def test_half_backups_are_left_only_while_nobody_is_at_work() -> None:
    half = {"left 20261129T030000Z-full.part": ""}
    idle = parse("BETA", "/backups", said(written(made(1)), **half))
    busy = parse("BETA", "/backups", said(written(made(1)), **half, busy="perl -e ... aya-lock /backups backup, PID 7 of a@b\n"))
    assert isinstance(idle, Repository)
    assert isinstance(busy, Repository)
    assert (idle.left, idle.busy) == (("20261129T030000Z-full.part",), "")
    assert (busy.left, busy.busy) == ((), "backup, PID 7 of a@b")


@pytest.mark.parametrize("text", ["{", "[]", '{"state": "flying"}', '{"state": "receiving", "at": "yesterday"}'])
def test_a_damaged_file_of_the_receiver_is_no_receiver(text: str) -> None:
    assert receiver_of(text) == (Receiver("gone", reason="its file receiver.json cannot be read"), None)


HELD = repository(made(1))
LATE = Position(1, lsn(24_000 * SEGMENT), NOW - timedelta(minutes=9))
SAFE = "WAL is safe on the keeper"


def _site(**changes: object) -> Site:
    return load_site(str(Path(__file__).parent.parent.parent / "parameters" / "lab" / "site.yaml")).model_copy(update=changes)


@pytest.mark.parametrize(
    ("held", "name_", "status", "words"),
    [
        (repository(made(0.5)), "last verified backup", "passed", "is 12 h old"),
        (repository(made(26.2 / 24)), "last verified backup", "failed", "is 26 h old"),
        (repository(made(3), made(0.1, verified=False)), "last verified backup", "failed", "is 3 days old"),
        (repository(made(0.1, verified=False)), "last verified backup", "failed", "none of 1 backups is verified"),
        (repository(made(-0.5)), "last verified backup", "failed", "of the future"),
        (repository(made(1), made(0.1, fault="a bit")), "backups are whole", "failed", "a bit"),
        (repository(made(1, fault="a bit"), made(0.1)), "backups are whole", "warning", "a bit"),
        (replace(HELD, receiver=Receiver("gone", reason="never")), SAFE, "failed", "no receiver"),
        (replace(HELD, flushed=LATE), SAFE, "failed", "540 s behind"),
        (replace(HELD, receiver=Receiver("receiving", NOW - timedelta(hours=3))), SAFE, "failed", "nothing for 3 h"),
        (replace(HELD, free_bytes=2**20), "room for backups", "failed", "1 MB free"),
        (HELD, "what can be restored", "passed", "2026-11-28"),
        (replace(HELD, segments=repository().segments[:-5]), "what can be restored", "failed", "WAL is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_said_of_a_repository_on_production(held: Repository, name_: str, status: str, words: str) -> None:
    found = {check.name: check for check in judge.checks(_site(production=True), held)}[name_]
    assert (found.status, words in found.observed) == (status, True), found
    assert found.status == "passed" or found.hint


def test_before_the_first_backup_a_lab_is_told_and_production_fails() -> None:
    none = NoRepository("BETA", "keeps no backups yet")
    (lab,), (production,) = judge.checks(_site(), none), judge.checks(_site(production=True), none)
    assert (lab.status, lab.required) == ("warning", False)
    assert (production.status, production.required) == ("failed", True)
    assert judge.checks(_site(backup=None), none) == []


def test_what_a_killed_run_left_at_work_is_known_by_the_folder_it_works_in() -> None:
    table = (
        "  12 /usr/bin/pg_basebackup -D /backups/backups/20261129T030000Z-full.part/data -d host=a\n"
        "  13 /usr/bin/pg_basebackup -D /var/data.incoming -d host=a\n"
        "  14 /usr/bin/pg_receivewal -D /backups/wal -d host=a\n"
        "  15 pg_dump -w -Fc -f /backups/backups/x.part/dumps/a.dump\n"
        "  16 vi /backups/notes\n"
    )
    assert left_running(table, Path("/backups")) == [12, 15]
