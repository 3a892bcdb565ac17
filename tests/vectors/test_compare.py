"""The comparison from the outside: what is recommended is true on a real table, wrong use is a line, Ctrl-C loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg import sql
from tests_support import aya, scratch_databases

from aya_lib.node import wait
from aya_lib.node.node import Nodes
from aya_lib.vectors import truth, wire
from aya_lib.vectors.benchmark import today
from aya_lib.vectors.compare import Request, compare_indexes
from aya_lib.vectors.corpus import Corpus, Source, corpus
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.index import FAMILIES, Table, hnsw, ivfflat
from aya_lib.vectors.metric import METRICS
from aya_lib.vectors.result import Comparison
from aya_lib.vectors.tuner import Budget
from aya_lib.vectors.vector_files import read

BENCH = ("bench", "vectors", "--site", "workshop")


def given(corpus: Corpus, name: str = "items") -> Table:
    return Table(name, "vec", "item_id", corpus.dimension, corpus.metric)


@pytest.fixture(scope="module")
def found(workshop: Nodes, small: Corpus) -> Comparison:
    return compare_indexes(
        workshop["ALPHA"], small, given(small), Request(budget_s=0.05, grid={ivfflat(30): (1, 3, 10), hnsw(): (10, 40)})
    )


def test_each_family_is_there_and_the_best_is_the_fastest_that_meets_the_target(found: Comparison) -> None:
    out = {str(one.what).split(" ")[0] for one in found.skipped}
    assert set(found.best) | out >= set(FAMILIES)
    assert set(found.best) >= {"exact", "ivfflat", "ivfflat_halfvec", "hnsw", "hnsw_halfvec"}
    best = found.recommendation
    assert best
    assert best.met
    assert best.point.qps == max(choice.point.qps for choice in found.best.values() if choice.met)
    assert found.best["exact"].point.recall.value == 1
    assert found.today
    assert str(found.today.index) == "ivfflat lists=100"


def test_the_document_has_the_keys_that_are_promised(found: Comparison) -> None:
    said = json.loads(json.dumps(found.json()))
    assert {"recommendation", "best_of_family", "measured", "skipped", "seconds"} <= set(said)
    wanted = {"index", "type", "create_sql", "search_settings", "search_sql", "recall", "qps", "latency_ms", "build_s", "bytes"}
    for choice in [said["recommendation"], *said["best_of_family"]]:
        assert wanted <= set(choice)
        assert {"value", "low", "high", "queries"} == set(choice["recall"])
    assert all(one["what"] and one["why"] for one in said["skipped"])
    assert len(said["measured"]) > 20


def test_what_is_verified_was_not_used_to_choose(found: Comparison, small: Corpus) -> None:
    for choice in found.best.values():
        assert choice.point.queries in ("verify", "again")
        verified = len(small.verify) * (2 if choice.point.queries == "verify" else 1) // 3
        assert choice.index.family == "exact" or abs(choice.point.recall.queries - verified) <= 1
        assert choice.point.recall.queries <= len(small.verify)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "exact"])
def test_the_statements_hold_on_a_table_of_ones_own(family: str, found: Comparison, small: Corpus, workshop: Nodes) -> None:
    """In a database of its own: table filled, create_sql, settings, search_sql; recall counted anew, and the plan looked at."""
    if family not in found.best:
        assert any(one.what.startswith(family) for one in found.skipped)
        pytest.skip(f"{family} does not reach the target on this corpus, and the comparison says so")
    choice = found.best[family].json()  # type: ignore[index]
    asked = small.verify[:300]
    node, name = workshop["ALPHA"], f"own_{family}"
    with node.session(database="postgres", write=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        with node.session(database=name, write=True, deadline_s=60) as connection:
            fill(connection, small)
            connection.execute(choice["create_sql"].encode())
            for setting, value in choice["search_settings"].items():
                connection.execute("SELECT set_config(%s, %s, false)", (setting, str(value)))
            rows = []
            for query in asked:
                text = choice["search_sql"].replace("$1", "'[" + ",".join(map(str, query.tolist())) + "]'")
                rows.append([int(str(row[0])) - 7 for row in connection.execute(text.encode()).fetchall()])
            plan = connection.execute(f"EXPLAIN {text}".encode()).fetchall()
        assert any("Index Scan using idx_items_vec_" in str(row[0]) for row in plan), plan
    finally:
        with node.session(database="postgres", write=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    known = truth.exact(small.base, asked, small.metric, 10)
    recall = truth.hits(small.base, asked, small.metric, known, np.array(rows)).mean()
    assert recall > 0.95 - 0.035  # another build has other centroids


def fill(connection: Any, corpus: Corpus) -> None:
    connection.execute("CREATE EXTENSION vector")
    connection.execute(sql.SQL("CREATE TABLE items (item_id int4, vec vector({}))").format(sql.Literal(corpus.dimension)))
    with connection.cursor() as cursor, cursor.copy("COPY items FROM STDIN (FORMAT binary)") as copy:
        for block in wire.copy_in(corpus.base):
            copy.write(block)
    connection.execute("UPDATE items SET item_id = item_id + 7")
    connection.execute("VACUUM ANALYZE items")


def test_predicted_recall_of_ivfflat_is_what_was_measured(found: Comparison) -> None:
    for family in ("ivfflat", "ivfflat_halfvec"):
        point = found.best[family].point
        assert point.predicted == pytest.approx(point.recall.value, abs=0.03)


def test_the_screen_says_first_what_to_do(found: Comparison) -> None:
    from aya_lib.show import as_text

    first = as_text(found.table()).splitlines()[0]
    assert first.startswith(f"✓ Recommended: {found.recommendation and found.recommendation.index}")


def test_a_budget_leaves_out_what_is_over_it_and_says_so(workshop: Nodes, small: Corpus) -> None:
    tight = Budget(bytes=400_000)
    request = Request(budget_s=0.1, clients=1, families=("hnsw", "hnsw_bit"), today=None, budget=tight, target=0.8)
    said = compare_indexes(workshop["ALPHA"], small, given(small), request)
    assert "hnsw" not in said.best
    assert any(one.what.startswith("hnsw m=16") and "allowed 0 MB" in one.why for one in said.skipped)


def test_a_target_that_cannot_be_reached_gives_no_recommendation_and_names_the_closest(workshop: Nodes, small: Corpus) -> None:
    request = Request(budget_s=0.1, clients=1, families=("hnsw_bit",), today=None, target=1.0)
    said = compare_indexes(workshop["ALPHA"], small, given(small), request)
    if said.recommendation is None:
        assert any(one.what.startswith("recall 1") for one in said.skipped)
    else:
        assert said.recommendation.point.recall.value == 1


@pytest.mark.parametrize(("metric", "suffix"), [("l2", "fvecs"), ("ip", "npy")])
def test_a_file_is_measured_under_its_own_distance(workshop: Nodes, tmp_path: Path, metric: str, suffix: str) -> None:
    vectors = np.random.default_rng(3).normal(size=(3000, 16)).astype(np.float32)
    path = tmp_path / f"corpus.{suffix}"
    if suffix == "npy":
        np.save(path, vectors)
    else:
        head = np.full((3000, 1), 16, np.int32).view(np.float32)
        path.write_bytes(np.hstack([head, vectors]).astype("<f4").tobytes())
    assert (read(path).base == vectors).all()
    words = ["--corpus", str(path), "--metric", metric, "--family", "hnsw", "--family", "exact", "--json"]
    done = aya(*BENCH, *words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["corpus"]["metric"] == metric
    assert METRICS[metric].operator in said["recommendation"]["search_sql"]
    assert f"vector_{metric}_ops" in next(one for one in said["best_of_family"] if one["type"] == "hnsw")["create_sql"]
    assert scratch_databases(workshop["ALPHA"]) == []


def test_dimensions_over_an_index_limit_are_said_and_halfvec_is_taken_instead(workshop: Nodes) -> None:
    wide = corpus("wide", generate(parse("generated:400x2100")), METRICS["cosine"])
    request = Request(budget_s=0.1, clients=1, families=("ivfflat", "ivfflat_halfvec", "hnsw", "hnsw_halfvec"))
    said = compare_indexes(workshop["ALPHA"], wide, given(wide), request)
    assert set(said.best) <= {"hnsw_halfvec", "ivfflat_halfvec"}
    reasons = [one.why for one in said.skipped if one.what.startswith(("hnsw m", "ivfflat lists", "today"))]
    assert len(reasons) >= 3
    assert all("2100 dimensions: pgvector indexes at most 2000 of vector" in why for why in reasons)


WRONG = {
    "no such file": (["--corpus", "nowhere.npy"], "nowhere.npy"),
    "recall above one": (["--corpus", "generated:1000x8", "--target", "1.5"], "target 1.5"),
    "no neighbours": (["--corpus", "generated:1000x8", "--k", "0"], "k = 0"),
    "more neighbours than rows": (["--corpus", "generated:1000x8", "--k", "5000"], "k = 5000"),
    "an unknown metric": (["--corpus", "generated:1000x8", "--metric", "hamming"], "cosine, l2, ip"),
    "an unknown family": (["--corpus", "generated:1000x8", "--family", "annoy"], "allowed are exact, ivfflat"),
    "an unknown node": (["--corpus", "generated:1000x8", "--node", "gamma"], "allowed are ALPHA, BETA, AIR"),
    "the standby": (["--corpus", "generated:1000x8", "--node", "beta"], "BETA is a standby"),
    "no such table": (["--table", "chunkz"], "no chunkz.embedding"),
    "a column that is no vector": (["--column", "chunk_text"], "is of type text"),
    "a table with too few rows": ([], "at least 100 are needed"),
    "a table name with a statement in it": (["--table", "chunks; DROP TABLE chunks"], "allowed is a name"),
    "too few rows generated": (["--corpus", "generated:50x8"], "at least 100 are needed"),
    "a recipe that is none": (["--corpus", "generated:many"], "generated:ROWSxDIM"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line_and_exit_2(case: str, workshop: Nodes) -> None:
    words, said = WRONG[case]
    done = aya(*BENCH, *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert scratch_databases(workshop["ALPHA"]) == []


def test_ctrl_c_keeps_what_was_measured_and_the_next_run_goes_on_from_it(workshop: Nodes) -> None:
    node = workshop["ALPHA"]
    words = [*BENCH, "--corpus", "generated:6000x32:9", "--family", "ivfflat", "--clients", "1", "--grid", "--json"]
    command = [sys.executable, "-m", "aya_lib", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    folder = truth.folder() / "bench"
    before = set(folder.glob("*")) if folder.exists() else set()

    def lines() -> int:
        new = [path for path in folder.glob("*.jsonl") if path not in before]
        return sum(path.read_text().count('"point"') for path in new)

    wait.until(lines, lambda count: count >= 4, node="ALPHA", what="four settings were measured", deadline_s=60)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr.strip() == "aya: interrupted"
    assert scratch_databases(node) == []
    kept = lines()
    assert kept >= 4
    done = aya(*words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert f"{kept} settings were kept from a run that broke off" in said["notes"]
    assert lines() == 0


def test_today_is_the_index_that_the_table_has(workshop: Nodes) -> None:
    made = corpus("chunks.embedding on ALPHA", generate(parse("generated:500x384")), METRICS["cosine"])
    there = Source(made, Table("chunks", "embedding", "id", 384, METRICS["cosine"]), of_table=True)
    assert today(workshop["ALPHA"], there) in (ivfflat(100), hnsw())
