"""Ingest on a real lab: what goes in is whole, the same again changes nothing, and no accident leaves half a document."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from aya_lib import settings
from aya_lib.embedding.client import Served, encoder
from aya_lib.errors import AyaError, Locked, Unreachable, UsageError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.ask import ask
from aya_lib.knowledge.discover import SOURCE_CHARACTERS, discover
from aya_lib.knowledge.documents import delete, find
from aya_lib.knowledge.ingest import ingest
from aya_lib.knowledge.report import Report
from aya_lib.knowledge.store import Store
from aya_lib.node import wait
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.plan.change import apply
from aya_lib.schema import knowledge as schema
from aya_lib.site import load_site, read_yaml


@pytest.fixture
def folder(tmp_path: Path, empty_library: Nodes) -> Iterator[Path]:
    """A folder for files; what was ingested from it is removed afterwards."""
    place = tmp_path / "files"
    place.mkdir()
    yield place
    execute(empty_library, "DELETE FROM documents WHERE starts_with(source_uri, %s)", place.as_uri())


def execute(nodes: Nodes, query: str, *values: object) -> list[tuple[Any, ...]]:
    with nodes["ALPHA"].session(write=True) as connection:
        cursor = connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def whole(nodes: Nodes, place: Path) -> dict[str, int]:
    """Chunks of each document that came from a folder, after a look that none is half there and none is doubled."""
    query = (
        "SELECT d.source_uri, count(c.id), count(DISTINCT c.chunk_index), max(c.chunk_index) + 1, count(c.embedding),"
        " count(c.chunk_terms)"
        " FROM documents d LEFT JOIN chunks c ON c.document_id = d.id WHERE starts_with(d.source_uri, %s) GROUP BY d.id"
    )
    found = execute(nodes, query, place.as_uri())
    for row in found:
        assert len(set(row[1:])) == 1, row
    assert len({row[0] for row in found}) == len(found)
    return {str(row[0]).rsplit("/", 1)[-1]: int(row[1]) for row in found}


def told(report: Report) -> tuple[int, int, int, int, int]:
    tally = report.tally
    return tally.added, tally.changed, tally.unchanged, tally.removed, len(tally.failed)


def test_the_same_again_changes_nothing_and_a_change_replaces_the_chunks(folder: Path, empty_library: Nodes) -> None:
    (folder / "a.md").write_text("# A\n\nfirst\n")
    (folder / "b.txt").write_text("second\n")
    assert told(ingest(empty_library, [folder])) == (2, 0, 0, 0, 0)
    query = "SELECT d.id, d.xmin::text, c.id FROM documents d JOIN chunks c ON c.document_id = d.id ORDER BY c.id"
    before = execute(empty_library, query)
    assert told(ingest(empty_library, [folder, folder / "a.md"])) == (0, 0, 2, 0, 0)
    assert execute(empty_library, query) == before
    (folder / "a.md").write_text("# A\n\nother words\n")
    assert told(ingest(empty_library, [folder])) == (0, 1, 1, 0, 0)
    rows = execute(
        empty_library,
        "SELECT d.id, c.chunk_text, d.updated_at > d.created_at FROM documents d JOIN chunks c ON c.document_id = d.id"
        " WHERE d.source_uri = %s",
        (folder / "a.md").as_uri(),
    )
    assert [(row[1], row[2]) for row in rows] == [("# A\n\nother words", True)]
    assert rows[0][0] in {row[0] for row in before}  # the document is still the same one
    whole(empty_library, folder)


def test_metadata_say_where_a_chunk_stands(folder: Path, empty_library: Nodes) -> None:
    (folder / "guide.md").write_text("# Guide\n\n## Install\n\nrun it\n")
    ingest(empty_library, [folder], category="handbook")
    (row,) = execute(
        empty_library,
        "SELECT d.category, d.source, d.metadata, c.metadata FROM documents d JOIN chunks c ON c.document_id = d.id"
        " WHERE d.category = 'handbook'",
    )
    assert row[0:2] == ("handbook", str(folder / "guide.md").lstrip("/")[-SOURCE_CHARACTERS:])
    assert (row[2]["title"], row[2]["kind"], row[2]["path"]) == ("Guide", "markdown", str(folder / "guide.md"))
    assert row[3] == {"title": "Guide", "headings": ["Guide"], "tokens": row[3]["tokens"]}


def test_removed_files_go_only_when_asked_and_never_with_a_lost_folder(folder: Path, empty_library: Nodes) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (folder / name).write_text(f"text of {name}")
    ingest(empty_library, [folder])
    (folder / "b.md").unlink()
    assert told(ingest(empty_library, [folder])) == (0, 0, 2, 0, 0)
    assert told(ingest(empty_library, [folder], prune=True)) == (0, 0, 2, 1, 0)
    assert set(whole(empty_library, folder)) == {"a.md", "c.md"}
    for name in ("a.md", "c.md"):
        (folder / name).unlink()
    lost = ingest(empty_library, [folder], prune=True)
    assert told(lost) == (0, 0, 0, 0, 1)
    assert "not pruned: it holds no documents at all, 2 came from it" in lost.tally.failed[0].reason
    assert len(whole(empty_library, folder)) == 2


def test_a_bad_file_is_told_and_the_rest_goes_on(folder: Path, empty_library: Nodes) -> None:
    (folder / "binary.md").write_bytes(b"\x7fELF\0\0\0")
    (folder / "empty.md").write_text("")
    (folder / "good.md").write_text("good text")
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(50_000_000)
    (folder / "dots.md").write_text("---\n\n...")
    report = ingest(empty_library, [folder])
    assert told(report) == (1, 0, 0, 0, 4)
    reasons = {Path(one.path).name: one.reason for one in report.tally.failed}
    assert reasons == {
        "binary.md": "binary content (NUL byte at offset 4), not markdown",
        "dots.md": "no text in it that could be searched",
        "empty.md": "empty: there is no text in it",
        "huge.txt": "50.0 MB, at most 20 MB (knowledge.max_file_mb in site.yaml)",
    }
    assert list(whole(empty_library, folder)) == ["good.md"]


def test_what_the_database_refuses_is_that_documents_failure(folder: Path, empty_library: Nodes) -> None:
    for name in ("a.md", "b.md", "c.md"):
        (folder / name).write_text(f"# {name}\n\nThe {'unutterable' if name == 'b.md' else 'usual'} word of {name}.")
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("opens at six")
    (folder / "dangling.md").symlink_to("nowhere.md")
    (folder / "thai.txt").write_text("การสำรองข้อมูล" * 9)
    execute(empty_library, "ALTER TABLE documents ADD CONSTRAINT words CHECK (content NOT LIKE '%unutterable%')")
    try:
        report = ingest(empty_library, [folder])
    finally:
        execute(empty_library, "ALTER TABLE documents DROP CONSTRAINT words")
    assert told(report) == (4, 0, 0, 0, 2)
    reasons = {Path(one.path).name: one.reason for one in report.tally.failed}
    assert reasons["dangling.md"] == "cannot be read: No such file or directory"
    assert 'refused: new row for relation "documents" violates check constraint "words"' in reasons["b.md"]
    assert [Path(one.path).name for one in report.tally.noted] == ["thai.txt"]
    assert execute(empty_library, "SELECT count(*) FROM chunks WHERE embedding IS NULL AND metadata ? 'no_vector'") == [(1,)]
    assert sorted(one.place.rsplit("/", 1)[1] for one in find(empty_library, [str(folder)]).documents) == [
        "a.md",
        "c.md",
        "caf\\udce9.md",
        "thai.txt",
    ]


def test_a_file_that_moved_is_the_same_document_by_whatever_way_it_is_reached(folder: Path, empty_library: Nodes) -> None:
    old, new = folder / "old", folder / "new"
    old.mkdir()
    for name in ("a", "b"):
        (old / f"{name}.md").write_text(f"# Title\n\n{name} whistles")
    ingest(empty_library, [old])
    before = [one.id for one in find(empty_library, [str(old)]).documents]
    old.rename(new)
    old.symlink_to(new)
    moved = ingest(empty_library, [old], prune=True)
    assert (told(moved), moved.tally.moved) == ((0, 0, 0, 0, 0), 2)
    old.unlink()
    assert told(ingest(empty_library, [new], prune=True)) == (0, 0, 2, 0, 0)
    assert [one.id for one in find(empty_library, [str(new)]).documents] == before
    with pytest.raises(UsageError, match=f"no such file or folder.*aya documents delete {old}"):
        ingest(empty_library, [old], prune=True)
    (new / "a.md").write_text("\n")
    emptied = ingest(empty_library, [new])
    assert told(emptied) == (0, 0, 1, 1, 1)
    assert emptied.tally.failed[0].reason == "empty: there is no text in it; its document was removed"
    assert [one.id for one in delete(empty_library, [str(new)]).documents] == before[1:]
    with pytest.raises(UsageError, match=f"no document came from {new}"):
        find(empty_library, [str(new)])


@pytest.mark.parametrize("category", ["x" * 51, " ", "a\0b", "\ud83c"])
def test_a_category_that_the_column_cannot_hold_is_refused_at_once(category: str, folder: Path, empty_library: Nodes) -> None:
    (folder / "a.md").write_text("text")
    with pytest.raises(UsageError, match="category"):
        ingest(empty_library, [folder], category=category)


def test_a_file_that_turns_bad_keeps_the_document_that_is_there(folder: Path, empty_library: Nodes) -> None:
    (folder / "a.md").write_text("text")
    ingest(empty_library, [folder])
    (folder / "a.md").write_bytes(b"\0")
    assert told(ingest(empty_library, [folder], prune=True)) == (0, 0, 0, 0, 1)
    assert whole(empty_library, folder) == {"a.md": 1}


def test_thousands_of_small_files(folder: Path, empty_library: Nodes) -> None:
    for number in range(2_000):
        (folder / f"{number}.txt").write_text(f"note number {number % 100}")
    seen: list[tuple[int, int, int]] = []
    report = ingest(empty_library, [folder], progress=lambda *now: seen.append(now))
    assert told(report) == (2_000, 0, 0, 0, 0)
    assert seen == sorted(seen)
    assert seen[-1] == (2_000, 2_000, 2_000)
    assert len(whole(empty_library, folder)) == 2_000
    assert told(ingest(empty_library, [folder])) == (0, 0, 2_000, 0, 0)


@pytest.fixture(scope="module")
def small(empty_library: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site with small chunks: many of them, in several groups, are not much work for the encoder."""
    content = read_yaml(settings.parameters() / empty_library.site.name / "site.yaml") | {"knowledge": {"chunk_tokens": 32}}
    path = tmp_path_factory.mktemp("small") / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def written(folder: Path, name: str) -> Path:
    """24 documents of some fourteen chunks that nobody has embedded before."""
    place = folder / name
    place.mkdir()
    for number in range(24):
        lines = (f"Line {line} of text {number} says what {name} did to the standby.\n\n" for line in range(28))
        (place / f"{number}.md").write_text("".join(lines))
    return place


def test_killed_anywhere_and_run_again_nothing_is_half_there(folder: Path, small: Path, empty_library: Nodes) -> None:
    place = written(folder, "killed")
    command = [sys.executable, "-m", "aya_lib", "ingest", str(place), "--site", str(small), "--json"]
    for most in (0, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait.until(
            lambda: len(whole(empty_library, place)),
            lambda count, most=most: count > most,  # type: ignore[misc]
            node="ALPHA",
            what="documents appear",
            deadline_s=300,
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert most < len(whole(empty_library, place)) < 24
    done = subprocess.run(command, capture_output=True, text=True)
    said = json.loads(done.stdout)
    assert done.returncode == 0
    assert (said["added"] + said["unchanged"], said["changed"], said["failed"]) == (24, 0, [])
    assert said["unchanged"] > 5
    assert len(whole(empty_library, place)) == 24


@contextmanager
def loading(nodes: Nodes, place: Path, patience_s: float) -> Iterator[list[Report | AyaError]]:
    """An ingest in another thread, from its first documents on; afterwards there stands how it ended."""
    ended: list[Report | AyaError] = []

    def run() -> None:
        try:
            ended.append(ingest(nodes, [place], patience_s=patience_s))
        except AyaError as error:
            ended.append(error)

    running = threading.Thread(target=run)
    running.start()
    wait.until(lambda: whole(nodes, place) or ended, bool, node="ALPHA", what="documents appear", deadline_s=300)
    assert not ended
    yield ended
    running.join()


def test_a_service_that_comes_back_in_time_is_waited_for(folder: Path, small: Path, empty_library: Nodes) -> None:
    place, supervisor = written(folder, "returning"), empty_library["ALPHA"].supervisor
    with loading(open_nodes(load_site(str(small))), place, patience_s=60) as ended:
        supervisor.stop("embedding")
        supervisor.start("embedding")
    assert isinstance(ended[0], Report)
    assert told(ended[0]) == (24, 0, 0, 0, 0)
    assert len(whole(empty_library, place)) == 24


@pytest.mark.parametrize(("service", "says"), [("embedding", "POST http"), ("postgresql", "SQL on 127.0.0.1")])
def test_what_goes_away_in_the_middle_is_one_clear_line(
    service: str, says: str, folder: Path, small: Path, empty_library: Nodes
) -> None:
    place, supervisor = written(folder, service), empty_library["ALPHA"].supervisor
    nodes = open_nodes(load_site(str(small)))
    encoder(empty_library, near="ALPHA", patience_s=60)
    with loading(nodes, place, patience_s=1) as ended:
        os.kill(supervisor.state(service).pid or 0, signal.SIGKILL)
    supervisor.start(service)
    assert isinstance(ended[0], Unreachable)
    assert says in str(ended[0])
    assert "documents were written and are whole. Run the same again" in str(ended[0])
    wait.until(
        lambda: schema.look(empty_library["ALPHA"]),
        lambda s: isinstance(s, schema.SchemaState),
        node="ALPHA",
        what="up",
        deadline_s=300,
    )
    assert 0 < len(whole(empty_library, place)) < 24
    report = ingest(nodes, [place], patience_s=60)
    assert report.tally.added + report.tally.unchanged == 24
    assert len(whole(empty_library, place)) == 24


def test_two_at_once_are_refused(folder: Path, empty_library: Nodes) -> None:
    (folder / "a.md").write_text("text")
    with (
        Store(empty_library["ALPHA"]).alone(),
        pytest.raises(Locked, match=r"another ingest is writing to ALPHA\. Wait until it has ended"),
    ):
        ingest(empty_library, [folder])
    assert whole(empty_library, folder) == {}


def test_vectors_of_another_model_are_neither_mixed_nor_searched(folder: Path, library: Nodes) -> None:
    (folder / "a.md").write_text("text")
    (saved,) = execute(library, "SELECT value::text FROM aya_settings WHERE key = 'embedding'")
    other = json.dumps(json.loads(saved[0]) | {"model": "BAAI/other", "fingerprint": "0123"})
    execute(library, "UPDATE aya_settings SET value = %s::jsonb WHERE key = 'embedding'", other)
    try:
        for use in (lambda: ingest(library, [folder]), lambda: ask(library, "standby")):
            with pytest.raises(provenance.WrongModel, match=r"were embedded with BAAI/other .*Start the service with BAAI/other"):
                use()
    finally:
        execute(library, "UPDATE aya_settings SET value = %s::jsonb WHERE key = 'embedding'", saved[0])
    assert whole(library, folder) == {}


def test_a_model_that_was_not_recorded_is_recorded_only_when_it_made_the_vectors(folder: Path, library: Nodes) -> None:
    (folder / "a.md").write_text("text")
    (saved,) = execute(library, "DELETE FROM aya_settings WHERE key = 'embedding' RETURNING value::text")
    query = "SELECT id, embedding::text FROM chunks WHERE length(chunk_text) < 600 ORDER BY id LIMIT 1"
    (number, vector), *_ = execute(library, query)
    execute(
        library,
        "UPDATE chunks SET embedding = array_fill(-1, ARRAY[384])::vector WHERE id = %s",
        number,
    )
    try:
        with pytest.raises(provenance.WrongModel, match=f"chunk {number}, embedded again by .* gives another vector"):
            ingest(library, [folder])
    finally:
        execute(library, "UPDATE chunks SET embedding = %s::vector WHERE id = %s", vector, number)
    ingest(library, [folder])
    assert execute(library, "SELECT value::text FROM aya_settings WHERE key = 'embedding'") == [saved]


def test_a_column_of_another_dimension_is_refused_before_anything_is_read() -> None:
    recorded = provenance.Recorded(None, None, 768, False)
    with pytest.raises(provenance.WrongModel, match=r"with 384 dimensions, the column chunks\.embedding has 768"):
        provenance.refuse(recorded, Served("ALPHA", "m", "f", 384))


def test_paths_that_are_not_there_and_none_at_all_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: no such file or folder\. Nothing was changed"):
        discover([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="no path was given"):
        discover([])


def test_hidden_files_and_other_kinds_are_passed_over_but_a_named_file_is_told(folder: Path, empty_library: Nodes) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "a.md").write_text("x")
    (folder / "program.py").write_text("x")
    assert discover([folder]).files == ()
    assert "no documents in it" in ingest(empty_library, [folder]).tally.failed[0].reason
    assert told(ingest(empty_library, [folder / "program.py"])) == (0, 0, 0, 0, 1)


def test_a_database_of_before_gets_the_schema_by_a_plan_from_every_half_way_state(folder: Path, empty_library: Nodes) -> None:
    node = empty_library["ALPHA"]
    old = "DROP TRIGGER chunks_terms ON chunks; ALTER TABLE chunks DROP COLUMN chunk_terms; DROP INDEX idx_documents_source_uri;"
    for half_way in range(5):
        execute(empty_library, old)
        state = schema.look(node)
        assert isinstance(state, schema.SchemaState)
        assert not state.chunks_terms
        plan = schema.plan(node, state)
        for step in plan.changes[:half_way]:
            step.action.run(node)
        rest = schema.look(node)
        assert isinstance(rest, schema.SchemaState)
        assert len(schema.plan(node, rest)) == max(0, len(plan) - half_way)
        apply(schema.plan(node, rest), empty_library, lambda step, state, detail: None)
        assert schema.check("ALPHA", schema.look(node)).status == "passed"
    shutil.rmtree(folder)
    folder.mkdir()
