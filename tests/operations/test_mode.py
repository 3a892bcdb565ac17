"""The mode of replication on real clusters: commits that wait, that are let go, and whose wait is broken off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from pairs import deaf, reconfigured, streaming
from tests_support import Stepped, passed, step

from aya_lib.check import Check
from aya_lib.cluster import overview, state
from aya_lib.cluster.judge import overview as glance
from aya_lib.errors import ChangeFailed, ParameterError
from aya_lib.lab import access
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.operations import replication_mode
from aya_lib.operations.replication_mode.look import Cancelled, Found
from aya_lib.plan.actions import Setting
from aya_lib.plan.change import apply
from aya_lib.runbook.run import run
from aya_lib.site import Site

NAMES = 'FIRST 1 ("beta")'


@pytest.fixture(scope="module")
def site(pair: Site) -> Site:
    """A pair whose site asks for synchronous replication that readers on the standby can see."""
    with open_nodes(pair)["ALPHA"].session(write=True) as connection:
        connection.execute("CREATE TABLE marks (number int PRIMARY KEY)")
    return reconfigured(pair, lambda config: config["replication"].update(mode="synchronous", commit="remote_apply"))


@pytest.fixture(autouse=True)
def synchronous(site: Site) -> None:
    """Each test begins with BETA there and commits that wait for it."""
    beta = open_nodes(site)["BETA"]
    beta.supervisor.start("postgresql")
    streaming(site)
    if seen(site).overview.state.mode != "synchronous" or value(site, "synchronous_standby_names") != NAMES:
        passed(mode(site))
    with open_nodes(site)["ALPHA"].session(write=True) as connection:
        connection.execute("TRUNCATE marks")


def mode(site: Site, **values: object) -> Stepped:
    return step("replication_mode", site=site.name, **values)


def seen(site: Site) -> Found:
    return replication_mode.look(open_nodes(site))


def value(site: Site, name: str) -> str:
    with open_nodes(site)["ALPHA"].session(database="postgres") as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""


def status(site: Site) -> Check:
    found = glance.judge(site, overview.look(open_nodes(site)))
    return next(check for check in found if check.name == "replication mode")


def connect(node: Node) -> psycopg.Connection[tuple[object, ...]]:
    config = node.site.database
    return psycopg.connect(
        host=node.config.host,
        port=node.config.postgresql.port,
        dbname=config.name,
        user=config.owner,
        password=access.passwords(node.site)[config.owner],
        autocommit=True,
    )


class Writer:
    """A client that commits one row, in a thread; ``pid`` of its backend, and what came of it."""

    def __init__(self, node: Node, number: int) -> None:
        self.connection = connect(node)
        self.pid = self.connection.info.backend_pid
        self.notices: list[str] = []
        self.status = ""
        self.connection.add_notice_handler(lambda said: self.notices.append(f"{said.severity}: {said.message_primary}"))
        self.thread = threading.Thread(target=self._commit, args=(number,))
        self.thread.start()

    def _commit(self, number: int) -> None:
        cursor = self.connection.execute("INSERT INTO marks VALUES (%s)", (number,))
        self.status = str(cursor.statusmessage)

    def end(self) -> None:
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.connection.close()


@contextmanager
def committing(node: Node, number: int) -> Iterator[Writer]:
    """A writer whose commit is seen to wait for the standby; at the end it is over, one way or another."""
    writer = Writer(node, number)
    try:
        with node.session(database="postgres") as watcher:
            wait.until(
                lambda: watcher.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (writer.pid,)).fetchone(),
                lambda row: row == ("SyncRep",),
                node=node.name,
                what="the commit waits",
                deadline_s=60,
            )
        yield writer
    finally:
        with node.session(database="postgres") as ender:
            ender.execute("SELECT pg_cancel_backend(%s)", (writer.pid,))
        writer.end()


def rows(node: Node) -> list[int]:
    with node.session() as connection:
        return [int(str(row[0])) for row in connection.execute("SELECT number FROM marks ORDER BY 1").fetchall()]


def test_the_runbook_makes_it_synchronous_and_says_so_and_the_second_run_changes_nothing(site: Site) -> None:
    passed(mode(site, mode="asynchronous", reason="before the test"))
    assert (value(site, "synchronous_standby_names"), seen(site).overview.state.mode) == ("", "asynchronous")
    done = passed(mode(site, approved_by="tester"))
    assert done.check("sync_state of the standby's stream")["observed"] == "beta: sync"
    assert done.check("marked commits")["observed"].startswith("synchronous_commit = remote_apply: seen waiting")
    assert value(site, "synchronous_standby_names") == NAMES
    assert value(site, "synchronous_commit") == "remote_apply"
    known = state.read(site)
    assert (known.mode, known.mode_by) == ("synchronous", "tester")
    logged = [json.loads(line) for line in state.log_path(site).read_text().splitlines()]
    assert [(one["was"], one["mode"], one["by"]) for one in logged[-1:]] == [("asynchronous", "synchronous", "tester")]
    assert logged[-2]["reason"] == "before the test"
    again = passed(mode(site))
    assert again.done == []
    assert status(site).status == "passed"


def test_remote_apply_is_seen_by_the_next_reader_on_the_standby(site: Site) -> None:
    nodes = open_nodes(site)
    with nodes["ALPHA"].session(write=True) as writer, nodes["BETA"].session() as reader:
        for number in range(50):
            writer.execute("INSERT INTO marks VALUES (%s)", (number,))
            assert reader.execute("SELECT count(*) FROM marks").fetchone() == (number + 1,)


def test_with_beta_down_a_commit_waits_and_degraded_lets_it_go_and_warns_until_it_is_undone(site: Site) -> None:
    nodes = open_nodes(site)
    nodes["BETA"].supervisor.stop("postgresql")
    with committing(nodes["ALPHA"], 1) as writer:
        told = status(site)
        assert (told.status, told.observed) == ("failed", "synchronous, and no standby is there: commits wait (1 now)")
        assert "mode=degraded" in told.hint
        refused = mode(site, mode="synchronous")
        assert refused.exit_code == 1
        assert refused.done == []
        assert refused.check("BETA listens")["status"] == "failed"
        degraded = passed(mode(site, mode="degraded", reason="BETA is being repaired", approved_by="tester"))
        assert degraded.done == ["Write down that replication is degraded", "Let commits wait for nobody"]
        writer.thread.join(10)
        assert (writer.status, writer.notices) == ("INSERT 0 1", [])
    known = state.read(site)
    assert (known.mode, known.mode_by) == ("degraded", "tester")
    assert json.loads(state.log_path(site).read_text().splitlines()[-1])["reason"] == "BETA is being repaired"
    assert rows(nodes["ALPHA"]) == [1]
    assert degraded.check("replication mode")["status"] == "warning"
    nodes["BETA"].supervisor.start("postgresql")
    streaming(site)
    told = status(site)
    assert (told.status, told.observed.split(",")[0]) == ("warning", f"degraded since {known.mode_since}")
    undone = passed(mode(site))
    assert undone.done[-1] == "Write down that replication is synchronous"
    assert status(site).status == "passed"
    assert rows(nodes["BETA"]) == [1]


def test_a_wait_that_is_broken_off_is_success_with_a_warning_and_the_row_is_local_only(site: Site) -> None:
    nodes = open_nodes(site)
    before = seen(site).cancelled
    with deaf(nodes["BETA"]):
        with committing(nodes["ALPHA"], 2) as writer:
            with nodes["ALPHA"].session(database="postgres") as other:
                other.execute("SELECT pg_cancel_backend(%s)", (writer.pid,))
            writer.thread.join(10)
            assert writer.status == "INSERT 0 1"
            assert writer.notices == ["WARNING: canceling wait for synchronous replication due to user request"]
        assert rows(nodes["ALPHA"]) == [2]
        assert rows(nodes["BETA"]) == []
    wait.until(lambda: rows(nodes["BETA"]), lambda found: found == [2], node="BETA", what="the row arrives", deadline_s=60)
    after = seen(site).cancelled
    assert isinstance(before, Cancelled)
    assert isinstance(after, Cancelled)
    assert after.count == before.count + 1
    told = passed(mode(site)).check("waits broken off")
    assert told["status"] == "warning"
    assert "canceling wait for synchronous replication" in told["observed"]


def test_a_standby_that_is_not_meant_by_the_names_is_noticed_and_the_names_are_taken_back(site: Site) -> None:
    passed(mode(site, mode="asynchronous"))
    quick = site.model_copy(update={"deadlines": site.deadlines.model_copy(update={"command_s": 1})})
    nodes = open_nodes(quick)
    plan = replication_mode.plan(replication_mode.request(quick), replication_mode.look(nodes))
    wrong = Setting("synchronous_standby_names", 'FIRST 1 ("nobody")')
    steps = [
        replace(one, action=wrong) if isinstance(one.action, Setting) and one.action.value == NAMES else one
        for one in plan.changes
    ]
    with pytest.raises(ChangeFailed, match=r"last seen: async\. 'Let commits wait for BETA' was undone"):
        apply(replace(plan, changes=tuple(steps)), nodes, lambda *_: None)
    assert value(site, "synchronous_standby_names") == ""
    assert state.read(site).mode == "asynchronous"


def test_a_run_that_ended_after_the_names_were_set_is_finished_by_the_next(site: Site) -> None:
    passed(mode(site, mode="asynchronous"))
    nodes = open_nodes(site)
    plan = replication_mode.plan(replication_mode.request(site), replication_mode.look(nodes))
    apply(replace(plan, changes=plan.changes[:1]), nodes, lambda *_: None)
    assert status(site).status == "warning"
    rest = passed(mode(site))
    assert "Let commits wait for BETA" not in rest.done
    assert rest.done[-1] == "Write down that replication is synchronous"


def test_settings_that_somebody_changed_past_the_runbook_are_told(site: Site) -> None:
    Setting("synchronous_standby_names", "").run(open_nodes(site)["ALPHA"])
    told = status(site)
    assert told.status == "warning"
    assert told.observed.startswith("asynchronous, but synchronous was agreed")
    assert "Let commits wait for BETA" in passed(mode(site)).done


def test_a_role_that_never_waits_is_told(site: Site) -> None:
    alpha = open_nodes(site)["ALPHA"]
    role = site.database.application_role
    with alpha.session(write=True, deadline_s=300) as connection:
        connection.execute(f"ALTER ROLE {role} SET synchronous_commit = no".encode())
        try:
            told = passed(mode(site)).check(f"exempt from waiting on {alpha.name}")
        finally:
            connection.execute(f"ALTER ROLE {role} RESET synchronous_commit".encode())
    assert (told["status"], told["observed"]) == ("warning", f"{role} in every database: synchronous_commit=no")


def test_looking_at_a_pair_whose_standby_is_away_leaves_nothing_waiting(site: Site) -> None:
    nodes = open_nodes(site)
    nodes["BETA"].supervisor.stop("postgresql")
    verified = step("verify_replication", site=site.name)
    assert verified.check("marked rows arrive")["status"] == "failed"
    with nodes["ALPHA"].session() as connection:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        assert connection.execute(waiting).fetchone() == (0,)
        left = "SELECT count(*) FROM pg_class WHERE starts_with(relname, 'aya_probe_')"
        assert connection.execute(left).fetchone() == (0,)


def test_a_dry_run_shows_the_plan_and_changes_nothing(site: Site) -> None:
    before = state.path(site).read_text()
    dry = mode(site, mode="degraded", dry_run=True)
    assert dry.error is None
    assert dry.record["outcome"] == "planned"
    assert dry.done == []
    assert value(site, "synchronous_standby_names") == NAMES
    assert state.path(site).read_text() == before


def test_an_unknown_mode_is_refused_before_anything_starts(site: Site) -> None:
    with pytest.raises(ParameterError, match=r"mode.*'synchron'.*degraded"):
        run("replication_mode", {"site": site.name, "mode": "synchron"})
