"""What no trigger noted, and what a trigger of somebody's own changes again: noticed, named, and mended once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from air_work import as_it_is, ask, count, one, one_round, rewriting, same, texts, writing

from aya_lib.air import patrol
from aya_lib.air.link import open_ends
from aya_lib.air.patrol import Patrol, portion
from aya_lib.air.setup.actions import Prepare
from aya_lib.node.node import Nodes

REPLICA = "SET session_replication_role = replica; "
PAST = "SET aya.applying = 'on'; "
TOUCH = "BEGIN new.updated_at := clock_timestamp(); RETURN new; END"


def go(nodes: Nodes, watch: Patrol) -> str:
    with open_ends(nodes, "AIR") as ends:
        return watch.go(ends)


@pytest.fixture
def touching(pair: Nodes) -> Iterator[Nodes]:
    """A trigger of the user's own on both sides, as a schema copied with pg_dump has it."""
    for name in ("ALPHA", "AIR"):
        ask(pair, name, f"CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $${TOUCH}$$")
        ask(pair, name, "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION touch()")
    yield pair
    for name in ("ALPHA", "AIR"):
        ask(pair, name, "DROP FUNCTION touch CASCADE")


def test_a_session_that_restores_or_replicates_is_noted_on_both_sides(pair: Nodes) -> None:
    ask(pair, "ALPHA", REPLICA + "INSERT INTO documents (content) SELECT 'restored ' || n FROM generate_series(1, 50) n")
    ask(pair, "AIR", REPLICA + "INSERT INTO documents (content) VALUES ('restored here')")
    as_it_is(pair)
    done = one_round(pair)
    assert (done.pushed.applied, count(pair, "AIR", "restored %")) == (1, 51)


def test_triggers_that_are_off_are_named_and_what_they_missed_is_fetched_and_kept(pair: Nodes) -> None:
    bent, gone = writing(pair, "ALPHA", "bent here"), writing(pair, "ALPHA", "deleted there")
    one_round(pair)
    for name in ("ALPHA", "AIR"):
        ask(pair, name, "ALTER TABLE documents DISABLE TRIGGER ALL")
    missed = writing(pair, "ALPHA", "missed")
    ask(pair, "ALPHA", "DELETE FROM chunks WHERE document_id = %s", gone)
    ask(pair, "ALPHA", "DELETE FROM documents WHERE id = %s", gone)
    ask(pair, "AIR", "UPDATE documents SET content = 'written past the queue' WHERE id = %s", bent)
    ask(pair, "AIR", "INSERT INTO documents (content) VALUES ('never queued')")
    watch = Patrol()
    said = go(pair, watch)
    assert f"document {missed} is missing" in said
    assert "ALPHA: trigger aya_sync_insert of documents is disabled; " in said
    assert texts(pair, "AIR", bent, gone, missed) == ["bent here", "missed"]
    kept = ask(pair, "AIR", "SELECT document ->> 'content' FROM aya_sync.conflicts ORDER BY 1")
    assert kept == [("written past the queue",)]  # the log names the other: it was the primary's, and went there
    ask(pair, "ALPHA", "DROP TRIGGER aya_sync_delete ON chunks")
    assert "ALPHA: trigger aya_sync_delete of chunks is missing" in one_round(pair).notices
    Prepare("primary").run(pair["ALPHA"])
    Prepare("laptop").run(pair["AIR"])
    for name in ("ALPHA", "AIR"):
        ask(pair, name, "ALTER TABLE documents ENABLE TRIGGER ALL")
    assert len(one_round(pair).notices) == 8  # those that fire again, but not in every session
    Prepare("primary").run(pair["ALPHA"])
    Prepare("laptop").run(pair["AIR"])
    as_it_is(pair)
    assert one_round(pair).notices == []
    assert count(pair, "ALPHA", "never queued") == 1
    assert (go(pair, watch), watch.notices) == ("", [])


def test_a_rewrite_without_a_version_is_noticed_and_a_move_of_the_file_is_none(pair: Nodes) -> None:
    writing(pair, "ALPHA", "rewritten")
    one_round(pair)
    watch = Patrol()
    ask(pair, "ALPHA", "VACUUM FULL documents")
    assert go(pair, watch) == ""
    ask(pair, "ALPHA", "ALTER TABLE documents ALTER category TYPE varchar(50) USING upper(category)")
    assert patrol.UNNOTED in go(pair, watch)
    assert (same(pair), watch.notices) == ([], [])
    assert ask(pair, "AIR", "SELECT kind FROM aya_sync.conflicts") == []  # nobody wrote here


def test_a_trigger_of_the_users_own_fires_once_and_both_sides_stay_equal(touching: Nodes) -> None:
    nodes = touching
    number = writing(nodes, "ALPHA", "touched there")
    one_round(nodes)
    ask(nodes, "ALPHA", "UPDATE documents SET category = 'a' WHERE id = %s", number)
    one_round(nodes)
    assert same(nodes) == []
    ask(nodes, "AIR", "UPDATE documents SET category = 'b' WHERE id = %s", number)
    writing(nodes, "AIR", "touched here")
    one_round(nodes)
    assert same(nodes) == []
    assert go(nodes, Patrol()) == ""


def test_what_cannot_be_made_equal_is_named_once_and_not_tried_for_ever(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "an orphan's parent")
    one_round(pair)
    ask(pair, "ALPHA", f"{REPLICA}DELETE FROM documents WHERE id = {number}")  # its chunks do not follow
    one_round(pair)
    watch = Patrol()
    assert "is missing" in go(pair, watch)
    assert patrol.STUCK in watch.notices[0]
    assert go(pair, watch) == ""
    writing(pair, "ALPHA", "goes on beside it")
    assert one_round(pair).compared == []
    assert count(pair, "AIR", "goes on beside it") == 1
    ask(pair, "ALPHA", "DELETE FROM chunks WHERE document_id = %s", number)
    assert (go(pair, watch), watch.notices) == ("", [])


def test_chunks_written_here_past_the_triggers_are_sent_with_their_document(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "with a chunk too few")
    one_round(pair)
    ask(pair, "AIR", f"{PAST}INSERT INTO chunks (document_id, chunk_text, chunk_index) VALUES ({number}, 'unnoted', 9)")
    assert one_round(pair).adopted == 1
    assert one_round(pair).pushed.applied == 1
    assert one(pair, "ALPHA", "SELECT count(*) FROM chunks WHERE document_id = %s", number) == 3


def test_a_truncated_table_is_empty_here_as_well_and_only_what_was_edited_is_kept(pair: Nodes) -> None:
    edited = writing(pair, "ALPHA", "edited before the end")
    one_round(pair)
    ask(pair, "ALPHA", "TRUNCATE documents CASCADE")
    rewriting(pair, "AIR", edited, "edited while it ended")
    one_round(pair)
    assert count(pair, "AIR", "%") == 0
    assert ask(pair, "AIR", "SELECT document ->> 'content' FROM aya_sync.conflicts") == [("edited while it ended",)]


def test_a_look_takes_the_newest_rows_and_goes_round() -> None:
    every = [("d", 0), ("d", 1), ("d", 2), ("c", 0), ("c", 1)]
    seen, at = [], 0
    for _ in range(3):
        chosen, at = portion(every, at, 2)
        assert {("d", 2), ("c", 1)} <= set(chosen)
        seen += chosen
    assert (set(seen), at) == (set(every), 0)
    assert portion([("d", 0)], 5, 2) == ([("d", 0)], 0)
