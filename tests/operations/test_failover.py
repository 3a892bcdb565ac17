"""Failover on real clusters: handed over, given up, refused, broken off and finished; with clients at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta

import psutil
import pytest
from pairs import deaf, freeze, streaming
from tests_support import Stepped, again, passed, step
from writers import clients

from aya_lib.cluster import overview, server, service_file, state, wal
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.standby import look_sizes
from aya_lib.errors import ChangeFailed, UsageError
from aya_lib.lab.faults import inject
from aya_lib.node import sql, wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.operations import failover
from aya_lib.operations.failover import judge as checks
from aya_lib.operations.failover.look import Behind, Found, Request
from aya_lib.plan.actions import Kill, Service, Setting, Sql, drop_slot
from aya_lib.plan.change import Change, apply
from aya_lib.site import Site


@pytest.fixture(autouse=True)
def fresh(pair: Site) -> None:
    """Each test begins with ALPHA as the primary and BETA as its standby: made anew where more than a start is needed."""
    nodes = open_nodes(pair)
    files = server.look_files(nodes["BETA"])
    if state.read(pair) != state.State() or not isinstance(files, Files) or not files.standby_signal:
        again(pair)
    for name in pair.pair:
        nodes[name].supervisor.start("postgresql")
    streaming(pair)


def role(site: Site, name: str) -> str:
    found = server.look(open_nodes(site)[name])
    return found.role if isinstance(found, Cluster) else type(found).__name__.lower()


def fail_over(site: Site, **values: object) -> Stepped:
    return step("failover", site=site.name, **values)


def looked(site: Site, request: Request) -> Found:
    return failover.look(open_nodes(site), request)


@pytest.mark.parametrize("values", [{"to": "AIR"}, {"to": "GAMMA"}, {"fence": "none"}])
def test_a_request_that_cannot_be_is_one_line(pair: Site, values: dict[str, object]) -> None:
    refused = fail_over(pair, **values)
    assert refused.error is not None
    assert refused.error.exit_code == 2
    assert not refused.done


def test_a_standby_of_another_system_diverged_or_left_behind_is_refused(pair: Site) -> None:
    request = failover.request(pair)
    found = looked(pair, request)
    beta = found.overview.nodes["BETA"]
    assert isinstance(beta.cluster, Cluster)

    def failed(seen: overview.Overview) -> list[str]:
        gate = failover.preconditions(replace(found, overview=seen))
        return [check.name for check in gate if check.status == "failed" and check.hint]

    def with_beta(changed: Cluster) -> overview.Overview:
        return replace(found.overview, nodes={**found.overview.nodes, "BETA": replace(beta, cluster=changed)})

    left = state.Fence("BETA", "then", "somebody", "stopped", "ALPHA was made the primary")
    assert failed(found.overview) == []
    assert failed(with_beta(replace(beta.cluster, system_identifier="1"))) == ["ALPHA and BETA are one system"]
    assert failed(with_beta(replace(beta.cluster, timeline=9))) == ["BETA has not diverged"]
    assert failed(replace(found.overview, state=state.State(fenced={"BETA": left}))) == ["BETA can be promoted"]


@contextmanager
def setting(node: Node, name: str, value: str) -> Iterator[None]:
    Setting(name, value).run(node)
    try:
        yield
    finally:
        Setting(name, None).run(node)


@contextmanager
def locked_out(node: Node) -> Iterator[None]:
    """The application's role has no line in pg_hba.conf."""
    path = node.data_directory / "pg_hba.conf"
    before = path.read_text()
    for text in (f"host all aya_user 127.0.0.1/32 reject\n{before}", before):
        path.write_text(text)
        Sql("SELECT pg_reload_conf()").run(node)
        if text != before:
            yield


@contextmanager
def replay_blocked(alpha: Node, beta: Node) -> Iterator[None]:
    """A session on BETA holds a lock that the replay waits for."""
    with beta.session() as reader, reader.transaction():
        reader.execute("SELECT FROM documents")
        with alpha.session(write=True) as writer, writer.transaction():
            writer.execute("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE")
        waiting = "SELECT wait_event_type FROM pg_stat_activity WHERE backend_type = 'startup'"
        wait.until(lambda: sql.value(reader, waiting), lambda it: it == "Lock", node="BETA", what="it waits", deadline_s=30)
        yield


@contextmanager
def left_slot(alpha: Node) -> Iterator[None]:
    Sql("SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')").run(alpha)
    yield
    drop_slot("debezium").run(alpha)


def test_what_would_delay_or_be_missed_is_asked_before_anything_is_stopped(pair: Site) -> None:
    nodes = open_nodes(pair)
    alpha, beta = nodes["ALPHA"], nodes["BETA"]
    planned = failover.request(pair)
    for fault, name, words, stops_lost in (
        (nullcontext(), "", "", False),
        (setting(beta, "restore_command", "exit 127"), "BETA's restore_command answers", "status 127", False),
        (setting(beta, "recovery_min_apply_delay", "1h"), "nothing holds BETA's replay up", "3600 s", False),
        (setting(beta, "default_transaction_read_only", "on"), "BETA's default_transaction_read_only", "on", False),
        (locked_out(beta), "the application logs in on BETA", "rejects connection", False),
        (replay_blocked(alpha, beta), "nothing holds BETA's replay up", "of role postgres (aya pair-failover)", True),
        (left_slot(alpha), "who else reads WAL from ALPHA", "debezium (logical slot)", False),
    ):
        with fault:
            found = looked(pair, planned)
        bad = {one.name: one for one in failover.preconditions(found) if one.status != "passed"}
        assert sorted(bad) == ([name] if name else []), bad
        assert all(words in one.observed and one.hint for one in bad.values()), bad
        gate = failover.preconditions(replace(found, request=replace(found.request, emergency=True)))
        stopping = [one.name for one in gate if one.status in ("failed", "unknown") and one.required]
        assert stopping == ["planned or emergency", *([name] if stops_lost else [])]
    assert found.ready is not None
    assert found.ready.needs == look_sizes(beta)  # the running primary's are those that the standby has replayed


def test_a_primary_that_was_told_to_stop_and_waits_says_for_whom(pair: Site) -> None:
    """Fast as it is, a stop waits for receivers that are connected; undone meanwhile, nobody would be there in the end."""
    quick = pair.deadlines.model_copy(update={"start_s": 1})
    nodes, request = open_nodes(pair.model_copy(update={"deadlines": quick})), failover.request(pair)
    planned = failover.plan(failover.look(nodes, request))
    with deaf(nodes["BETA"]):
        with nodes["ALPHA"].session(write=True) as connection:
            connection.execute("INSERT INTO documents (content) VALUES ('not received')")
        with pytest.raises(ChangeFailed, match=r"waits for .*walsender.*What was done before it stays") as failed:
            apply(planned, nodes, lambda *_: None)
        assert "End it on ALPHA" in failed.value.hint
        refused = fail_over(pair)
        assert "wait until ALPHA is down" in refused.check("planned or emergency")["hint"]
        assert fail_over(pair, take_back=True).error is not None
    wait.until(lambda: role(pair, "ALPHA"), lambda it: it == "down", node="ALPHA", what="it is down", deadline_s=60)
    passed(fail_over(pair))


def test_a_failure_before_the_promotion_brings_everything_back(pair: Site) -> None:
    nodes = open_nodes(pair)
    request = failover.request(pair)
    planned = failover.plan(looked(pair, request))
    before = [step for step in planned.changes if step.undo is not None]
    impossible = Change("BETA", "impossible", Service("start", "embedding"), "start")
    with pytest.raises(ChangeFailed, match=r"'Stop PostgreSQL in an orderly way' was undone"):
        apply(replace(planned, changes=(*before, impossible)), nodes, lambda *_: None)
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("primary", "standby")
    assert state.read(pair) == state.State()
    streaming(pair)


@pytest.mark.parametrize("upto", ["Stop PostgreSQL in an orderly way", "Remember that ALPHA is fenced"])
def test_broken_off_before_the_promotion_it_can_be_taken_back(pair: Site, upto: str) -> None:
    nodes = open_nodes(pair)
    refused = fail_over(pair, take_back=True)
    assert refused.error is not None
    assert "no such failover" in refused.check("the failover can be taken back")["observed"]
    Setting("restore_command", "cat /nowhere/%f > %p").run(nodes["BETA"])
    request = failover.request(pair)
    for change in failover.plan(looked(pair, request)).changes:
        change.action.run(nodes[change.node])
        if change.title == upto:
            break
    assert role(pair, "ALPHA") == "down"
    passed(fail_over(pair, take_back=True))
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("primary", "standby")
    assert state.read(pair) == state.State()
    streaming(pair)
    Setting("restore_command", None).run(nodes["BETA"])


@pytest.mark.parametrize(
    ("fault", "values", "check", "word"),
    [
        (None, {"emergency": True}, "planned or emergency", "is primary"),
        ("alpha-down", {}, "planned or emergency", "is down"),
        ("beta-down", {}, "BETA can be promoted", "down"),
        ("two-primaries", {}, "no second primary", "accept writes"),
    ],
)
def test_refused_and_nothing_changed(pair: Site, fault: str | None, values: dict[str, object], check: str, word: str) -> None:
    if fault:
        inject(pair, fault)
    before = [role(pair, name) for name in pair.pair]
    refused = fail_over(pair, **values)
    assert refused.error is not None
    assert refused.check(check)["status"] == "failed"
    assert word in refused.check(check)["observed"]
    assert refused.check(check)["hint"]
    assert not refused.done
    assert [role(pair, name) for name in pair.pair] == before
    assert state.read(pair) == state.State()


def test_only_the_process_that_was_seen_is_killed(pair: Site) -> None:
    """Somebody restarted it since the look: what runs now was never judged."""
    alpha = open_nodes(pair)["ALPHA"]
    now = alpha.supervisor.state("postgresql")
    assert now.pid is not None
    assert now.since is not None
    for seen in (Kill("postgresql", now.pid + 1, now.since), Kill("postgresql", now.pid, now.since - timedelta(minutes=1))):
        with pytest.raises(UsageError, match=f"postgresql is PID {now.pid}.* now, not the PID {seen.pid}"):
            seen.run(alpha)
    assert role(pair, "ALPHA") == "primary"
    Kill("postgresql", now.pid, now.since).run(alpha)
    assert role(pair, "ALPHA") == "down"
    Kill("postgresql", now.pid, now.since).run(alpha)  # gone already: nothing to do


def test_handed_over_without_losing_a_write(pair: Site) -> None:
    with clients(pair) as at_work:
        wait.until(lambda: len(at_work.acknowledged), lambda n: n > 100, node="ALPHA", what="writes", deadline_s=60)
        done = passed(fail_over(pair, reason="a test"))
        before = len(at_work.acknowledged)
        wait.until(lambda: len(at_work.acknowledged), lambda n: n > before + 50, node="BETA", what="writes", deadline_s=60)
    assert done.check("what may be lost")["observed"].startswith("nothing")
    assert not set(at_work.acknowledged) - at_work.stored("BETA")
    assert not at_work.both
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("down", "primary")
    known = state.read(pair)
    assert (known.primary, known.under_way, known.fenced["ALPHA"].way) == ("BETA", None, "stopped")
    assert '"reason": "a test"' in state.log_path(pair).read_text()
    with open_nodes(pair)["BETA"].session() as connection:
        row = connection.execute("SELECT entry ->> 'kind', entry ->> 'reason' FROM aya_failovers").fetchone()
    assert row == ("planned", "a test")
    services = (pair.root / "secrets" / "pg_service.conf").read_text()
    ports = [str(pair.nodes[name].postgresql.port) for name in ("BETA", "ALPHA")]
    assert f"port={','.join(ports)}" in services

    again = passed(fail_over(pair))
    assert not again.done
    assert again.check("BETA can be promoted")["observed"] == "BETA is already primary"

    restored = step("restore", site=pair.name, deadline_s=1)
    assert restored.error is not None
    assert not restored.done
    assert "fenced" in restored.check("ALPHA is not fenced")["observed"]
    assert role(pair, "ALPHA") == "down"


def test_a_killed_primary_is_given_up_and_the_loss_is_within_the_stated_bound(pair: Site) -> None:
    with clients(pair) as at_work:
        wait.until(lambda: len(at_work.acknowledged), lambda n: n > 100, node="ALPHA", what="writes", deadline_s=60)
        inject(pair, "alpha-down")
        at_work.mark()
        done = passed(fail_over(pair, emergency=True))
        wait.until(lambda: at_work.first_after, bool, node="BETA", what="writes", deadline_s=60)
    lost = set(at_work.acknowledged) - at_work.stored("BETA")
    looked_at = next(one for one in done.record["steps"] if one["kind"] == "look" and one["title"] == "failover.look")
    behind = looked_at["facts"]["behind"]
    assert behind["source"] == "files"
    assert len(lost) <= behind["transactions"]
    assert not at_work.both


def test_what_only_the_old_primary_has_is_counted_exactly(pair: Site) -> None:
    nodes = open_nodes(pair)
    alpha = nodes["ALPHA"]
    with deaf(nodes["BETA"]):
        with alpha.session(write=True) as connection:
            for number in range(7):  # a transaction each
                connection.execute("INSERT INTO documents (content, source) VALUES (%s, 'only ALPHA')", (f"row {number}",))
        inject(pair, "alpha-down")
        timeline = wal.segments(alpha)[-1][:8]
        for ahead in range(8):  # segments made beforehand, all zeros: a folder may give the newest of them first
            with (wal.folder(alpha) / f"{timeline}{0:08X}{240 + ahead:08X}").open("wb") as file:
                file.truncate(16 << 20)
        found = looked(pair, failover.request(pair, emergency=True))
    assert isinstance(found.behind, Behind)
    assert (found.behind.source, found.behind.transactions) == ("files", 7)
    assert found.behind.bytes
    assert checks.loss(found).status == "warning"
    assert checks.near_enough(found).status == "passed"
    strict = pair.model_copy(update={"replication": pair.replication.model_copy(update={"promotable_below_bytes": 100})})
    assert checks.near_enough(replace(found, nodes=open_nodes(strict))).status == "failed"


def test_a_frozen_primary_is_killed_and_never_thawed(pair: Site) -> None:
    alpha = open_nodes(pair)["ALPHA"]
    family = freeze(alpha)
    alpha.data_directory.chmod(0o500)  # nor does its disk take a mark, which keeps nobody from going on
    done = passed(fail_over(pair, emergency=True))
    alpha.data_directory.chmod(0o700)
    assert done.check("Mark ALPHA as fenced")["status"] == "warning"
    assert state.read(pair).fenced["ALPHA"].way == "stopped"
    assert "Kill PostgreSQL (frozen)" in done.done
    assert not [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("down", "primary")


@pytest.mark.parametrize("emergency", [False, True])
def test_broken_off_after_any_change_and_run_again_it_is_finished(pair: Site, emergency: bool) -> None:
    """The first changes are made as a killed run would have made them; the next run looks, and does the rest."""
    nodes = open_nodes(pair)
    if emergency:
        inject(pair, "alpha-down")
    request = failover.request(pair, emergency=emergency)
    steps = failover.plan(looked(pair, request)).changes
    titles = [step.title for step in steps]
    assert "Promote BETA" in titles
    for number, change in enumerate(steps[:-1], 1):
        change.action.run(nodes[change.node])
        found = looked(pair, request)
        gate = [check for check in failover.preconditions(found) if check.required and check.status in ("failed", "unknown")]
        assert not gate, f"after '{change.title}': {gate}"
        rest = [step.title for step in failover.plan(found).changes]
        assert set(rest) <= {*titles, f"Create the slot {pair.replication.slot} for ALPHA"}
        if number <= titles.index("Promote BETA"):
            assert "Promote BETA" in rest
        else:
            assert "Promote BETA" not in rest
    passed(fail_over(pair, emergency=emergency))
    assert state.read(pair).under_way is None


def test_a_failure_after_the_promotion_does_not_bring_the_old_primary_back(pair: Site) -> None:
    """Undoing what stands above the promotion would start ALPHA as a second primary."""
    nodes = open_nodes(pair)
    request = failover.request(pair)
    planned = failover.plan(looked(pair, request))
    impossible = Change("BETA", "impossible", Service("start", "embedding"), "start")
    with pytest.raises(ChangeFailed, match="'impossible' failed"):
        apply(replace(planned, changes=(*planned.changes, impossible)), nodes, lambda *_: None)
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("down", "primary")
    assert state.read(pair).fenced["ALPHA"].way == "stopped"
    in_the_way = service_file.path(pair)
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    told = passed(fail_over(pair)).check("Point clients that know one host to the new primary")
    assert (told["status"], "Run failover again" in told["hint"]) == ("warning", True)
    assert state.read(pair).under_way is None
    in_the_way.rmdir()


def test_a_dead_primary_that_its_supervisor_starts_again_during_the_failover_is_stopped(pair: Site) -> None:
    """Seen down, with autostart on, and started between the look and the first change: promoted beside it, there were two."""
    nodes = open_nodes(pair)
    inject(pair, "alpha-down")
    request = failover.request(pair, emergency=True)
    found = looked(pair, request)
    alpha = replace(found.overview.nodes["ALPHA"], autostart=True)
    found = replace(found, overview=replace(found.overview, nodes={**found.overview.nodes, "ALPHA": alpha}))
    planned = failover.plan(found)
    nodes["ALPHA"].supervisor.start("postgresql")
    apply(planned, nodes, lambda *_: None)
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("down", "primary")


@pytest.mark.parametrize("emergency", [False, True])
def test_from_the_call_of_pg_promote_on_nothing_is_undone(pair: Site, emergency: bool) -> None:
    """A restore_command that does not end holds the promotion up; undone, the fence would let ALPHA be a second primary."""
    nodes = open_nodes(pair)
    goes_on = pair.root / "goes on"
    goes_on.unlink(missing_ok=True)
    Setting("restore_command", f"while [ ! -e '{goes_on}' ]; do sleep 0.1; done; false").run(nodes["BETA"])
    if emergency:
        inject(pair, "alpha-down")
    request = failover.request(pair, emergency=emergency)
    found = looked(pair, request)
    try:
        with pytest.raises(
            ChangeFailed, match=r"cannot be taken back.* its restore_command runs.* What was done before it stays"
        ) as failed:
            apply(failover.plan(found, deadline_s=0.3), nodes, lambda *_: None)
        assert "Run failover again" in failed.value.hint
        assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("down", "standby")
        assert state.read(pair).fenced["ALPHA"].way == "stopped"
        refused = fail_over(pair, take_back=True)
        assert "pg_promote was called" in refused.check("the failover can be taken back")["observed"]
        assert "without take_back" in str(refused.error)
    finally:
        goes_on.touch()
    again = passed(fail_over(pair, emergency=emergency))
    assert "Start PostgreSQL" not in again.done
    assert (role(pair, "ALPHA"), role(pair, "BETA")) == ("down", "primary")


def test_settings_that_would_hold_up_a_promotion_are_taken_back(pair: Site) -> None:
    nodes = open_nodes(pair)
    for name, value in {
        "restore_command": "ssh alpha cat /archive/%f > %p || false",
        "summarize_wal": "on",
        "synchronous_standby_names": "beta",
    }.items():
        Setting(name, value).run(nodes["BETA"])
    inject(pair, "alpha-down")
    passed(fail_over(pair, emergency=True))
    with nodes["BETA"].session(database="postgres") as connection:
        names = ("restore_command", "summarize_wal", "synchronous_standby_names")
        found = [connection.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
    assert found == [("",), ("on",), ("",)]
