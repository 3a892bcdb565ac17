"""One round after another: the faults of a naive synchronisation, each met and not made."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from air_work import add, as_it_is, ask, count, one, one_round, prepare, rewrite, rewriting, same, texts, writing

from aya_lib.air import link
from aya_lib.air.fit import Apart
from aya_lib.errors import AyaError, Locked, SqlFailed
from aya_lib.node.node import Nodes


def test_a_transaction_that_commits_after_thousands_of_later_ids_is_not_passed_over(pair: Nodes) -> None:
    with pair["ALPHA"].session(write=True, deadline_s=60) as slow:
        slow.execute("BEGIN")
        slow.execute("INSERT INTO documents (content) VALUES ('commits late')")
        ask(pair, "ALPHA", "INSERT INTO documents (content) SELECT 'later ' || n FROM generate_series(1, 3000) n")
        assert one_round(pair).pulled.rows == 3000
        assert count(pair, "AIR", "commits late") == 0
        slow.execute("COMMIT")
    assert one_round(pair).pulled.rows == 1
    ask(pair, "ALPHA", "DELETE FROM documents WHERE content LIKE 'later %'")
    one_round(pair)


def test_updates_deletes_and_chunks_alone_arrive(pair: Nodes) -> None:
    kept, gone = writing(pair, "ALPHA", "kept"), writing(pair, "ALPHA", "gone")
    one_round(pair)
    ask(pair, "ALPHA", "UPDATE documents SET category = 'changed' WHERE id = %s", kept)
    ask(pair, "ALPHA", "UPDATE chunks SET chunk_text = 'another' WHERE document_id = %s AND chunk_index = 1", kept)
    ask(pair, "ALPHA", "DELETE FROM documents WHERE id = %s", gone)
    one_round(pair)
    assert same(pair) == []
    assert one(pair, "AIR", "SELECT category FROM documents WHERE id = %s", kept) == "changed"
    assert one(pair, "AIR", "SELECT count(*) FROM chunks WHERE document_id = %s", gone) == 0


def test_what_is_written_here_is_searched_here_at_once_and_takes_the_primarys_id(pair: Nodes) -> None:
    local = writing(pair, "AIR", "written offline")
    assert local < 0
    assert one(pair, "AIR", "SELECT count(*) FROM chunks WHERE chunk_terms @@ to_tsquery('offline') AND document_id < 0") == 2
    done = one_round(pair)
    assert done.pushed.applied == 1
    number = one(pair, "ALPHA", "SELECT id FROM documents WHERE content = 'written offline'")
    assert ask(pair, "AIR", "SELECT id FROM documents WHERE content = 'written offline'") == [(number,)]
    assert one(pair, "AIR", "SELECT document_id FROM aya_sync.renamed WHERE local_id = %s", local) == number


def test_the_application_role_writes_on_both_sides_and_cannot_touch_the_synchronisations_own_tables(pair: Nodes) -> None:
    role = pair["AIR"].site.database.application_role
    for name in ("ALPHA", "AIR"):
        with pair[name].session(write=True, role=role) as connection:
            number = add(connection, f"by the application on {name}")
            rewrite(connection, number, f"rewritten by the application on {name}")
        with pytest.raises(SqlFailed, match="permission denied"), pair[name].session(role=role) as connection:
            connection.execute("SELECT FROM aya_sync.changes" if name == "ALPHA" else "SELECT FROM aya_sync.laptop")
    assert one_round(pair).pushed.applied == 1
    assert same(pair) == []
    ask(pair, "AIR", "DELETE FROM documents WHERE content LIKE 'rewritten by the application%'")
    assert one_round(pair).pushed.applied == 2


def test_while_the_id_changes_a_document_is_there_once_at_every_moment(pair: Nodes) -> None:
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        with pair["AIR"].session(deadline_s=60) as connection:
            while not stop.is_set():
                found = connection.execute("SELECT count(*) FROM documents WHERE content LIKE 'watched %'").fetchone()
                seen.add(int(str(found[0])) if found else -1)

    for number in range(20):
        writing(pair, "AIR", f"watched {number}")
    watcher = threading.Thread(target=watch)
    watcher.start()
    one_round(pair)
    stop.set()
    watcher.join()
    assert seen == {20}


def test_edits_and_deletes_made_here_arrive_and_a_document_that_came_and_went_leaves_nothing(pair: Nodes) -> None:
    edited, deleted = writing(pair, "ALPHA", "edited"), writing(pair, "ALPHA", "deleted")
    one_round(pair)
    rewriting(pair, "AIR", edited, "edited on the laptop")
    ask(pair, "AIR", "DELETE FROM documents WHERE id = %s", deleted)
    brief = writing(pair, "AIR", "came and went")
    ask(pair, "AIR", "DELETE FROM documents WHERE id = %s", brief)
    assert one_round(pair).pushed.applied == 2
    assert texts(pair, "ALPHA", edited, deleted) == ["edited on the laptop"]
    assert count(pair, "ALPHA", "came and went") == 0


def test_changed_on_both_sides_the_primary_stands_and_the_laptops_version_is_kept_whole(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "disputed")
    one_round(pair)
    rewriting(pair, "ALPHA", number, "as the primary has it")
    rewriting(pair, "AIR", number, "as the laptop has it")
    assert one_round(pair).pushed.conflicts == 1
    assert texts(pair, "AIR", number) == ["as the primary has it"]
    kept = ask(pair, "AIR", "SELECT kind, document ->> 'content', jsonb_array_length(chunks) FROM aya_sync.conflicts")
    assert kept == [("changed on both sides", "as the laptop has it", 2)]


def test_edited_here_and_deleted_there_is_kept_among_the_conflicts(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "deleted there")
    one_round(pair)
    ask(pair, "ALPHA", "DELETE FROM documents WHERE id = %s", number)
    rewriting(pair, "AIR", number, "edited here")
    assert one_round(pair).pushed.conflicts == 1
    assert ask(pair, "AIR", "SELECT document ->> 'content' FROM aya_sync.conflicts") == [("edited here",)]


def test_a_pull_leaves_alone_what_waits_here(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "waits")
    one_round(pair)
    ask(pair, "AIR", "UPDATE documents SET content = 'not yet in chunks' WHERE id = %s", number)
    ask(pair, "ALPHA", "UPDATE chunks SET chunk_text = 'from the primary' WHERE document_id = %s", number)
    done = one_round(pair)
    assert (done.pushed.applied, done.pulled.passed_over) == (0, 1)
    assert texts(pair, "AIR", number) == ["not yet in chunks"]
    as_it_is(pair)
    assert one_round(pair).pushed.applied == 1


def test_the_same_mutation_again_does_nothing(pair: Nodes) -> None:
    number = writing(pair, "AIR", "sent twice")
    one_round(pair)
    ask(pair, "AIR", "UPDATE write_queue SET synced = false, state = 'queued' WHERE data ->> 'content' = 'sent twice'")
    one_round(pair)
    assert number < 0
    assert count(pair, "ALPHA", "sent twice") == 1


def test_what_cannot_be_synchronised_is_refused_at_once(pair: Nodes) -> None:
    for text, said in (
        ("INSERT INTO documents (id, content) VALUES (7000, 'x')", "ids above zero are given by the primary"),
        ("UPDATE documents SET id = -9 WHERE id = (SELECT max(id) FROM documents)", "its id cannot be changed"),
        ("TRUNCATE documents CASCADE", "is not carried to the primary"),
    ):
        with pytest.raises(SqlFailed, match=said):
            ask(pair, "AIR", text)


def test_a_log_that_was_pruned_or_a_truncated_table_is_compared(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "pruned away")
    ask(pair, "ALPHA", "DELETE FROM aya_sync.changes")
    ask(pair, "ALPHA", "UPDATE aya_sync.state SET pruned_below = pg_snapshot_xmax(pg_current_snapshot())")
    assert len(one_round(pair).compared) == 1
    assert texts(pair, "AIR", number) == ["pruned away"]
    ask(pair, "ALPHA", "TRUNCATE chunks")
    assert len(one_round(pair).compared) == 1


def test_what_is_written_here_while_both_sides_are_compared_goes_its_way(pair: Nodes) -> None:
    changed, gone = writing(pair, "ALPHA", "changed while compared"), writing(pair, "ALPHA", "deleted while compared")
    one_round(pair)
    ask(pair, "ALPHA", "DELETE FROM aya_sync.changes")  # or the log would say what the comparison has to
    ask(pair, "AIR", "UPDATE aya_sync.laptop SET snapshot = NULL")

    def meanwhile(step: str) -> None:
        if step == "compare: read there":
            rewriting(pair, "AIR", changed, "written while compared")
            ask(pair, "AIR", "DELETE FROM documents WHERE id = %s", gone)

    done = one_round(pair, meanwhile)
    assert [compared.kept for compared in done.compared] == [0]
    assert (done.pushed.applied, done.pushed.conflicts) == (2, 0)
    assert texts(pair, "ALPHA", changed, gone) == ["written while compared"]


BREAKS = ("push: sent", "push: committed there", "pull: looked", "pull: staged documents", "pull: fetched")
OTHERS = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE application_name = 'aya with-air'"


def test_a_connection_that_breaks_in_the_middle_costs_nothing_but_a_second_round(pair: Nodes) -> None:
    broken: list[str] = []

    def cut(reached: str) -> None:
        if reached == step and step not in broken:
            broken.append(step)
            ask(pair, "ALPHA", f"{OTHERS} AND pid <> pg_backend_pid()")

    for step in BREAKS:
        writing(pair, "AIR", f"broken at {step}")
        writing(pair, "ALPHA", f"meanwhile at {step}")
        with contextlib.suppress(AyaError):
            one_round(pair, cut)
        one_round(pair)
        assert same(pair) == [], step
        assert [count(pair, "ALPHA", f"{what} at {step}") for what in ("broken", "meanwhile")] == [1, 1]
    assert broken == list(BREAKS)


def test_a_round_may_take_longer_than_one_exchange_with_the_primary(pair: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STEP_S", 0.5)
    writing(pair, "AIR", "in no hurry")
    assert one_round(pair, lambda step: time.sleep(1.0) if step == "push: taken" else None).pushed.applied == 1


def test_of_two_rounds_at_once_one_is_told_so_whatever_file_each_has_locked(pair: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LOCK_S", 0.2)
    second: list[str] = []

    def another(step: str) -> None:
        with pytest.raises(Locked, match="another process synchronises AIR already") as told:
            one_round(pair)
        second.append(str(told.value))

    writing(pair, "AIR", "one at a time")
    one_round(pair, another)
    assert second


def test_a_schema_of_another_version_exchanges_nothing(pair: Nodes) -> None:
    ask(pair, "ALPHA", "UPDATE aya_sync.state SET schema_version = 99")
    with pytest.raises(Apart, match=f"ALPHA has sync schema 99, this program {link.SCHEMA_VERSION}"):
        one_round(pair)
    ask(pair, "ALPHA", "UPDATE aya_sync.state SET schema_version = %s", link.SCHEMA_VERSION)
    assert prepare(pair) == []


def test_both_sides_of_the_first_version_are_brought_up_to_date(pair: Nodes) -> None:
    ask(pair, "ALPHA", "ALTER TABLE aya_sync.clients DROP COLUMN round")
    ask(pair, "AIR", "ALTER TABLE aya_sync.laptop DROP COLUMN round, DROP COLUMN paused_until, DROP COLUMN columns")
    for name, table in (("ALPHA", "state"), ("AIR", "laptop")):
        ask(pair, name, f"UPDATE aya_sync.{table} SET schema_version = 1")
    with pytest.raises(Apart, match=f"has sync schema 1, this program {link.SCHEMA_VERSION}. Run: aya run air_setup"):
        one_round(pair)
    writing(pair, "AIR", "waits for the new version")
    assert prepare(pair) == ["ALPHA", "AIR"]
    assert prepare(pair) == []
    done = one_round(pair)
    assert (done.pushed.applied, done.compared) == (1, [])
    assert one(pair, "AIR", "SELECT paused_until IS NULL FROM aya_sync.laptop")
