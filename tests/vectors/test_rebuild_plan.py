"""The plan of a rebuild and its checks, without a database: from every half-way state the rest comes out, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.unseen import Unseen
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Action, Change, Plan
from aya_lib.site import Site
from aya_lib.vectors.catalog import Build, Idle, Live, LiveIndex, RoleSetting
from aya_lib.vectors.index import EXACT, Index, hnsw, ivfflat
from aya_lib.vectors.rebuild.actions import (
    AlreadyDone,
    Alter,
    Create,
    Drop,
    Made,
    Proof,
    Prove,
    Reindex,
    Rename,
    Settle,
)
from aya_lib.vectors.rebuild.judge import checks
from aya_lib.vectors.rebuild.plan import plan
from aya_lib.vectors.rebuild.settings import Settings, alter, noted

NAME = "idx_chunks_embedding"
PROOF = Proof(lambda node: 1.0, 0.9)
GB = 2**30
NOT_SEEN = Unseen("ALPHA", "look", "no answer")
OPERATORS = {"vector": "vector_cosine_ops", "halfvec": "halfvec_cosine_ops", "bit": "bit_hamming_ops"}


@dataclass(frozen=True)
class Known(LiveIndex):
    """An index of which is known what it was really built as, which no look can see."""

    built_as: str = ""


def index(what: Index, name: str = NAME, filenode: int = 1, valid: bool = True) -> Known:
    options = dict(what.options)
    return Known(name, what.method, OPERATORS[what.kind], options, 384, valid, False, 10**6, 0, filenode, str(what))


def built_as(index: LiveIndex | None) -> str:
    assert isinstance(index, Known)
    return index.built_as


LIVE = Live("ALPHA", "chunks", "embedding", schema="public", key="id", dimension=384, rows=10_000, settings_table=True)
LIVE = replace(LIVE, application_role="aya_user", maintenance_work_mem=64 << 20, workers=2)
LIVE = replace(LIVE, free_bytes=100 * GB, memory_bytes=8 * GB)


def live(*indexes: LiveIndex, **more: Any) -> Live:
    return replace(LIVE, indexes=indexes, **more)


OLD = live(index(ivfflat(100)))
CHOSEN = live(index(ivfflat(100)), stored={"probes": 7, "built": {"rows": 1}, "foreign": {"a": 1}})
ROLES = (RoleSetting("aya_rag", None, "ivfflat.probes", 9), RoleSetting(None, "aya_user", "ivfflat.probes", 90))
BY_ROLE = replace(CHOSEN, roles=ROLES)
NONE = live(stored={"foreign": 1})
GRAPH = live(index(hnsw()), stored={"ef_search": 80})
STARTS = [OLD, CHOSEN, BY_ROLE, NONE, GRAPH, live(index(ivfflat(100), name="own_name"), settings_table=False)]
WANTED = [
    (ivfflat(400), 20),
    (ivfflat(50), 3),
    (hnsw(32), 90),
    (hnsw(24, 100), 60),
    (hnsw(kind="bit"), 200),
    (ivfflat(100, "halfvec"), 9),
    (ivfflat(50, "halfvec"), 2),
    (hnsw(8), 300),
]
EVERY_START = pytest.mark.parametrize("start", STARTS, ids=range(len(STARTS)))
EVERY_WANTED = pytest.mark.parametrize(("wanted", "value"), WANTED, ids=str)


@pytest.fixture(scope="module")
def node(lab_site: Site) -> Node:
    return open_nodes(lab_site)["ALPHA"]


def after(state: Live, action: Action | None) -> Live:
    """What a look would see when the action is done."""
    stored = dict(state.stored)
    here = {one.name: one for one in state.indexes}
    match action:
        case Settle(settings, _, made):
            state, stored = after_settings(state, settings)
            stored |= recorded(made)
        case Alter(_, name, wanted):
            here[name] = replace(here[name], options=dict(wanted.options))
        case Reindex(_, name, _, interim, options):
            if interim:
                state, stored = after_settings(state, interim)
            state = replace(state, stored=stored)
            if options:
                here[name] = replace(here[name], options=dict(options.options))
            here[name] = index(here[name].index(), name, here[name].filenode + 100)
        case Create(_, name, wanted):
            here[name] = index(wanted, name, 50)
        case Rename(_, pairs, settings):
            for old, new in pairs:
                here[new] = replace(here.pop(old), name=new)
            state, stored = after_settings(state, settings)
        case Drop(_, name):
            here.pop(name)
        case Prove(_, _, made):
            stored |= recorded(made)
        case Sql():
            state = replace(state, settings_table=True)
    return replace(state, indexes=tuple(here.values()), stored=stored)


def recorded(made: Made | None) -> dict[str, Any]:
    return {"built": {"rows": made.rows, "index": str(made.index)}} if made else {}


def after_settings(state: Live, settings: Settings) -> tuple[Live, dict[str, Any]]:
    stored = {key: value for key, value in (state.stored).items() if key not in settings.drop} | dict(settings.put)
    names = {(one.database, one.role, one.name): one for one in (*state.roles, *settings.roles)}
    return replace(state, roles=tuple(names.values())), stored


def walk(state: Live, steps: Sequence[Change]) -> Live:
    for step in steps:
        state = after(state, step.action)
    return state


def unwound(state: Live, steps: Sequence[Change]) -> Live:
    for step in reversed(steps):
        state = after(state, step.undo)
    return state


def before_proof(changes: Plan) -> Sequence[Change]:
    kinds = [type(step.action) for step in changes.changes]
    return changes.changes[: kinds.index(Prove)]


def real(changes: Plan) -> list[Change]:
    return [step for step in changes.changes if not isinstance(step.action, AlreadyDone)]


def seen(state: Live) -> tuple[object, ...]:
    """What searches depend on."""
    return (
        sorted((one.name, str(one.index()), built_as(one)) for one in state.indexes),
        dict(state.stored),
        state.roles,
    )


@EVERY_START
@EVERY_WANTED
def test_from_every_half_way_state_the_rest_of_the_plan_comes_out(node: Node, start: Live, wanted: Index, value: int) -> None:
    whole = plan(node, start, wanted, value, proof=PROOF)
    assert whole
    for done in range(len(whole) + 1):
        state = walk(start, whole.changes[:done])
        rest = [step.action for step in real(plan(node, state, wanted, value, proof=PROOF))]
        want = [step.action for step in whole.changes[done:]]
        if want and not any(isinstance(action, Prove) for action in want):
            assert isinstance(rest.pop(0), Prove)  # proven once more: whether it was is not noted
        assert rest == want, f"after {done} of {len(whole)}"
    assert state.current
    assert (state.current.index(), built_as(state.current), noted(state)) == (wanted, str(wanted), None)
    assert state.value(wanted) == value
    assert [one.name for one in state.indexes] in ([NAME], ["own_name"])
    assert (state.stored).get("foreign") == (start.stored).get("foreign")


@EVERY_START
@EVERY_WANTED
def test_a_failing_proof_brings_everything_back_also_when_an_earlier_run_had_begun(
    node: Node, start: Live, wanted: Index, value: int
) -> None:
    steps = before_proof(plan(node, start, wanted, value, proof=PROOF))
    for done in range(len(steps) + 1):
        state = walk(start, steps[:done])
        second = before_proof(plan(node, state, wanted, value, proof=PROOF))
        assert seen(unwound(walk(state, second), second)) == seen(start), f"after {done} of {len(steps)}"


@EVERY_START
@EVERY_WANTED
@pytest.mark.parametrize(("other", "knob"), [(ivfflat(200), 5), (ivfflat(100), 7), (hnsw(kind="halfvec"), 40)], ids=str)
def test_another_request_can_follow_a_rebuild_that_broke_off(
    node: Node, start: Live, wanted: Index, value: int, other: Index, knob: int
) -> None:
    whole = plan(node, start, wanted, value, proof=PROOF)
    for done in range(len(whole) + 1):
        state = walk(start, whole.changes[:done])
        end = walk(state, plan(node, state, other, knob).changes)
        assert end.current
        assert (end.current.index(), built_as(end.current)) == (other, str(other)), f"after {done} of {len(whole)}"
        assert (end.value(other), noted(end), len(end.indexes)) == (knob, None, 1)


def enough(state: Live, need: dict[str, int]) -> bool:
    """Whether searches have, for each index that they may use, what it needs, by what it was really built as."""
    current = state.current
    usable = [one for one in state.indexes if current and one.kind == current.kind]
    views = [replace(state, application_role=role) for role in ("aya_user", "somebody")]
    return all(view.value(one.index()) >= need[built_as(one)] for one in usable for view in views)


@EVERY_START
@EVERY_WANTED
def test_searches_have_enough_probes_for_the_index_they_use_at_every_step_there_and_back(
    node: Node, start: Live, wanted: Index, value: int
) -> None:
    least = replace(start, application_role="somebody")
    need = {str(wanted): value} | {built_as(one): least.value(one.index()) for one in start.indexes}
    whole = plan(node, start, wanted, value, proof=PROOF)
    for done in range(len(whole) + 1):
        assert enough(walk(start, whole.changes[:done]), need), f"after {done} of {len(whole)}"
    steps = before_proof(whole)
    for kept in range(len(steps) + 1):
        assert enough(unwound(walk(start, steps), steps[kept:]), need), f"undone down to {kept} of {len(steps)}"


@pytest.mark.parametrize(("other", "knob"), [(ivfflat(200), 5), (hnsw(kind="halfvec"), 40)], ids=str)
def test_options_that_were_only_declared_are_not_believed(node: Node, other: Index, knob: int) -> None:
    """ALTER INDEX was done and REINDEX was not: what is brought back, or asked for again, is what the index really is."""
    half = walk(CHOSEN, plan(node, CHOSEN, ivfflat(400), 20).changes[:2])
    assert half.current
    assert (half.current.index(), built_as(half.current)) == (ivfflat(400), str(ivfflat(100)))
    assert not any(isinstance(step.action, Reindex) for step in plan(node, half, ivfflat(100), 7).changes)
    steps = before_proof(plan(node, half, other, knob, proof=PROOF))
    assert seen(unwound(walk(half, steps), steps)) == seen(CHOSEN)


def test_a_note_of_another_version_is_refused_and_not_passed_over(node: Node) -> None:
    foreign = replace(CHOSEN, stored={"rebuilding": {"to": "ivfflat lists=400"}})
    with pytest.raises(AyaError, match="noted it in a form that is not known here") as refused:
        plan(node, foreign, ivfflat(400), 20)
    assert "value - 'rebuilding'" in refused.value.hint


def test_what_holds_already_yields_no_change_and_a_stale_index_is_built_anew_on_request(node: Node) -> None:
    assert not plan(node, CHOSEN, ivfflat(100), 7)
    (only,) = plan(node, CHOSEN, ivfflat(100), 8).changes
    assert isinstance(only.action, Settle)
    stale = plan(node, CHOSEN, ivfflat(100), 7, again=True, proof=PROOF)
    assert [type(step.action) for step in stale.changes] == [Settle, Reindex, Prove, Settle]
    half = walk(CHOSEN, stale.changes[:1])
    assert [type(step.action) for step in real(plan(node, half, ivfflat(100), 7, proof=PROOF))] == [Reindex, Prove, Settle]


def test_the_new_index_is_never_valid_before_searchers_have_settings_good_for_both(node: Node) -> None:
    """More lists need more probes before the swap, fewer lists fewer probes only after it."""
    for wanted, value, interim, final in ((ivfflat(400), 20, 20, None), (ivfflat(50), 3, None, 3)):
        steps = plan(node, CHOSEN, wanted, value).changes
        build = next(step.action for step in steps if isinstance(step.action, Reindex))
        assert (build.interim.put["probes"] if build.interim else None) == interim
        later = [step.action.settings.put.get("probes") for step in steps[3:] if isinstance(step.action, Settle)]
        assert later == ([final, None] if final else [None])  # the last one takes away the note


def test_settings_of_roles_and_databases_change_at_the_same_moments(node: Node) -> None:
    steps = plan(node, BY_ROLE, ivfflat(400), 20).changes
    (build,) = [step.action for step in steps if isinstance(step.action, Reindex)]
    assert build.interim
    assert [role.value for role in build.interim.roles] == [20, 90]
    end = walk(BY_ROLE, steps)
    assert [role.value for role in end.roles] == [20, 20]
    assert end.stored["built"] == {"rows": 10_000, "index": str(ivfflat(400))}  # recorded, though nothing was proven
    lines = [alter(role).as_string() for role in ROLES]
    assert lines == [
        'ALTER DATABASE "aya_rag" SET "ivfflat"."probes" TO 9',
        'ALTER ROLE "aya_user" SET "ivfflat"."probes" TO 90',
    ]


def test_the_build_asks_for_approval_and_only_dropping_the_old_index_has_no_way_back(node: Node) -> None:
    steps = plan(node, CHOSEN, hnsw(), 90, proof=PROOF).changes
    assert [type(step.action) for step in steps if step.interrupts] == [Create]
    assert [type(step.action) for step in steps if step.undo is None] == [Drop, Settle]


def test_leftovers_go_first_and_an_index_of_somebody_else_is_in_the_way(node: Node) -> None:
    broken = index(ivfflat(100), f"{NAME}_ccnew", valid=False)
    first = plan(node, live(index(ivfflat(100)), broken), ivfflat(200), 9).changes[0]
    assert (first.action, first.undo) == (Drop(first.action.place, broken.name), None)  # type: ignore[attr-defined]
    (check,) = [one for one in checks(live(index(hnsw()), index(hnsw(), f"{NAME}_old")), ivfflat(9), 3) if "names" in one.name]
    assert (check.status, check.observed) == ("failed", f"{NAME}_old")


@pytest.mark.parametrize(
    ("state", "wanted", "value", "name", "status", "words"),
    [
        (LIVE, ivfflat(20_000), 9, "can be built", "failed", "20000 lists are more than 10000 rows"),
        (live(dimension=3000), ivfflat(100), 9, "can be built", "failed", "at most 2000 of vector"),
        (live(), ivfflat(100), 101, "can be built", "failed", "allowed is 1 to 100"),
        (live(), hnsw(), 0, "can be built", "failed", "allowed is 1 to 1000"),
        (live(), EXACT, 1, "can be built", "failed", "no index to rebuild"),
        (live(problem="there is no table chunks"), hnsw(), 9, "has the table", "failed", "no table chunks"),
        (live(in_recovery=True), hnsw(), 9, "accepts writes", "failed", "a standby"),
        (live(free_bytes=10**6), hnsw(), 9, "disk has room", "failed", "1 MB free"),
        (live(free_bytes=NOT_SEEN), hnsw(), 9, "disk has room", "unknown", "no answer"),
        (live(memory_bytes=10**8), ivfflat(2000), 9, "memory", "failed", "half of what is available is 48 MB"),
        (live(memory_bytes=10**8, rows=10**6), hnsw(), 9, "memory", "warning", "half of what is available is 48 MB"),
        (live(memory_bytes=NOT_SEEN), ivfflat(2000), 9, "memory", "unknown", "no answer"),
        (live(memory_bytes=NOT_SEEN), ivfflat(20), 9, "memory", "passed", "64 MB"),
        (live(builds=(Build(7, "x", "REINDEX CONCURRENTLY", "initializing"),)), hnsw(), 9, "nobody else", "failed", "PID 7"),
        (live(idle=(Idle(8, "bob", "psql", 80),)), hnsw(), 9, "left open", "warning", "PID 8 (bob, psql), begun 80 s ago"),
        (NOT_SEEN, hnsw(), 9, "accepts writes", "unknown", "no answer"),
    ],
)
def test_what_stands_against_a_rebuild_is_said_before_it(
    node: Node, state: Live | Unseen, wanted: Index, value: int, name: str, status: str, words: str
) -> None:
    (check,) = [one for one in checks(state, wanted, value) if name in one.name]
    assert check.status == status
    assert words in check.observed
    if "can be built" in name or "table" in name:
        assert isinstance(state, Live)
        with pytest.raises(UsageError, match="ALPHA: "):
            plan(node, state, wanted, value)


def test_a_build_is_given_what_it_needs_and_never_above_half_of_what_is_there(node: Node) -> None:
    def memory(state: Live, wanted: Index) -> int:
        actions = [step.action for step in plan(node, state, wanted, 5).changes]
        return next(action.resources.memory for action in actions if isinstance(action, Create | Reindex))

    assert memory(OLD, ivfflat(50)) == 64 << 20
    need = int(ivfflat(2000).build_bytes(OLD.as_table(), OLD.rows) * 1.1)
    assert memory(OLD, ivfflat(2000)) == need
    assert memory(replace(OLD, memory_bytes=need), ivfflat(2000)) == need // 2
    assert memory(replace(OLD, memory_bytes=NOT_SEEN), ivfflat(2000)) == 64 << 20
