"""Thousands of steps through a model of the pair, by the real judges and planners: never two that take writes, no word too much.

Anything may happen between any two changes of a runbook: a server dies, freezes or is cut off, a machine boots, a promotion ends
late, the operator is killed, a second one comes. What is searched for stands in ``never`` and in ``_walk``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from facts import NODES, SITE
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pair_model import PAIR, Modelled, World

from aya_lib.check import Check
from aya_lib.cluster.state import Fence, Mode, State
from aya_lib.errors import ChangeFailed, Locked
from aya_lib.node.unseen import Unseen
from aya_lib.operations import failover, rejoin, restore
from aya_lib.operations.guard import rule as guard
from aya_lib.operations.guard.look import Guarded
from aya_lib.plan.change import Plan
from aya_lib.plan.change import apply as walk

SERVERS = st.sampled_from(PAIR)
RUNBOOKS = ("failover", "emergency", "take_back", "restore", "rejoin", "switchback")
KINDS = ("dead", "frozen", "cut", "off")
EVENTS = ("second", "lock lost", "killed", "boots", "works", "dead", "frozen", "cut")
BOOKS, FAULTS, HAPPENS = (st.sampled_from(words) for words in (RUNBOOKS, KINDS, EVENTS))
WALKS = 3000
STEPS = settings(
    max_examples=60,
    stateful_step_count=10,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Stopped(Exception):
    """The gate of a runbook did not open."""


class Killed(BaseException):
    """The operator's process is gone: nothing more is done, and nothing undone."""


class Pair(RuleBasedStateMachine):
    locks = True

    def __init__(self) -> None:
        super().__init__()
        self.set_up()

    def set_up(self) -> None:
        self.world = World()
        self.holder = ""
        self.due: list[tuple[int, Callable[[], None]]] = []

    @initialize(mode=st.booleans(), received=st.booleans(), slow=st.booleans(), kind=st.none() | FAULTS)
    def begin(self, mode: bool, received: bool, slow: bool, kind: str | None) -> None:
        """Some work, and often the primary is lost: from there on most is to be found."""
        self.change_mode(mode)
        self.work(received)
        self.world.slow = slow
        if kind:
            self.fault(kind, "ALPHA")

    # What happens by itself, and to the machines

    @rule(received=st.booleans())
    def work(self, received: bool) -> None:
        """Clients write wherever they are let; promotions that were asked for end."""
        for name, it in self.world.servers.items():
            self.world.write(name)
            if it.asked and it.running and not it.frozen:
                it.promoted()
        if received:
            self.world.replicate()

    @rule(kind=FAULTS, name=SERVERS)
    def fault(self, kind: str, name: str) -> None:
        it = self.world.servers[name]
        it.cut, it.off = it.cut or kind == "cut", it.off or kind == "off"
        it.frozen = it.frozen or (kind == "frozen" and it.running)
        if kind in ("dead", "off"):
            it.stop(clean=False)

    @rule()
    def heal(self) -> None:
        """Links and power return, what was frozen goes on."""
        for name, it in self.world.servers.items():
            it.cut = it.frozen = False
            self.boot(name)

    @rule()
    def promote_slowly(self) -> None:
        self.world.slow = True

    @rule(name=SERVERS)
    def boot(self, name: str) -> None:
        """Power returns; where its PostgreSQL starts by itself, its unit asks the guard first. Without a link it knows little."""
        it, peer = self.world.servers[name], self.world.other(name).name
        fence = self.world.state.fenced.get(name)
        if it.off or (fence and fence.way == "confirmed"):  # which holds until somebody switches it on: he gives it a link
            it.cut = False
        it.off = False
        there = Unseen(peer, "SQL", "no route") if it.cut else self.world.seen(peer).cluster
        known = State() if it.cut else self.world.state
        ask = None if it.signal or it.fence is not None else there
        if it.autostart and not it.running and guard(Guarded(name, it.files, known, peer, ask)).may_start:
            it.start()

    @rule(on=st.booleans())
    def change_mode(self, on: bool) -> None:
        """As replication_mode does: waiting is said when it holds, and no longer said before it ends."""
        for name, it in self.world.servers.items():
            if self.world.streams(name) and not it.cut and not self.holder:
                there = self.world.other(name)
                mode: Mode = "synchronous" if on else "asynchronous"
                self.world.replicate()
                there.names = name.lower() if on else ""
                self.world.settle(set() if on else there.rows)
                self.world.state = replace(self.world.state, mode=mode, mode_since="now", mode_by="me")

    # Operators

    @rule(book=BOOKS, at=st.integers(0, 9), what=HAPPENS, name=SERVERS, other=BOOKS)
    def operate(self, book: str, at: int, what: str, name: str, other: str) -> None:
        """A run, in the middle of which something happens."""
        self.due = [(at, lambda: self._happen(what, name, other))]
        with suppress(Killed):
            self._run("one", book)
        self.due = []

    @rule(book=BOOKS)
    def operate_in_peace(self, book: str) -> None:
        self._run("one", book)

    def _happen(self, what: str, name: str, book: str) -> None:
        match what:
            case "killed":
                raise Killed
            case "boots" if not self.world.servers[name].off:  # nobody switches on what he has just said is off
                self.boot(name)
            case "works":
                self.work(True)
            case "second" | "lock lost":
                self.holder = "" if what == "lock lost" else self.holder
                self._run("two", book)
            case "dead" | "frozen" | "cut":
                self.fault(what, name)

    def _run(self, who: str, book: str) -> None:
        if self.locks and self.holder not in ("", who):
            return
        self.holder = who
        try:
            with suppress(Stopped, ChangeFailed, Locked):
                {"restore": self._restore, "rejoin": self._rejoin}.get(book, lambda it: self._failover(it, book))(who)
        finally:
            self.holder = "" if self.holder == who else self.holder

    def _failover(self, who: str, book: str) -> None:
        gone = [name for name, it in self.world.servers.items() if it.off]
        request = failover.request(
            SITE,
            to="ALPHA" if book == "switchback" else "",
            emergency=book == "emergency",
            take_back=book == "take_back",
            confirmed_by="somebody who looked" if gone and book == "emergency" else "",
            by=who,
        )
        found = self.world.look_failover(request)
        if found.request.old not in gone:
            found = replace(found, request=replace(found.request, confirmed_by=""))
        _require(failover.preconditions(found))
        self._walk(who, failover.plan(found), nothing_lost=failover.loss(found).status == "passed")
        after = self.world.overview()
        if not any(check.status == "failed" for check in failover.serves(found.request)(SITE, after)):
            self._walk(who, failover.close(found, after, {"steps": []}))
        if book == "switchback":
            self._rejoin(who, found.request.old)

    def _restore(self, who: str) -> None:
        found = self.world.look_restore()
        _require(restore.preconditions(found))
        self._walk(who, restore.plan(found))

    def _rejoin(self, who: str, name: str = "") -> None:
        seen = self.world.look_rejoin(name)
        _require(rejoin.preconditions(seen))
        self._walk(who, rejoin.plan(seen))
        self._walk(who, rejoin.rest(self.world.look_rejoin(seen.name)))

    def _walk(self, who: str, plan: Plan, *, nothing_lost: bool = False) -> None:
        """The real walk over a plan, on the model. What was promised beforehand is held against what is so."""

        def report(step: object, word: str, _: str) -> None:
            if word == "started":
                self.due = [(count - 1, deed) for count, deed in self.due]
                if self.due and self.due[0][0] < 0:
                    self.due.pop()[1]()
                if self.locks and self.holder != who:
                    raise Locked("the lock is not held any more")
            self.never()

        steps = tuple(
            replace(
                step,
                action=Modelled(self.world, step.node, step.action),
                undo=step.undo and Modelled(self.world, step.node, step.undo),
            )
            for step in plan.changes
        )
        self.world.lost = None
        try:
            walk(replace(plan, changes=steps), NODES, report)
        finally:
            assert not (nothing_lost and self.world.lost), f"'nothing lost' was said, and {self.world.lost} were"

    @invariant()
    def never(self) -> None:
        able = self.world.able()
        assert len(able) < 2, f"{' and '.join(able)} acknowledge writes"
        kept = set.union(*(it.rows for it in self.world.servers.values())) | self.world.salvaged
        assert self.world.acknowledged <= kept, f"nobody has {self.world.acknowledged - kept} any more"


def _require(checks: list[Check]) -> None:
    if any(check.required and check.status in ("failed", "unknown") for check in checks):
        raise Stopped


def at(site_state: State, **how: str) -> World:
    """ALPHA and BETA as named: *leads*, *follows*, *dead*, or a fence's mark on one that is dead."""
    world = World()
    world.state = site_state
    for name, word in how.items():
        it = world.servers[name]
        it.signal = it.recovery = word == "follows"
        it.running, it.fence = word in ("leads", "follows"), "{}" if word == "marked" else None
    return world


LEFT = Fence("ALPHA", "then", "me", "stopped", "BETA was made the primary")
BEGAN = {"old": "ALPHA", "new": "BETA", "kind": "emergency"}


@pytest.mark.parametrize(
    ("known", "alpha", "beta", "pair", "new"),
    [
        (State(), "leads", "follows", "ALPHA", "BETA"),
        (State(), "dead", "follows", "ALPHA", "BETA"),
        (State(), "leads", "dead", "ALPHA", "BETA"),
        (State("BETA"), "follows", "leads", "BETA", "ALPHA"),
        (State("BETA"), "follows", "dead", "BETA", "ALPHA"),  # BETA was the primary, and died
        (State(), "follows", "dead", "BETA", "ALPHA"),  # so it did, seen from where nothing of a failover is known
        (State(), "marked", "dead", "BETA", "ALPHA"),
        (State("BETA", {"ALPHA": LEFT}), "dead", "leads", "BETA", "BETA"),  # it has been: the same again
        (State(under_way=BEGAN, fenced={"ALPHA": LEFT}), "marked", "follows", "ALPHA", "BETA"),
        (State("BETA", under_way=BEGAN), "follows", "dead", "BETA", "ALPHA"),  # never closed, and long past
    ],
)
def test_who_is_what_and_whom_a_failover_promotes_follow_from_what_is(
    known: State, alpha: str, beta: str, pair: str, new: str
) -> None:
    world = at(known, ALPHA=alpha, BETA=beta)
    assert world.overview().pair(SITE)[0].name == pair
    assert world.look_failover(failover.request(SITE, emergency=True)).request.new == new


def test_never_two_that_acknowledge_and_nothing_lost_is_said_only_where_it_is_so() -> None:
    """What Hypothesis finds it makes short; the walks below are many."""
    run_state_machine_as_test(Pair, settings=STEPS)


def test_the_same_on_many_random_walks() -> None:
    for seed in range(WALKS):
        taken: list[str] = []
        try:
            stroll(random.Random(seed), taken)
        except AssertionError as error:
            raise AssertionError(f"walk {seed}: {error} after {', '.join(taken)}") from None


def stroll(draw: random.Random, taken: list[str]) -> None:
    pair = Pair.__new__(Pair)  # without the search's own preparations, which cost more than a walk
    pair.set_up()
    pair.begin(draw.random() < 0.3, draw.random() < 0.5, draw.random() < 0.2, draw.choice([None, *KINDS]))
    runs = lambda: (draw.choice(RUNBOOKS), draw.randrange(10), draw.choice(EVENTS), draw.choice(PAIR), draw.choice(RUNBOOKS))  # noqa: E731
    steps: dict[str, Callable[[], tuple[Any, ...]]] = {
        "operate": runs,
        "operate_in_peace": lambda: (draw.choice(RUNBOOKS),),
        "work": lambda: (draw.random() < 0.5,),
        "fault": lambda: (draw.choice(KINDS), draw.choice(PAIR)),
        "heal": tuple,
        "promote_slowly": tuple,
        "change_mode": lambda: (draw.random() < 0.5,),
    }
    for name in draw.choices(list(steps), (6, 3, 2, 1, 2, 1, 1), k=10):
        words = steps[name]()
        taken.append(f"{name}{words}")
        getattr(pair, name)(*words)
        pair.never()
