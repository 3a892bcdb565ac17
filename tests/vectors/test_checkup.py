"""The check-up of a live index on a lab: its recall is that of real searches, and each verdict is provoked for real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rebuild_support
from numpy.typing import NDArray

from aya_lib.check import Status, worst
from aya_lib.errors import SqlFailed, UsageError
from aya_lib.node import wait
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.sql import Connection
from aya_lib.node.unseen import Down, Missing, Unseen
from aya_lib.show import as_html, as_text
from aya_lib.site import Site
from aya_lib.vectors import checkup, ivfflat_pages, truth, wire, yardstick
from aya_lib.vectors.catalog import Built
from aya_lib.vectors.checkup import Checkup
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.index import Table
from aya_lib.vectors.metric import METRICS, Metric
from aya_lib.vectors.truth import Recall
from aya_lib.vectors.verdict import AT, FRESH, LISTS, VALID, Facts, Setting, checks, verdict

ROWS = generate(parse("generated:12000x384:5"))
OTHERS = generate(parse("generated:6000x384:6"))  # of other topics
CHUNKS = 5000  # rows of the table `chunks`
COSINE = METRICS["cosine"]
PROBES = (1, 2, 5, 10, 30)
ALL = [VALID, AT, LISTS, FRESH]


def execute(connection: Connection, *statements: str) -> None:
    for text in statements:
        connection.execute(text.encode())


@pytest.fixture(scope="module")
def nodes(bare: Site) -> Nodes:
    return open_nodes(bare)


@pytest.fixture(scope="module")
def connection(nodes: Nodes) -> Iterator[Connection]:
    """The lab's `chunks` hold 5,000 vectors of generated text-like data, in the order of their ids from 1."""
    rebuild_support.fill(nodes["ALPHA"], ROWS[:CHUNKS])
    with nodes["ALPHA"].session(write=True, deadline_s=1800) as found:
        execute(found, "SET client_min_messages = error", "SET maintenance_work_mem = '256MB'")
        yield found


def fill(connection: Connection, table: str, *parts: NDArray[np.float32], index: str = "") -> None:
    """A table of its own; the index is built after the first part."""
    size = parts[0].shape[1]
    execute(connection, f"DROP TABLE IF EXISTS {table}", f"CREATE TABLE {table} (id int4, embedding vector({size}))")
    for place, vectors in enumerate(parts):
        with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as copy:
            for block in wire.copy_in(vectors):
                copy.write(block)
        if index and place == 0:
            execute(connection, f"CREATE INDEX idx_{table}_embedding ON {table} USING {index}")
    execute(connection, "CHECKPOINT")


def build(connection: Connection, index: str) -> None:
    """The index of `chunks`, unless it is this one already."""
    text = "SELECT obj_description(to_regclass('idx_chunks_embedding'), 'pg_class')"
    if connection.execute(text).fetchone() != (index,):
        execute(connection, "DROP INDEX IF EXISTS idx_chunks_embedding")
        execute(connection, f"CREATE INDEX idx_chunks_embedding ON chunks USING {index}")
        execute(connection, f"COMMENT ON INDEX idx_chunks_embedding IS '{index}'", "CHECKPOINT")


def ivfflat(lists: int, what: str = "embedding vector_cosine_ops") -> str:
    return f"ivfflat ({what}) WITH (lists = {lists})"


def seen(found: Checkup | Missing) -> Checkup:
    assert isinstance(found, Checkup), str(found)
    return found


def looked(connection: Connection, nodes: Nodes, table: str = "chunks", **configured: int) -> Checkup:
    """The check-up, with settings of the database: ``probes``, ``ef_search``."""
    names = {"probes": "ivfflat.probes", "ef_search": "hnsw.ef_search"}
    for name, value in configured.items():
        execute(connection, f"ALTER DATABASE aya_rag SET {names[name]} = {value}")
    try:
        return seen(checkup.look(nodes, table))
    finally:
        execute(connection, "ALTER DATABASE aya_rag RESET ALL")


@contextmanager
def recorded(connection: Connection, index: str, **change: object) -> Iterator[None]:
    """As if a rebuild had recorded this index."""
    (filenode,) = connection.execute("SELECT pg_relation_filenode(%s::text::regclass)", (index,)).fetchone() or (0,)
    record = {"index": "ivfflat", "filenode": filenode, "rows": 4900, "recall": None, "k": 10, "value": 8} | change
    stored = json.dumps({"probes": 8, "built": record})
    execute(connection, "DELETE FROM aya_settings WHERE key = 'search'")
    connection.execute("INSERT INTO aya_settings VALUES ('search', %s)", (stored,))
    yield
    execute(connection, "DELETE FROM aya_settings WHERE key = 'search'")


def statuses(found: Checkup | Missing) -> dict[str, Status]:
    return {check.name: check.status for check in checkup.checks(found)}


def searched(connection: Connection, queries: NDArray[np.int64], probes: int, form: str) -> NDArray[np.int64]:
    """The ten nearest of each row by real searches with the index, the row itself left out, as positions; -1 for none."""
    text = f"SELECT id FROM chunks ORDER BY embedding{form} <=> %s::vector{form} LIMIT 11"
    execute(connection, "SET enable_seqscan = off", f"SET ivfflat.probes = {probes}")
    found = []
    for query in queries:
        rows = connection.execute(text.encode(), (str(ROWS[query].tolist()),)).fetchall()
        places = [place for place in (int(str(row[0])) - 1 for row in rows) if place != query][:10]
        found.append(places + [-1] * (10 - len(places)))
    plan = connection.execute(f"EXPLAIN {text}".encode(), (str(ROWS[0].tolist()),)).fetchall()
    execute(connection, "RESET enable_seqscan", "RESET ivfflat.probes")
    assert "idx_chunks_embedding" in str(plan)
    return np.array(found)


@pytest.mark.parametrize("form", ["", "::halfvec(384)"])
def test_recall_told_by_the_pages_is_that_of_real_searches(form: str, connection: Connection, nodes: Nodes) -> None:
    kind = "halfvec" if form else "vector"
    build(connection, ivfflat(60, f"(embedding{form}) {kind}_cosine_ops"))
    centers = ivfflat_pages.read(connection, "idx_chunks_embedding")
    rows = yardstick.read(connection, Table("chunks", "embedding", "id", 384, COSINE), CHUNKS, 10)
    curve, queries = rows.curve(centers), rows.queries[:100]
    places = (queries @ ROWS[:CHUNKS].T).argmax(axis=1)
    nearest = truth.exact(ROWS[:CHUNKS], queries, COSINE, 11).rows
    for probes in PROBES:
        answers = searched(connection, places, probes, form)
        hits = [len(set(answer) & (set(near) - {place})) for answer, near, place in zip(answers, nearest, places, strict=True)]
        told = float(curve.by_query[:100, probes - 1].mean())
        assert told == pytest.approx(sum(hits) / 1000, abs=0.0011), probes  # one hit of 1,000: halves are rounded
    document = seen(checkup.look(nodes)).json()
    assert (document["kind"], document["lists"]) == (kind, 60)
    assert document["in_force"]["recall"]["value"] > 0.9


def test_a_healthy_index_passes_and_everything_about_it_is_told(connection: Connection, nodes: Nodes) -> None:
    build(connection, ivfflat(100))
    found = looked(connection, nodes, probes=14)
    assert (found.verdict.word, found.verdict.mend) == ("healthy", "")
    assert statuses(found) == dict.fromkeys(ALL, "passed")
    told = json.loads(json.dumps(found.json()))
    assert (told["index"], told["method"], told["kind"], told["lists"]) == ("idx_chunks_embedding", "ivfflat", "vector", 100)
    assert (told["rows"], told["built"], told["rows_added_share"]) == (CHUNKS, None, None)  # no rebuild recorded it
    assert (told["in_force"]["value"], told["decided_by"]) == (14, "set for the role or the database")
    recall = told["in_force"]["recall"]
    assert recall["low"] < recall["value"] < recall["high"]
    assert 1 < told["needed"]["value"] <= 14
    sizes = told["list_sizes"]
    assert sizes["min"] <= sizes["median"] <= sizes["max"] == pytest.approx(sizes["skew"] * 50, rel=0.01)
    assert [point[0] for point in told["curve"]] == [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 100]
    assert told["curve"][-1] == [100, 1.0, CHUNKS]
    assert found.discovered.curve
    assert (np.diff(found.discovered.curve.recalls) >= -1e-6).all()
    for shown in (as_text(found.table()), as_html(found.table())):
        assert "probes 14" in shown
        assert "5,000 now; how many when it was built is unknown" in shown
        assert "healthy" in shown


@pytest.mark.parametrize(("probes", "status"), [(1, "failed"), (70, "warning")])
def test_too_few_and_too_many_probes_are_wrong(probes: int, status: str, connection: Connection, nodes: Nodes) -> None:
    build(connection, ivfflat(100))
    found = looked(connection, nodes, probes=probes)
    assert (found.verdict.word, found.verdict.status) == ("wrong probes", status)
    assert found.facts.needed
    assert found.verdict.mend == f"aya vectors rebuild --probes {found.facts.needed.value}"
    assert statuses(found) == {VALID: "passed", AT: status, LISTS: "passed", FRESH: "passed"}


def test_what_its_rebuild_recorded_counts_as_long_as_it_is_that_index(connection: Connection, nodes: Nodes) -> None:
    build(connection, ivfflat(100))
    with recorded(connection, "idx_chunks_embedding", recall=0.999):
        lost = looked(connection, nodes)
        fewer = looked(connection, nodes, probes=2)  # fewer probes are no sign of age
    assert lost.facts.built == fewer.facts.built == Built(4900, 0.999, 10, 8)
    assert lost.rows_added_share == pytest.approx(0.02)
    assert lost.decided_by == "chosen by the tuning"
    assert lost.verdict.word == "stale"
    assert "it was 0.999 when it was built" in lost.verdict.why
    assert (fewer.verdict.word, fewer.facts.recall_when_built) == ("wrong probes", None)
    assert replace(lost.facts, k=20).recall_when_built is None  # the recall of other neighbours
    with recorded(connection, "idx_chunks_embedding", filenode=1):  # of an index that is no longer there
        assert looked(connection, nodes).live.built is None


def test_it_is_the_same_on_the_standby(connection: Connection, nodes: Nodes) -> None:
    build(connection, ivfflat(100))
    here = seen(checkup.look(nodes, node="ALPHA"))
    end = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    with nodes["BETA"].session(write=True) as beta:
        wait.until(
            lambda: beta.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", end).fetchone(),
            lambda row: row == (True,),
            node="BETA",
            what="the index is replayed",
            deadline_s=60,
        )
        execute(beta, "CHECKPOINT")
    there = seen(checkup.look(nodes, node="BETA"))
    assert (here.live.node, there.live.node) == ("ALPHA", "BETA")
    assert here.facts.in_force == there.facts.in_force
    assert here.discovered.curve
    assert there.discovered.curve
    assert np.array_equal(here.discovered.curve.by_query, there.discovered.curve.by_query)


def test_what_an_interrupted_build_left_is_named(connection: Connection, nodes: Nodes) -> None:
    build(connection, ivfflat(100))
    interrupted(nodes, "CREATE INDEX CONCURRENTLY left_behind ON chunks USING " + ivfflat(100))
    execute(connection, "CHECKPOINT")
    beside = seen(checkup.look(nodes, target=0.9))
    execute(connection, "DROP INDEX left_behind, idx_chunks_embedding")
    assert beside.verdict.word == "invalid"
    assert beside.verdict.mend == "DROP INDEX CONCURRENTLY left_behind"
    assert statuses(beside) == {VALID: "warning", AT: "passed", LISTS: "passed", FRESH: "passed"}
    interrupted(nodes, "CREATE INDEX CONCURRENTLY idx_chunks_embedding ON chunks USING " + ivfflat(100))
    found = seen(checkup.look(nodes))
    assert (found.verdict.word, found.verdict.status) == ("invalid", "warning")
    assert "idx_chunks_embedding" in found.verdict.why
    assert found.verdict.mend.startswith("aya vectors rebuild --lists ")
    assert statuses(found) == {VALID: "warning"}


def interrupted(nodes: Nodes, build: str) -> None:
    """Its build waits for a writer, and is cancelled."""
    with nodes["ALPHA"].session(write=True) as writer, writer.transaction(force_rollback=True):
        execute(writer, "UPDATE chunks SET chunk_index = 1 WHERE id = 1")
        with pytest.raises(SqlFailed), nodes["ALPHA"].session(write=True) as builder:
            execute(builder, "SET lock_timeout = '300ms'", build)


def test_no_index_pays_from_some_thousand_rows_on(connection: Connection, nodes: Nodes) -> None:
    execute(connection, "DROP INDEX IF EXISTS idx_chunks_embedding")
    found = seen(checkup.look(nodes))
    assert (found.verdict.word, found.verdict.status) == ("no index", "warning")
    assert found.verdict.mend.startswith("aya vectors rebuild --lists ")
    assert statuses(found) == {VALID: "warning"}
    fill(connection, "small", ROWS[:800])
    small = seen(checkup.look(nodes, "small"))
    assert (small.verdict.word, small.verdict.status, small.verdict.mend) == ("no index", "passed", "")
    assert "none is needed yet" in small.verdict.why


def test_pages_that_are_only_in_memory_are_unseen_until_a_checkpoint(connection: Connection, nodes: Nodes) -> None:
    fill(connection, "fresh", ROWS[:1000])
    execute(connection, "CREATE INDEX idx_fresh_embedding ON fresh USING " + ivfflat(10))
    unseen = checkup.look(nodes, "fresh")
    assert isinstance(unseen, Unseen)
    assert "CHECKPOINT, or wait for the next one, or CREATE EXTENSION pageinspect" in str(unseen)
    assert statuses(unseen) == dict.fromkeys(ALL, "unknown")
    execute(connection, "CHECKPOINT")
    assert seen(checkup.look(nodes, "fresh")).discovered.curve


def test_an_index_built_on_50_rows_was_built_too_early(connection: Connection, nodes: Nodes) -> None:
    fill(connection, "early", ROWS[:50], ROWS[50:5050], index=ivfflat(100))
    with recorded(connection, "idx_early_embedding", rows=50):
        found = seen(checkup.look(nodes, "early"))
    assert found.verdict.word == "built too early"
    assert found.rows_added_share == pytest.approx(0.99, abs=0.001)
    assert statuses(found)[FRESH] in ("warning", "failed")
    assert found.verdict.mend.startswith("aya vectors rebuild --lists ")
    assert " --probes " in found.verdict.mend
    assert verdict(replace(found.facts, built=None)).word == "stale"  # where nobody recorded when it was built


def test_an_index_whose_rows_were_replaced_by_others_is_stale(connection: Connection, nodes: Nodes) -> None:
    fill(connection, "stale", ROWS[:2000], OTHERS, index=ivfflat(50))
    found = seen(checkup.look(nodes, "stale"))
    assert found.verdict.word == "stale"
    assert statuses(found)[FRESH] in ("warning", "failed")


def test_five_lists_are_the_wrong_lists(connection: Connection, nodes: Nodes) -> None:
    build(connection, ivfflat(5))
    found = seen(checkup.look(nodes))
    assert found.verdict.word == "wrong lists"
    better = found.facts.better
    assert better
    assert 80 < better.lists < 1000
    assert (statuses(found)[LISTS], statuses(found)[FRESH]) == ("warning", "passed")
    assert found.verdict.mend == f"aya vectors rebuild --lists {better.lists} --probes {better.value}"
    build(connection, ivfflat(better.lists))  # what it says comes true
    mended = looked(connection, nodes, probes=better.value)
    assert mended.verdict.word == "healthy"
    assert mended.facts.needed
    assert found.facts.needed
    assert mended.facts.needed.us < found.facts.needed.us / 1.5


def test_hnsw_is_measured_by_searches(connection: Connection, nodes: Nodes) -> None:
    fill(connection, "graph", ROWS[:3000], index="hnsw (embedding vector_cosine_ops) WITH (m = 4, ef_construction = 20)")
    found = seen(checkup.look(nodes, "graph"))
    assert found.verdict.word == "hnsw"
    assert found.facts.in_force
    assert found.facts.in_force.value == 100
    assert "measured by 100 searches" in found.verdict.why
    assert "no centroids" in as_text(found.table())
    told = json.loads(json.dumps(found.json()))
    assert (told["method"], told["in_force"]["value"], told["curve"]) == ("hnsw", 100, [])
    assert told["in_force"]["scanned"] is None  # not known of HNSW
    low = looked(connection, nodes, "graph", ef_search=10)
    assert (low.verdict.status, statuses(low)[AT]) == ("failed", "failed")
    assert low.facts.needed
    assert low.facts.needed.value > 10
    assert low.verdict.mend == f"aya vectors rebuild --ef-search {low.facts.needed.value}"


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
@pytest.mark.parametrize("most", [3000, 500])
def test_neighbours_of_rows_read_at_once_or_streamed_are_those_that_sql_finds(
    metric: Metric, most: int, connection: Connection
) -> None:
    """Also where the row itself is not the nearest: by inner product, as lengths differ."""
    lengths = np.random.default_rng(1).uniform(0.5, 2, (3000, 1)).astype(np.float32)
    fill(connection, "lengths", ROWS[:3000] * lengths)
    rows = yardstick.read(connection, Table("lengths", "embedding", "id", 384, metric), 3000, 10, most * 384)
    assert rows.sampled == (most < 3000)
    assert (rows.rows, rows.near.shape, rows.queries.shape) == (3000, (300, 10, 384), (300, 384))
    away = "<=>" if metric.name == "cosine" else "<->"  # by cosine, queries are of length 1
    others = f"FROM lengths WHERE embedding {away} %(v)s::vector > 1e-4"
    query = f"SELECT embedding {metric.operator} %(v)s::vector {others} ORDER BY 1 LIMIT 10"
    for asked, distances in zip(rows.queries[:20], rows.distances, strict=False):
        found = connection.execute(query.encode(), {"v": str(asked.tolist())}).fetchall()
        assert [float(str(distance)) for (distance,) in found] == pytest.approx(distances.tolist(), abs=1e-4)


def test_a_table_that_is_streamed_has_the_recall_of_one_that_is_read_whole(connection: Connection) -> None:
    """A third of the rows are held; a sample alone would say less."""
    fill(connection, "large", ROWS, index=ivfflat(120))
    table = Table("large", "embedding", "id", 384, COSINE)
    centers = ivfflat_pages.read(connection, "idx_large_embedding")
    whole = yardstick.read(connection, table, len(ROWS), 10)
    part = yardstick.read(connection, table, len(ROWS), 10, most=4000 * 384)
    assert (whole.sampled, part.sampled) == (False, True)
    assert len(part.base) == pytest.approx(4000, rel=0.1)
    assert part.rows == len(ROWS)
    assert part.curve(centers).sizes.sum() == pytest.approx(len(ROWS), rel=0.01)
    near, distances = yardstick.neighbours([part.base], part.queries, COSINE, 10)
    alone = replace(part, near=near, distances=distances)
    for probes in (2, 5, 10):
        true, streamed, sample = (rows.curve(centers).recall(probes) for rows in (whole, part, alone))
        assert sample.value < streamed.value
        assert streamed.low <= true.high
        assert streamed.high >= true.low


def test_tables_with_hardly_anything_in_them_are_told_plainly(connection: Connection, nodes: Nodes) -> None:
    for vectors in (ROWS[:0], ROWS[:11]):
        fill(connection, "tiny", vectors, index=ivfflat(10))
        found = seen(checkup.look(nodes, "tiny"))
        assert (found.verdict.word, found.verdict.status) == ("too few rows", "passed")
        assert "built anew when the table is filled" in found.verdict.why
        assert statuses(found) == {VALID: "passed"}
        json.dumps(found.json())
        as_text(found.table())
    execute(connection, "UPDATE tiny SET embedding = NULL", "CHECKPOINT")
    assert seen(checkup.look(nodes, "tiny")).facts.rows == 0
    for rows, lists in ((12, 3), (30, 50), (30, 1)):
        fill(connection, "tiny", ROWS[:rows], index=ivfflat(lists))
        assert seen(checkup.look(nodes, "tiny")).facts.in_force
    fill(connection, "tiny", np.concatenate([ROWS[:60], np.zeros((20, 384), np.float32)]), index=ivfflat(3))
    zeros = seen(checkup.look(nodes, "tiny"))
    assert zeros.facts.rows == 60
    assert "20 zero vectors" in as_text(zeros.table())
    fill(connection, "tiny", np.tile(ROWS[:1], (300, 1)), index=ivfflat(3))
    same = seen(checkup.look(nodes, "tiny"))
    assert same.facts.in_force


def test_what_cannot_be_asked_is_refused(connection: Connection, nodes: Nodes) -> None:
    execute(connection, "DROP TABLE IF EXISTS loose", "CREATE TABLE loose (id int4, embedding vector, other text)")
    for arguments, said in (
        ({"table": "nothing"}, "no table nothing"),
        ({"table": "loose", "column": "missing"}, "no column missing"),
        ({"table": "loose", "column": "other"}, "is of type text"),
        ({"table": "loose"}, "has no dimension"),
        ({"table": "a b"}, "allowed is a name"),
        ({"target": 1.2}, "between 0 and 1"),
        ({"k": 0}, "allowed is 1 to"),
        ({"node": "GAMMA"}, "allowed are ALPHA, BETA"),
    ):
        with pytest.raises(UsageError, match=said):
            checkup.look(nodes, **arguments)


def test_indexes_on_something_else_are_unseen_or_noted(connection: Connection, nodes: Nodes) -> None:
    fill(connection, "odd", ROWS[:100], index=ivfflat(3, "(subvector(embedding, 1, 64)::vector(64)) vector_cosine_ops"))
    assert "64 dimensions of something else" in str(checkup.look(nodes, "odd"))
    fill(connection, "odd", ROWS[:100], index="ivfflat (embedding vector_l2_ops) WITH (lists = 3) WHERE id < 50")
    partial = seen(checkup.look(nodes, "odd"))
    assert partial.verdict.word == "no index"


def setting(lists: int, value: int, recall: float, us: float) -> Setting:
    return Setting(lists, value, Recall(recall, recall - 0.01, recall + 0.01, 300), 10 * us, us)


NOW, AT_TARGET = setting(100, 10, 0.96, 4000), setting(100, 9, 0.95, 3600)
GOOD = Facts("idx", "ivfflat", 100_000, 0.95, 10, NOW, AT_TARGET, AT_TARGET, built=Built(90_000, None, 10, 10))
SMALL = {"rows": 4000, "passed_over": True}
BETTER = setting(1300, 30, 0.95, 1000)
FRESH_ONE = setting(100, 4, 0.95, 2000)  # half the time
EARLY, FEW = Built(9000, None, 10, 10), Built(890, None, 10, 10)


@pytest.mark.parametrize(
    ("change", "word", "status", "mend"),
    [
        ({}, "healthy", "passed", ""),
        ({"fresh": FRESH_ONE}, "stale", "warning", "--lists 100 --probes 4 --again"),
        ({"fresh": setting(100, 6, 0.95, 2500)}, "healthy", "passed", ""),
        ({"fresh": FRESH_ONE, "better": BETTER, "built": EARLY}, "built too early", "warning", "--lists 1300 --probes 30"),
        ({"fresh": FRESH_ONE, "rows": 1800, "built": FEW}, "built too early", "warning", "--lists 100 --probes 4 --again"),
        ({"built": EARLY}, "healthy", "passed", ""),  # it costs nothing
        ({"built": Built(90_000, 0.99, 10, 10)}, "stale", "warning", "--lists 100 --probes 9 --again"),
        ({"better": BETTER}, "wrong lists", "warning", "--lists 1300 --probes 30"),
        ({"better": setting(1300, 30, 0.95, 2500)}, "healthy", "passed", ""),
        ({"better": BETTER, "in_force": setting(100, 1, 0.6, 500)}, "wrong lists", "failed", "--lists 1300 --probes 30"),
        ({"in_force": setting(100, 5, 0.93, 2000)}, "wrong probes", "failed", "--probes 9"),
        ({"in_force": setting(100, 8, 0.945, 3300)}, "healthy", "passed", ""),  # within its interval
        ({"in_force": setting(100, 20, 0.99, 8000)}, "wrong probes", "warning", "--probes 9"),
        ({"leftovers": ("idx_ccnew",)}, "invalid", "warning", "DROP INDEX CONCURRENTLY idx_ccnew"),
        ({"rows": 11}, "too few rows", "passed", ""),
        # Of a small table that the planner reads whole nothing that an index costs matters, only what was left behind.
        ({**SMALL, "in_force": setting(100, 1, 0.6, 500), "better": BETTER}, "passed over", "passed", ""),
        ({**SMALL, "fresh": FRESH_ONE}, "passed over", "passed", ""),
        ({**SMALL, "leftovers": ("idx_ccnew",)}, "invalid", "warning", "DROP INDEX CONCURRENTLY idx_ccnew"),
        ({"index": "", "better": BETTER}, "no index", "warning", "--lists 1300 --probes 30"),
        ({"index": "", "rows": 4000}, "no index", "passed", ""),
        ({"index": "", "building": True}, "no index", "passed", ""),
        ({"index": "", "leftovers": ("idx",), "rows": 900}, "invalid", "warning", "DROP INDEX CONCURRENTLY idx"),
        ({"method": "hnsw", "needed": GOOD.in_force}, "hnsw", "passed", ""),
        ({"method": "hnsw", "in_force": setting(0, 40, 0.9, 900), "needed": None}, "hnsw", "failed", "--m 32"),
    ],
)
def test_each_verdict_has_its_reason_and_its_mending_step(change: dict[str, Any], word: str, status: str, mend: str) -> None:
    mend = f"aya vectors rebuild {mend}" if mend.startswith("--") else mend
    said = verdict(replace(GOOD, **change))
    assert (said.word, said.status, said.mend) == (word, status, mend)
    assert said.why
    judged = checks(replace(GOOD, **change))
    assert (worst(judged), {check.hint for check in judged} - {""}) == (status, {mend} - {""})


def test_a_server_that_is_down_is_told(nodes: Nodes) -> None:
    nodes["AIR"].supervisor.stop("postgresql")
    try:
        found = checkup.look(nodes, node="AIR")
    finally:
        nodes["AIR"].supervisor.start("postgresql")
    assert isinstance(found, Down)
    assert statuses(found) == dict.fromkeys(ALL, "failed")
