"""Rows of the queue that cannot be sent: each says why in one line and stays, and other documents go on."""

from __future__ import annotations

import pytest
from air_work import as_it_is, ask, count, one, one_round, same, writing

from aya_lib.air import push
from aya_lib.air.fit import Apart
from aya_lib.errors import SqlFailed
from aya_lib.node.node import Nodes


def test_a_refused_mutation_waits_with_its_reason_and_holds_back_its_own_document_only(pair: Nodes) -> None:
    ask(pair, "ALPHA", "ALTER TABLE documents ADD CONSTRAINT polite CHECK (content <> 'rude') NOT VALID")
    refused = writing(pair, "AIR", "rude")
    ask(pair, "AIR", "UPDATE write_queue SET attempts = 1 WHERE document_id = %s", refused)
    ask(pair, "AIR", "UPDATE documents SET category = 'later' WHERE id = %s", refused)
    writing(pair, "AIR", "polite enough")
    done = one_round(pair)
    assert done.pushed.applied == 1
    assert [reason for _, reason in done.pushed.dead] == ['new row for relation "documents" violates check constraint "polite"']
    states = ask(pair, "AIR", "SELECT state FROM write_queue WHERE document_id = %s ORDER BY id", refused)
    assert states == [("dead",), ("queued",)]
    assert one_round(pair).pushed.applied == 0
    ask(pair, "ALPHA", "ALTER TABLE documents DROP CONSTRAINT polite")
    ask(pair, "AIR", "UPDATE write_queue SET state = 'queued' WHERE document_id = %s", refused)
    assert one_round(pair).pushed.applied == 2
    assert one(pair, "ALPHA", "SELECT category FROM documents WHERE content = 'rude'") == "later"


GOOD = '{"content": "x"}'
BAD = [
    (("INSERT", "chunks", GOOD, None), "table 'chunks' is not synchronised; allowed is 'documents'"),
    (("INSERT", None, GOOD, None), "table 'None' is not synchronised; allowed is 'documents'"),
    (("MERGE", "documents", GOOD, None), "operation 'MERGE' is unknown; allowed are 'INSERT', 'UPDATE', 'DELETE'"),
    (
        ("UPDATE", "documents", GOOD, None),
        "UPDATE without document_id: change the row of documents itself, and the queue follows",
    ),
    (("INSERT", "documents", GOOD, 1), "INSERT with document_id 1: ids above zero are given by the primary"),
    (("INSERT", "documents", None, None), "data is missing; allowed is a JSON object with the columns of documents"),
    (("INSERT", "documents", "[1]", None), "data is array; allowed is a JSON object with the columns of documents"),
    (("INSERT", "documents", "{}", None), "data.content is missing or not a text"),
    (("INSERT", "documents", '{"content": 5}', None), "data.content is missing or not a text"),
    (("INSERT", "documents", '{"content": null}', None), "data.content is missing or not a text"),
    (("INSERT", "documents", '{"content": "x", "colour": 1, "area": 2}', None), "documents has no column area, colour"),
    (
        ("INSERT", "documents", f'{{"content": "x", "category": "{"c" * 51}"}}', None),
        "value too long for type character varying(50)",
    ),
    (
        ("INSERT", "documents", '{"content": "x", "created_at": "yesterday or so"}', None),
        'invalid input syntax for type timestamp: "yesterday or so"',
    ),
]


def test_a_row_that_cannot_be_sent_says_why_and_stays(pair: Nodes) -> None:
    insert = "INSERT INTO write_queue (operation, table_name, data, document_id) VALUES (%s, %s, %s, %s) RETURNING id"
    said = {one(pair, "AIR", insert, *values): why for values, why in BAD}
    writing(pair, "AIR", "after all of them")
    before = ask(pair, "AIR", "SELECT id, data FROM write_queue WHERE id = ANY (%s) ORDER BY id", list(said))
    done = one_round(pair)
    assert (done.pushed.applied, dict(done.pushed.dead)) == (1, said)
    left = ask(pair, "AIR", "SELECT id, data, state, reason FROM write_queue WHERE NOT synced ORDER BY id")
    assert left == [(number, data, "dead", said[number]) for number, data in before]
    assert count(pair, "ALPHA", "x") == 0


def test_what_is_no_text_or_no_json_does_not_enter_the_queue(pair: Nodes) -> None:
    insert = "INSERT INTO write_queue (operation, table_name, data) VALUES ('INSERT', 'documents', %s)"
    json = "invalid input syntax for type json"
    nul = r'{"content": "a\u0000b"}', "unsupported Unicode escape sequence"
    for data, said in (nul, (r'{"content": "\ud800"}', json), ('{"content": ', json)):
        with pytest.raises(SqlFailed, match=said):
            ask(pair, "AIR", insert, data)


def test_a_document_that_is_too_large_is_not_even_cut_stays_and_can_be_deleted(pair: Nodes) -> None:
    large = "INSERT INTO documents (content) VALUES (repeat('x', 21000000)) RETURNING id"
    local = one(pair, "AIR", large)
    assert [said for _, said in one_round(pair).pushed.dead] == [
        "the document has 21.0 MB; allowed are 20 MB (knowledge.max_file_mb)"
    ]
    assert one(pair, "AIR", "SELECT length(content) FROM documents WHERE id = %s", local) == 21_000_000
    ask(pair, "AIR", "UPDATE documents SET content = 'shorter' WHERE id = %s", local)
    ask(pair, "AIR", "UPDATE write_queue SET needs_chunks = false, state = 'queued' WHERE NOT synced")
    one_round(pair)
    assert count(pair, "ALPHA", "shorter") == 1
    there = one(pair, "ALPHA", large)
    one_round(pair)
    ask(pair, "AIR", "DELETE FROM documents WHERE id = %s", there)
    assert one_round(pair).pushed.applied == 1
    assert one(pair, "ALPHA", "SELECT count(*) FROM documents WHERE id = %s", there) == 0


def test_a_document_that_is_not_there_is_deleted_without_a_word_and_its_change_is_kept(pair: Nodes) -> None:
    queue = "INSERT INTO write_queue (operation, table_name, data, document_id) VALUES (%s, 'documents', %s, 999999)"
    ask(pair, "AIR", queue, "DELETE", GOOD)
    assert one_round(pair).pushed.applied == 1
    ask(pair, "AIR", queue, "UPDATE", GOOD)
    assert one_round(pair).pushed.conflicts == 1
    kept = ask(pair, "AIR", "SELECT kind, document FROM aya_sync.conflicts WHERE document_id = 999999")
    assert kept == [("deleted on the primary, changed here", {"content": "x"})]


def test_a_vector_of_another_dimension_is_refused_here_and_a_column_of_another_type_on_both_sides(pair: Nodes) -> None:
    dimension = pair["AIR"].site.embedding.dimension
    ask(pair, "AIR", "DROP INDEX IF EXISTS idx_chunks_embedding")
    number = writing(pair, "AIR", "of another dimension")
    insert = "INSERT INTO chunks (document_id, chunk_text, embedding) VALUES (%s, 'x', '[1,2,3]')"
    with pytest.raises(SqlFailed, match=f"expected {dimension} dimensions, not 3"):
        ask(pair, "AIR", insert, number)
    ask(pair, "AIR", "ALTER TABLE chunks ALTER COLUMN embedding TYPE vector")
    ask(pair, "AIR", insert, number)
    said = rf"chunks\.embedding is vector\({dimension}\) on ALPHA, vector on AIR\. Make the laptop's table like the primary's"
    with pytest.raises(Apart, match=said):
        one_round(pair)
    assert one(pair, "AIR", "SELECT state FROM write_queue WHERE NOT synced") == "queued"
    ask(pair, "AIR", "DELETE FROM chunks WHERE vector_dims(embedding) = 3")
    ask(pair, "AIR", f"ALTER TABLE chunks ALTER COLUMN embedding TYPE vector({dimension})")
    assert one_round(pair).pushed.applied == 1


def test_numbers_keep_their_digits(pair: Nodes) -> None:
    exact = '{"a": 1.10, "b": 12345678901234567890.123456789}'
    ask(pair, "AIR", "INSERT INTO documents (content, metadata) VALUES ('exact', %s)", exact)
    as_it_is(pair)
    assert one_round(pair).pushed.applied == 1
    assert one(pair, "ALPHA", "SELECT metadata::text FROM documents WHERE content = 'exact'") == exact


def test_columns_that_were_added_on_both_sides_are_carried_both_ways(pair: Nodes) -> None:
    for name in ("ALPHA", "AIR"):
        ask(pair, name, "ALTER TABLE documents ADD COLUMN \"Language\" text DEFAULT 'none', ADD COLUMN area point")
        ask(pair, name, "ALTER TABLE documents ADD COLUMN size int GENERATED ALWAYS AS (length(content)) STORED")
        ask(pair, name, "ALTER TABLE chunks ADD COLUMN page int")
    try:
        for name in ("ALPHA", "AIR"):
            number = writing(pair, name, f"on {name}")
            ask(pair, name, 'UPDATE documents SET "Language" = %s WHERE id = %s', f"of {name}", number)
            ask(pair, name, "UPDATE chunks SET page = 7 + chunk_index WHERE document_id = %s", number)
        one_round(pair)
        for name in ("ALPHA", "AIR"):
            number = one(pair, name, "SELECT id FROM documents WHERE \"Language\" = 'of ALPHA'")
            ask(pair, name, 'UPDATE documents SET area = point(1, 2) WHERE "Language" = %s', f"of {name}")
            assert ask(pair, name, "SELECT page FROM chunks WHERE document_id = %s ORDER BY id", number) == [(7,), (8,)]
        assert one_round(pair).pushed.applied == 1
        for name in ("ALPHA", "AIR"):
            found = ask(
                pair, name, 'SELECT content, "Language", area::text, size FROM documents WHERE area IS NOT NULL ORDER BY 1'
            )
            assert found == [("on AIR", "of AIR", "(1,2)", 6), ("on ALPHA", "of ALPHA", "(1,2)", 8)]
        assert same(pair) == []
        ask(pair, "AIR", "BEGIN; SET LOCAL aya.applying = 'on'; UPDATE chunks SET page = 0 WHERE page = 8; COMMIT")
        assert len(same(pair)) == 2
        ask(pair, "AIR", "UPDATE aya_sync.laptop SET snapshot = NULL")
        assert len(one_round(pair).compared) == 1
        assert same(pair) == []
    finally:
        for name in ("ALPHA", "AIR"):
            ask(pair, name, 'ALTER TABLE documents DROP COLUMN "Language", DROP COLUMN area, DROP COLUMN size')
            ask(pair, name, "ALTER TABLE chunks DROP COLUMN page")


def test_an_internal_error_about_one_document_keeps_no_other_back_and_is_said_at_the_end_of_every_round(pair: Nodes) -> None:
    function = """CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'a page is broken' USING ERRCODE = 'XX001'; END$$"""
    ask(pair, "ALPHA", function)
    ask(
        pair,
        "ALPHA",
        "CREATE TRIGGER broken BEFORE INSERT ON documents FOR EACH ROW WHEN (NEW.content = 'bad') EXECUTE FUNCTION broken()",
    )
    try:
        writing(pair, "AIR", "before the bad one")
        writing(pair, "AIR", "bad")
        writing(pair, "AIR", "behind the bad one")
        pulled = writing(pair, "ALPHA", "pulled all the same")
        with pytest.raises(SqlFailed, match=r"^ALPHA: not taken, and tried again: mutation \d+: a page is broken$"):
            one_round(pair)
        assert count(pair, "ALPHA", "% the bad one") == 2
        assert one(pair, "AIR", "SELECT count(*) FROM documents WHERE id = %s", pulled) == 1
    finally:
        ask(pair, "ALPHA", "DROP FUNCTION broken CASCADE")
    assert one_round(pair).pushed.applied == 1


def test_of_many_that_are_not_taken_some_are_tried_and_those_behind_them_have_their_turn(
    pair: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "FAILED", 4)
    monkeypatch.setattr(push, "AT_ONCE", 2)
    for number in range(6):
        writing(pair, "AIR", f"locked {number}")
    good = writing(pair, "AIR", "behind the locked ones")
    function = "BEGIN IF NEW.content LIKE 'locked%%' THEN RAISE lock_not_available; END IF; RETURN NEW; END"
    ask(pair, "ALPHA", f"CREATE FUNCTION locked() RETURNS trigger LANGUAGE plpgsql AS $${function}$$")
    ask(pair, "ALPHA", "CREATE TRIGGER locked BEFORE INSERT ON documents FOR EACH ROW EXECUTE FUNCTION locked()")
    try:
        with pytest.raises(SqlFailed, match=r"; and 1 more$"):
            one_round(pair)
        with pytest.raises(SqlFailed):
            one_round(pair)
    finally:
        ask(pair, "ALPHA", "DROP FUNCTION locked CASCADE")
    assert (good < 0, count(pair, "ALPHA", "behind the locked ones")) == (True, 1)
    assert one_round(pair).pushed.applied == 6


def test_what_changes_between_the_look_and_the_sending_is_sent_as_it_is_then(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "to be deleted at the last moment")
    one_round(pair)
    ask(pair, "AIR", "UPDATE documents SET category = 'changed' WHERE id = %s", number)
    brief = writing(pair, "AIR", "gone at the last moment")
    unfinished = writing(pair, "AIR", "its chunks are lacking at the last moment")

    def change(step: str) -> None:
        if step == "push: looked" and one(pair, "AIR", "SELECT count(*) FROM documents WHERE id = %s", number):
            ask(pair, "AIR", "DELETE FROM documents WHERE id IN (%s, %s)", number, brief)
            ask(pair, "AIR", "UPDATE documents SET content = content || '!' WHERE id = %s", unfinished)

    assert one_round(pair, change).pushed.applied == 1
    assert count(pair, "ALPHA", "% at the last moment%") == 0
    as_it_is(pair)
    assert one_round(pair).pushed.applied == 1


def test_a_row_put_into_the_queue_by_hand_arrives_once(pair: Nodes) -> None:
    text = """INSERT INTO write_queue (operation, table_name, data) VALUES ('INSERT', 'documents', '{"content": "by hand"}')"""
    ask(pair, "AIR", text)
    one_round(pair)
    one_round(pair)
    assert count(pair, "AIR", "by hand") == 1


def test_a_unique_value_goes_from_one_document_to_another_in_whatever_order_they_wait(pair: Nodes) -> None:
    insert = "INSERT INTO documents (content, source_uri) VALUES (%s, %s) RETURNING id"
    has, takes = (one(pair, "ALPHA", insert, f"{uri} at first", uri) for uri in ("a", "b"))
    one_round(pair)
    ask(pair, "AIR", "UPDATE documents SET category = 'first in the queue' WHERE id = %s", takes)
    ask(pair, "AIR", "UPDATE documents SET source_uri = 'c' WHERE id = %s", has)
    ask(pair, "AIR", "UPDATE documents SET source_uri = 'a' WHERE id = %s", takes)
    ask(pair, "AIR", insert, "takes what was freed", "b")
    as_it_is(pair)
    done = one_round(pair)
    assert (done.pushed.applied, done.pushed.dead, done.pushed.conflicts) == (3, [], 0)
    uris = "SELECT content, source_uri FROM documents WHERE source_uri IS NOT NULL ORDER BY source_uri"
    expected = [("b at first", "a"), ("takes what was freed", "b"), ("a at first", "c")]
    assert [ask(pair, name, uris) for name in ("ALPHA", "AIR")] == [expected, expected]


def test_a_value_that_a_waiting_document_has_here_holds_back_the_one_that_comes_and_no_other(pair: Nodes) -> None:
    insert = "INSERT INTO documents (content, source_uri) VALUES (%s, %s) RETURNING id"
    waits = one(pair, "ALPHA", insert, "its new text waits for an encoder", "held")
    one_round(pair)
    ask(pair, "AIR", "UPDATE documents SET content = 'new text' WHERE id = %s", waits)
    ask(pair, "ALPHA", "UPDATE documents SET source_uri = 'freed' WHERE id = %s", waits)
    comes = one(pair, "ALPHA", insert, "has it now", "held")
    other = writing(pair, "ALPHA", "beside it")
    one_round(pair)
    assert ask(pair, "AIR", "SELECT id FROM documents WHERE id = ANY (%s)", [comes, other]) == [(other,)]
    as_it_is(pair)
    assert one_round(pair).pushed.conflicts == 1
    assert one(pair, "AIR", "SELECT source_uri FROM documents WHERE id = %s", comes) == "held"


def test_many_queued_writes_are_looked_at_and_sent_in_parts(pair: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "LOOKED", 45)
    ask(pair, "ALPHA", "INSERT INTO documents (content) SELECT 'one of many ' || n FROM generate_series(1, 60) n")
    one_round(pair)
    ask(pair, "AIR", "UPDATE documents SET category = 'many' WHERE content LIKE 'one of many %%'")
    steps: list[str] = []
    assert one_round(pair, steps.append).pushed.applied == 60
    assert (steps.count("push: looked"), steps.count("push: signed")) == (2, 4)
