"""failover's gate, fence, stated loss and plans, without a database: also from every half-way state the rest comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts import FROZEN, NODES, NOW, SITE, STOPPED, UP, stopping, titles

from aya_lib.cluster import service_file
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Sender, Slot
from aya_lib.cluster.server import Cluster, Files, Switch
from aya_lib.cluster.services import Embedding, Health
from aya_lib.cluster.state import Fence, State
from aya_lib.errors import UsageError
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Down, Missing, Starting, Unseen
from aya_lib.operations import failover
from aya_lib.operations.failover import fencing
from aya_lib.operations.failover.actions import CatchUp, Promote, StopOrderly
from aya_lib.operations.failover.fencing import Promise, condition
from aya_lib.operations.failover.look import Behind, Found, Promotable, Request
from aya_lib.operations.failover.plan import asks
from aya_lib.plan.actions import CreateSlot, Kill, Script, Service, SetState, Setting, Sql, WriteFile
from aya_lib.plan.change import Change

SLOT = Slot("beta_slot", False, None, "reserved", 10**8)
ALPHA_IS = Cluster("ALPHA", "7", False, "18.1", 1, "0/5000000")
BETA_IS = replace(ALPHA_IS, node="BETA", in_recovery=True)
FILES = Files("ALPHA", False, "7", 1, "in production", "0/4000000")
SERVICE = Embedding("BETA", 1, STOPPED, None, Down("BETA", "refused"), "primary")
ALPHA = NodeSeen("ALPHA", UP, None, FILES, ALPHA_IS, Sender("ALPHA", (), (SLOT,)), None, None, True)
BETA = NodeSeen("BETA", UP, None, replace(FILES, node="BETA", standby_signal=True), BETA_IS, None, None, SERVICE, True)
STANDBY = Promotable("0/5000000", NOW, "0/5000000", 0.1, "", False, "", False)
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

PLANNED = Request("ALPHA", "BETA", by="me")
EMERGENCY = replace(PLANNED, emergency=True)
TAKE_BACK = replace(PLANNED, take_back=True)
SERVES = failover.serves(EMERGENCY)

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
    request: Request,
    alpha: NodeSeen = ALPHA,
    beta: NodeSeen = BETA,
    standby: Promotable | Missing | None = STANDBY,
    behind: Behind | Missing = BEHIND,
    promise: Promise = ASYNCHRONOUS,
    state: State | None = None,
) -> Found:
    overview = Overview(NOW, {"ALPHA": alpha, "BETA": beta}, state or State())
    return Found(NODES, overview, request, standby, behind, promise)


def refused(found: Found) -> dict[str, str]:
    return stopping(failover.preconditions(found))


def alike(found: Found, **nodes: NodeSeen) -> Found:
    """The facts with a node changed."""
    return replace(found, overview=replace(found.overview, nodes={**found.overview.nodes, **nodes}))


def done(found: Found, step: Change) -> Found:
    """The facts after a change, as both nodes and the site's state would show them."""
    action, alpha, beta, state = step.action, found.old, found.new, found.overview.state
    has = found.promotable
    match action:
        case SetState():
            fenced = {**state.fenced, **({action.fence.node: action.fence} if action.fence else {})}
            fenced.pop(action.lift, None)
            state = replace(state, **action.changes, fenced=fenced)
            return replace(found, overview=replace(found.overview, state=state))
        case WriteFile() | Script():
            assert isinstance(alpha.files, Files)
            mark = action.text if isinstance(action, WriteFile) else None
            return alike(found, ALPHA=replace(alpha, files=replace(alpha.files, fenced=mark)))
        case Service("enable" | "disable" as verb, "postgresql"):
            return alike(found, ALPHA=replace(alpha, autostart=verb == "enable"))
        case Kill():
            assert isinstance(alpha.process, ServiceState)
            assert (action.pid, action.since) == (alpha.process.pid, alpha.process.since)
            return alike(found, ALPHA=replace(alpha, process=STOPPED, cluster=REFUSED, sender=None))
        case Service("stop", "postgresql") | StopOrderly():
            files = replace(FILES, state="shut down") if alpha.writable else alpha.files
            return alike(found, ALPHA=replace(alpha, process=STOPPED, cluster=REFUSED, sender=None, files=files))
        case Service("start", "postgresql"):
            return alike(found, ALPHA=replace(ALPHA, autostart=alpha.autostart))
        case Service("start", "embedding"):
            return alike(found, BETA=replace(beta, embedding=replace(SERVICE, process=UP)))
        case CatchUp():
            assert isinstance(alpha.files, Files)
            assert alpha.files.clean
            return found
        case service_file.Write():
            return found
        case CreateSlot() | Sql():
            if isinstance(has, Promotable):
                return replace(found, promotable=replace(has, has_slot=isinstance(action, CreateSlot)))
            return alike(found, BETA=replace(beta, sender=Sender("BETA", (), (SLOT,))))
    if isinstance(action, Promote):
        assert isinstance(has, Promotable)
        assert not alpha.writable, "promoted beside a primary that takes writes"
        leads = replace(BETA_IS, in_recovery=False, timeline=2, history=(Switch(1, "0/5000000"),))
        sender = Sender("BETA", (), (SLOT,) if has.has_slot else ())
        promoted = alike(found, BETA=replace(beta, cluster=leads, sender=sender))
        return replace(promoted, promotable=None, behind=Behind("past", None, None, None, None))
    assert isinstance(action, Setting), action
    if isinstance(has, Promotable):
        value = action.value or ""
        field = {"synchronous_standby_names": "synchronous_names", "summarize_wal": "summarizes"}.get(action.name, action.name)
        return replace(found, promotable=replace(has, **{field: value == "on" if field == "summarizes" else value}))  # type: ignore[arg-type]
    return found


SETTLE = [
    "BETA: Remember that BETA is the primary",
    "BETA: Point clients that know one host to the new primary",
    "BETA: Start the embedding service",
]
HAND_OVER = [
    "BETA: Write down that the failover begins",
    "BETA: Create the slot beta_slot for ALPHA",
    "ALPHA: Keep ALPHA from starting by itself",
    "ALPHA: Stop PostgreSQL in an orderly way",
    "ALPHA: Mark ALPHA as fenced",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Be sure that BETA has everything",
    "BETA: Promote BETA",
    *SETTLE,
]
GIVE_UP_DEAD = [
    "BETA: Write down that the failover begins",
    "ALPHA: Keep ALPHA from starting by itself",
    "ALPHA: Stop PostgreSQL, should ALPHA have started it again since the look",
    "ALPHA: Mark ALPHA as fenced",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Create the slot beta_slot for ALPHA",
    "BETA: Promote BETA",
    *SETTLE,
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
    *SETTLE,
]
GIVE_UP_AWAY = [
    "BETA: Write down that the failover begins",
    "ALPHA: Remember that ALPHA is fenced",
    "BETA: Create the slot beta_slot for ALPHA",
    "BETA: Promote BETA",
    *SETTLE,
]
CONFIRMED = replace(EMERGENCY, confirmed_by="A. Person")
SITUATIONS = {
    "a healthy primary is handed over": (facts(PLANNED), HAND_OVER),
    "a dead primary is given up": (facts(EMERGENCY, DEAD), GIVE_UP_DEAD),
    "a frozen primary, everything on": (facts(EMERGENCY, ICE, standby=HELD_UP), GIVE_UP_FROZEN),
    "an unreachable one, confirmed off": (facts(CONFIRMED, AWAY), GIVE_UP_AWAY),
    "an unreachable one, synchronous": (facts(EMERGENCY, AWAY, promise=SYNCHRONOUS), GIVE_UP_AWAY),
}
situations = pytest.mark.parametrize(("starts", "golden"), SITUATIONS.values(), ids=list(SITUATIONS))


@situations
def test_what_is_planned_in_each_situation(starts: Found, golden: list[str]) -> None:
    assert refused(starts) == {}
    found = failover.plan(starts)
    assert titles(found.changes) == golden
    assert found.unwind
    promotion = next(step for step in found.changes if step.title == "Promote BETA")
    before = found.changes[: found.changes.index(promotion)]
    after = found.changes[found.changes.index(promotion) :]
    assert all(step.undo for step in before if "Kill" not in step.title)  # nothing brings back what was killed
    assert not any(step.undo for step in after)
    assert (promotion.interrupts, promotion.destroys) == (True, starts.request.emergency)


@situations
def test_from_every_half_way_state_the_rest_of_the_plan_comes_out(starts: Found, golden: list[str]) -> None:
    state = starts
    for count, step in enumerate(failover.plan(starts).changes, 1):
        state = done(state, step)
        assert refused(state) == {}, step.title
        past = state.overview.nodes["BETA"].writable
        again = () if past else golden[:count]
        expected = [one for one in again if one.split(": ", 1)[1] in AGAIN] + golden[count:]
        found = [
            one
            for one in titles(failover.plan(state).changes)
            if one in golden[count:] or not (past and one.split(": ", 1)[1] in AGAIN)
        ]
        if "Keep ALPHA from starting by itself" in step.title:  # seen down, and nothing can start it any more
            expected = [one for one in expected if "should ALPHA have started it again" not in one]
        assert found == expected, step.title
    assert SERVES(SITE, state.overview)
    assert {check.status for check in SERVES(SITE, state.overview)[:1]} == {"passed"}
    closed = replace(state, overview=replace(state.overview, state=replace(state.overview.state, under_way=None)))
    assert not failover.plan(closed)
    assert state.overview.state.primary == "BETA"
    assert "ALPHA" in state.overview.state.fenced


@situations
def test_before_the_promotion_it_can_be_taken_back_from_every_half_way_state(starts: Found, golden: list[str]) -> None:
    def backwards(state: Found) -> Found:
        return replace(state, request=replace(state.request, take_back=True))

    state = starts
    assert refused(backwards(starts)) == {"the failover can be taken back": "failed"}
    for step in failover.plan(starts).changes:
        state = done(state, step)
        if step.title == "Promote BETA":
            assert refused(backwards(state)) == {"the failover can be taken back": "failed"}
            break
        undone = backwards(state)
        assert refused(undone) == {}
        whole = failover.plan(undone)
        assert not whole.unwind
        for count, undo in enumerate(whole.changes, 1):
            undone = done(undone, undo)
            if count < len(whole):
                assert titles(failover.plan(undone).changes) == titles(whole.changes[count:]), undo.title
        assert undone.overview.state == State()
        assert undone.promotable == starts.promotable
        assert undone.old.autostart == starts.old.autostart
        assert getattr(undone.old.files, "fenced", None) is None
        assert undone.old.writable or undone.old.process in (FROZEN, NO_ROUTE)  # it serves again, or was not touched yet


def test_what_taking_back_does_is_golden() -> None:
    state = facts(EMERGENCY, ICE, standby=HELD_UP)
    for step in failover.plan(state).changes:
        if step.title == "Promote BETA":
            break
        state = done(state, step)
    assert titles(failover.plan(replace(state, request=TAKE_BACK)).changes) == [
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
            promoted(DEAD, (), State()),
            [
                "BETA: Create the slot beta_slot for ALPHA",
                "ALPHA: Remember that ALPHA is fenced",
                "ALPHA: Keep ALPHA from starting by itself",
                "ALPHA: Mark ALPHA as fenced",
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
def test_what_is_left_after_a_promotion(found: Found, golden: list[str]) -> None:
    planned = failover.plan(found)
    assert titles(planned.changes) == golden
    assert not planned.unwind
    assert refused(found) == {}
    state = found
    for count, step in enumerate(planned.changes, 1):
        state = done(state, step)
        rest = titles(failover.plan(state).changes)
        if state.overview.state.under_way:
            assert rest == [one for one in golden if one in golden[count:] or "Point clients" in one]
        elif count < len(golden) - 1:
            assert rest == golden[count:]


def test_two_primaries_of_which_none_is_fenced_are_refused() -> None:
    assert refused(promoted(BACK, (SLOT,), State("BETA"))) == {"no second primary": "failed"}


def test_a_degraded_promise_is_written_down_with_the_new_primary() -> None:
    for starts, mode in ((facts(EMERGENCY, DEAD, promise=SYNCHRONOUS), "degraded"), (facts(EMERGENCY, DEAD), None)):
        state = starts
        for step in failover.plan(starts).changes:
            state = done(state, step)
        known = state.overview.state
        assert known.mode == mode
        assert mode is None or (known.mode_by or "").startswith("failover, me")


def test_what_is_written_down_first_lets_another_run_put_everything_back() -> None:
    begin = failover.plan(facts(EMERGENCY, ICE, standby=HELD_UP)).changes[0].action
    assert isinstance(begin, SetState)
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
    ("found", "expected"),
    [
        (facts(EMERGENCY), {"planned or emergency": "failed"}),
        (facts(PLANNED, DEAD), {"planned or emergency": "failed"}),
        (facts(PLANNED, ICE), {"planned or emergency": "failed"}),
        (
            facts(EMERGENCY, replace(ALPHA, cluster=Starting("ALPHA", "the database system is starting up"))),
            {"planned or emergency": "failed"},
        ),
        (
            facts(EMERGENCY, replace(ALPHA, cluster=replace(ALPHA_IS, in_recovery=True))),
            {"planned or emergency": "failed"},
        ),
        (facts(EMERGENCY, AWAY), {"ALPHA is fenced": "failed"}),
        (
            facts(replace(EMERGENCY, fence="synchronous"), DEAD, promise=NOT_KNOWN),
            {"ALPHA is fenced": "failed"},
        ),
        (
            facts(
                EMERGENCY, DEAD, replace(BETA, cluster=Down("BETA", "refused")), Down("BETA", "refused"), Down("BETA", "refused")
            ),
            {"BETA can be promoted": "failed", "BETA has nearly everything": "failed"},
        ),
        (
            facts(EMERGENCY, DEAD, replace(BETA, cluster=Unseen("BETA", "SQL", "deaf")), Unseen("BETA", "SQL", "deaf")),
            {"BETA can be promoted": "unknown"},
        ),
        (facts(PLANNED, behind=replace(BEHIND, bytes=10**12)), {"BETA has nearly everything": "failed"}),
        (
            facts(PLANNED, beta=replace(BETA, cluster=replace(BETA_IS, system_identifier="8"))),
            {"ALPHA and BETA are one system": "failed"},
        ),
        (facts(PLANNED, beta=replace(BETA, cluster=replace(BETA_IS, timeline=9))), {"BETA has not diverged": "failed"}),
        (facts(PLANNED, state=State(fenced={"BETA": replace(FENCE, node="BETA")})), {"BETA can be promoted": "failed"}),
        (facts(TAKE_BACK), {"the failover can be taken back": "failed"}),
        (
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
def test_refused_with_what_to_do(found: Found, expected: dict[str, str]) -> None:
    assert refused(found) == expected


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (facts(PLANNED), "passed", "nothing: BETA has all of ALPHA's WAL before it is promoted"),
        (facts(EMERGENCY, DEAD, promise=SYNCHRONOUS), "passed", "no acknowledged write"),
        (facts(EMERGENCY, DEAD, behind=Behind("files", 0, 0, None, NOW)), "passed", "nothing: its WAL files end"),
        (
            facts(EMERGENCY, DEAD, behind=Behind("files", 4000, 7, None, NOW)),
            "warning",
            "at most 4,000 bytes, 7 committed",
        ),
        (facts(EMERGENCY, AWAY, behind=Behind("walreceiver", 0, None, 9.0, NOW)), "warning", "as heard 9.0 s ago"),
        (facts(EMERGENCY, AWAY, behind=Behind("nothing", None, None, None, NOW)), "warning", "not known"),
        (facts(EMERGENCY, AWAY, behind=Unseen("BETA", "SQL", "deaf")), "unknown", "could not be seen"),
        (promoted(DEAD, (), State()), "passed", "the promotion is past"),
        (facts(TAKE_BACK, DEAD), "passed", "nothing: ALPHA is the primary again"),
    ],
)
def test_what_may_be_lost_is_said_before(found: Found, status: str, words: str) -> None:
    loss = failover.loss(found)
    assert (loss.status, words in loss.observed) == (status, True), loss.observed


def test_a_promotion_whose_end_was_not_seen_is_waited_for_and_never_taken_back() -> None:
    state = facts(PLANNED)
    for step in failover.plan(state).changes:
        if step.title == "Promote BETA":
            break
        state = done(state, step)
    known = state.overview.state
    begun = replace(known, under_way={**(known.under_way or {}), "promoting": "then"})
    state = replace(state, overview=replace(state.overview, state=begun))
    assert refused(replace(state, request=TAKE_BACK)) == {"the failover can be taken back": "failed"}
    assert refused(state) == {}
    on = failover.plan(state)
    assert not on.unwind
    assert titles(on.changes)[-4:] == ["BETA: Promote BETA", *SETTLE]
    assert not any("Start PostgreSQL" in title for title in titles(on.changes))
    came_back = failover.plan(alike(state, ALPHA=ALPHA))
    assert "ALPHA: Stop PostgreSQL in an orderly way" in titles(came_back.changes)
    other_way = replace(state, request=replace(PLANNED, old="BETA", new="ALPHA"))
    assert not other_way.promoting


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


def test_a_node_that_cannot_be_is_refused() -> None:
    assert failover.request(SITE, to="BETA", by="me") == PLANNED
    for values in ({"to": "AIR"}, {"to": "GAMMA"}, {"fence": "none"}):
        with pytest.raises(UsageError):
            failover.request(SITE, by="me", **values)  # type: ignore[arg-type]


def test_a_restore_command_asks_a_node_by_its_name_or_address() -> None:
    alpha = NODES["ALPHA"]
    assert asks(alpha, "ssh Alpha cat %f")
    assert asks(alpha, f"scp {alpha.config.host}:%f %p")
    assert not asks(alpha, "cp /archive/%f %p")


def test_the_new_primary_serves_alone_on_a_timeline_of_its_own() -> None:
    good = promoted(DEAD, (SLOT,), State("BETA", {"ALPHA": FENCE}))
    assert {check.status for check in SERVES(SITE, good.overview)} == {"passed"}
    healthy = replace(SERVICE, process=UP, health=Health(200, "healthy"))
    serves = alike(good, BETA=replace(good.overview.nodes["BETA"], embedding=healthy))
    assert {check.status for check in SERVES(SITE, serves.overview)} == {"passed"}
    both = alike(good, ALPHA=BACK)
    assert "failed" in {check.status for check in SERVES(SITE, both.overview)}
    never = replace(BETA_IS, in_recovery=False)
    same = alike(good, BETA=replace(good.overview.nodes["BETA"], cluster=never, sender=Sender("BETA", (), ())))
    failed = [check.name for check in SERVES(SITE, same.overview) if check.status == "failed"]
    assert failed == ["BETA began a timeline", "slot beta_slot waits for the returning node"]
    away = SERVES(SITE, alike(good, ALPHA=AWAY).overview)
    assert [(check.status, check.required) for check in away if check.name == "no second primary"] == [("unknown", False)]
