"""The first copy into an empty laptop: killed after every range, while the primary changes, and complete in the end."""

from __future__ import annotations

import pytest
from air_work import add, ask, killed, one, one_round, same

from aya_lib.air import initial_copy
from aya_lib.node.node import Nodes
from aya_lib.schema import create_index

STEPS = ("copy: begun", "copy: documents", "copy: chunks", "copy: indexes built")


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial_copy, "ROWS", {"documents": 40, "chunks": 60})


def test_it_goes_on_where_it_was_killed_and_brings_what_changed_meanwhile(pair: Nodes, small_ranges: None) -> None:
    ask(pair, "AIR", "BEGIN; SET LOCAL aya.applying = 'on'; DELETE FROM documents; DELETE FROM chunks; COMMIT")
    ask(pair, "AIR", "UPDATE aya_sync.laptop SET phase = 'new', snapshot = NULL, copied_documents = 0, copied_chunks = 0")
    ask(pair, "AIR", "DROP INDEX IF EXISTS idx_chunks_embedding")
    with pair["ALPHA"].session(write=True, deadline_s=60) as alpha:
        create_index(alpha)
        for number in range(120):
            add(alpha, f"document {number}")
        for number, step in enumerate(STEPS):
            assert killed(pair, step, 1) == step
            alpha.execute("DELETE FROM documents WHERE content = %s", (f"document {number}",))
            alpha.execute("UPDATE documents SET category = 'changed' WHERE content = %s", (f"document {50 + number}",))
            add(alpha, f"new after {step}")
    assert one(pair, "AIR", "SELECT copied_documents FROM aya_sync.laptop") > 0
    assert one_round(pair).compared == []
    assert same(pair) == []
    assert one(pair, "AIR", "SELECT phase FROM aya_sync.laptop") == "ready"
    assert one(pair, "AIR", "SELECT to_regclass('idx_chunks_embedding') IS NOT NULL")
    assert one(pair, "AIR", "SELECT count(*) FROM aya_sync.conflicts") == 0
    ask(pair, "ALPHA", "DELETE FROM documents WHERE content LIKE 'document %' OR content LIKE 'new after %'")
    one_round(pair)
