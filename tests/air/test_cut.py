"""The laptop's link to the primary is really cut in the middle of a round: noticed, nothing lost, nothing doubled."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from air_work import ask, copying, count, many, one, one_round, prepare, same, writing
from cut_off import Hosts, hosts, lacking

from aya_lib.air import link
from aya_lib.errors import AyaError, Unreachable
from aya_lib.node import sql, wait
from aya_lib.node.node import Nodes, open_nodes

REASON = lacking()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
QUICK = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2, "tcp_user_timeout": 2_000}
CUTS = ("push: committed there", "pull: looked", "pull: staged documents")


@pytest.fixture(scope="module")
def apart(place: Path) -> Iterator[tuple[Hosts, Nodes]]:
    """The primary on a host of its own, the laptop here."""
    with hosts(place, "air-cut") as found, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "SILENCE", QUICK)
        nodes = open_nodes(found.site)
        nodes["AIR"].supervisor.start("postgresql")
        prepare(nodes)
        one_round(nodes)
        yield found, nodes


def answers(found: Hosts, what: str) -> None:
    """``add`` or ``delete`` a rule by which what the primary answers does not arrive, and what it is told does."""
    command = [*found.within, "ip", "route", what, "blackhole", f"{found.here}/32"]
    subprocess.run(command, check=True)


def heals(nodes: Nodes) -> None:
    """Rounds until one ends: at first the primary may still hold what the session that is gone had locked."""

    def round_() -> str:
        try:
            one_round(nodes)
        except AyaError as error:
            return str(error)
        return ""

    wait.until(round_, lambda said: not said, node="AIR", what="a round ends", deadline_s=60, poll_s=1)


def once(nodes: Nodes, *contents: str) -> None:
    assert same(nodes) == []
    for content in contents:
        assert count(nodes, "ALPHA", content) == 1
    assert ask(nodes, "AIR", "SELECT state, reason FROM write_queue WHERE NOT synced") == []


def interrupted(nodes: Nodes, step: str, cut: Callable[[], None]) -> None:
    """A round whose link is cut at a step."""
    done: list[str] = []

    def at(reached: str) -> None:
        if reached == step and not done:
            done.append(step)
            cut()

    with pytest.raises(Unreachable):
        one_round(nodes, at)
    assert done == [step]


@pytest.mark.parametrize("step", CUTS)
def test_a_link_that_is_cut_at_a_step(apart: tuple[Hosts, Nodes], step: str) -> None:
    found, nodes = apart
    contents = [f"{name} {step}" for name in ("ALPHA", "AIR")]
    for content in contents:
        writing(nodes, content.split(" ")[0], content)
    try:
        interrupted(nodes, step, found.cut)
    finally:
        found.heal()
    heals(nodes)
    once(nodes, *contents)


def test_a_laptop_that_is_gone_before_the_commit_keeps_no_lock_on_the_primary(
    apart: tuple[Hosts, Nodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "IDLE_S", 5)
    found, nodes = apart
    writing(nodes, "AIR", "gone before the commit")
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'aya %' AND state = 'idle in transaction'"
    sessions: list[int] = []

    def cut() -> None:
        sessions.append(one(nodes, "ALPHA", query))
        found.cut()

    try:
        interrupted(nodes, "push: sent", cut)
        # The link stays cut: nobody tells the primary. The processes of both hosts are seen here.
        wait.until(lambda: psutil.pid_exists(sessions[0]), lambda there: not there, node="ALPHA", what="it ends", deadline_s=40)
    finally:
        found.heal()
    heals(nodes)
    once(nodes, "gone before the commit")


def test_a_link_that_is_cut_when_everything_is_fetched_costs_nothing(apart: tuple[Hosts, Nodes]) -> None:
    found, nodes = apart
    writing(nodes, "ALPHA", "fetched before the cut")
    try:
        one_round(nodes, lambda step: found.cut() if step == "pull: fetched" else None)
    finally:
        found.heal()
    once(nodes, "fetched before the cut")


def test_a_commit_that_arrives_and_whose_answer_does_not(apart: tuple[Hosts, Nodes]) -> None:
    found, nodes = apart
    writing(nodes, "AIR", "committed without an answer")
    try:
        interrupted(nodes, "push: signed", lambda: answers(found, "add"))
    finally:
        answers(found, "delete")
    assert count(nodes, "ALPHA", "committed without an answer") == 1
    assert one(nodes, "AIR", "SELECT count(*) FROM write_queue WHERE NOT synced") == 1
    heals(nodes)
    once(nodes, "committed without an answer")


def test_a_link_that_is_cut_in_the_middle_of_a_copy(apart: tuple[Hosts, Nodes]) -> None:
    found, nodes = apart
    many(nodes, "cut in a copy")

    try:
        with copying(nodes, lambda process, still: found.cut()), pytest.raises(Unreachable):
            one_round(nodes)
    finally:
        found.heal()
    assert count(nodes, "AIR", "cut in a copy") == 0
    heals(nodes)
    once(nodes, "cut in a copy")
