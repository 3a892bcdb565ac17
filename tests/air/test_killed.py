"""A round killed at every step, again and again, while both sides write: nothing lost, nothing doubled, nothing different."""

from __future__ import annotations

import random

from air_work import STEPS, ask, killed, same, settle, writers

from aya_lib.node.node import Nodes

ROUNDS = 2  # through every step by name, and as many kills at random


def test_killed_at_any_step_under_writes_on_both_sides_nothing_is_lost_doubled_or_different(pair: Nodes) -> None:
    draw = random.Random(1)
    kills = [(step, 1 + draw.randrange(3) if "sent" in step else 1) for step in STEPS] * ROUNDS
    kills += [("", draw.randint(1, 60)) for _ in kills]
    reached: list[str] = []
    with writers(pair, seed=1) as end:
        for number, (step, after) in enumerate(kills):
            if number % 4 == 3:  # as after a failover that lost something: everything is compared, beside the writers
                ask(pair, "AIR", "UPDATE aya_sync.laptop SET lsn = '7F/0'")
            reached.append(killed(pair, step, after))
            assert not reached[-1].startswith(("nothing", "error")), reached[-1]
        last = end()
    assert set(reached) >= set(STEPS), sorted(reached)
    settle(pair)
    assert ask(pair, "AIR", "SELECT id, state, reason FROM write_queue WHERE NOT synced") == []
    assert same(pair) == []
    expected = sorted(content for marks in last.values() for content in marks.values() if content is not None)
    assert (
        sorted(row[0] for row in ask(pair, "ALPHA", "SELECT content FROM documents WHERE content ~ '^(air|alpha)-1-'"))
        == expected
    )
    assert ask(pair, "AIR", "SELECT kind, document_id FROM aya_sync.conflicts") == []
