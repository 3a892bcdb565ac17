"""Walking a plan: whatever breaks it off, what was done is undone or said to stay, and no error is lost."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from aya_lib.errors import AyaError, ChangeFailed, Interrupted
from aya_lib.node.node import Node, open_nodes
from aya_lib.plan.actions import Nothing
from aya_lib.plan.change import Change, Plan, apply
from aya_lib.site import Site


@dataclass(frozen=True)
class Raise:
    error: BaseException

    def command(self, node: Node) -> str:
        return "raise"

    def run(self, node: Node) -> None:
        raise self.error


def walk(site: Site, last: Change, *, unwind: bool = True) -> tuple[BaseException, list[str]]:
    """The error of a plan whose last change breaks off, and what was reported."""
    said: list[str] = []
    first = Change("ALPHA", "first", Nothing(), "", undo=Nothing())
    with pytest.raises((Interrupted, ChangeFailed)) as raised:
        apply(
            Plan("p", (first, last), unwind=unwind), open_nodes(site), lambda step, state, _: said.append(f"{step.title} {state}")
        )
    return raised.value, said


def test_an_interruption_undoes_also_the_step_that_it_broke_off(lab_site: Site) -> None:
    error, said = walk(lab_site, Change("BETA", "second", Raise(KeyboardInterrupt()), "", undo=Nothing()))
    assert str(error) == "interrupted in 'second' on BETA. 'second' was undone; 'first' was undone"
    assert said[2:] == ["second started", "second interrupted", "second undone", "first undone"]
    assert type(error) is Interrupted


def test_a_step_without_a_way_back_keeps_what_came_before_it_when_it_is_interrupted(lab_site: Site) -> None:
    error, said = walk(lab_site, Change("BETA", "promote", Raise(KeyboardInterrupt()), ""))
    assert str(error) == "interrupted in 'promote' on BETA. 'promote' stays done, and what came before it"
    assert said[-1] == "promote interrupted"
    error, _ = walk(lab_site, Change("BETA", "x", Raise(KeyboardInterrupt()), "", undo=Nothing()), unwind=False)
    assert str(error).endswith("What was done before it stays")


def test_whatever_is_raised_is_a_failed_change_and_an_interrupted_undo_hides_nothing(lab_site: Site) -> None:
    error, _ = walk(lab_site, Change("BETA", "second", Raise(ZeroDivisionError("by zero")), ""))
    assert str(error) == "'second' failed: unexpected ZeroDivisionError: by zero. 'first' was undone"
    twice = Change("BETA", "second", Raise(KeyboardInterrupt()), "", undo=Raise(KeyboardInterrupt()))
    error, _ = walk(lab_site, twice)
    assert str(error).endswith("undoing 'second' failed: interrupted; 'first' was undone")
    error, _ = walk(lab_site, Change("BETA", "second", Raise(AyaError("no", hint="do this")), ""))
    assert str(error) == "'second' failed: no. 'first' was undone. do this"
