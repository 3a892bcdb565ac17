"""The two runbooks as they are run: measured on the table itself, rebuilt as recommended, and rebuilt as asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import aya, make, passed, scratch_databases, step, up

from aya_lib import lab as labs
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.vectors import catalog, wire
from aya_lib.vectors.catalog import Live, LiveIndex
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.index import hnsw, ivfflat
from aya_lib.vectors.request import Request

ROWS = 6000


@pytest.fixture(scope="module")
def library(place: Path) -> Iterator[Nodes]:
    """A lab whose table has vectors enough for an index to matter; its index was built when the table was nearly empty."""
    site = make(place, "story")
    try:
        up(site)
        nodes = open_nodes(site)
        fill(nodes["ALPHA"])
        yield nodes
    finally:
        labs.delete(site)


def fill(node: Node) -> None:
    vectors = generate(parse(f"generated:{ROWS}x{node.site.embedding.dimension}:4"))
    with node.session(write=True, deadline_s=60) as connection:
        connection.execute("CREATE TEMP TABLE filled (id int4, embedding vector)")
        with connection.cursor() as cursor, cursor.copy("COPY filled FROM STDIN (FORMAT binary)") as copy:
            for block in wire.copy_in(vectors):
                copy.write(block)
        row = connection.execute("INSERT INTO documents (content) VALUES ('filled') RETURNING id").fetchone()
        text = "INSERT INTO chunks (document_id, chunk_text, embedding) SELECT %s, 'text ' || id, embedding FROM filled"
        connection.execute(text, row)


def seen(node: Node) -> Live:
    found = catalog.look(node)
    assert isinstance(found, Live), found
    return found


def current(node: Node) -> LiveIndex:
    found = seen(node).current
    assert found is not None
    return found


def test_a_dry_run_measures_nothing_and_changes_nothing(library: Nodes) -> None:
    before = current(library["ALPHA"])
    done = step("benchmark_ivfflat", site="story", dry_run=True)
    assert done.error is None
    assert done.record["outcome"] == "planned"
    assert current(library["ALPHA"]) == before
    assert scratch_databases(library["ALPHA"]) == []


def test_the_benchmark_measures_the_table_rebuilds_its_index_and_keeps_pictures_and_figures(library: Nodes) -> None:
    done = step("benchmark_ivfflat", site="story", families=["ivfflat"], seconds=0.1, clients=1, rebuild=True)
    assert done.error is None, [
        done.error,
        *done.names["found"].skipped,
        *done.names["found"].twins,
    ]  # a step shows no cell's value
    passed(done)
    record = done.names["runbook"].record.path
    kept = {path.name.removeprefix(record.stem) for path in record.parent.glob(f"{record.stem}.*")}
    assert {".vectors.json", ".points.csv", ".points.parquet", ".recall_qps.png", ".lists_probes.png"} <= kept
    said = json.loads(record.with_suffix(".vectors.json").read_text())
    assert said["corpus"]["name"] == "chunks.embedding on ALPHA"
    assert said["today"]["options"] == {"lists": 100}
    best = said["recommendation"]
    index = current(library["ALPHA"]).index()
    assert dict(index.options) == best["options"]
    assert seen(library["ALPHA"]).value(index) == best["search_settings"]["ivfflat.probes"]
    assert scratch_databases(library["ALPHA"]) == []


def test_a_kept_result_can_be_built_and_another_index_asked_for(library: Nodes) -> None:
    (kept,) = Path(os.environ["AYA_RUNS"]).glob("story/benchmark_ivfflat/*.vectors.json")
    command = ["vectors", "rebuild", "--site", "story", "--json"]
    again = aya(*command, "--from", str(kept))
    assert again.returncode == 0, again.stderr
    assert not [step for step in json.loads(again.stdout)["steps"] if step["kind"] == "change"]
    other = aya(*command, "--family", "hnsw", "--ef-search", "60")
    assert other.returncode == 0, other.stderr
    assert json.loads(other.stdout)["outcome"] == "passed"
    assert current(library["ALPHA"]).index() == hnsw()
    assert seen(library["ALPHA"]).value(hnsw()) == 60


def test_an_index_that_does_not_reach_the_target_is_taken_back(library: Nodes) -> None:
    before = current(library["ALPHA"]).index()
    done = step("rebuild_index", site="story", family="ivfflat", lists=300, probes=1)
    assert done.exit_code == 1
    assert "recall" in str(done.error)
    assert current(library["ALPHA"]).index() == before
    assert seen(library["ALPHA"]).leftovers == ()


def test_what_is_not_given_stays_as_it_is(library: Nodes) -> None:
    found = seen(library["ALPHA"])
    assert Request(ef_search=77).resolve(found) == (hnsw(), 77)
    assert Request(m=24).resolve(found)[0] == hnsw(24)
    assert Request(lists=50, probes=5).resolve(found) == (ivfflat(50), 5)
    assert Request(family="hnsw_halfvec", ef_search=9).resolve(found) == (hnsw(kind="halfvec"), 9)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Request(family="annoy"), "allowed are ivfflat"),
        (Request(family="hnsw", lists=5), "are of ivfflat, not of hnsw"),
        (Request(lists=5, m=5), "are of hnsw, not of ivfflat"),
        (Request(family="ivfflat"), "needs --lists"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(library: Nodes, asked: Request, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked.resolve(seen(library["ALPHA"]))


def test_wrong_use_of_the_commands_is_one_line_and_exit_2(library: Nodes, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.json"
    foreign.write_text("{}")
    for words, said in (
        (["vectors", "rebuild", "--from", str(foreign)], "foreign.json"),
        (["vectors", "checkup", "--table", "nowhere"], "nowhere"),
        (["bench", "compare", str(foreign), str(foreign)], "foreign.json"),
    ):
        site = ["--site", "story"] if words[0] == "vectors" else []
        done = aya(*words, *site)
        assert done.returncode in (1, 2), done
        assert said in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
