"""restore's gate and plan, without a database: what is missing comes out, also from every half-way state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from facts import NOW, STOPPED, UP, stopping, titles

from aya_lib.check import Check, Status, evaluate, worst
from aya_lib.cluster.judge import server as cluster
from aya_lib.cluster.judge.overview import daemon, judge, pair
from aya_lib.cluster.log import Log
from aya_lib.cluster.lsn import number
from aya_lib.cluster.machine import Machine
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Receiver, Sender, Slot, Stream
from aya_lib.cluster.server import Cluster, ControlData, Files, Switch, files_of, parse_history
from aya_lib.cluster.services import Embedding, Health
from aya_lib.cluster.state import State
from aya_lib.node.node import open_nodes
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Down, Planned, Starting, Unseen
from aya_lib.operations.restore import patience, plan, preconditions, restored
from aya_lib.operations.restore.look import Found
from aya_lib.plan.actions import Service, Sql
from aya_lib.plan.change import Change
from aya_lib.site import Site

SLOT = Slot("beta_slot", True, 12, "reserved", 10**8)
STREAM = Stream("beta", "127.0.0.1", 12, "streaming", "async", 0, 0.1, None)


def server(name: str, *, recovery: bool = False, timeline: int = 1, lsn: str = "0/5") -> Cluster:
    return Cluster(name, "7", recovery, "18.1", timeline, lsn)


def files(name: str, *, signal: bool, timeline: int = 1, lsn: str = "0/5", system: str = "7") -> Files:
    return Files(name, signal, system, timeline, "shut down", lsn)


def receiver(state: str = "not paused") -> Receiver:
    return Receiver("BETA", "streaming", "beta_slot", "h", 1, 0.1, state, True, 10.0)


ALPHA = NodeSeen(
    "ALPHA",
    UP,
    Listener(1, 10, "postgres"),
    files("ALPHA", signal=False),
    server("ALPHA"),
    Sender("ALPHA", (STREAM,), (SLOT,)),
    None,
    Embedding("ALPHA", 2, UP, Listener(2, 10, "python"), Health(200, "healthy")),
)
BETA = NodeSeen(
    "BETA", UP, Listener(3, 10, "postgres"), files("BETA", signal=True), server("BETA", recovery=True), None, receiver(), None
)
ALPHA_DOWN = replace(ALPHA, process=STOPPED, listener=None, cluster=Down("ALPHA", "connection refused"), sender=None)
BETA_DOWN = replace(BETA, process=STOPPED, listener=None, cluster=Down("BETA", "connection refused"), receiver=None)
NO_EMBEDDING = Embedding("ALPHA", 2, STOPPED, None, Down("ALPHA", "connection refused"))
UNSEEN = Unseen("BETA", "SQL", "no answer within 2 s")


def overview(alpha: NodeSeen = ALPHA, beta: NodeSeen = BETA) -> Overview:
    return Overview(NOW, {"ALPHA": alpha, "BETA": beta})


def failing(site: Site, seen: Overview) -> list[str]:
    return [check.name for check in preconditions(Found(open_nodes(site), seen)) if check.status in ("failed", "unknown")]


@pytest.mark.parametrize(
    "seen",
    [
        overview(),
        overview(alpha=ALPHA_DOWN, beta=BETA_DOWN),
        overview(alpha=ALPHA_DOWN),
        overview(beta=BETA_DOWN),
        overview(alpha=replace(ALPHA, embedding=NO_EMBEDDING)),
        overview(alpha=replace(ALPHA, sender=Sender("ALPHA", (), ()))),
    ],
)
def test_the_gate_opens_for_what_can_be_mended(lab_site: Site, seen: Overview) -> None:
    assert failing(lab_site, seen) == []


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (overview(beta=replace(BETA, cluster=server("BETA"))), "no second primary"),
        (overview(beta=replace(BETA, cluster=UNSEEN)), "state of BETA is known"),
        (overview(beta=replace(BETA, cluster=Starting("BETA", "starting up"))), "state of BETA is known"),
        (overview(beta=replace(BETA_DOWN, process=UNSEEN)), "state of BETA is known"),
        (overview(beta=replace(BETA_DOWN, files=UNSEEN)), "state of BETA is known"),
        (overview(beta=replace(BETA_DOWN, files=files("BETA", signal=False))), "BETA would start as a standby"),
        (overview(alpha=replace(ALPHA_DOWN, files=files("ALPHA", signal=True))), "ALPHA would start as a primary"),
        (overview(alpha=ALPHA_DOWN, beta=replace(BETA, cluster=server("BETA", timeline=2))), "ALPHA was not passed over"),
        (overview(beta=replace(BETA_DOWN, files=files("BETA", signal=True, system="8"))), "ALPHA and BETA are one system"),
        (overview(beta=replace(BETA_DOWN, files=files("BETA", signal=True, timeline=2))), "BETA has not diverged"),
        (
            overview(alpha=ALPHA_DOWN, beta=replace(BETA_DOWN, files=files("BETA", signal=True, timeline=2))),
            "BETA was not promoted",
        ),
        (
            overview(alpha=replace(ALPHA, sender=Sender("ALPHA", (), (replace(SLOT, wal_status="lost"),)))),
            "slot beta_slot still holds the WAL",
        ),
        (overview(beta=replace(BETA_DOWN, listener=Listener(3, 99, "nc"))), "BETA port {port} for PostgreSQL"),
        (overview(beta=replace(BETA_DOWN, listener=UNSEEN)), "BETA port {port} for PostgreSQL"),
        (overview(alpha=replace(ALPHA, sender=UNSEEN)), "slot beta_slot still holds the WAL"),
    ],
)
def test_the_gate_stays_shut_where_acting_would_do_harm(lab_site: Site, seen: Overview, name: str) -> None:
    assert name.format(port=lab_site.nodes["BETA"].postgresql.port) in failing(lab_site, seen)


FOREIGN = replace(NO_EMBEDDING, listener=Listener(2, 99, "nc"))
PRIMARY_STARTS = "ALPHA: Start PostgreSQL (stopped)"


def test_what_is_wrong_with_one_part_keeps_no_other_from_being_brought_back(lab_site: Site) -> None:
    nodes = open_nodes(lab_site)
    held = Found(nodes, overview(alpha=replace(ALPHA_DOWN, embedding=FOREIGN)))
    assert titles(plan(held).changes) == [PRIMARY_STARTS]
    assert stopping(preconditions(held)) == {}
    assert patience(held, 90) < 90 == patience(Found(nodes, overview(alpha=ALPHA_DOWN)), 90)
    freed = replace(held, stop_port_holder=True)
    assert [title.split(": ")[1].split(" (")[0] for title in titles(plan(freed).changes)] == [
        "Start PostgreSQL",
        "Stop the process that holds port 2",
        "Start the embedding service",
    ]
    signal = replace(BETA_DOWN, files=files("BETA", signal=False))
    assert titles(plan(Found(nodes, overview(ALPHA_DOWN, signal))).changes) == [PRIMARY_STARTS]


def test_where_nothing_else_is_to_be_done_the_gate_says_so_and_names_the_way(lab_site: Site) -> None:
    held = Found(open_nodes(lab_site), overview(alpha=replace(ALPHA, embedding=FOREIGN)))
    assert not plan(held)
    assert stopping(preconditions(held)) == {"ALPHA port 2 for the embedding service": "failed"}
    assert any("stop_port_holder=true" in check.hint for check in preconditions(held))


@pytest.mark.parametrize("beta", [replace(BETA, cluster=UNSEEN), replace(BETA_DOWN, process=UNSEEN)])
def test_a_node_that_might_be_the_primary_and_cannot_be_asked_stops_all_of_it(lab_site: Site, beta: NodeSeen) -> None:
    assert not plan(Found(open_nodes(lab_site), overview(ALPHA_DOWN, beta)))


def test_a_replay_that_is_paused_for_smaller_settings_is_not_resumed_and_they_are_named(lab_site: Site) -> None:
    small = replace(server("BETA", recovery=True), sizes={"max_connections": 60, "max_wal_senders": 10})
    asks = replace(files("BETA", signal=True), asks={"max_connections": 90, "max_wal_senders": 10})
    found = Found(open_nodes(lab_site), overview(beta=replace(BETA, cluster=small, files=asks, receiver=receiver("paused"))))
    assert not plan(found)
    (check,) = [check for check in restored(lab_site, found) if check.name == "replay on the standby"]
    assert "max_connections = 60, its primary had 90" in check.observed
    assert "ALTER SYSTEM SET max_connections = 90" in check.hint


@pytest.mark.parametrize(
    "seen",
    [
        overview(alpha=replace(ALPHA_DOWN, embedding=NO_EMBEDDING), beta=BETA_DOWN),
        overview(alpha=replace(ALPHA, sender=Sender("ALPHA", (), ())), beta=BETA_DOWN),
        overview(beta=replace(BETA, receiver=replace(receiver("paused"), status=None))),
    ],
)
def test_restore_never_advises_itself(lab_site: Site, seen: Overview) -> None:
    found = Found(open_nodes(lab_site), seen)
    assert any("run restore" in check.hint.lower() for check in judge(lab_site, seen))
    assert not any("run restore" in check.hint.lower() for check in restored(lab_site, found))


LOG = Log("BETA", "/log", ("FATAL:  could not connect to the primary server: FATAL:  password authentication failed",))
ALONE = replace(ALPHA, sender=Sender("ALPHA", (), (replace(SLOT, active=False),)))
SPLIT = overview(ALONE, replace(BETA, cluster=server("BETA", timeline=2), receiver=None, sender=Sender("BETA", (), ())))


def test_the_cause_that_the_log_gives_comes_first_and_what_follows_points_to_it(lab_site: Site) -> None:
    checks = pair(lab_site, overview(ALONE, replace(BETA, receiver=replace(receiver(), status=None), log=LOG)))
    bad = [check for check in checks if check.status == "failed" and check.name != "ALPHA chunks.embedding"]
    assert bad[0].name == "BETA's log"
    assert "replication password" in bad[0].observed
    assert {check.hint for check in bad[1:]} == {"See BETA's log"}
    found = Found(open_nodes(lab_site), overview(ALONE, replace(BETA_DOWN, log=LOG)))
    assert any("password file" in check.hint and "Then run restore" in check.hint for check in restored(lab_site, found))


def test_advice_names_the_runbook_that_mends_it_and_no_node_is_called_down_that_is_not(lab_site: Site) -> None:
    signal = pair(lab_site, overview(beta=replace(BETA_DOWN, files=files("BETA", signal=False))))
    bad = [check for check in signal if check.name.startswith("BETA") and check.status == "failed"]
    assert {check.hint.split(":")[0] for check in bad} == {"Run rejoin"}
    split = pair(lab_site, SPLIT)
    assert not any("is down" in check.observed or "Run restore" in check.hint for check in split)
    assert "BETA is a primary itself" in next(check.observed for check in split if check.name == "receives from ALPHA")
    promoted = replace(BETA, cluster=server("BETA", timeline=2))
    swapped = overview(replace(ALPHA, cluster=server("ALPHA", recovery=True)), promoted)
    assert "verify_replication" in cluster.as_configured(lab_site, swapped).hint
    agreed = replace(swapped, state=State(primary="BETA"))
    assert "switchback" in cluster.as_configured(lab_site, agreed).hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("sorry, too many clients already", "max_connections"),
        ('database "aya_rag" does not exist', "database.name"),
        ("no pg_hba.conf entry for host", "pg_hba.conf on ALPHA"),
        ("no answer within 3 s", "frozen"),
    ],
)
def test_a_server_that_answers_with_a_refusal_is_not_taken_for_another_program(said: str, hint: str) -> None:
    seen = replace(ALPHA, cluster=Unseen("ALPHA", "SQL", said))
    assert hint in cluster.server_hint(seen)
    held = replace(seen, listener=Listener(1, 99, "nc"))
    assert "PID 99" in cluster.server_hint(held)
    assert "PID 99" in cluster.server_hint(replace(held, process=STOPPED))
    assert cluster.one_primary([replace(held, process=STOPPED), BETA]).status == "passed"
    assert cluster.one_primary([seen, BETA]).status == "unknown"


def test_disks_clocks_and_processes_are_judged() -> None:
    full, tight, wide = (
        replace(BETA, machine=Machine("BETA", {"/data": n * 2**20}, ("7 walreceiver",))) for n in (10, 500, 5000)
    )
    assert [cluster.room(node).status for node in (full, tight, wide, BETA)] == ["failed", "warning", "passed", "unknown"]
    assert "kill -CONT 7" in cluster.moving(full).hint
    late, here = (replace(ALPHA, cluster=replace(server("ALPHA"), clock_s=value)) for value in (-3600.0, 0.1))
    assert [check.status for check in cluster.clocks(here, late)] == ["warning"]
    assert "3,600 s behind" in cluster.clocks(here, late)[0].observed
    assert cluster.clocks(here, BETA) == []


@pytest.mark.parametrize(("status", "judged"), [("running", ["passed"]), ("stale", ["failed"]), ("stopped", [])])
def test_a_laptops_daemon_that_died_fails_and_one_that_was_stopped_does_not(status: Any, judged: list[str]) -> None:
    assert [check.status for check in daemon(replace(ALPHA, sync=ServiceState(status, 7)))] == judged


def test_a_column_of_another_dimension_than_the_site_names_is_a_fault(lab_site: Site) -> None:
    for found, status in ((384, "passed"), (768, "failed"), (None, "failed")):
        node = replace(ALPHA, cluster=replace(server("ALPHA"), vector_dimension=found))
        assert cluster.vector_column(lab_site, node).status == status


def test_a_standby_behind_the_switch_of_its_timeline_has_not_diverged() -> None:
    leader = replace(ALPHA, cluster=replace(server("ALPHA", timeline=2, lsn="0/9"), history=(Switch(1, "0/6"),)))
    behind, past = (replace(BETA, cluster=server("BETA", recovery=True, lsn=lsn)) for lsn in ("0/6", "0/7"))
    assert cluster.not_diverged(behind, leader).status == "passed"
    assert cluster.not_diverged(past, leader).status == "failed"


def done(seen: Overview, step: Change) -> Overview:
    """What would be seen after a change."""
    nodes = dict(seen.nodes)
    if step.action == Service("start", "postgresql"):
        nodes[step.node] = {"ALPHA": replace(ALPHA, embedding=nodes["ALPHA"].embedding), "BETA": BETA}[step.node]
    elif isinstance(step.action, Service):
        nodes["ALPHA"] = replace(nodes["ALPHA"], embedding=ALPHA.embedding)
    elif isinstance(step.action, Sql) and "resume" in step.action.statement:
        nodes["BETA"] = replace(nodes["BETA"], receiver=receiver())
    else:
        nodes["ALPHA"] = replace(nodes["ALPHA"], sender=ALPHA.sender)
    return Overview(NOW, nodes)


BROKEN = [
    overview(alpha=replace(ALPHA_DOWN, embedding=NO_EMBEDDING), beta=BETA_DOWN),
    overview(
        alpha=replace(ALPHA, embedding=NO_EMBEDDING, sender=Sender("ALPHA", (), ())),
        beta=replace(BETA, receiver=receiver("paused")),
    ),
    overview(alpha=replace(ALPHA, sender=Sender("ALPHA", (), ())), beta=BETA_DOWN),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_after_the_first_k_changes_the_rest_of_the_plan_comes_out(lab_site: Site, broken: Overview) -> None:
    nodes = open_nodes(lab_site)
    states = [broken]
    for step in plan(Found(nodes, broken)).changes:
        states.append(done(states[-1], step))
    plans = [titles(plan(Found(nodes, seen)).changes) for seen in states]
    assert len(plans[0]) > 1
    assert plans[-1] == []
    for now, after in pairwise(plans):
        assert after == now[1:]


def test_what_could_not_be_seen_yields_no_change(lab_site: Site) -> None:
    hidden = replace(BETA, process=UNSEEN, cluster=UNSEEN, receiver=UNSEEN, files=UNSEEN, listener=UNSEEN)
    assert not plan(Found(open_nodes(lab_site), overview(beta=hidden)))


@pytest.mark.parametrize(
    ("fact", "status"),
    [(UNSEEN, "unknown"), (Down("BETA", "x"), "failed"), (Starting("BETA", "x"), "failed"), (Planned("x"), "planned")],
)
def test_a_fact_that_is_not_there_never_passes(fact: Unseen | Down | Starting | Planned, status: Status) -> None:
    check = evaluate("a", "b", fact, lambda _: pytest.fail("must not be judged"))
    assert check.status == status
    assert (check.unseen is fact) == (status == "unknown")


def test_failed_is_worse_than_unknown_and_unknown_than_passed() -> None:
    order: list[Status] = ["passed", "warning", "planned", "unknown", "failed"]
    checks = [Check("a", status, "", "") for status in order]
    for count in range(1, len(order) + 1):
        assert worst(checks[:count]) == order[count - 1]


def test_positions_and_histories_are_read() -> None:
    assert number("1/2A") == 4294967338
    text = "1\t0/3000158\tno recovery target specified\n\n2\t0/5000060\tbefore\n"
    assert parse_history(text) == (Switch(1, "0/3000158"), Switch(2, "0/5000060"))


def test_control_data_is_read_and_a_missing_line_is_said() -> None:
    text = (
        "Database system identifier:           7711\nDatabase cluster state:               in archive recovery\n"
        "Latest checkpoint location:           0/2000080\nLatest checkpoint's TimeLineID:       1\n"
        "Minimum recovery ending location:     0/3000000\nMin recovery ending loc's timeline:   2\n"
    )
    control = ControlData("BETA", text)
    assert files_of("BETA", control, standby_signal=True) == Files("BETA", True, "7711", 2, "in archive recovery", "0/3000000")
    with pytest.raises(Exception, match="no line 'Latest checkpoint location'"):
        files_of("BETA", ControlData("BETA", ""), standby_signal=True)
