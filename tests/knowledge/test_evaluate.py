"""Known-item retrieval: the questions are held out, the ranks are right, and nothing of it stays in the database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests_support import step

from aya_lib.check import worst
from aya_lib.knowledge import evaluate, load
from aya_lib.knowledge.evaluation import Asked, Evaluation, Passage, Question, held_out, questions
from aya_lib.knowledge.loaded import Loaded
from aya_lib.knowledge.search import MODES
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Unseen
from aya_lib.picture import Picture

SENTENCE = "The slot keeps the log until the standby has received all of it."
TEXT = (
    "### How a slot works in practice\n\nA first sentence that says a little of it.\n\n"
    f"{SENTENCE} More words follow here, enough of them to stay.\n"
)


def made(*ranks: int | None) -> Evaluation:
    question = Question(1, "sentence", "asked?", "rest", "title")
    return Evaluation(100, tuple(Asked(question, dict.fromkeys(MODES, rank), "first") for rank in ranks))


def test_a_question_is_no_longer_in_its_chunk() -> None:
    chunks = [Passage(number, TEXT, "Manual", ["Slots"]) for number in range(4)]
    found = questions(chunks, 4, 1)
    assert sorted(one.kind for one in found) == ["heading", "heading", "sentence", "sentence"]
    for one in found:
        assert one.text not in one.rest
        assert len(one.rest) >= 100
    assert {one.text for one in found} == {"How a slot works in practice", SENTENCE}


def test_a_heading_is_taken_from_whatever_carries_it_and_one_of_a_whole_chapter_is_not_asked() -> None:
    heading = "How a slot works in practice"
    chunks = [Passage(1, TEXT, "Manual", ["Slots", heading], 7), Passage(2, "More of it.", "Manual", ["Slots", heading], 7)]
    chunks.append(Passage(3, "Another document.", "Other", [heading], 8))
    (asked,) = questions(chunks, 1, 1)
    assert (asked.text, asked.heading, asked.document) == (heading, heading, 7)
    assert [(one.id, one.headings) for one in held_out(chunks, [asked])] == [(1, ["Slots"]), (2, ["Slots"])]
    many = [replace(chunks[1], id=number) for number in range(10, 14)]
    assert "heading" not in {one.kind for one in questions([*chunks, *many], 1, 1)}


def test_chunks_that_would_say_nothing_without_it_are_not_asked() -> None:
    assert questions([Passage(1, "Too short. To be cut.", "t", []), Passage(2, "x" * 500, "t", [])], 10, 1) == []


def test_recall_and_mrr_are_those_of_the_ranks() -> None:
    found = made(1, 2, 4, None)
    assert [found.recall("hybrid", k).value for k in (1, 2, 3, 10)] == [0.25, 0.5, 0.5, 0.75]
    assert found.mrr("text").value == pytest.approx((1 + 1 / 2 + 1 / 4) / 4)
    interval = found.recall("hybrid", 2)
    assert (interval.low, interval.high) == pytest.approx((0.1500, 0.8500), abs=1e-4)  # Wilson, 2 of 4
    assert found.mrr("text").low < found.mrr("text").value < found.mrr("text").high


def test_too_little_recall_fails_and_what_was_not_seen_is_unknown() -> None:
    assert worst(evaluate.checks(made(*[1] * 20), 0.9)) == "passed"
    assert worst(evaluate.checks(made(*[None] * 20, 1), 0.9)) == "failed"
    assert worst(evaluate.checks(Unseen("ALPHA", "ask", "gone"), 0.9)) == "unknown"


def test_the_worst_misses_come_first_and_hits_are_not_shown() -> None:
    assert [row[0] for row in evaluate.misses(made(1, 3, None, 7)).table().rows] == ["> 20", "7", "3"]


def test_on_the_manual_chunks_come_back_and_nothing_of_it_stays(library: Nodes) -> None:
    with library["ALPHA"].session() as connection:
        before = connection.execute("SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM public.chunks c").fetchone()
    found = evaluate.measure(library, 40, 2)
    assert isinstance(found, Evaluation), found
    assert len(found.asked) == 40
    assert {one.question.kind for one in found.asked} == {"heading", "sentence"}
    assert found.recall("hybrid", 20).value > 0.4
    assert found.recall("hybrid", 1).value < 1  # its own words would have found it always
    assert evaluate.measure(library, 40, 2) == found
    with library["ALPHA"].session() as connection:
        assert connection.execute("SELECT md5(string_agg(c::text, '' ORDER BY id)) FROM public.chunks c").fetchone() == before
        assert connection.execute("SELECT count(*) FROM pg_class WHERE relname = 'chunks'").fetchone() == (1,)
    assert isinstance(evaluate.plot(found), Picture)


def test_the_ingest_runbook_fails_with_the_reason_when_a_file_is_left_out(library: Nodes, tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("# Good\n\nA quite unusual sentence about purple walruses and their tusks.")
    (tmp_path / "bad.md").write_bytes(b"\0\0")
    values: dict[str, Any] = {"site": library.site.name, "paths": [str(tmp_path)]}
    try:
        ingest = step("ingest", **values)
        failed = [each for each in ingest.record["steps"] if each["kind"] == "check" and each["status"] == "failed"]
        assert ingest.exit_code == 1
        assert [each["name"] for each in failed] == ["every file is a document with its content"]
        assert "bad.md: binary content (NUL byte at offset 0), not markdown" in failed[0]["observed"]
        (tmp_path / "bad.md").unlink()
        assert step("ingest", **values).exit_code == 0
    finally:
        with library["ALPHA"].session(write=True) as connection:
            connection.execute("DELETE FROM documents WHERE starts_with(source_uri, %s)", (tmp_path.as_uri(),))


def test_a_dry_run_of_ingest_writes_nothing(library: Nodes, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\nSome text that is not loaded.")
    ingest = step("ingest", site=library.site.name, paths=[str(tmp_path)], dry_run=True)
    assert (ingest.error, ingest.record["outcome"]) == (None, "planned")
    loaded = load.look_loaded(library, [str(tmp_path)])
    assert isinstance(loaded, Loaded)
    assert (loaded.files, loaded.current) == (1, 0)


def test_an_encoder_of_another_model_closes_the_gate(library: Nodes) -> None:
    with library["ALPHA"].session(write=True) as connection:
        (saved,) = connection.execute("SELECT value::text FROM aya_settings WHERE key = 'embedding'").fetchone() or ("{}",)
        connection.execute("UPDATE aya_settings SET value = value || '{\"fingerprint\": \"0\"}' WHERE key = 'embedding' ")
    try:
        last = evaluate.preconditions(evaluate.look(library))[-1]
        assert (last.status, "were embedded with" in last.observed) == ("failed", True)
    finally:
        with library["ALPHA"].session(write=True) as connection:
            connection.execute("DELETE FROM aya_settings WHERE key = 'embedding'")
    unrecorded = evaluate.preconditions(evaluate.look(library))[-1]
    assert (unrecorded.status, unrecorded.observed) == ("passed", "not recorded yet: loading verifies it")
    with library["ALPHA"].session(write=True) as connection:
        connection.execute("INSERT INTO aya_settings VALUES ('embedding', %s::jsonb)", (saved,))
