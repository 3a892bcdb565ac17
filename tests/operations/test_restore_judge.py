"""restore's gate and plan, without a database: what is missing comes out, also from every half-way state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from facts import NOW, STOPPED, UP, titles

from aya_lib.check import Check, Status, evaluate, worst
from aya_lib.cluster.judge import server as cluster
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Receiver, Sender, Slot, Stream
from aya_lib.cluster.server import Cluster, ControlData, Files, Switch, files_of, parse_history
from aya_lib.cluster.services import Embedding, Health
from aya_lib.node.node import open_nodes
from aya_lib.node.supervisor import Listener
from aya_lib.node.unseen import Down, Planned, Starting, Unseen
from aya_lib.operations.restore import plan, preconditions
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
