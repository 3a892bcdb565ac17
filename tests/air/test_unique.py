"""Unique columns of the user's own, whose values documents take from each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from air_work import as_it_is, ask, count, one, one_round

from aya_lib.node.node import Nodes


@pytest.fixture
def slugs(pair: Nodes) -> Iterator[list[int]]:
    """Seven documents on both sides with two unique columns of the user's own, one of them NOT NULL: their ids."""
    added = "ADD slug varchar(40) NOT NULL DEFAULT gen_random_uuid() UNIQUE, ADD place int UNIQUE"
    for name in ("ALPHA", "AIR"):
        ask(pair, name, f"ALTER TABLE documents {added}")
    insert = "INSERT INTO documents (content, slug, place) SELECT 'of ' || s, s, ascii(s) FROM unnest(%s::text[]) s RETURNING id"
    numbers = [row[0] for row in ask(pair, "ALPHA", insert, list("abcdefg"))]
    one_round(pair)
    yield numbers
    for name in ("ALPHA", "AIR"):
        ask(pair, name, "ALTER TABLE documents DROP slug, DROP place")


def has(nodes: Nodes, numbers: list[int]) -> list[str]:
    """On both sides, the letter and the place of each."""
    query = "SELECT string_agg(slug || coalesce(chr(place), '-'), ' ' ORDER BY id) FROM documents WHERE id = ANY (%s)"
    return [one(nodes, name, query, numbers) for name in ("ALPHA", "AIR")]


def give(nodes: Nodes, name: str, numbers: list[int], *columns: str, slug: str) -> None:
    """These letters to these documents, in two steps, as a person does it."""
    for column in columns:
        value = {"slug": "chr(%s + {})", "place": "%s + {}"}[column]
        ask(nodes, name, f"UPDATE documents SET {column} = {value.format('id')} WHERE id = ANY (%s)", 1000, numbers)
        for number, letter in zip(numbers, slug, strict=True):
            ask(nodes, name, f"UPDATE documents SET {column} = {value.format(0)} WHERE id = %s", ord(letter), number)


def test_unique_values_are_swapped_between_documents_on_either_side(pair: Nodes, slugs: list[int]) -> None:
    """A pair, a circle of three, one freed by a deletion; on the primary another circle."""
    give(pair, "AIR", slugs[:2], "slug", slug="ba")
    give(pair, "AIR", slugs[2:5], "slug", "place", slug="dec")
    ask(pair, "AIR", "UPDATE documents SET category = 'first in the queue' WHERE id = %s", slugs[5])
    ask(pair, "AIR", "DELETE FROM documents WHERE id = %s", slugs[6])
    give(pair, "AIR", slugs[5:6], "slug", slug="g")
    done = one_round(pair)
    assert (done.pushed.applied, done.pushed.dead, done.pushed.conflicts) == (7, [], 0)
    assert has(pair, slugs) == ["ba ab dd ee cc gf"] * 2
    give(pair, "ALPHA", slugs[:3], "slug", "place", slug="adb")
    ask(pair, "ALPHA", "DELETE FROM documents WHERE id = %s", slugs[3])
    give(pair, "ALPHA", slugs[4:5], "slug", slug="e")
    one_round(pair)
    assert has(pair, slugs) == has(pair, slugs)[:1] * 2


def test_of_those_that_wait_for_each_other_only_what_a_strangers_value_stops_is_refused(pair: Nodes, slugs: list[int]) -> None:
    give(pair, "AIR", slugs[:5], "slug", slug="bazcd")  # two swap; of a chain of three the first wants what a stranger has
    ask(pair, "ALPHA", "INSERT INTO documents (content, slug) VALUES ('a stranger', 'z')")
    done = one_round(pair)
    assert (done.pushed.applied, len(done.pushed.dead)) == (2, 3)
    assert has(pair, slugs[:5]) == ["ba ab cc dd ee", "ba ab zc cd de"]
    assert count(pair, "AIR", "a stranger") == 0  # one of the laptop's has its value
    ask(pair, "ALPHA", "UPDATE documents SET slug = 'other' WHERE slug = 'z'")
    ask(pair, "AIR", "UPDATE write_queue SET state = 'queued' WHERE NOT synced")
    assert one_round(pair).pushed.applied == 3
    assert count(pair, "AIR", "a stranger") == 1


def test_what_takes_a_value_waits_for_the_document_that_gives_it_up(pair: Nodes, slugs: list[int]) -> None:
    ask(pair, "AIR", "UPDATE documents SET slug = 'x', content = 'a new text waits for its chunks' WHERE id = %s", slugs[0])
    give(pair, "AIR", slugs[1:2], "slug", slug="a")
    ask(pair, "AIR", "UPDATE write_queue SET needs_chunks = false WHERE document_id = %s", slugs[1])
    assert (one_round(pair).pushed.applied, one(pair, "AIR", "SELECT count(*) FROM write_queue WHERE state = 'dead'")) == (0, 0)
    as_it_is(pair)
    assert one_round(pair).pushed.applied == 2
    assert has(pair, slugs[:2]) == ["xa ab"] * 2
