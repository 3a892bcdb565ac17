"""Slots and the WAL archive on real clusters: told before it is too late, and mended without a new base backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pairs import deaf, reconfigured, streaming
from tests_support import Stepped, passed, step

from aya_lib.check import Check
from aya_lib.cluster import archive, contents, overview
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication
from aya_lib.cluster.replication import Sender, Slot
from aya_lib.lab.faults import inject
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.operations import replication_mode
from aya_lib.operations.replication_mode.look import Server, Store
from aya_lib.plan.actions import Setting
from aya_lib.plan.change import apply
from aya_lib.site import Site

RENEWED = "Make the lost slot beta_slot anew (the archive has its WAL)"


@pytest.fixture(scope="module")
def site(pair: Site) -> Site:
    """A pair that keeps an archive, which the runbook has set up: a first run was broken off, a second one did the rest."""
    found = reconfigured(pair, lambda config: config["replication"].update(archive_directory="alpha/archive"))
    nodes = open_nodes(found)
    plan = replication_mode.plan(replication_mode.request(found), replication_mode.look(nodes))
    apply(replace(plan, changes=plan.changes[:5]), nodes, lambda *_: None)
    rest = [change.title for change in plan.changes[5:] if change.title != "Make the archive's folder"]
    assert passed(step("replication_mode", site=pair.name)).done == rest
    return found


@pytest.fixture(autouse=True)
def streams(site: Site) -> None:
    """Each test begins with BETA streaming."""
    open_nodes(site)["BETA"].supervisor.start("postgresql")
    streaming(site)


def sender(site: Site) -> Sender:
    found = overview.look_node(open_nodes(site)["ALPHA"]).sender
    assert isinstance(found, Sender)
    return found


def slot(site: Site) -> Slot:
    found = sender(site).slot(site.replication.slot)
    assert found is not None
    return found


def store(site: Site) -> Path:
    where = archive.directory(site)
    assert where is not None
    return where


def write_wal(node: Node, segments: int) -> None:
    with node.session(database="postgres", write=True, deadline_s=60) as connection:
        for _ in range(segments):
            connection.execute("SELECT pg_logical_emit_message(false, 'aya test', 'fills a segment', true)")
            connection.execute("SELECT pg_switch_wal()")


def archived(site: Site) -> int:
    found = replication_mode.look(open_nodes(site)).servers["ALPHA"]
    assert isinstance(found, Server)
    return found.archived


def judged(site: Site, name: str) -> Check:
    found = glance.judge(site, overview.look(open_nodes(site)))
    return next(check for check in found if check.name == name)


def restored(site: Site, deadline_s: int = 60) -> Stepped:
    return step("restore", site=site.name, deadline_s=deadline_s)


def mended(site: Site) -> list[str]:
    """The changes of a restore that brought everything back; only the sentence is missing, for the pair has no service."""
    told = restored(site)
    found = told.names["runbook"].checks.values()
    assert [check.name for check in found if check.status in ("failed", "unknown")] == ["ALPHA embeds a sentence"]
    return told.done


def is_whole_again(site: Site) -> None:
    """BETA streams over a slot that holds WAL, and has the same rows as ALPHA: it was not made anew, its files are the same."""
    streaming(site)
    found = contents.look(open_nodes(site), "ALPHA", "BETA")
    assert isinstance(found, contents.Compared)
    assert (found.differing(), found.uncompared) == ([], {})
    assert slot(site).wal_status in ("reserved", "extended")


@contextmanager
def lost(site: Site) -> Iterator[int]:
    """BETA is down and its slot lost; gives the inode of a file that a new base backup would replace."""
    inode = (open_nodes(site)["BETA"].data_directory / "PG_VERSION").stat().st_ino
    inject(site, "wal-lost")
    alpha = open_nodes(site)["ALPHA"]
    ready = alpha.data_directory / "pg_wal" / "archive_status"
    archiving = {"node": "ALPHA", "what": "everything is archived", "deadline_s": 60}
    wait.until(lambda: [*ready.glob("*.ready")], lambda waiting: not waiting, **archiving)  # type: ignore[arg-type]
    with alpha.session(write=True) as connection:
        connection.execute("CHECKPOINT")  # what a busy machine archived late is removed now
        connection.execute("INSERT INTO documents (content, source) VALUES ('written while the slot was lost', 'test')")
    yield inode
    assert (open_nodes(site)["BETA"].data_directory / "PG_VERSION").stat().st_ino == inode


def test_the_runbook_sets_the_archive_up_on_both_nodes_and_wal_arrives(site: Site) -> None:
    seen = replication_mode.look(open_nodes(site))
    for name in ("ALPHA", "BETA"):
        server, kept = seen.servers[name], seen.stores[name]
        assert isinstance(server, Server)
        assert isinstance(kept, Store)
        assert (server.value("archive_mode"), kept.installed, kept.folder) == ("on", True, "there")
    before = archived(site)
    write_wal(open_nodes(site)["ALPHA"], 1)
    wait.until(lambda: archived(site), lambda count: count > before, node="ALPHA", what="a segment is archived", deadline_s=60)
    assert {path.stat().st_size for path in store(site).iterdir() if len(path.name) == 24} == {16 * 1024 * 1024}
    assert passed(step("replication_mode", site=site.name)).done == []


def test_another_file_under_a_segments_name_is_told_and_left_alone(site: Site) -> None:
    alpha = open_nodes(site)["ALPHA"]
    with alpha.session(database="postgres") as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
    assert row is not None
    wrong = store(site) / str(row[0])
    wrong.write_bytes(b"of another server")
    try:
        write_wal(alpha, 1)
        wait.until(
            lambda: replication_mode.look(open_nodes(site)).servers["ALPHA"],
            lambda found: isinstance(found, Server) and found.failing,
            node="ALPHA",
            what="archiving fails",
            deadline_s=60,
        )
        told = step("replication_mode", site=site.name, deadline_s=1).check("WAL is archived")
        assert (told["status"], wrong.read_bytes()) == ("failed", b"of another server")
        assert wrong.name in told["hint"]
    finally:
        wrong.unlink()
    write_wal(alpha, 1)  # wakes the archiver, which rests for a minute after it failed
    passed(step("replication_mode", site=site.name, deadline_s=90))
    assert wrong.stat().st_size == 16 * 1024 * 1024


def test_the_slot_warns_while_its_wal_is_still_there(site: Site) -> None:
    alpha, beta = (open_nodes(site)[name] for name in ("ALPHA", "BETA"))
    assert replication.slot(site, sender(site)).status == "passed"
    with deaf(beta):
        write_wal(alpha, 6)
        told, found = replication.slot(site, sender(site)), slot(site)
        still = judged(site, "BETA's processes move")
    assert (still.status, "walreceiver" in still.observed) == ("failed", True)
    assert found.wal_status in ("reserved", "extended")  # its own word says nothing yet
    assert found.safe_wal_size is not None
    assert 0 < found.safe_wal_size < site.replication.slot_warn_mb * 1024**2
    assert told.status == "warning"
    assert "MiB until it is lost" in told.observed
    wait.until(
        lambda: replication.slot(site, sender(site)).status,
        lambda status: status == "passed",
        node="BETA",
        what="it has caught up",
        deadline_s=60,
    )


def test_a_lost_slot_is_mended_from_the_archive_without_a_base_backup(site: Site) -> None:
    with lost(site):
        assert judged(site, "slot beta_slot").status == "failed"
        assert mended(site) == ["Start PostgreSQL (stopped)", RENEWED]
        is_whole_again(site)
    assert mended(site) == []


def test_without_one_of_the_files_or_with_one_cut_short_it_is_refused_and_nothing_is_changed(site: Site) -> None:
    with lost(site):
        found = overview.look(open_nodes(site))
        bridge = replication.bridge(site, found)
        assert isinstance(bridge, replication.Bridge)
        assert bridge.missing == ()
        gone = store(site) / bridge.needed[len(bridge.needed) // 2]
        gone.rename(gone.with_suffix(".away"))
        refused = restored(site, 3)
        assert (refused.exit_code, refused.done) == (1, [])
        told = refused.check("slot beta_slot still holds the WAL")
        assert f"lacks 1 of {len(bridge.needed)} files, the first is {gone.name}" in told["observed"]
        assert "pg_basebackup" in told["hint"]
        whole = gone.with_suffix(".away").read_bytes()
        gone.write_bytes(whole[:-1])
        assert told["observed"] == restored(site).check("slot beta_slot still holds the WAL")["observed"]
        gone.write_bytes(whole)
        assert mended(site)[-1] == RENEWED
        is_whole_again(site)


def test_a_standby_that_does_not_read_the_archive_is_told_how_and_mended_then(site: Site) -> None:
    beta = open_nodes(site)["BETA"]
    Setting("restore_command", None).run(beta)
    with lost(site):
        refused = restored(site, 3)
        assert refused.done == ["Start PostgreSQL (stopped)"]
        told = refused.check("slot beta_slot still holds the WAL")
        assert (told["status"], "BETA does not read from there" in told["observed"]) == ("failed", True)
        assert "Run replication_mode" in told["hint"]
        step("replication_mode", site=site.name, deadline_s=1)
        assert mended(site)[-1] == RENEWED
        is_whole_again(site)


def test_killed_between_drop_and_create_the_next_run_finishes(site: Site) -> None:
    with lost(site):
        with open_nodes(site)["ALPHA"].session(database="postgres", write=True) as connection:
            connection.execute("SELECT pg_drop_replication_slot('beta_slot')")
        assert mended(site) == ["Create the slot beta_slot", "Start PostgreSQL (stopped)"]
        is_whole_again(site)


def test_a_slot_without_a_limit_warns_and_the_runbook_sets_one(site: Site) -> None:
    Setting("max_slot_wal_keep_size", "-1").run(open_nodes(site)["ALPHA"])
    assert judged(site, "max_slot_wal_keep_size").status == "warning"
    assert passed(step("replication_mode", site=site.name)).done == ["Limit the WAL that a slot may hold"]
    assert judged(site, "max_slot_wal_keep_size").status == "passed"


def test_a_promoted_standby_goes_on_archiving_into_the_same_folder(site: Site) -> None:
    alpha, beta = (open_nodes(site)[name] for name in ("ALPHA", "BETA"))
    alpha.supervisor.stop("postgresql")
    with beta.session(database="postgres", write=True) as connection:
        connection.execute("SELECT pg_promote(true, 15)")
    write_wal(beta, 1)
    wait.until(
        lambda: {path.name for path in store(site).iterdir() if path.name.startswith("00000002")},
        lambda names: len(names) > 1,
        node="BETA",
        what="the new timeline is archived",
        deadline_s=60,
    )
    assert (store(site) / "00000002.history").read_text().startswith("1\t")
    assert [path.name for path in store(site).iterdir() if path.name.endswith(".partial")]
