"""The first copy into an empty laptop: killed after every range, while the primary changes, and complete in the end."""

from __future__ import annotations

import pytest
from air_work import add, ask, killed, one, one_round, same

from aya_lib.air import initial_copy
from aya_lib.node.node import Nodes

STEPS = ("copy: begun", "copy: documents", "copy: chunks", "copy: indexes built")


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial_copy, "ROWS", {"documents": 40, "chunks": 60})


def test_it_goes_on_where_it_was_killed_and_brings_what_changed_meanwhile(own: Nodes, small_ranges: None) -> None:
    ask(own, "AIR", "BEGIN; SET LOCAL aya.applying = 'on'; DELETE FROM documents; DELETE FROM chunks; COMMIT")
    ask(own, "AIR", "DROP INDEX IF EXISTS idx_chunks_embedding")
    dimension = own["ALPHA"].site.embedding.dimension
    with own["ALPHA"].session(write=True, deadline_s=60) as alpha:
        for number in range(120):
            add(alpha, f"document {number}", dimension)
        for number, step in enumerate(STEPS):
            assert killed(own, step, 1) == step
            alpha.execute("DELETE FROM documents WHERE content = %s", (f"document {number}",))
            alpha.execute("UPDATE documents SET category = 'changed' WHERE content = %s", (f"document {50 + number}",))
            add(alpha, f"new after {step}", dimension)
    copied = one(own, "AIR", "SELECT copied_documents FROM aya_sync.laptop")
    assert copied > 0
    done = one_round(own)
    assert done.compared == []
    assert same(own) == []
    assert one(own, "AIR", "SELECT phase FROM aya_sync.laptop") == "ready"
    assert one(own, "AIR", "SELECT to_regclass('idx_chunks_embedding') IS NOT NULL")
    assert one(own, "AIR", "SELECT count(*) FROM aya_sync.conflicts") == 0
