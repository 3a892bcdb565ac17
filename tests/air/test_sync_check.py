"""air_sync_check: each kind of difference is found and mended; what is on its way is none; beside writers none is made up."""

from __future__ import annotations

from contextlib import suppress

import pytest
from air_work import add, as_it_is, ask, one, one_round, same, settle, writers
from tests_support import Stepped, passed, step

from aya_lib.air import sync_check
from aya_lib.air.sync_check import Comparison
from aya_lib.errors import AyaError
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Unseen
from aya_lib.schema import create_index

BEHIND = "SET aya.applying = 'on'"  # past the triggers


@pytest.fixture(autouse=True)
def documents(pair: Nodes) -> None:
    """Thirty documents at least, and the vector index, on both sides."""
    with pair["ALPHA"].session(write=True) as alpha:
        for number in range(len(ids(pair)), 30):
            add(alpha, f"text {number}")
    one_round(pair)
    for name in ("ALPHA", "AIR"):
        with pair[name].session(write=True) as connection:
            create_index(connection)


def look(nodes: Nodes, size: int = 10) -> Comparison:
    found = sync_check.look(nodes, size)
    assert isinstance(found, Comparison), found
    return found


def run(nodes: Nodes, **values: object) -> Stepped:
    return step("air_sync_check", site=nodes["AIR"].site.name, **values)


def behind(nodes: Nodes, *statements: str) -> None:
    """Change the laptop without its noticing."""
    with nodes["AIR"].session(write=True) as here:
        for text in (BEHIND, *statements):
            here.execute(text.encode())


def ids(nodes: Nodes) -> list[int]:
    return [int(row[0]) for row in ask(nodes, "ALPHA", "SELECT id FROM documents WHERE content LIKE 'text %%' ORDER BY id")]


def test_equal_sides_pass_and_nothing_is_done(pair: Nodes) -> None:
    done = passed(run(pair))
    assert done.done == []
    found = look(pair)
    assert (found.differences, found.compared.ranges_differing, found.compared.pending, found.compared.queued) == ((), 0, 0, 0)
    assert found.compared.counts["documents"][0] == found.compared.counts["documents"][1] >= 30


def test_every_kind_of_difference_is_named_and_mended_and_what_lost_is_kept(pair: Nodes) -> None:
    first, second, third, fourth = ids(pair)[:4]
    chunk = one(pair, "ALPHA", "SELECT min(id) FROM chunks WHERE document_id = %s", third)
    lone = one(pair, "ALPHA", "SELECT min(id) FROM chunks WHERE document_id = %s", fourth)
    behind(
        pair,
        f"UPDATE documents SET content = 'bent' WHERE id = {first}",
        f"DELETE FROM documents WHERE id = {second}",
        f"UPDATE chunks SET embedding = embedding + embedding WHERE id = {chunk}",
        f"DELETE FROM chunks WHERE id = {lone}",
        "INSERT INTO documents (id, content) VALUES (900001, 'a stranger')",
        "DROP INDEX idx_chunks_embedding",
    )
    found = look(pair)
    said = {str(difference) for difference in found.differences}
    wanted = {f"document {first} differs (version 1 there, version 1 here)", f"document {second} is missing"}
    assert wanted <= said
    assert {f"chunk {chunk} differs", f"chunk {lone} is missing", "document 900001 is only here"} <= said
    assert len(said) == 7  # with the two chunks of the document that went
    assert [index.name for index in found.indexes_missing] == ["idx_chunks_embedding"]

    looked = run(pair, mend=False)
    assert looked.exit_code == 1
    assert looked.check("rows that differ")["status"] == "failed"
    dry = run(pair, dry_run=True)
    assert (dry.done, look(pair).differences) == ([], found.differences)

    done = passed(run(pair))
    assert len(done.done) == 2
    assert done.check("rows that differ")["observed"] == "0"
    assert same(pair) == []
    kept = {str(row[0]) for row in ask(pair, "AIR", "SELECT document ->> 'content' FROM aya_sync.conflicts")}
    assert {"bent", "a stranger"} <= kept
    assert done.check("conflicts not seen")["status"] == "warning"


def test_what_waits_on_either_side_is_no_difference(pair: Nodes) -> None:
    first, second, third, fourth = ids(pair)[:4]
    ask(pair, "ALPHA", "UPDATE documents SET content = 'text newer' WHERE id = %s", first)
    ask(pair, "ALPHA", "UPDATE chunks SET chunk_text = 'the chunk alone' WHERE document_id = %s", fourth)
    ask(pair, "ALPHA", "DELETE FROM documents WHERE id = %s", second)
    ask(pair, "AIR", "UPDATE documents SET content = 'text offline' WHERE id = %s", third)
    ask(pair, "AIR", "INSERT INTO documents (content) VALUES ('offline too')")
    found = look(pair)
    assert found.differences == ()
    assert found.compared.ranges_differing > 0
    assert found.compared.pending >= 2
    assert found.compared.queued == 2
    behind(pair, f"UPDATE documents SET category = 'bent' WHERE id = {ids(pair)[5]}")
    assert [difference.id for difference in look(pair).differences] == [ids(pair)[5]]
    as_it_is(pair)
    assert run(pair).record["outcome"] == "passed"
    one_round(pair)


def test_beside_writers_on_both_sides_no_difference_is_made_up(pair: Nodes) -> None:
    compared = on_the_way = 0
    with writers(pair, 7) as stop:
        for _ in range(12):
            with suppress(AyaError):  # a deadlock with a writer: the next round goes on
                one_round(pair)
            found = look(pair)
            assert found.differences == (), found.differences[:5]
            assert found.compared.inexact == ""
            compared += 1
            on_the_way += found.compared.pending + found.compared.queued
        stop()
    settle(pair)
    assert compared == 12
    assert on_the_way > 0, "nothing was on its way: the test saw no writer"


def test_without_a_cursor_it_is_unknown_and_never_passed(pair: Nodes) -> None:
    one_round(pair)
    kept = one(pair, "AIR", "SELECT snapshot::text FROM aya_sync.laptop")
    ask(pair, "AIR", "UPDATE aya_sync.laptop SET snapshot = NULL")
    try:
        found = run(pair, mend=False)
        assert found.check("rows on their way")["status"] == "unknown"
        assert found.exit_code == 1
    finally:
        ask(pair, "AIR", "UPDATE aya_sync.laptop SET snapshot = %s::pg_snapshot", kept)
    ask(pair, "ALPHA", "UPDATE aya_sync.state SET pruned_below = '4000000000'")
    try:
        assert "does not reach back" in look(pair).compared.inexact
    finally:
        ask(pair, "ALPHA", "UPDATE aya_sync.state SET pruned_below = '0'")


def test_a_side_that_is_down_makes_it_unknown_and_a_laptop_that_is_not_set_up_is_refused(pair: Nodes) -> None:
    pair["ALPHA"].supervisor.stop("postgresql")
    try:
        refused = run(pair)
        assert refused.check("both sides")["status"] == "unknown"
        assert refused.done == []
    finally:
        pair["ALPHA"].supervisor.start("postgresql")
    ask(pair, "AIR", "ALTER SCHEMA aya_sync RENAME TO away")
    try:
        refused = run(pair)
        assert "Run: aya run air_setup" in str(refused.error)
    finally:
        ask(pair, "AIR", "ALTER SCHEMA away RENAME TO aya_sync")


def test_what_could_not_be_seen_yields_no_plan(pair: Nodes) -> None:
    unseen = Unseen("AIR", "compare", "away")
    assert not sync_check.plan(unseen)
    assert {check.status for check in sync_check.checks(pair["AIR"].site, unseen)} == {"unknown"}


def test_mending_that_changes_nothing_ends_at_once_and_says_why(pair: Nodes) -> None:
    number = ids(pair)[3]
    ask(pair, "ALPHA", f"SET session_replication_role = replica; DELETE FROM documents WHERE id = {number}")
    one_round(pair)
    ended = run(pair)
    assert ended.exit_code == 1
    assert "mending made no progress: chunk" in str(ended.error)
    assert "a chunk's document is missing on the primary" in str(ended.error)
    assert "Mend the cause, then compare again" in str(ended.error)
    ask(pair, "ALPHA", "DELETE FROM chunks WHERE document_id = %s", number)
    assert passed(run(pair)).done == []
