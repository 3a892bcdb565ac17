"""failover's gate, fence, stated loss and plans, without a database: also from every half-way state the rest comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from aya_lib.cluster import service_file
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Sender, Slot
from aya_lib.cluster.server import Cluster, Files, Switch
from aya_lib.cluster.services import Embedding, Health
from aya_lib.cluster.state import Fence, State
from aya_lib.errors import UsageError
from aya_lib.node.node import open_nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Down, Missing, Starting, Unseen
from aya_lib.operations.failover import fence as acts
from aya_lib.operations.failover import fencing
from aya_lib.operations.failover import judge as checks
from aya_lib.operations.failover.judge import Found, Wish
from aya_lib.operations.failover.look import Behind, Promise, Promotable, condition
from aya_lib.operations.failover.plan import HasAll, Promote, asks
from aya_lib.operations.failover.plan import plan as plan_of
from aya_lib.plan.actions import Service, Sql
from aya_lib.plan.change import Change, Plan
from aya_lib.site import Site

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UP, STOPPED, FROZEN = ServiceState("running", 10, NOW), ServiceState("stopped"), ServiceState("frozen", 10, NOW)
SLOT = Slot("beta_slot", False, None, "reserved", 10**8)
ALPHA_IS = Cluster("ALPHA", "7", False, "18.1", 1, "0/5000000")
BETA_IS = replace(ALPHA_IS, node="BETA", in_recovery=True)
FILES = Files("ALPHA", False, "7", 1, "in production", "0/4000000")
SERVICE = Embedding("BETA", 1, STOPPED, None, Down("BETA", "refused"), "primary")
ALPHA = NodeSeen("ALPHA", UP, None, FILES, ALPHA_IS, Sender("ALPHA", (), (SLOT,)), None, None, True)
BETA = NodeSeen("BETA", UP, None, replace(FILES, node="BETA", standby_signal=True), BETA_IS, None, None, SERVICE, True)
STANDBY = Promotable("BETA", "0/5000000", "0/5000000", NOW, "0/5000000", 0.1, "", False, "", False)
HELD_UP = replace(STANDBY, summarizes=True, synchronous_names="beta", restore_command="ssh alpha cat %f > %p")
BEHIND = Behind("server", 0, None, 0.0, NOW, "0/5000000")
ASYNCHRONOUS, SYNCHRONOUS = Promise(False, "ALPHA says so"), Promise(True, "ALPHA says so")
NOT_KNOWN = Promise(None, "nobody can say")
REFUSED = Down("ALPHA", "connection refused")
DEAD = replace(ALPHA, process=STOPPED, cluster=REFUSED, sender=None)
ICE = replace(ALPHA, process=FROZEN, cluster=Unseen("ALPHA", "SQL", "no answer within 2 s"), sender=None)
FENCED = replace(DEAD, autostart=False, files=replace(FILES, fenced="{}"))
NO_ROUTE = Unseen("ALPHA", "ssh", "no route to host")
AWAY = NodeSeen("ALPHA", NO_ROUTE, NO_ROUTE, NO_ROUTE, NO_ROUTE, None, None, None, NO_ROUTE)

PLANNED = Wish("ALPHA", "BETA", by="me")
EMERGENCY = replace(PLANNED, emergency=True)
TAKE_BACK = replace(PLANNED, take_back=True)

# What a run that goes on after a kill does once more, because no fact says that it is done, or because it is cheap and harmless.
AGAIN = (
    "Write down that the failover begins",
    "Be sure that BETA has everything",
    "Mark ALPHA as fenced",
    "Remember that ALPHA is fenced",
    "Turn the WAL summarizer on again",
    "Point clients that know one host to the new primary",
)


def facts(
    wish: Wish,
    alpha: NodeSeen = ALPHA,
    beta: NodeSeen = BETA,
    standby: Promotable | Missing | None = STANDBY,
    behind: Behind | Missing = BEHIND,
    promise: Promise = ASYNCHRONOUS,
    state: State | None = None,
) -> Found:
    held = fencing.choose(wish.fence, alpha, promise, wish.confirmed_by)
    return Found(Overview(NOW, {"ALPHA": alpha, "BETA": beta}, state or State()), standby, behind, promise, held)


def plan(site: Site, wish: Wish, found: Found) -> Plan:
    return plan_of(open_nodes(site), wish, found)


def preconditions(site: Site, wish: Wish, found: Found) -> dict[str, str]:
    """The checks that stop a run; each says what to do."""
    stop = [
        check for check in checks.preconditions(site, wish, found) if check.required and check.status in ("failed", "unknown")
    ]
    assert all(check.hint for check in stop), stop
    return {check.name: check.status for check in stop}


def titles(changes: Sequence[Change]) -> list[str]:
    return [f"{step.node}: {step.title}" for step in changes]


def alike(found: Found, wish: Wish, **nodes: NodeSeen) -> Found:
    """The facts with a node changed: how ALPHA is fenced is chosen anew."""
    seen = replace(found.overview, nodes={**found.overview.nodes, **nodes})
    held = fencing.choose(wish.fence, seen.nodes["ALPHA"], found.promise, wish.confirmed_by)
    return replace(found, overview=seen, fencing=held)


def done(found: Found, wish: Wish, step: Change) -> Found:
    """The facts after a change, as both nodes and the site's state would show them."""
    action, alpha, beta, state = step.action, *(found.overview.nodes[n] for n in ("ALPHA", "BETA")), found.overview.state
    has = found.promotable

    def known(changed: State) -> Found:
        return replace(found, overview=replace(found.overview, state=changed))

    match action:
        case acts.Stand():
            return known(replace(state, **action.changes))
        case acts.Remember():
            return known(replace(state, fenced={**state.fenced, action.fence.node: action.fence}))
        case acts.Forget():
            return known(replace(state, fenced={name: one for name, one in state.fenced.items() if name != action.name}))
        case acts.Mark():
            assert isinstance(alpha.files, Files)
            return alike(found, wish, ALPHA=replace(alpha, files=replace(alpha.files, fenced="{}")))
        case acts.Unmark():
            assert isinstance(alpha.files, Files)
            return alike(found, wish, ALPHA=replace(alpha, files=replace(alpha.files, fenced=None)))
        case acts.Autostart():
            return alike(found, wish, ALPHA=replace(alpha, autostart=action.on))
        case acts.Kill():
            assert isinstance(alpha.process, ServiceState)
            assert action.pid == alpha.process.pid
            return alike(found, wish, ALPHA=replace(alpha, process=STOPPED, cluster=REFUSED, sender=None))
        case Service("stop", "postgresql"):
            files = replace(FILES, state="shut down") if alpha.writable else alpha.files
            return alike(found, wish, ALPHA=replace(alpha, process=STOPPED, cluster=REFUSED, sender=None, files=files))
        case Service("start", "postgresql"):
            return alike(found, wish, ALPHA=replace(ALPHA, autostart=alpha.autostart))
        case Service("start", "embedding"):
            return alike(found, wish, BETA=replace(beta, embedding=replace(SERVICE, process=UP)))
        case HasAll():
            assert isinstance(alpha.files, Files)
            assert alpha.files.clean
            return found
        case service_file.Write():
            return found
    if isinstance(action, Promote):
        assert isinstance(has, Promotable)
        assert not alpha.writable, "promoted beside a primary that takes writes"
        leads = replace(BETA_IS, in_recovery=False, timeline=2, history=(Switch(1, "0/5000000"),))
        sender = Sender("BETA", (), (SLOT,) if has.has_slot else ())
        promoted = alike(found, wish, BETA=replace(beta, cluster=leads, sender=sender))
        return replace(promoted, promotable=None, behind=Behind("past", None, None, None, None))
    if isinstance(action, Sql) and isinstance(has, Promotable):
        assert "physical_replication_slot" in action.statement or "drop" in action.statement
        return replace(found, promotable=replace(has, has_slot="create" in action.statement))
    if isinstance(action, Sql):
        return alike(found, wish, BETA=replace(beta, sender=Sender("BETA", (), (SLOT,))))
    assert isinstance(action, acts.Setting), action
    if isinstance(has, Promotable):
        value = action.value or ""
        field = {"synchronous_standby_names": "synchronous_names", "summarize_wal": "summarizes"}.get(action.name, action.name)
        return replace(found, promotable=replace(has, **{field: value == "on" if field == "summarizes" else value}))  # type: ignore[arg-type]
    return found


HAND_OVER = [
    "BETA: Write down that the failover begins",
    "BETA: Create the slot beta_slot for ALPHA",
    "ALPHA: Keep ALPHA from starting by itself",
    "ALPHA: Stop PostgreSQL in an orderly way",
    "ALPHA: Mark ALPHA as fenced",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Be sure that BETA has everything",
    "BETA: Promote BETA",
    "BETA: Remember that BETA is the primary",
    "BETA: Point clients that know one host to the new primary",
    "BETA: Start the embedding service",
]
GIVE_UP_DEAD = [
    "BETA: Write down that the failover begins",
    "ALPHA: Keep ALPHA from starting by itself",
    "ALPHA: Stop PostgreSQL, should ALPHA have started it again since the look",
    "ALPHA: Mark ALPHA as fenced",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Create the slot beta_slot for ALPHA",
    "BETA: Promote BETA",
    "BETA: Remember that BETA is the primary",
    "BETA: Point clients that know one host to the new primary",
    "BETA: Start the embedding service",
]
GIVE_UP_FROZEN = [
    "BETA: Write down that the failover begins",
    "ALPHA: Keep ALPHA from starting by itself",
    "ALPHA: Kill PostgreSQL (frozen)",
    "ALPHA: Mark ALPHA as fenced",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Create the slot beta_slot for ALPHA",
    "BETA: Let commits not wait for a standby that is not there",
    "BETA: Turn the WAL summarizer off: it can hold up a promotion",
    "BETA: Take back restore_command, which asks ALPHA",
    "BETA: Promote BETA",
    "BETA: Turn the WAL summarizer on again",
    "BETA: Remember that BETA is the primary",
    "BETA: Point clients that know one host to the new primary",
    "BETA: Start the embedding service",
]
GIVE_UP_AWAY = [
    "BETA: Write down that the failover begins",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Create the slot beta_slot for ALPHA",
    "BETA: Promote BETA",
    "BETA: Remember that BETA is the primary",
    "BETA: Point clients that know one host to the new primary",
    "BETA: Start the embedding service",
]
CONFIRMED = replace(EMERGENCY, confirmed_by="A. Person")
SITUATIONS = {
    "a healthy primary is handed over": (PLANNED, facts(PLANNED), HAND_OVER),
    "a dead primary is given up": (EMERGENCY, facts(EMERGENCY, DEAD), GIVE_UP_DEAD),
    "a frozen primary, everything on": (EMERGENCY, facts(EMERGENCY, ICE, standby=HELD_UP), GIVE_UP_FROZEN),
    "an unreachable one, confirmed off": (CONFIRMED, facts(CONFIRMED, AWAY), GIVE_UP_AWAY),
    "an unreachable one, synchronous": (EMERGENCY, facts(EMERGENCY, AWAY, promise=SYNCHRONOUS), GIVE_UP_AWAY),
}
situations = pytest.mark.parametrize(("wish", "starts", "golden"), SITUATIONS.values(), ids=list(SITUATIONS))


@situations
def test_what_is_planned_in_each_situation(lab_site: Site, wish: Wish, starts: Found, golden: list[str]) -> None:
    assert preconditions(lab_site, wish, starts) == {}
    found = plan(lab_site, wish, starts)
    assert titles(found.changes) == golden
    assert found.unwind
    promotion = next(step for step in found.changes if step.title == "Promote BETA")
    before = found.changes[: found.changes.index(promotion)]
    after = found.changes[found.changes.index(promotion) :]
    assert all(step.undo for step in before if "Kill" not in step.title)  # nothing brings back what was killed
    assert not any(step.undo for step in after)
    assert (promotion.interrupts, promotion.destroys) == (True, wish.emergency)


@situations
def test_from_every_half_way_state_the_rest_of_the_plan_comes_out(
    lab_site: Site, wish: Wish, starts: Found, golden: list[str]
) -> None:
    state = starts
    for count, step in enumerate(plan(lab_site, wish, starts).changes, 1):
        state = done(state, wish, step)
        assert preconditions(lab_site, wish, state) == {}, step.title
        past = state.overview.nodes["BETA"].writable
        again = () if past else golden[:count]
        expected = [one for one in again if one.split(": ", 1)[1] in AGAIN] + golden[count:]
        found = [
            one
            for one in titles(plan(lab_site, wish, state).changes)
            if one in golden[count:] or not (past and one.split(": ", 1)[1] in AGAIN)
        ]
        if "Keep ALPHA from starting by itself" in step.title:  # seen down, and nothing can start it any more
            expected = [one for one in expected if "should ALPHA have started it again" not in one]
        assert found == expected, step.title
    assert checks.promoted(lab_site, wish, state.overview)
    assert {check.status for check in checks.promoted(lab_site, wish, state.overview)[:1]} == {"passed"}
    closed = replace(state, overview=replace(state.overview, state=replace(state.overview.state, under_way=None)))
    assert not plan(lab_site, wish, closed)
    assert state.overview.state.primary == "BETA"
    assert "ALPHA" in state.overview.state.fenced


@situations
def test_before_the_promotion_it_can_be_taken_back_from_every_half_way_state(
    lab_site: Site, wish: Wish, starts: Found, golden: list[str]
) -> None:
    back, state = replace(wish, take_back=True), starts
    assert preconditions(lab_site, back, starts) == {"the failover can be taken back": "failed"}
    for step in plan(lab_site, wish, starts).changes:
        state = done(state, wish, step)
        if step.title == "Promote BETA":
            assert preconditions(lab_site, back, state) == {"the failover can be taken back": "failed"}
            break
        assert preconditions(lab_site, back, state) == {}
        whole, undone = plan(lab_site, back, state), state
        assert not whole.unwind
        for count, undo in enumerate(whole.changes, 1):
            undone = done(undone, back, undo)
            rest = titles(plan(lab_site, back, undone).changes)
            if count < len(whole):
                assert rest == titles(whole.changes[count:]), undo.title
        assert undone.overview.state == State()
        assert undone.promotable == starts.promotable
        alpha = undone.overview.nodes["ALPHA"]
        assert alpha.autostart == starts.overview.nodes["ALPHA"].autostart
        assert getattr(alpha.files, "fenced", None) is None
        assert alpha.writable or alpha.process in (FROZEN, NO_ROUTE)  # it serves again, or was not touched yet


def test_what_taking_back_does_is_golden(lab_site: Site) -> None:
    state = facts(EMERGENCY, ICE, standby=HELD_UP)
    for step in plan(lab_site, EMERGENCY, state).changes:
        if step.title == "Promote BETA":
            break
        state = done(state, EMERGENCY, step)
    assert titles(plan(lab_site, TAKE_BACK, state).changes) == [
        "BETA: Put synchronous_standby_names back",
        "BETA: Put restore_command back",
        "BETA: Put summarize_wal back",
        "BETA: Drop the slot that the failover created",
        "ALPHA: Take the fence's mark from ALPHA",
        "ALPHA: Forget that ALPHA is fenced",
        "ALPHA: Let ALPHA start by itself again",
        "ALPHA: Start PostgreSQL",
        "BETA: Write down that nothing is under way",
    ]


def promoted(alpha: NodeSeen, slots: tuple[Slot, ...], state: State) -> Found:
    leads = replace(BETA_IS, in_recovery=False, timeline=2, history=(Switch(1, "0/5000000"),))
    beta = replace(BETA, cluster=leads, sender=Sender("BETA", (), slots), embedding=None)
    return facts(EMERGENCY, alpha, beta, None, Behind("past", None, None, None, None), state=state)


FENCE = Fence("ALPHA", "then", "me", "confirmed", "BETA was made the primary")
BACK = replace(ALPHA, cluster=replace(ALPHA_IS, lsn="0/6000000"))


@pytest.mark.parametrize(
    ("found", "golden"),
    [
        (
            promoted(replace(DEAD, autostart=False), (), State()),
            [
                "BETA: Create the slot beta_slot for ALPHA",
                "ALPHA: Remember that ALPHA is fenced",
                "BETA: Remember that BETA is the primary",
                "BETA: Point clients that know one host to the new primary",
            ],
        ),
        (promoted(FENCED, (SLOT,), State("BETA", {"ALPHA": FENCE})), []),
        (
            promoted(BACK, (SLOT,), State("BETA", {"ALPHA": FENCE})),
            [
                "ALPHA: Keep ALPHA from starting by itself",
                "ALPHA: Kill PostgreSQL on ALPHA, which came back",
                "ALPHA: Mark ALPHA as fenced",
            ],
        ),
        (
            promoted(ICE, (SLOT,), State("BETA", {"ALPHA": FENCE}, under_way={"old": "ALPHA", "new": "BETA"})),
            [
                "ALPHA: Keep ALPHA from starting by itself",
                "ALPHA: Kill PostgreSQL on ALPHA, which came back",
                "ALPHA: Mark ALPHA as fenced",
                "BETA: Point clients that know one host to the new primary",
            ],
        ),
        (promoted(AWAY, (SLOT,), State("BETA", {"ALPHA": FENCE})), []),
    ],
)
def test_what_is_left_after_a_promotion(lab_site: Site, found: Found, golden: list[str]) -> None:
    planned = plan(lab_site, EMERGENCY, found)
    assert titles(planned.changes) == golden
    assert not planned.unwind
    assert preconditions(lab_site, EMERGENCY, found) == {}
    state = found
    for count, step in enumerate(planned.changes, 1):
        state = done(state, EMERGENCY, step)
        rest = titles(plan(lab_site, EMERGENCY, state).changes)
        if state.overview.state.under_way:
            assert rest == [one for one in golden if one in golden[count:] or "Point clients" in one]
        elif count < len(golden) - 1:
            assert [one for one in rest if one in golden] == golden[count:]


def test_two_primaries_of_which_none_is_fenced_are_refused(lab_site: Site) -> None:
    assert preconditions(lab_site, EMERGENCY, promoted(BACK, (SLOT,), State("BETA"))) == {"no second primary": "failed"}


def test_a_degraded_promise_is_written_down_with_the_new_primary(lab_site: Site) -> None:
    for starts, mode in ((facts(EMERGENCY, DEAD, promise=SYNCHRONOUS), "degraded"), (facts(EMERGENCY, DEAD), None)):
        state = starts
        for step in plan(lab_site, EMERGENCY, starts).changes:
            state = done(state, EMERGENCY, step)
        known = state.overview.state
        assert known.mode == mode
        assert mode is None or (known.mode_by or "").startswith("failover, me")


def test_what_is_written_down_first_lets_another_run_put_everything_back(lab_site: Site) -> None:
    begin = plan(lab_site, EMERGENCY, facts(EMERGENCY, ICE, standby=HELD_UP)).changes[0].action
    assert isinstance(begin, acts.Stand)
    entry = begin.changes["under_way"]
    expected = {
        "kind": "emergency",
        "old": "ALPHA",
        "new": "BETA",
        "by": "me",
        "fenced": "stopped",
        "synchronous": False,
        "summarizes": True,
        "slot": False,
        "autostart": True,
        "settings": {
            "synchronous_standby_names": "beta",
            "restore_command": "ssh alpha cat %f > %p",
            "summarize_wal": "on",
        },
    }
    assert {key: entry[key] for key in expected} == expected
    assert set(entry) - set(expected) == {"began", "loss", "how"}


@pytest.mark.parametrize(
    ("wish", "found", "expected"),
    [
        (EMERGENCY, facts(EMERGENCY), {"planned or emergency": "failed"}),
        (PLANNED, facts(PLANNED, DEAD), {"planned or emergency": "failed"}),
        (PLANNED, facts(PLANNED, ICE), {"planned or emergency": "failed"}),
        (
            EMERGENCY,
            facts(EMERGENCY, replace(ALPHA, cluster=Starting("ALPHA", "the database system is starting up"))),
            {"planned or emergency": "failed"},
        ),
        (
            EMERGENCY,
            facts(EMERGENCY, replace(ALPHA, cluster=replace(ALPHA_IS, in_recovery=True))),
            {"planned or emergency": "failed"},
        ),
        (EMERGENCY, facts(EMERGENCY, AWAY), {"ALPHA is fenced": "failed"}),
        (
            replace(EMERGENCY, fence="synchronous"),
            facts(replace(EMERGENCY, fence="synchronous"), DEAD, promise=NOT_KNOWN),
            {"ALPHA is fenced": "failed"},
        ),
        (
            EMERGENCY,
            facts(
                EMERGENCY, DEAD, replace(BETA, cluster=Down("BETA", "refused")), Down("BETA", "refused"), Down("BETA", "refused")
            ),
            {"BETA can be promoted": "failed", "BETA has nearly everything": "failed"},
        ),
        (
            EMERGENCY,
            facts(EMERGENCY, DEAD, replace(BETA, cluster=Unseen("BETA", "SQL", "deaf")), Unseen("BETA", "SQL", "deaf")),
            {"BETA can be promoted": "unknown"},
        ),
        (PLANNED, facts(PLANNED, behind=replace(BEHIND, bytes=10**12)), {"BETA has nearly everything": "failed"}),
        (
            PLANNED,
            facts(PLANNED, beta=replace(BETA, cluster=replace(BETA_IS, system_identifier="8"))),
            {"ALPHA and BETA are one system": "failed"},
        ),
        (PLANNED, facts(PLANNED, beta=replace(BETA, cluster=replace(BETA_IS, timeline=9))), {"BETA has not diverged": "failed"}),
        (PLANNED, facts(PLANNED, state=State(fenced={"BETA": replace(FENCE, node="BETA")})), {"BETA can be promoted": "failed"}),
        (TAKE_BACK, facts(TAKE_BACK), {"the failover can be taken back": "failed"}),
        (
            TAKE_BACK,
            facts(
                TAKE_BACK,
                DEAD,
                replace(BETA, cluster=Unseen("BETA", "SQL", "deaf")),
                state=State(under_way={"old": "ALPHA", "new": "BETA"}),
            ),
            {"the failover can be taken back": "unknown"},
        ),
    ],
)
def test_refused_with_what_to_do(lab_site: Site, wish: Wish, found: Found, expected: dict[str, str]) -> None:
    assert preconditions(lab_site, wish, found) == expected


@pytest.mark.parametrize(
    ("wish", "found", "status", "words"),
    [
        (PLANNED, facts(PLANNED), "passed", "nothing: BETA has all of ALPHA's WAL before it is promoted"),
        (EMERGENCY, facts(EMERGENCY, DEAD, promise=SYNCHRONOUS), "passed", "no acknowledged write"),
        (EMERGENCY, facts(EMERGENCY, DEAD, behind=Behind("files", 0, 0, None, NOW)), "passed", "nothing: its WAL files end"),
        (
            EMERGENCY,
            facts(EMERGENCY, DEAD, behind=Behind("files", 4000, 7, None, NOW)),
            "warning",
            "at most 4,000 bytes, 7 committed",
        ),
        (EMERGENCY, facts(EMERGENCY, AWAY, behind=Behind("walreceiver", 0, None, 9.0, NOW)), "warning", "as heard 9.0 s ago"),
        (EMERGENCY, facts(EMERGENCY, AWAY, behind=Behind("nothing", None, None, None, NOW)), "warning", "not known"),
        (EMERGENCY, facts(EMERGENCY, AWAY, behind=Unseen("BETA", "SQL", "deaf")), "unknown", "could not be seen"),
        (EMERGENCY, promoted(DEAD, (), State()), "passed", "the promotion is past"),
        (TAKE_BACK, facts(TAKE_BACK, DEAD), "passed", "nothing: ALPHA is the primary again"),
    ],
)
def test_what_may_be_lost_is_said_before(lab_site: Site, wish: Wish, found: Found, status: str, words: str) -> None:
    loss = checks.loss(wish, found)
    assert (loss.status, words in loss.observed) == (status, True), loss.observed


@pytest.mark.parametrize(
    ("asked", "node", "promise", "confirmed_by", "held", "status"),
    [
        ("auto", ALPHA, ASYNCHRONOUS, "", "stopped", "passed"),
        ("auto", ICE, ASYNCHRONOUS, "", "stopped", "passed"),
        ("auto", AWAY, NOT_KNOWN, "", None, "failed"),
        ("auto", AWAY, ASYNCHRONOUS, "  ", None, "failed"),
        ("auto", AWAY, SYNCHRONOUS, "", "synchronous", "passed"),
        ("auto", AWAY, SYNCHRONOUS, "A. Person", "confirmed", "passed"),
        ("stopped", AWAY, SYNCHRONOUS, "A. Person", None, "failed"),
        ("confirmed", AWAY, SYNCHRONOUS, "", None, "failed"),
        ("synchronous", AWAY, NOT_KNOWN, "A. Person", None, "failed"),
        ("none", AWAY, NOT_KNOWN, "", "none", "warning"),
        ("none", ALPHA, SYNCHRONOUS, "A. Person", "none", "warning"),
    ],
)
def test_the_strongest_fence_that_holds_is_chosen_and_none_only_by_name(
    asked: fencing.Asked, node: NodeSeen, promise: Promise, confirmed_by: str, held: str | None, status: str
) -> None:
    found = fencing.choose(asked, node, promise, confirmed_by)
    assert (found.held, fencing.holds(found).status) == (held, status)


@pytest.mark.parametrize(
    ("node", "word"),
    [
        (ALPHA, "primary"),
        (replace(ALPHA, cluster=BETA_IS), "standby"),
        (DEAD, "down"),
        (ICE, "frozen"),
        (replace(ALPHA, cluster=Starting("ALPHA", "in recovery")), "starting"),
        (replace(ICE, process=UP), "deaf"),
        (AWAY, "unreachable"),
        (replace(AWAY, cluster=Down("ALPHA", "refused")), "unreachable"),
    ],
)
def test_how_a_node_is_from_all_sides(node: NodeSeen, word: str) -> None:
    assert condition(node) == word


def test_a_node_that_cannot_be_is_refused(lab_site: Site) -> None:
    assert checks.wish(lab_site, by="me") == PLANNED
    for values in ({"to": "AIR"}, {"to": "GAMMA"}, {"fence": "none"}):
        with pytest.raises(UsageError):
            checks.wish(lab_site, by="me", **values)  # type: ignore[arg-type]


def test_a_restore_command_asks_a_node_by_its_name_or_address(lab_site: Site) -> None:
    alpha = open_nodes(lab_site)["ALPHA"]
    assert asks(alpha, "ssh Alpha cat %f")
    assert asks(alpha, f"scp {alpha.wish.host}:%f %p")
    assert not asks(alpha, "cp /archive/%f %p")


def test_the_new_primary_serves_alone_on_a_timeline_of_its_own(lab_site: Site) -> None:
    good = promoted(DEAD, (SLOT,), State("BETA", {"ALPHA": FENCE}))
    assert {check.status for check in checks.promoted(lab_site, EMERGENCY, good.overview)} == {"passed"}
    healthy = replace(SERVICE, process=UP, health=Health(200, "healthy"))
    serves = alike(good, EMERGENCY, BETA=replace(good.overview.nodes["BETA"], embedding=healthy))
    assert {check.status for check in checks.promoted(lab_site, EMERGENCY, serves.overview)} == {"passed"}
    both = alike(good, EMERGENCY, ALPHA=BACK)
    assert "failed" in {check.status for check in checks.promoted(lab_site, EMERGENCY, both.overview)}
    never = replace(BETA_IS, in_recovery=False)
    same = alike(good, EMERGENCY, BETA=replace(good.overview.nodes["BETA"], cluster=never, sender=Sender("BETA", (), ())))
    failed = [check.name for check in checks.promoted(lab_site, EMERGENCY, same.overview) if check.status == "failed"]
    assert failed == ["BETA began a timeline", "slot beta_slot waits for the returning node"]
    away = checks.promoted(lab_site, EMERGENCY, alike(good, EMERGENCY, ALPHA=AWAY).overview)
    assert [(check.status, check.required) for check in away if check.name == "no second primary"] == [("unknown", False)]
