"""A primary that freezes: given up when nothing comes for so long, however long all of it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest
from air_work import ask, copying, count, many, one, one_round, same, writing

from aya_lib.air import pull, push
from aya_lib.air.link import open_ends
from aya_lib.air.sync_round import run_round
from aya_lib.errors import DeadlinePassed
from aya_lib.node.node import Nodes


def frozen_at(nodes: Nodes, step: str, frozen: list[psutil.Process]) -> None:
    """A round whose primary's process is stopped at a step."""
    with open_ends(nodes, "AIR") as ends:

        def freeze(reached: str) -> None:
            if reached == step:
                frozen.append(psutil.Process(ends.there.info.backend_pid))
                frozen[0].suspend()

        run_round(ends, None, freeze)


def test_a_primary_that_freezes_in_the_middle_of_a_copy_is_given_up_and_nothing_is_lost(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "FETCH_S", 1)
    many(pair, "frozen in a copy")
    with copying(pair, lambda process, still: process.suspend()):
        with pytest.raises(DeadlinePassed, match="the primary is unreachable: SQL: nothing came for 1 s"):
            one_round(pair)
        assert one(pair, "AIR", "SELECT count(*) FROM chunks WHERE chunk_index = 12000") == 0
    one_round(pair)
    assert same(pair) == []
    ask(pair, "ALPHA", "DELETE FROM documents WHERE content = 'frozen in a copy'")
    one_round(pair)


def test_a_slow_copy_may_take_longer_than_the_deadline_while_rows_come(pair: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "FETCH_S", 2)
    many(pair, "sent slowly", 20_000)  # so many that a busy machine, too, is in the middle of them five times
    pauses: list[float] = []

    def falter(process: psutil.Process, still: Callable[[], bool]) -> None:
        while len(pauses) < 5:
            process.suspend()
            if not still():
                return process.resume()
            pauses.append(0.5)
            time.sleep(pauses[-1])
            process.resume()
            time.sleep(0.001)

    with copying(pair, falter):
        assert one_round(pair).pulled.rows >= 12_001
    assert sum(pauses) == 2.5  # in the middle of the copy
    assert same(pair) == []
    ask(pair, "ALPHA", "DELETE FROM documents WHERE content = 'sent slowly'")
    one_round(pair)


def test_a_primary_that_freezes_at_a_step_is_given_up_and_the_next_round_ends(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "FETCH_S", 1)
    monkeypatch.setattr(push, "STEP_S", 1)
    for step in ("push: taken", "push: sent", "pull: looked", "pull: staged documents", "pull: staged chunks"):
        writing(pair, "AIR", f"frozen at {step}")
        writing(pair, "ALPHA", f"not seen at {step}")
        frozen: list[psutil.Process] = []
        try:
            with pytest.raises(DeadlinePassed, match="nothing came for 1 s"):
                frozen_at(pair, step, frozen)
        finally:
            frozen[0].resume()
        one_round(pair)
        assert same(pair) == [], step
        assert [count(pair, "ALPHA", f"{what} at {step}") for what in ("frozen", "not seen")] == [1, 1]
