"""The bench on a real server: the scratch database comes and goes, searches are timed as they run, plans are looked at."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from psycopg import sql
from tests_support import scratch_databases

from aya_lib.errors import AyaError, SqlFailed, UsageError
from aya_lib.node import wait
from aya_lib.node.node import Nodes
from aya_lib.vectors import measure, truth, wire
from aya_lib.vectors.bench import Bench, Entry, Journal, Progress
from aya_lib.vectors.compare import Grid, Request, around, prepare, sweep, whole
from aya_lib.vectors.corpus import Corpus, open_source
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.index import EXACT, FAMILIES, Index, Table, hnsw, ivfflat
from aya_lib.vectors.measure import Search, SearchPlan, Timing
from aya_lib.vectors.sandbox import abandoned, no_room, open_sandbox


@pytest.fixture(scope="module")
def bench(workshop: Nodes, small: Corpus) -> Iterator[Bench]:
    with open_sandbox(workshop["ALPHA"]) as sandbox:
        yield prepare(sandbox, small, Request(k=10, budget_s=0.3), Progress())


def timed(bench: Bench, search: Search, budget_s: float, clients: int = 1) -> Timing:
    sessions = [bench.sandbox.session() for _ in range(clients)]
    raw = measure.time_searches(sessions, search, bench.queries["verify"], budget_s=budget_s)
    assert isinstance(raw, Timing)
    return raw


def recall(bench: Bench, raw: Timing) -> float:
    known, queries = bench.truth["verify"].of(raw.asked), bench.queries["verify"][raw.asked]
    return float(truth.hits(bench.corpus.base, queries, bench.corpus.metric, known, raw.keys(10)).mean())


def test_vectors_arrive_as_they_were_and_are_read_in_blocks(bench: Bench) -> None:
    blocks = list(wire.read(bench.sandbox.connection, bench.table))
    assert len(blocks) == -(-bench.corpus.rows // wire.ROWS) > 1
    assert (np.concatenate(blocks) == bench.corpus.base).all()
    sampled = np.concatenate(list(wire.read(bench.sandbox.connection, replace(bench.table, dimension=0), 20)))
    assert 0.1 < len(sampled) / bench.corpus.rows < 0.3


def test_a_table_is_measured_a_larger_one_by_a_sample_and_one_of_few_rows_is_stood_in_for(workshop: Nodes) -> None:
    node = workshop["ALPHA"]
    with node.session(write=True) as session:
        session.execute("CREATE TABLE own (id int, v vector(8))")
        with session.cursor() as cursor, cursor.copy("COPY own FROM STDIN (FORMAT binary)") as copy:
            for block in wire.copy_in(generate(parse("generated:3000x8"))):
                copy.write(block)
    try:
        whole, sampled, instead = (
            open_source(node, source, table="own", column="v", most=most)
            for source, most in (("", 3000), ("", 1000), ("auto", 3000))
        )
    finally:
        with node.session(write=True) as session:
            session.execute("DROP TABLE own")
    assert (whole.corpus.name, whole.corpus.rows, whole.corpus.notes, whole.of_table) == ("own.v on ALPHA", 2550, (), True)
    assert 700 < sampled.corpus.rows + len(sampled.corpus.choose) + len(sampled.corpus.verify) < 1300
    assert sampled.corpus.notes[0].startswith("a random sample of about 1,000 of 3,000 rows")
    assert (instead.corpus.name, instead.of_table, instead.given.name) == ("generated:12000x8", False, "own")
    assert instead.corpus.notes[0].startswith("own has 3,000 vectors, too few")


def test_vectors_of_several_dimensions_are_refused(bench: Bench) -> None:
    select = sql.SQL("SELECT v::vector FROM (VALUES ('[1,2]'), ('[1,2,3]')) AS few (v)")
    with pytest.raises(AyaError, match="not all of 2 dimensions"):
        list(wire.copy_out(bench.sandbox.connection, select))


def test_the_scratch_table_is_unlogged_so_that_no_standby_hears_of_it(bench: Bench) -> None:
    row = bench.sandbox.connection.execute("SELECT relpersistence FROM pg_class WHERE relname = 'bench'").fetchone()
    assert row
    assert row[0] in ("u", b"u")


@pytest.mark.parametrize(
    ("index", "value"),
    [(ivfflat(30), 10), (ivfflat(30, "halfvec"), 10), (hnsw(), 60), (hnsw(kind="halfvec"), 60), (hnsw(kind="bit"), 200)],
    ids=str,
)
def test_every_family_is_built_searched_through_its_index_and_finds_most(bench: Bench, index: Index, value: int) -> None:
    built = bench.build(index)
    assert built.seconds > 0
    assert built.bytes == pytest.approx(index.bytes(bench.table, bench.corpus.rows), rel=0.35)
    raw = timed(bench, Search(bench.table, index, 10, value), budget_s=5)
    assert (raw.plan.scan, raw.plan.index) == ("Index Scan", "bench_index")
    assert recall(bench, raw) > 0.8
    assert sorted(raw.asked) == list(range(len(bench.queries["verify"])))


def test_exact_search_finds_everything(bench: Bench) -> None:
    bench.build(EXACT)
    assert recall(bench, timed(bench, Search(bench.table, EXACT, 10, 0), budget_s=1)) == 1


@pytest.mark.parametrize(("index", "value"), [(ivfflat(30), 3), (hnsw(kind="bit"), 100)], ids=str)
def test_recall_by_searches_of_a_live_index_is_that_of_its_answers_without_the_row_itself(
    bench: Bench, index: Index, value: int
) -> None:
    bench.build(index)
    session, asked = bench.sandbox.session(), measure.sample(bench.sandbox.connection, bench.table, 60)
    exact = measure.exact_distances(session, bench.table, asked, 10, own=True)
    own = np.array([int((bench.corpus.base @ query).argmax()) for query in asked])
    neighbours = truth.Neighbours(asked, bench.corpus.metric, 10, own)
    for start in range(0, bench.corpus.rows, 1000):
        neighbours.add(bench.corpus.base[start : start + 1000])
    truth.agree(neighbours.truth.distances, exact)
    measured = measure.recall_by_searches(session, Search(bench.table, index, 10, value, "bench_index"), asked, exact[:, -1])
    assert isinstance(measured, tuple)
    recall, timing = measured
    answers = measure.time_searches([session], Search(bench.table, index, 11, value), asked, budget_s=9)
    assert isinstance(answers, Timing)
    near = neighbours.truth.rows
    hits = [len({*rows} & {*near[number]}) for number, rows in zip(answers.asked, answers.keys(11).tolist(), strict=True)]
    assert recall.value == pytest.approx(np.mean(hits) / 10, abs=0.005)  # a tie counts
    assert 0.4 < recall.value < 1
    assert timing.percentile(50) > 0


def test_a_search_by_another_index_than_the_named_one_is_no_measurement_of_it(bench: Bench) -> None:
    bench.build(ivfflat(30))
    asked = measure.sample(bench.sandbox.connection, bench.table, 5)
    other = Search(bench.table, ivfflat(30), 10, 3, "idx_chunks_embedding")
    seen = measure.recall_by_searches(bench.sandbox.session(), other, asked, np.ones(5))
    assert isinstance(seen, SearchPlan)
    assert (seen.scan, seen.index) == ("Index Scan", "bench_index")
    assert not measure.planned(bench.sandbox.session(), Search(bench.table, ivfflat(30), 10, 30), asked[0]).index
    assert measure.planned(bench.sandbox.session(), Search(bench.table, ivfflat(30), 10, 3), asked[0]).index == "bench_index"


def test_several_clients_ask_each_query_once_between_them(bench: Bench) -> None:
    bench.build(ivfflat(30))
    raw = timed(bench, Search(bench.table, ivfflat(30), 10, 3), budget_s=9, clients=3)
    assert raw.clients == 3
    assert sorted(raw.asked) == list(range(len(bench.queries["verify"])))


def test_a_setting_at_which_the_planner_passes_the_index_over_is_left_out_with_the_reason(bench: Bench) -> None:
    assert bench.measure(ivfflat(30), 30) is None
    (said,) = [one for one in bench.skipped if one.what == "ivfflat lists=30, ivfflat.probes = 30"]
    assert "seq scan" in said.why


def test_a_point_is_measured_once_and_more_probes_find_more(bench: Bench) -> None:
    one, two = bench.measure(ivfflat(30), 1), bench.measure(ivfflat(30), 8)
    assert one is not None
    assert two is not None
    assert one.recall.value < two.recall.value
    assert bench.measure(ivfflat(30), 1) is one
    assert one.p50 <= one.p95 <= one.p99
    assert one.quantiles[10] == pytest.approx(one.p50)
    assert one.server_ms > 0


def test_a_grid_builds_each_index_once(bench: Bench) -> None:
    grid: Grid = {ivfflat(20): (1, 2, 3), ivfflat(45): (1, 4)}
    sweep(bench, grid, 0.05)
    wanted = {(index, value) for index, values in grid.items() for value in values}
    assert wanted <= {(index, value) for index, value, _, _ in bench.journal.points}
    before = dict(bench.journal.builds)
    sweep(bench, grid, 0.05)
    assert bench.journal.builds == before
    assert sum(map(len, around(30, bench.corpus.rows).values())) > 15
    assert {index.family for index in whole(30, bench.corpus.rows)} == set(FAMILIES) - {"exact"}
    assert len([index for index in whole(30, bench.corpus.rows) if index.family == "hnsw"]) == 3


def test_memory_by_the_formula_is_enough_for_what_pgvector_asks(bench: Bench) -> None:
    connection = bench.sandbox.connection
    connection.execute("DROP INDEX IF EXISTS bench_index")
    for lists in (30, 300, 1000):
        index = ivfflat(lists)
        need = index.build_bytes(bench.table, bench.corpus.rows)
        connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", (f"{need * 11 // 10 // 1024 + 1024}kB",))
        connection.execute(index.create(bench.table, "by_formula"))
        connection.execute("DROP INDEX by_formula")
    bench.built = None


def test_a_build_that_cannot_fit_is_refused_before_it_starts(bench: Bench) -> None:
    with pytest.raises(AyaError, match="cannot be built: 5000 lists are more than 4250 rows"):
        bench.build(ivfflat(5000))
    bench.built = None


def test_memory_and_disk_that_a_build_would_lack_are_told_with_the_figures(bench: Bench) -> None:
    huge = Table("bench", "embedding", "id", 768, bench.corpus.metric)
    assert "of memory, half of what is free is" in bench.sandbox.lacking(ivfflat(32_000), huge, 10**8)
    assert re.search(r"[MG]B are free", no_room(bench.sandbox.node, 10**18))
    assert no_room(bench.sandbox.node, 10**6) == ""


def test_a_table_that_is_dropped_in_the_middle_is_one_clear_line(workshop: Nodes, small: Corpus) -> None:
    with open_sandbox(workshop["ALPHA"]) as sandbox:
        own = prepare(sandbox, small, Request(k=10, fresh=True), Progress())
        own.build(ivfflat(30))
        with workshop["ALPHA"].session(database=sandbox.database, write=True) as other:
            other.execute("DROP TABLE bench")
        with pytest.raises(SqlFailed, match=r'"bench" does not exist. The table was dropped while it was measured'):
            own.measure(ivfflat(30), 5)
    assert sandbox.database not in scratch_databases(workshop["ALPHA"])


def test_nothing_is_measured_on_a_standby(workshop: Nodes) -> None:
    with pytest.raises(UsageError, match="BETA is a standby"), open_sandbox(workshop["BETA"]):
        pass


def test_a_database_that_a_killed_benchmark_left_is_dropped_by_the_next_and_a_living_one_is_not(workshop: Nodes) -> None:
    node = workshop["ALPHA"]
    code = (
        "import sys, time\n"
        "from aya_lib.node.node import open_nodes\n"
        "from aya_lib.site import load_site\n"
        "from aya_lib.vectors.sandbox import open_sandbox\n"
        "with open_sandbox(open_nodes(load_site('workshop'))['ALPHA']) as sandbox:\n"
        "    print(sandbox.database, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout
    name = process.stdout.readline().strip()
    with open_sandbox(node):
        assert name in scratch_databases(node)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with node.session(database="postgres") as connection:
        wait.until(lambda: name in abandoned(connection), bool, node="ALPHA", what="the lock is free", deadline_s=60)
    assert name in scratch_databases(node)
    with open_sandbox(node):
        assert name not in scratch_databases(node)


def test_a_journal_survives_a_line_that_was_cut_off(bench: Bench) -> None:
    one = bench.measure(ivfflat(30), 1)
    assert one
    journal = Journal("cut off")
    journal.add(Entry(one.index, point=one))
    journal.add(Entry(one.index, built=bench.build(one.index)))
    with journal.path.open("a") as file:
        file.write('{"index": {"fam')
    again = Journal("cut off")
    assert again.resumed == 1
    assert list(again.points.values()) == [one]
    assert again.builds == journal.builds
    again.close()
    assert Journal("cut off").resumed == 0
