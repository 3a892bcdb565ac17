"""The primary is put back to an earlier state: a copy of its files, which goes on on the same timeline, or a point in time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from air_work import add, as_it_is, ask, count, killed, offline, one, one_round, prepare, rewrite, same, texts, writing
from tests_support import fill

from aya_lib.air.link import open_ends
from aya_lib.air.position import survives
from aya_lib.errors import SqlFailed
from aya_lib.node import wait
from aya_lib.node.node import Nodes

LOST = 20  # documents that the laptop pulled and the primary lost: as many transactions


@pytest.fixture(scope="module", autouse=True)
def alone(own: Nodes) -> None:
    """The standby is not of interest here: it would follow the server that was put back."""
    own["BETA"].supervisor.stop("postgresql")
    with own["ALPHA"].session(write=True) as alpha:
        alpha.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


@pytest.fixture(autouse=True)
def equal(own: Nodes) -> Iterator[None]:
    """Both sides are equal before a test, and again after it."""
    one_round(own)
    yield
    assert same(own) == []


@contextmanager
def stopped(nodes: Nodes, node: str = "ALPHA") -> Iterator[Path]:
    """A server's files while it does not run."""
    nodes[node].supervisor.stop("postgresql")
    yield nodes[node].data_directory
    nodes[node].supervisor.start("postgresql")


def copied(nodes: Nodes, name: str, node: str = "ALPHA") -> Path:
    with stopped(nodes, node) as data:
        copy = data.with_name(name)
        subprocess.run(["cp", "-a", data, copy], check=True)
    return copy


def put_back(nodes: Nodes, copy: Path, node: str = "ALPHA") -> None:
    with stopped(nodes, node) as data:
        shutil.rmtree(data)
        subprocess.run(["cp", "-a", copy, data], check=True)


def seen_and_lost(nodes: Nodes, edited: int, mark: str) -> None:
    """What the laptop pulls, and what it pushes, after the copy was made."""
    with nodes["ALPHA"].session(write=True, deadline_s=30) as alpha:
        for number in range(LOST):
            add(alpha, f"{mark}: seen and lost {number}")
    one_round(nodes)
    with nodes["AIR"].session(write=True) as air:
        add(air, f"{mark}: pushed and lost")
        rewrite(air, edited, f"{mark}: edited and lost")
    assert one_round(nodes).pushed.applied == 2
    assert same(nodes) == []


def other_rows(nodes: Nodes, mark: str, count: int = 10) -> list[int]:
    """Rows in transactions whose ids the laptop has seen already, then more WAL than was lost; the rows' ids."""
    with nodes["ALPHA"].session(write=True, deadline_s=60) as alpha:
        found = [add(alpha, f"{mark}: new {number}") for number in range(count)]
        behind = "SELECT pg_current_wal_flush_lsn() <= %s::pg_lsn"
        known = one(nodes, "AIR", "SELECT lsn::text FROM aya_sync.laptop")
        while alpha.execute(behind, (known,)).fetchone() == (True,):
            alpha.execute("SELECT pg_logical_emit_message(true, 'aya', repeat('x', 200000))")
    return found


def contents(nodes: Nodes, mark: str) -> list[str]:
    return sorted(row[0] for row in ask(nodes, "ALPHA", "SELECT content FROM documents WHERE content LIKE %s", f"{mark}:%"))


def document(nodes: Nodes, content: str) -> int:
    return writing(nodes, "ALPHA", content)


def position_survives(nodes: Nodes) -> bool:
    """What system, timeline and LSN say."""
    with open_ends(nodes, "AIR") as ends:
        position = ends.state().position
        assert position
        return survives(position, ends.cluster)


def nothing_is_lost(nodes: Nodes, mark: str, new: int) -> None:
    expected = [f"{mark}: new {number}" for number in range(new)] + [f"{mark}: pushed and lost", f"{mark}: edited and lost"]
    assert contents(nodes, mark) == sorted(expected)
    assert same(nodes) == []
    query = "SELECT document ->> 'content' FROM aya_sync.conflicts WHERE document ->> 'content' LIKE %s"
    kept = ask(nodes, "AIR", query, f"{mark}:%")
    assert sorted(row[0] for row in kept) == sorted(f"{mark}: seen and lost {number}" for number in range(LOST))
    assert ask(nodes, "AIR", "SELECT state FROM write_queue WHERE NOT synced") == []


def recovered(nodes: Nodes, copy: Path, lsn: str) -> None:
    """The primary at ``lsn``, from a base backup and the WAL after it, on a timeline of its own."""
    with stopped(nodes) as data:
        lost = data.with_name(f"lost-{copy.name}")
        data.rename(lost)
        subprocess.run(["cp", "-a", copy, data], check=True)
        (data / "recovery.signal").touch()
        with (data / "lab.conf").open("a") as file:
            file.write(f"restore_command = 'cp {lost}/pg_wal/%f %p'\nrecovery_target_lsn = '{lsn}'\n")
            file.write("recovery_target_action = 'promote'\n")
    query = "SELECT NOT pg_is_in_recovery()"
    wait.until(lambda: one(nodes, "ALPHA", query), bool, node="ALPHA", what="it is promoted", deadline_s=60)


def test_an_older_copy_of_the_files_whose_wal_grew_past_what_was_seen(own: Nodes) -> None:
    edited = document(own, "before the copy")
    one_round(own)
    copy = copied(own, "copy")
    seen_and_lost(own, edited, "files")
    put_back(own, copy)
    new = other_rows(own, "files")
    assert set(new) & {row[0] for row in ask(own, "AIR", "SELECT id FROM documents WHERE content LIKE 'files: seen%'")}
    assert position_survives(own)
    done = one_round(own)
    assert [compared.again for compared in done.compared] == [2]
    assert one_round(own).compared == []
    nothing_is_lost(own, "files", len(new))


def test_a_recovery_to_a_point_in_time(own: Nodes) -> None:
    copy = copied(own, "base")
    edited = document(own, "after the base backup")
    one_round(own)
    target = one(own, "ALPHA", "SELECT pg_current_wal_flush_lsn()::text")
    seen_and_lost(own, edited, "point")
    recovered(own, copy, target)
    assert texts(own, "ALPHA", edited) == ["after the base backup"]
    new = other_rows(own, "point")
    assert not position_survives(own)
    assert [compared.again for compared in one_round(own).compared] == [2]
    assert one_round(own).compared == []
    nothing_is_lost(own, "point", len(new))


def test_the_same_copy_again_and_a_comparison_that_is_killed(own: Nodes) -> None:
    edited = document(own, "before the copy that is used twice")
    one_round(own)
    copy = copied(own, "twice")
    for mark, sent in (("once", 2), ("again", 4)):  # the second time what was sent again is lost again
        seen_and_lost(own, edited, mark)
        put_back(own, copy)
        for _ in range(2):
            assert killed(own, "compare: read there", 1) == "compare: read there"
        new = other_rows(own, mark)
        assert position_survives(own)
        assert [compared.again for compared in one_round(own).compared] == [sent]
        nothing_is_lost(own, mark, len(new))
    assert contents(own, "once") == ["once: pushed and lost"]


def test_a_push_alone_that_is_lost_is_seen_to_be(own: Nodes) -> None:
    copy = copied(own, "push")
    offline(own, "acknowledged, and nothing pulled since")
    assert killed(own, "push: acknowledged here", 1) == "push: acknowledged here"
    assert ask(own, "AIR", "SELECT 1 FROM write_queue WHERE NOT synced") == []
    put_back(own, copy)
    other_rows(own, "push")
    assert [compared.again for compared in one_round(own).compared] == [1]
    assert count(own, "ALPHA", "acknowledged, and nothing%") == 1


def test_the_later_files_again_after_an_older_copy_was_used_for_a_while(own: Nodes) -> None:
    older = copied(own, "older")
    document(own, "on the later files, seen")
    for _ in range(3):
        assert killed(own, "pull: fetched", 1) == "pull: fetched"  # written there, and the laptop knows nothing of it
    document(own, "on the later files, not seen")
    later = copied(own, "later")
    put_back(own, older)
    for number in range(LOST):
        document(own, f"on the older files {number}")
    one_round(own)
    assert same(own) == []
    put_back(own, later)
    other_rows(own, "later", 0)
    assert len(one_round(own).compared) == 1
    assert same(own) == []
    assert count(own, "AIR", "on the later files%") == 2
    assert one(own, "AIR", "SELECT count(*) FROM aya_sync.conflicts WHERE document ->> 'content' LIKE 'on the older%'") == LOST


def test_changes_made_offline_do_not_meet_the_documents_that_have_the_ids_of_lost_ones(own: Nodes) -> None:
    both = document(own, "changed here and on the restored side")
    one_round(own)
    copy = copied(own, "offline")
    before = one(own, "AIR", "SELECT coalesce(max(id), 0) FROM aya_sync.conflicts")
    rewritten = "UPDATE documents SET content = %s WHERE id = %s"
    ask(own, "ALPHA", rewritten, "a version that is lost", both)
    lost = [document(own, f"lost {number}") for number in range(4)]
    one_round(own)
    ask(own, "AIR", "DELETE FROM documents WHERE id = ANY (%s)", [lost[0], lost[3]])
    for number in (both, lost[1], lost[2]):
        ask(own, "AIR", rewritten, f"changed offline {number}", number)
    as_it_is(own)
    offline(own, *(f"made offline {number}" for number in range(4)))
    put_back(own, copy)
    ask(own, "ALPHA", rewritten, "as the restored side has it", both)
    taken = [document(own, f"another {number}") for number in range(2)]
    assert taken == lost[:2]
    other_rows(own, "ids", 0)
    assert len(one_round(own).compared) == 1
    one_round(own)
    assert same(own) == []
    there = ask(own, "ALPHA", "SELECT content FROM documents WHERE id = ANY (%s) ORDER BY id", [both, *taken])
    assert there == [("as the restored side has it",), ("another 0",), ("another 1",)]
    assert count(own, "ALPHA", "made offline %") == 4
    kept = ask(own, "AIR", "SELECT kind, document ->> 'content' FROM aya_sync.conflicts WHERE id > %s ORDER BY 2", before)
    another, only = "the primary has another document under its id", "only here: the primary does not know it"
    assert kept == [
        ("changed on both sides", f"changed offline {both}"),
        (another, f"changed offline {lost[1]}"),
        (only, f"changed offline {lost[2]}"),
        (another, "lost 0"),
    ]


def test_an_id_that_another_document_has_here_is_met_by_a_comparison(own: Nodes) -> None:
    taken = one(own, "ALPHA", "SELECT nextval('documents_id_seq')") + 1
    with own["AIR"].session(write=True) as air, air.transaction():
        air.execute("SET LOCAL aya.applying = 'on'")
        air.execute("INSERT INTO documents (id, content) VALUES (%s, 'nobody knows why this is here')", (taken,))
    offline(own, "given the id of another")
    assert len(one_round(own).compared) == 1
    assert texts(own, "ALPHA", taken) == ["given the id of another"]
    assert same(own) == []
    lost = one(own, "AIR", "SELECT document ->> 'content' FROM aya_sync.conflicts ORDER BY id DESC")
    assert lost == "nobody knows why this is here"


def test_a_schema_of_its_own_that_is_lost_alone_doubles_nothing(own: Nodes) -> None:
    offline(own, "sent before the schema was lost")
    assert one_round(own).pushed.applied == 1
    ask(own, "ALPHA", "DROP SCHEMA aya_sync CASCADE")
    prepare(own)
    assert [compared.again for compared in one_round(own).compared] == [0]
    assert count(own, "ALPHA", "sent before%") == 1


def test_a_round_that_is_killed_between_both_commits_compares_nothing_and_an_idle_one_writes_nothing_there(own: Nodes) -> None:
    known = "SELECT xmin::text, round FROM aya_sync.clients"
    document(own, "before the kill")
    assert killed(own, "pull: fetched", 1) == "pull: fetched"
    offline(own, "pushed before the kill")
    assert killed(own, "push: committed there", 1) == "push: committed there"
    assert one(own, "AIR", "SELECT round FROM aya_sync.laptop") != one(own, "ALPHA", "SELECT round FROM aya_sync.clients")
    assert one_round(own).compared == []
    assert same(own) == []
    before = ask(own, "ALPHA", known)
    assert one(own, "AIR", "SELECT round FROM aya_sync.laptop") == before[0][1]
    one_round(own)
    assert ask(own, "ALPHA", known) == before


def test_a_laptop_that_is_put_back_sends_nothing_twice_and_keeps_what_was_written_since(own: Nodes) -> None:
    base = document(own, "on both sides at the copy")
    one_round(own)
    offline(own, "queued at the copy", "queued at the copy and edited since")
    copy = copied(own, "laptop", "AIR")
    one_round(own)
    offline(own, "pushed after the copy")
    ask(own, "AIR", "UPDATE documents SET category = 'after the copy' WHERE id = %s", base)
    one_round(own)
    put_back(own, copy, "AIR")
    ask(own, "AIR", "UPDATE documents SET category = 'since' WHERE content LIKE '%%edited since'")
    offline(own, "written after going back")
    assert len(one_round(own).compared) == 1
    one_round(own)
    assert same(own) == []
    for content in ("queued at the copy", "pushed after the copy", "written after going back"):
        assert count(own, "ALPHA", content) == 1
    assert one(own, "ALPHA", "SELECT category FROM documents WHERE id = %s", base) == "after the copy"
    kept = "SELECT document ->> 'category' FROM aya_sync.conflicts WHERE document ->> 'content' LIKE '%%edited since'"
    there = ask(own, "ALPHA", "SELECT category FROM documents WHERE content LIKE '%%edited since'")
    assert [*there, *ask(own, "AIR", kept)].count(("since",)) == 1, "what was written since is somewhere"


@pytest.mark.parametrize("name", ["ALPHA", "AIR"])
def test_a_full_disk_is_said_of_the_side_that_has_it_and_gone_on_from(own: Nodes, name: str) -> None:
    disk = own[name].data_directory.with_name("small")
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk]).returncode:
        pytest.skip("a small disk cannot be made here")
    try:
        shutil.chown(disk, own[name].data_directory.owner())
        ask(own, name, f"CREATE TABLESPACE small LOCATION '{disk}'")
        ask(own, name, "ALTER TABLE chunks SET TABLESPACE small")
        fill(disk)
        writing(own, "AIR" if name == "ALPHA" else "ALPHA", f"too much for {name}", 120)
        with pytest.raises(SqlFailed, match=rf"^{name}: .*No space left on device\. Make room on that disk"):
            one_round(own)
        (disk / "filler").unlink()
        one_round(own)
        assert same(own) == []
        assert count(own, name, f"too much for {name}") == 1
    finally:
        (disk / "filler").unlink(missing_ok=True)
        ask(own, name, "ALTER TABLE chunks SET TABLESPACE pg_default")
        ask(own, name, "DROP TABLESPACE IF EXISTS small")
        subprocess.run(["umount", "-l", disk])
