"""Tables that differ: what both have travels, the rest is named, and nothing that one side alone has is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from air_work import as_it_is, ask, one, one_round, same, texts, writing

from aya_lib.air.fit import NEEDED, Apart, Column, Fit, judge
from aya_lib.node.node import Nodes


def of(*extra: Column, table: str = "documents", but: str = "") -> dict[str, dict[str, Column]]:
    """A side's tables, one with columns of its own."""
    needed = {name: {column: Column(column, "text", False, False) for column in sorted(NEEDED[name])} for name in NEEDED}
    needed[table] |= {column.name: column for column in extra}
    needed[table].pop(but, None)
    return needed


def fit(theirs: dict[str, dict[str, Column]], ours: dict[str, dict[str, Column]]) -> Fit:
    return judge("ALPHA", "AIR", {table: (theirs[table], ours[table]) for table in NEEDED})


def column(kind: str = "text", *, generated: bool = False, required: bool = False) -> Column:
    return Column("x", kind, generated, required)


@pytest.mark.parametrize(
    ("theirs", "ours", "notes", "held"),
    [
        (of(column()), of(column()), (), False),
        (of(column()), of(), ("documents.x is text on ALPHA, missing on AIR",), False),
        (of(column(required=True)), of(), ("documents.x is text on ALPHA, missing on AIR",), True),
        (of(column(), table="chunks"), of(), ("chunks.x is text on ALPHA, missing on AIR",), True),
        (of(), of(column()), ("documents.x is missing on ALPHA, text on AIR",), True),
        (of(column("int")), of(column("bigint")), ("documents.x is int on ALPHA, bigint on AIR",), True),
        (of(column(generated=True)), of(column()), ("documents.x is text generated on ALPHA, text on AIR",), True),
        (of(column(generated=True)), of(column(generated=True)), (), False),
        (of(column(generated=True)), of(), (), False),
        (of(), of(column(generated=True)), (), False),
    ],
)
def test_what_differs_is_named_and_holds_the_push_back_where_something_would_be_lost(
    theirs: dict[str, dict[str, Column]], ours: dict[str, dict[str, Column]], notes: tuple[str, ...], held: bool
) -> None:
    found = fit(theirs, ours)
    assert found.notes == notes
    assert bool(found.held) == held
    assert all(note in found.held for note in notes if held)
    assert ("x" in found.documents) == (theirs == ours and not theirs["documents"]["x"].generated)


@pytest.mark.parametrize(
    ("theirs", "ours"), [(of(but="content"), of()), (of(), of(but="content")), (of(), of(column(required=True)))]
)
def test_rows_that_cannot_be_stored_here_are_not_fetched(
    theirs: dict[str, dict[str, Column]], ours: dict[str, dict[str, Column]]
) -> None:
    with pytest.raises(Apart, match=r"documents\.(content|x) is .* on ALPHA, .* on AIR. Make the laptop's table like"):
        fit(theirs, ours)


@pytest.fixture
def put_back(pair: Nodes) -> Iterator[None]:
    yield
    for name in ("ALPHA", "AIR"):
        ask(pair, name, "ALTER TABLE documents DROP COLUMN IF EXISTS uid, DROP COLUMN IF EXISTS mine")


UID = "ALTER TABLE documents ADD COLUMN uid uuid DEFAULT gen_random_uuid()"


@pytest.mark.usefixtures("put_back")
def test_a_column_of_the_primary_and_later_of_both_keeps_the_primarys_values(pair: Nodes) -> None:
    edited = writing(pair, "ALPHA", "edited while apart")
    one_round(pair)
    ask(pair, "ALPHA", UID)
    there = writing(pair, "ALPHA", "while apart")
    ask(pair, "AIR", "UPDATE documents SET category = 'here' WHERE id = %s", edited)
    writing(pair, "AIR", "here while apart")
    done = one_round(pair)
    assert (done.pushed.applied, texts(pair, "AIR", there)) == (2, ["while apart"])
    assert done.notices == ["documents.uid is uuid on ALPHA, missing on AIR"]
    uids = ask(pair, "ALPHA", "SELECT id, uid FROM documents ORDER BY id")
    ask(pair, "AIR", UID)
    ask(pair, "AIR", "UPDATE documents SET category = 'again' WHERE id = %s", edited)
    done = one_round(pair)
    assert [compared.kept for compared in done.compared] == [0]
    assert (done.pushed.applied, done.pushed.conflicts, done.notices) == (1, 0, [])
    assert ask(pair, "ALPHA", "SELECT id, uid FROM documents ORDER BY id") == uids
    assert ask(pair, "AIR", "SELECT id, uid FROM documents ORDER BY id") == uids
    assert one_round(pair).compared == []


@pytest.mark.usefixtures("put_back")
def test_what_only_the_laptop_has_waits_until_the_primary_has_it_too(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "with a column of the laptop")
    one_round(pair)
    ask(pair, "AIR", "ALTER TABLE documents ADD COLUMN mine text")
    ask(pair, "AIR", "UPDATE documents SET mine = 'kept' WHERE id = %s", number)
    pulled = writing(pair, "ALPHA", "pulled all the same")
    as_it_is(pair)
    done = one_round(pair)
    assert done.pushed.applied == 0
    assert done.notices[-1].startswith("nothing is pushed until both sides are alike: documents.mine is missing on ALPHA")
    assert texts(pair, "AIR", pulled) == ["pulled all the same"]
    ask(pair, "ALPHA", "ALTER TABLE documents ADD COLUMN mine text DEFAULT 'of the primary'")
    done = one_round(pair)
    assert (done.pushed.applied, done.pushed.conflicts) == (1, 0)
    for name in ("ALPHA", "AIR"):
        assert one(pair, name, "SELECT mine FROM documents WHERE id = %s", number) == "kept"
        assert one(pair, name, "SELECT mine FROM documents WHERE id = %s", pulled) == "of the primary"


@pytest.mark.usefixtures("put_back")
def test_a_change_of_one_column_sends_that_column_and_of_chunks_none(pair: Nodes) -> None:
    number = writing(pair, "ALPHA", "of many columns")
    one_round(pair)
    ask(pair, "AIR", "UPDATE documents SET category = 'one' WHERE id = %s", number)
    ask(pair, "AIR", "UPDATE documents SET source = 'two' WHERE id = %s", number)
    changed = "SELECT changed FROM write_queue WHERE NOT synced AND document_id = %s"
    assert one(pair, "AIR", changed, number) == ["category", "source"]
    one_round(pair)
    ask(pair, "AIR", "UPDATE chunks SET chunk_text = 'alone' WHERE document_id = %s AND chunk_index = 0", number)
    assert one(pair, "AIR", changed, number) == []
    assert one_round(pair).pushed.applied == 1
    assert one(pair, "ALPHA", "SELECT version FROM documents WHERE id = %s", number) == 3
    assert same(pair) == []


def test_a_row_that_the_laptop_alone_refuses_is_said_of_the_laptop(pair: Nodes) -> None:
    ask(pair, "AIR", "ALTER TABLE documents ADD CONSTRAINT short CHECK (length(content) < 9) NOT VALID")
    number = writing(pair, "ALPHA", "longer than that")
    with pytest.raises(Apart, match=r"AIR refuses a row of ALPHA: new row .* \"short\". Make the laptop's table like"):
        one_round(pair)
    ask(pair, "AIR", "ALTER TABLE documents DROP CONSTRAINT short")
    one_round(pair)
    assert texts(pair, "AIR", number) == ["longer than that"]
