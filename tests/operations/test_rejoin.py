"""rejoin on a real pair: what only the old primary had is saved, and it comes back as a true copy, also after every kill.

One lab for the module. Each test fails the primary of the moment over to the other node, so the roles take turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from pairs import family, freeze, kill
from tests_support import passed, step

from aya_lib.check import worst
from aya_lib.cluster import replication, server, state
from aya_lib.cluster.lsn import number
from aya_lib.cluster.replication import source_conninfo
from aya_lib.errors import CommandFailed, ParameterError, UsageError
from aya_lib.lab import faults
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.pidfile import thaw
from aya_lib.node.shell import become
from aya_lib.operations import rejoin, verify
from aya_lib.operations.rejoin import staging, waldump
from aya_lib.operations.rejoin.actions import Clone, Follow
from aya_lib.operations.rejoin.look import Rejoin
from aya_lib.operations.rejoin.method import choose
from aya_lib.operations.rejoin.report import Report
from aya_lib.operations.rejoin.salvage import place
from aya_lib.plan.actions import CreateSlot, drop_slot
from aya_lib.plan.change import apply
from aya_lib.site import Site

KILLED = """
import os, signal, sys
from aya_lib.operations.rejoin import actions as standby
from aya_lib.operations.rejoin import salvage as saving
from aya_lib.plan.change import apply
from aya_lib.operations import rejoin, verify
from aya_lib.node.node import open_nodes
from aya_lib.site import load_site
module, name = sys.argv[2].split(".")
setattr({"saving": saving, "standby": standby}[module], name, lambda *given: os.kill(os.getpid(), signal.SIGKILL))
nodes = open_nodes(load_site(sys.argv[1]))
apply(rejoin.plan(rejoin.look(nodes), sys.argv[3]), nodes, lambda *told: None)
"""


@pytest.fixture(scope="module")
def bare(pair: Site) -> Site:
    return pair


def test_a_standby_that_follows_needs_nothing(bare: Site) -> None:
    nodes = open_nodes(bare)
    seen = rejoin.look(nodes)
    assert seen.node.name == "BETA"
    assert seen.streams
    assert worst(rejoin.preconditions(seen)) == "passed"
    assert not rejoin.plan(seen)
    assert not rejoin.plan(seen, remove_old=True)


def test_a_standby_that_lost_its_signal_file_gets_it_back_and_is_only_started(bare: Site) -> None:
    faults.inject(bare, "standby-signal-missing")
    nodes = open_nodes(bare)
    seen = rejoin.look(nodes)
    assert worst(rejoin.preconditions(seen)) == "passed"
    plan = rejoin.plan(seen)
    assert [kind(step) for step in plan.changes] == ["Put", "Start"]
    apply(plan, nodes, silent)
    assert not rejoin.plan(streaming(bare))


def test_a_stale_replication_password_is_found_while_the_standby_still_streams(bare: Site) -> None:
    nodes = open_nodes(bare)
    file = bare.path(nodes["ALPHA"].config.postgresql.replication_passfile or Path())
    kept = file.read_text()
    file.write_text(kept.rpartition(":")[0] + ":of last year\n")
    try:
        seen = verify.look(nodes)
        found = verify.ready(verify.look_ready(nodes, seen.primary, seen.standby))
    finally:
        file.write_text(kept)
    (told,) = (check for check in found if check.status == "failed")
    assert (told.name, "SQLSTATE 28P01" in told.observed) == ("ALPHA may receive", True)
    assert f"{file} on ALPHA" in told.hint
    assert "BETA may receive" in {check.name for check in found if check.status == "passed"}


def test_an_old_primary_that_somebody_started_as_a_standby_is_said_by_all_saved_and_made_anew(bare: Site) -> None:
    faults.inject(bare, "diverged")
    state.change(bare, primary="BETA")  # as after a failover: only what ALPHA has can tell now
    nodes = open_nodes(bare)
    verified, restored = step("verify_replication", site=bare.name), step("restore", site=bare.name, deadline_s=1)
    assert (verified.exit_code, restored.exit_code) == (1, 1)
    assert {told.check("ALPHA has not diverged")["status"] for told in (verified, restored)} == {"failed"}
    assert verified.check("contents are equal")["status"] == "failed"
    seen = rejoin.look(nodes)
    assert not seen.streams
    assert worst(rejoin.preconditions(seen)) == "passed"
    back = bring_back(bare)
    assert rows(back) == [f"on the old timeline {n}" for n in (1, 2, 3)]
    assert contents(nodes["ALPHA"], "on the old timeline") == []
    assert contents(nodes["ALPHA"], "on the new timeline") == ["on the new timeline 1", "on the new timeline 2"]


def test_a_killed_primary_comes_back_by_a_clone_and_what_it_alone_had_is_saved(bare: Site) -> None:
    late = "SELECT lo_from_bytea(4711, 'large')", "CREATE ROLE late", "CREATE TABLE made_late AS SELECT 7 AS id"
    old, new = fail_over(bare, ["a", "b", "c"], *late)
    write(new, ["d"])
    seen = rejoin.look(open_nodes(bare))
    assert (seen.node.name, seen.primary.name) == (old.name, new.name)
    assert choose(seen).method == "clone"
    assert old.name in state.read(bare).fenced
    with copying(old, new) as left:
        seen = rejoin.look(open_nodes(bare))
        assert isinstance(seen.staging, staging.Staging)
        assert left.pid in seen.staging.copies
        assert kind(rejoin.plan(seen).changes[0]) == "End"
        back = bring_back(bare)
    assert rows(back) == ["a", "b", "c"]
    told = report(back)[1]
    others = {table.table: table.rows for table in told.tables if table.table != "public.documents"}
    assert others == {"public.made_late": 1, "pg_catalog.pg_largeobject": 1, "pg_catalog.pg_largeobject_metadata": 1}
    assert {"pg_authid of all databases", f"{bare.database.name}: pg_class"} <= set(told.definitions)
    assert contents(old, "") == contents(new, "")
    assert old.name not in state.read(bare).fenced
    assert slots(old) == []
    assert settings(old) == (str(old.config.postgresql.port), old.name.lower(), old.name.lower())
    kept = directories(old)
    assert len(kept) == 1
    assert back.streams
    apply(rejoin.plan(back, remove_old=True), open_nodes(bare), silent)
    assert directories(old) == []
    assert not rejoin.plan(rejoin.look(open_nodes(bare)), remove_old=True)
    last = json.loads(state.log_path(bare).read_text().splitlines()[-1])
    assert (last["what"], last["node"], last["method"], last["rows_saved"]) == ("rejoin", old.name, "clone", 6)


def test_a_killed_primary_comes_back_by_a_rewind_with_its_own_settings(bare: Site) -> None:
    CreateSlot("barman").run(pair(bare)[0])
    old, new = fail_over(bare, ["e", "f"])
    write(new, ["g"])
    before = (old.data_directory / "lab.conf").read_text()
    inode = old.data_directory.stat().st_ino
    back = bring_back(bare, "rewind")
    assert rows(back) == ["e", "f"]
    assert contents(old, "") == contents(new, "")
    assert (old.data_directory / "lab.conf").read_text() == before
    assert settings(old) == (str(old.config.postgresql.port), old.name.lower(), old.name.lower())
    assert slots(old) == [("barman",)]  # pg_rewind removed it
    drop_slot("barman").run(old)
    assert old.data_directory.stat().st_ino == inode
    assert not (old.data_directory / state.MARK).exists()


def test_one_that_stopped_where_the_other_went_on_is_rewound_in_no_time_and_nothing_is_saved(bare: Site) -> None:
    old, new = pair(bare)
    CreateSlot("barman").run(old)
    old.supervisor.stop("postgresql")
    promote(bare, old, new)
    nodes = open_nodes(bare)
    seen = rejoin.look(nodes)
    told = {check.name: check.observed for check in rejoin.preconditions(seen)}
    assert told[f"others who read WAL of {old.name}"].endswith("barman")
    assert choose(seen).method == "rewind"
    plan = rejoin.plan(seen)
    assert not any("Save" in step.title for step in plan.changes)
    assert number(past(seen).end) == number(fork(seen).lsn)
    bring_back(bare)
    assert contents(old, "") == contents(new, "")
    assert slots(old) == [("barman",)]
    drop_slot("barman").run(old)


@pytest.mark.parametrize("method", ["clone", "rewind"])
def test_killed_after_any_change_the_next_plan_is_the_rest(bare: Site, method: str) -> None:
    old, new = fail_over(bare, [f"{method} {n}" for n in range(3)])
    nodes = open_nodes(bare)
    plan = rejoin.plan(rejoin.look(nodes), method)
    expected = [kind(step) for step in plan.changes]
    assert len(expected) >= 4
    while plan:
        assert [kind(step) for step in plan.changes] == expected
        plan.changes[0].action.run(nodes[plan.changes[0].node])
        if expected.pop(0) == "Start":
            break
        plan = rejoin.plan(rejoin.look(nodes), method)
    back = streaming(bare)
    assert rows(back) == [f"{method} {n}" for n in range(3)]
    assert contents(old, "") == contents(new, "")
    bring_back(bare)
    assert len([one for one in place(old).iterdir() if one.name.startswith(old.name)]) == saved_count(back)


@pytest.mark.parametrize(
    ("where", "method", "then"),
    [("saving._export", "clone", "clone"), ("standby._settle", "clone", "clone"), ("standby._settle", "rewind", "clone")],
)
def test_killed_within_a_change_the_next_run_finishes(bare: Site, where: str, method: str, then: str) -> None:
    old, new = fail_over(bare, ["h", "i"])
    done = subprocess.run([sys.executable, "-c", KILLED, bare.name, where, method], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    seen = rejoin.look(open_nodes(bare))
    assert isinstance(seen.staging, staging.Staging)
    assert seen.staging.scratch is (where == "saving._export")
    if seen.staging.scratch:
        assert listening(old) == []
    assert seen.half_rewound is (method == "rewind")
    assert choose(seen).method == then
    assert worst(rejoin.preconditions(seen)) == "passed"
    back = bring_back(bare)
    assert rows(back) == ["h", "i"]
    assert contents(old, "") == contents(new, "")


def test_killed_between_the_two_renames_the_clone_is_put_in_place(bare: Site) -> None:
    old, new = fail_over(bare, [])
    nodes = open_nodes(bare)
    for change in rejoin.plan(rejoin.look(nodes)).changes:
        if kind(change) == "Put":
            break
        change.action.run(nodes[change.node])
    old.data_directory.rename(old.data_directory.with_name("data.before-20260101T000000Z"))
    seen = rejoin.look(nodes)
    assert worst(rejoin.preconditions(seen)) == "passed"
    assert [kind(step) for step in rejoin.plan(seen).changes] == ["Put", "Lift", "Start"]
    bring_back(bare)
    assert contents(old, "") == contents(new, "")


def test_a_frozen_primary_that_took_writes_when_it_thawed_is_killed_and_every_row_is_saved(bare: Site) -> None:
    old, new = pair(bare)
    new.supervisor.stop("postgresql")
    write(old, ["frozen 1"])
    freeze(old)
    new.supervisor.start("postgresql")
    promote(bare, old, new)
    thaw(family(old)[0].pid)
    write(old, ["frozen 2", "frozen 3"])
    assert worst(rejoin.preconditions(rejoin.look(open_nodes(bare)))) == "passed"  # fenced, so it may be stopped
    freeze(old)
    nodes = open_nodes(bare)
    seen = rejoin.look(nodes)
    assert kind(rejoin.plan(seen).changes[0]) == "Kill"
    back = bring_back(bare)
    assert rows(back) == ["frozen 1", "frozen 2", "frozen 3"]
    assert contents(old, "frozen") == []


def test_segments_made_beforehand_hide_nothing_and_wal_that_is_lost_is_said_and_not_taken_for_nothing(bare: Site) -> None:
    write(pair(bare)[0], ["both"])
    caught_up(*pair(bare))  # so that the fork lies within a segment, not between two
    old, new = fail_over(bare, ["k"])
    nodes = open_nodes(bare)
    before = past(rejoin.look(nodes))
    assert before.commits > 0
    for ahead in range(8):  # made beforehand, all zeros: the newest is the first that a folder in memory gives
        with (old.data_directory / "pg_wal" / f"{before.spans[0].timeline:08X}{0:08X}{240 + ahead:08X}").open("wb") as file:
            file.truncate(16 << 20)
    after = past(rejoin.look(nodes))
    assert (after.commits, after.end, after.segments) == (before.commits, before.end, before.segments)
    for segment in (old.data_directory / "pg_wal").iterdir():
        if len(segment.name) == 24 and (segment.name in before.segments or segment.name[16:] >= "000000F0"):
            segment.unlink()
    seen = rejoin.look(nodes)
    assert "is not there" in past(seen).gone
    assert {c.status for c in rejoin.preconditions(seen) if "never received" in c.name} == {"warning"}
    assert "rewind can work" in refusals(bare, old.name, "rewind")
    back = bring_back(bare)
    assert "is not there" in report(back)[1].untold
    assert contents(old, "") == contents(new, "")


def test_a_pg_waldump_that_cannot_read_is_not_taken_for_nothing(bare: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    span = (waldump.Span(1, "0/3000000"),)
    monkeypatch.setattr(Node, "command", lambda self, program, *words: ["/nowhere/pg_waldump", *words])
    monkeypatch.setattr(waldump, "_first", lambda span, present, size: span)
    with pytest.raises(CommandFailed, match="pg_waldump"):
        waldump.look(pair(bare)[0], span, 16 << 20)


def test_a_new_slot_holds_no_more_wal_than_it_must(bare: Site) -> None:
    primary, _ = pair(bare)
    with primary.session(database="postgres", write=True) as connection:
        before = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        connection.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000), true)")
        CreateSlot("another", checkpoint=True).run(primary)
        CreateSlot("another", checkpoint=True).run(primary)
        query = "SELECT restart_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'another'"
        assert connection.execute(query, before).fetchone() == (True,)
        connection.execute("SELECT pg_drop_replication_slot('another')")


def test_the_runbook_brings_it_back_and_then_has_nothing_to_do(bare: Site) -> None:
    old, new = fail_over(bare, ["j"])
    shown = step("rejoin", site=bare.name, dry_run=True)
    assert shown.record["outcome"] == "planned", shown.error
    assert old.supervisor.state("postgresql").status == "stale"
    passed(step("rejoin", site=bare.name, remove_old=True))
    assert directories(old) == []
    assert contents(old, "") == contents(new, "")
    assert passed(step("rejoin", site=bare.name)).done == []


def test_refused_with_what_to_do(bare: Site) -> None:
    nodes = open_nodes(bare)
    primary, standby = pair(bare)
    assert refusals(bare, "AIR") == {"AIR is of the pair"}
    assert refusals(bare, primary.name) == {f"{primary.name} is not in charge"}
    with pytest.raises(UsageError, match="unknown node 'GAMMA'"):
        rejoin.look(nodes, "GAMMA")
    with pytest.raises(ParameterError, match="auto, clone, rewind"):
        rejoin.plan(rejoin.look(nodes), "copy")
    primary.supervisor.stop("postgresql")
    assert refusals(bare, standby.name) >= {f"{primary.name} is the primary"}
    primary.supervisor.start("postgresql")
    faults._promote(standby)
    assert refusals(bare, standby.name) >= {f"{standby.name} is not a second primary"}
    refused = step("rejoin", site=bare.name, node=standby.name)
    assert (refused.exit_code, refused.done) == (1, [])


def fail_over(site: Site, only_old: list[str], *statements: str) -> tuple[Node, Node]:
    """The primary of the moment gets rows that the standby never receives, and is killed; the standby is promoted."""
    old, new = pair(site)
    new.supervisor.stop("postgresql")
    write(old, only_old, *statements)
    kill(old)
    new.supervisor.start("postgresql")
    promote(site, old, new)
    return old, new


@contextmanager
def copying(old: Node, new: Node) -> Iterator[subprocess.Popen[bytes]]:
    """A slow copy that a killed run left, with the slot in use."""
    words = Clone(Follow(source_conninfo(old, new), old.site.replication.slot, "", 0), 60)._arguments(old)
    command = old.command("pg_basebackup", *words, "-r", "32")
    with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **become(old.account)) as process:
        held = {"node": new.name, "what": "the copy holds the slot", "deadline_s": 60}
        wait.until(lambda: active(new), bool, **held)  # type: ignore[arg-type]
        try:
            yield process
            assert process.wait(0) == -9
        finally:
            process.kill()


def active(node: Node) -> bool:
    sender = replication.look_sender(node)
    return isinstance(sender, replication.Sender) and any(slot.active for slot in sender.slots)


def promote(site: Site, old: Node, new: Node) -> None:
    """As the failover runbook leaves it: promoted, with a slot, the old one fenced."""
    faults._promote(new)
    with new.session(database="postgres", write=True) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (site.replication.slot,))
    state.fence(site, state.Fence(old.name, state.stamp(), "test", "none", f"{new.name} was made the primary"))
    (old.data_directory / state.MARK).write_text("{}")
    state.change(site, primary=None if new.name == site.primary else new.name)


def bring_back(site: Site, method: str = "auto") -> Rejoin:
    """Plan and apply, and once it streams what follows; the last look."""
    nodes = open_nodes(site)
    apply(rejoin.plan(rejoin.look(nodes), method), nodes, silent)
    apply(rejoin.plan(streaming(site)), nodes, silent)
    seen = rejoin.look(nodes)
    assert not rejoin.plan(seen)
    return seen


def streaming(site: Site) -> Rejoin:
    nodes = open_nodes(site)
    _, standby = pair(site)
    wait.until(
        lambda: getattr(replication.look_receiver(standby), "status", None),
        lambda status: status == "streaming",
        node=standby.name,
        what="it streams",
        deadline_s=60,
    )
    return wait.until(lambda: rejoin.look(nodes), lambda seen: seen.streams, node="pair", what="it is equal", deadline_s=60)


def pair(site: Site) -> tuple[Node, Node]:
    nodes = open_nodes(site)
    primary = state.read(site).primary or site.primary
    return nodes[primary], next(nodes[name] for name in site.pair if name != primary)


def write(node: Node, texts: list[str], *statements: str) -> None:
    """A transaction each, and one that is rolled back."""
    with node.session(write=True) as connection:
        connection.execute("SET synchronous_commit = local")
        for text in texts:
            connection.execute("INSERT INTO documents (content, source) VALUES (%s, 'test')", (text,))
        for statement in statements:
            connection.execute(statement)
        connection.execute("BEGIN")
        connection.execute("INSERT INTO documents (content, source) VALUES ('never committed', 'test')")
        connection.execute("ROLLBACK")


def caught_up(primary: Node, standby: Node) -> None:
    with primary.session() as one, standby.session() as two:
        lsn = one.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        wait.until(
            lambda: two.execute(query, lsn).fetchone() == (True,), bool, node=standby.name, what="it has replayed", deadline_s=60
        )


def contents(node: Node, start: str) -> list[str]:
    with node.session() as connection:
        query = "SELECT content FROM documents WHERE starts_with(content, %s) ORDER BY id"
        return [str(row[0]) for row in connection.execute(query, (start,)).fetchall()]


def settings(node: Node) -> tuple[str, str, str]:
    """Port and cluster_name, and the application_name under which the node receives."""
    with node.session() as connection:
        names = ("port", "cluster_name", "primary_conninfo")
        port, name, source = (str(connection.execute("SELECT current_setting(%s)", (n,)).fetchone()[0]) for n in names)  # type: ignore[index]
    return port, name, source.split("application_name=")[1].split()[0]


def slots(node: Node) -> list[object]:
    with node.session() as connection:
        return connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()  # type: ignore[return-value]


def report(seen: Rejoin) -> tuple[Path, Report]:
    assert isinstance(seen.salvage, tuple)
    last = seen.salvage[-1]
    assert last.report is not None
    return Path(last.folder), last.report


def rows(seen: Rejoin) -> list[str]:
    """Texts of the rows that were saved last; the WAL that they came from is there too."""
    folder, told = report(seen)
    assert told.untold == ""
    assert {file.name for file in (folder / "wal").iterdir()} == set(told.segments)
    found: list[Mapping[str, Any]] = []
    for table in told.tables:
        found += [json.loads(line) for line in (folder / table.file).read_text().splitlines()]
    assert told.rows == len(found)
    found = [row for row in found if row["table"] == "public.documents"]
    assert all(row["key"] == {"id": row["row"]["id"]} for row in found)
    return [row["row"]["content"] for row in found]


def saved_count(seen: Rejoin) -> int:
    assert isinstance(seen.salvage, tuple)
    assert all(one.report for one in seen.salvage)
    return len(seen.salvage)


def past(seen: Rejoin) -> waldump.Past:
    assert seen.details is not None
    assert isinstance(seen.details.past, waldump.Past)
    return seen.details.past


def fork(seen: Rejoin) -> server.Switch:
    assert seen.details is not None
    assert isinstance(seen.details.fork, server.Switch)
    return seen.details.fork


def refusals(site: Site, node: str, method: str = "auto") -> set[str]:
    gate = rejoin.preconditions(rejoin.look(open_nodes(site), node), method)
    found = [check for check in gate if check.status in ("failed", "unknown")]
    assert all(check.hint for check in found), found
    return {check.name for check in found}


def directories(node: Node) -> list[str]:
    return sorted(path.name for path in node.data_directory.parent.iterdir() if path.name.startswith("data."))


def kind(step: Any) -> str:
    return str(step.title).split()[0]


def listening(node: Node) -> list[int]:
    """TCP ports that the node's server listens on."""
    text = (node.data_directory / "postmaster.pid").read_text()
    process = psutil.Process(int(text.split("\n")[0]))
    return [entry.laddr.port for entry in process.net_connections("tcp") if entry.status == psutil.CONN_LISTEN]


def silent(*told: object) -> None:
    pass
