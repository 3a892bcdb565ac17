"""The primary is lost with writes that the laptop had seen, and with writes of the laptop that it had acknowledged."""

from __future__ import annotations

import pytest
from air_work import add, ask, count, one_round, rewrite, same, texts
from tests_support import passed, step

from aya_lib.air.fit import Apart
from aya_lib.lab import faults
from aya_lib.node.node import Nodes


def test_what_the_laptop_pushed_is_pushed_again_and_what_only_it_has_is_kept(own: Nodes) -> None:
    site = own["ALPHA"].site
    with own["ALPHA"].session(write=True) as alpha:
        common = add(alpha, "on all three")
        edited = add(alpha, "before the edit")
    one_round(own)
    with own["ALPHA"].session(write=True, deadline_s=30) as alpha:
        passed(step("verify_replication", site=site.name))
        own["BETA"].supervisor.stop("postgresql")
        lost = add(alpha, "seen by the laptop and lost")
    with own["AIR"].session(write=True) as air:
        add(air, "pushed, acknowledged and lost")
        rewrite(air, edited, "edited, acknowledged and lost")
    assert one_round(own).pushed.applied == 2
    assert same(own) == []
    faults.inject(site, "alpha-down")
    own["BETA"].supervisor.start("postgresql")
    passed(step("failover", site=site.name, emergency=True, reason="a test"))
    with own["BETA"].session(write=True) as beta:
        # A sequence runs up to 32 ahead of the ids in WAL, so ids come again only after a larger loss: make it one.
        beta.execute("SELECT setval('documents_id_seq', %s, false)", (lost,))
        new = [add(beta, f"new {number}") for number in range(3)]
    assert lost in new
    done = one_round(own)
    assert [compared.again for compared in done.compared] == [2]
    one_round(own)
    there = sorted(row[0] for row in ask(own, "BETA", "SELECT content FROM documents WHERE category = 'general'"))
    assert there == [
        "edited, acknowledged and lost",
        "new 0",
        "new 1",
        "new 2",
        "on all three",
        "pushed, acknowledged and lost",
    ]
    assert same(own, "BETA") == []
    kept = ask(own, "AIR", "SELECT document_id, document ->> 'content' FROM aya_sync.conflicts")
    assert kept == [(lost, "seen by the laptop and lost")]
    assert texts(own, "AIR", common) == ["on all three"]
    own["BETA"].supervisor.stop("postgresql")
    own["ALPHA"].supervisor.start("postgresql")  # the old primary, back and alone: as writable as ever
    with pytest.raises(Apart, match="ALPHA is on timeline 1, and 2 was seen: it may be an old primary"):
        one_round(own)
    assert count(own, "AIR", "new %") == 3
