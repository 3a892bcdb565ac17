"""Backups of a real pair: made beside writers, proven, damaged in every way, killed, two at once, and deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from backups import KILLED, aged, damages, flip, newest, repository, verify
from pairs import reconfigured
from tests_support import make, passed, step, up
from writers import clients

from aya_lib import lab as labs
from aya_lib.backup import engine, look, mark, reading
from aya_lib.backup.held import held
from aya_lib.backup.records import Repository
from aya_lib.backup.verify import Damaged
from aya_lib.cluster import wal
from aya_lib.cluster.lsn import number
from aya_lib.errors import AyaError, CommandFailed, Locked, UsageError
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.operations import backup
from aya_lib.site import Site


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    def small(config: dict[str, dict[str, dict[str, object]]]) -> None:
        for node in config["nodes"].values():
            node.pop("embedding", None)

    made = reconfigured(make(place, "backups"), small)
    try:
        up(made)
        for node in open_nodes(made).pair:
            with node.session(database="postgres", write=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")  # durability is not the subject here
                connection.execute("SELECT pg_reload_conf()")
        passed(step("backup", site=made.name))
        yield made
    finally:
        labs.delete(made)


@pytest.fixture
def nodes(site: Site) -> Nodes:
    return open_nodes(site)


def test_the_first_run_makes_a_repository_that_only_its_account_may_enter(site: Site, nodes: Nodes) -> None:
    found, one = repository(nodes), newest(nodes)
    where = look.folder(site)
    assert (where.stat().st_mode & 0o777, one.kind, one.verified) == (0o700, "full", True)
    assert one.mark
    assert one.mark.tables["aya_rag"]["public.chunks"][0] > 0
    assert one.proof
    assert one.proof.compared_tables == 3
    assert {"aya_rag.dump", "globals.sql", "postgres.dump"} == set(one.dumps)
    assert (found.left, found.busy, found.receiver.state) == ((), "", "receiving")
    secret = (site.path(Path("secrets/pgpass"))).read_text().split(":")[-1].strip()
    assert subprocess.run(["grep", "-rlF", secret, str(where)], capture_output=True, text=True).stdout == ""


def test_an_incremental_one_beside_writers_is_equal_to_its_mark(site: Site, nodes: Nodes) -> None:
    with clients(site, 2, probe=False) as writing:
        stepped = passed(step("backup", site=site.name))
    assert writing.acknowledged
    one = newest(nodes)
    assert (one.kind, one.verified) == ("incremental", True)
    assert one.mark
    assert not one.mark.unsaid
    marked = one.mark.tables["aya_rag"]["public.acknowledged"][0]
    assert 0 < marked < len(writing.acknowledged)
    assert stepped.check("the newest backup restores")["status"] == "passed"
    assert "lock" not in stepped.record  # a failover is not kept away
    full = repository(nodes).backups[0]
    assert one.bytes < full.bytes
    assert reading.read_through(nodes["BETA"], repository(nodes), full.start, one.start) == ()  # right behind a page's header


@pytest.mark.parametrize("what", ["table", "manifest", "dump", "globals", "WAL"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_what_is_damaged_is_found_and_written_down_and_counts_no_more(site: Site, nodes: Nodes, what: str, how: str) -> None:
    one = repository(nodes).backups[0]
    where = look.place(site, one.label)
    segment = f"{one.start.timeline:08X}{0:08X}{int(one.start.lsn.split('/')[1], 16) >> 24:08X}"
    path, words = damages(where, look.folder(site) / "wal", segment)[what]
    kept = path.with_name(f".{path.name}.kept")
    subprocess.run(["cp", "-p", path, kept], check=True)
    try:
        if how == "gone":
            path.rename(path.with_name(f".{path.name}.gone"))
        else:
            flip(path, 100 if what == "WAL" else None)
        subprocess.run(["mv", kept, site.root / "kept"], check=True)
        with pytest.raises(Damaged, match=words if how == "flipped" else path.name.split(".")[0]):
            verify(nodes, one.label)
    finally:
        path.with_name(f".{path.name}.gone").unlink(missing_ok=True)
        subprocess.run(["mv", site.root / "kept", path], check=True)
    damaged = repository(nodes).backup(one.label)
    assert damaged
    assert (damaged.verified, damaged.proof) == (False, None)
    assert damaged.fault


def test_a_damaged_parent_is_found_through_its_child_and_a_proof_takes_the_fault_away(site: Site, nodes: Nodes) -> None:
    full, child = repository(nodes).backups[:2]
    verify(nodes, full.label)
    path = look.place(site, full.label) / "data" / "PG_VERSION"
    flip(path)
    with pytest.raises(Damaged, match=f"stands on {full.label}, which is damaged"):
        verify(nodes, child.label)
    assert [bool(one.fault) for one in repository(nodes).backups[:2]] == [True, True]
    found = backup.look(nodes, backup.request("incremental"))
    with pytest.raises(UsageError, match="no verified backup to stand on"):
        backup.plan(found)
    flip(path)
    assert verify(nodes, full.label).verified
    assert verify(nodes, child.label).verified


def test_wal_that_is_damaged_between_two_backups_is_put_aside_and_the_gap_is_seen(site: Site, nodes: Nodes) -> None:
    full, child = repository(nodes).backups[:2]
    full = full if full.verified else verify(nodes, full.label)
    assert full.mark
    place, size = number(full.mark.position.lsn), repository(nodes).segment_bytes
    path = look.folder(site) / "wal" / wal.name(full.mark.position.timeline, place, size)
    aside = path.with_name(f"{path.name}.damaged")
    flip(path, place % size + 40)
    try:
        with pytest.raises(Damaged, match=f"is proven, but WAL between {full.label} and it is damaged"):
            verify(nodes, child.label)
        found = repository(nodes)
        assert (found.backup(child.label) or full).verified
        check = next(one for one in backup.proven(backup.look(nodes)) if one.name == "what can be restored")
        assert (check.status, "WAL is missing in between" in check.observed) == ("warning", True)
    finally:
        flip(aside, place % size + 40)
        aside.rename(path)


@pytest.mark.parametrize("where", ["_span", "moment", "sums", "record", "finish"])
def test_a_killed_run_leaves_nothing_that_looks_like_a_backup(site: Site, nodes: Nodes, where: str) -> None:
    before = [one.label for one in repository(nodes).backups]
    label = "20991231T000000Z-full"
    words = [sys.executable, "-c", KILLED, site.name, where, label]
    assert subprocess.run(words, capture_output=True, timeout=60).returncode == -signal.SIGKILL
    found = repository(nodes)
    assert (found.left, [one.label for one in found.backups], found.busy) == ((f"{label}.part",), before, "")


def test_the_next_run_deletes_what_was_left(site: Site, nodes: Nodes) -> None:
    assert repository(nodes).left
    alpha = nodes["ALPHA"]
    engine.Make("20991231T000001Z-full", "full", None, alpha, alpha, dump=False).run(nodes["BETA"])
    found = repository(nodes)
    assert (found.left, found.backups[-1].label) == ((), "20991231T000001Z-full")
    subprocess.run(["rm", "-r", look.place(site, found.backups[-1].label)], check=True)


def test_two_at_once_are_refused_and_the_first_is_named(site: Site, nodes: Nodes) -> None:
    alpha = nodes["ALPHA"]
    with held(nodes["BETA"], look.folder(site), "backup") as still:
        still()
        assert "backup, PID" in repository(nodes).busy
        with pytest.raises(Locked, match=f"in use by backup, PID {os.getpid()}"):
            engine.Make("20991231T000000Z-full", "full", None, alpha, alpha).run(nodes["BETA"])
        checks = {check.name: check.status for check in backup.preconditions(backup.look(nodes))}
        assert checks["nobody else is at work"] == "failed"
    assert repository(nodes).busy == ""


@pytest.fixture
def small(site: Site) -> Iterator[Node]:
    """The keeper with a repository on a disk of 20 MB."""
    where = site.path(Path("beta/small"))
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", where], capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        keeper = open_nodes(site)["BETA"]
        subprocess.run(["chown", str(keeper.account), where], check=True)
        assert site.backup
        other = site.model_copy(update={"backup": site.backup.model_copy(update={"directory": where})})
        yield open_nodes(other)["BETA"]
    finally:
        subprocess.run(["umount", where], check=True)
        where.rmdir()


def test_a_full_or_read_only_disk_ends_the_run_in_one_line_and_nothing_counts(nodes: Nodes, small: Node) -> None:
    alpha = nodes["ALPHA"]
    source = engine.look_source(alpha)
    engine.Begin(source.system_identifier, source.segment_bytes).run(small)
    with pytest.raises(CommandFailed, match="No space left on device"):
        engine.Make("20991231T000000Z-full", "full", None, alpha, alpha).run(small)
    found = look.look_at(small)
    assert isinstance(found, Repository)
    assert (found.backups, found.left) == ((), ())
    assert found.free_bytes > 15 * 2**20  # WAL must still have room
    subprocess.run(["mount", "-o", "remount,ro", look.folder(small.site)], check=True)
    with pytest.raises(CommandFailed, match="Read-only file system"):
        engine.Make("20991231T000000Z-full", "full", None, alpha, alpha).run(small)


def test_a_writer_that_keeps_its_locks_is_named_and_the_mark_says_so(
    site: Site, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mark, "TRIES", 2)
    with nodes["ALPHA"].session(write=True) as writer:
        writer.execute("BEGIN; DELETE FROM chunks WHERE id = 1")
        found = mark.make(nodes["ALPHA"], "aya-test")
        writer.execute("ROLLBACK")
    assert "could not be locked in any of 2 tries: held by PID" in found.unsaid
    assert "on chunks" in found.unsaid
    assert not mark.make(nodes["ALPHA"], "aya-test").unsaid


def test_writers_wait_for_a_mark_and_none_of_them_fails(nodes: Nodes) -> None:
    """One that holds a table and wants another, while a mark locks both: nobody is the victim of a deadlock."""
    failed: list[AyaError] = []
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            try:
                with nodes["ALPHA"].session(write=True) as writer:
                    for _ in range(20):
                        writer.execute(
                            "BEGIN; UPDATE chunks SET chunk_index = chunk_index; UPDATE documents SET source = source; COMMIT"
                        )
            except AyaError as error:
                failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        marks = [mark.make(nodes["ALPHA"], f"aya-test-{number}") for number in range(4)]
    finally:
        ended.set()
        thread.join()
    assert failed == []
    assert any(not one.unsaid for one in marks)


def test_tablespaces_lie_in_the_backup_and_their_links_lead_there(site: Site, nodes: Nodes) -> None:
    """Of the laptop's server: those of the pair lie on one machine here, and would share the place of a tablespace."""
    air, keeper, where, label = nodes["AIR"], nodes["BETA"], site.path(Path("air/space")), "20991231T000004Z-full"
    air.shell.run(["mkdir", str(where)], account=air.account).checked()
    with air.session(write=True) as connection:
        connection.execute(f"CREATE TABLESPACE space LOCATION '{where}'".encode())
        connection.execute("CREATE TABLE spaced TABLESPACE space AS SELECT n FROM generate_series(1, 1000) AS n")
    engine.Make(label, "full", None, air, air, dump=False).run(keeper)
    made = look.place(site, label)
    (link,) = (made / "data" / "pg_tblspc").iterdir()
    assert link.readlink() == made / "tablespaces" / link.name
    assert [path for path in link.rglob("*") if path.is_file()]
    keeper.postgresql("pg_verifybackup", str(made / "data"), timeout_s=60).checked()
    subprocess.run(["rm", "-rf", made], check=True)


def test_another_clusters_repository_is_refused(nodes: Nodes) -> None:
    found = backup.look(nodes)
    assert isinstance(found.repository, Repository)
    other = replace(found, repository=replace(found.repository, system_identifier="1"))
    check = next(one for one in backup.preconditions(other) if one.name == "the repository is this cluster's")
    assert (check.status, check.observed) == ("failed", "it is of 1")


def test_the_command_line_says_what_there_is_and_what_there_is_not(site: Site, nodes: Nodes) -> None:
    def aya(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, "-m", "aya_lib", "backup", *words], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    code, out, _ = aya("list", "--site", site.name, "--json")
    said = json.loads(out)
    assert code == 0, out
    assert [one["label"] for one in said["backups"]] == [one.label for one in repository(nodes).backups]
    assert said["windows"]
    status = subprocess.run(
        [sys.executable, "-m", "aya_lib", "status", "--site", site.name, "--json"], capture_output=True, timeout=60
    )
    states = {check["name"]: check["status"] for check in json.loads(status.stdout)["checks"]}
    assert {states["last verified backup"], states["what can be restored"], states["WAL is safe on the keeper"]} == {"passed"}
    code, out, err = aya("verify", "20200101T000000Z-full", "--site", site.name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert newest(nodes).label in err


def test_pruning_deletes_what_is_older_and_what_stays_is_restorable(site: Site, nodes: Nodes) -> None:
    keeper, alpha = nodes["BETA"], nodes["ALPHA"]
    labels = ["20991231T000002Z-full", "20991231T000003Z-full"]
    for label in labels:
        engine.Make(label, "full", None, alpha, alpha, dump=False).run(keeper)
        verify(nodes, label)
    whole = repository(nodes)
    for one, days in zip(whole.backups, (30, 29, 8), strict=False):
        aged(keeper, one, days)
    plan = backup.prune(backup.look(nodes))
    (step_,) = plan.changes
    step_.action.run(keeper)
    left = repository(nodes)
    assert [one.label for one in left.backups] == labels
    assert 0 < len(left.segments) < len(whole.segments)
    assert verify(nodes, labels[0]).verified
    assert not backup.prune(backup.look(nodes))


def test_after_a_failover_the_next_one_stands_on_what_the_old_primary_gave(site: Site, nodes: Nodes) -> None:
    """The new primary shows sequences as far as WAL was ahead of them; a backup on the old one's does not, and is whole."""
    before = [one.label for one in repository(nodes).backups]
    passed(step("failover", site=site.name, reason="the backup's test"))
    stepped = passed(step("backup", site=site.name))
    one = newest(nodes)
    assert (one.kind, one.parent, one.source, one.verified) == ("incremental", before[-1], "BETA", True)
    assert (one.start.timeline, repository(nodes).receiver.state) == (2, "receiving")
    assert stepped.check("backups lie apart")["status"] == "warning"
