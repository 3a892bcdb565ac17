"""What a comparison leaves beside its run record can be read again, goes with its run, and two of them can be compared."""

from __future__ import annotations

import copy
import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_comparison import GRAPH, POINTS, comparison, without
from PIL import Image

from aya_lib import settings
from aya_lib.errors import AyaError, UsageError
from aya_lib.runbook import runs
from aya_lib.runbook.record import Record
from aya_lib.show import as_text
from aya_lib.vectors import kept as keeping
from aya_lib.vectors.kept import Kept, difference, load, save
from aya_lib.vectors.result import Comparison

STEM = "20261124T222449Z"
PLOTS = ("builds", "latencies", "lists_probes", "predicted", "recall_qps")
FILES = [f"{STEM}.{end}" for end in ("vectors.json", "points.csv", "points.parquet", *(f"{plot}.png" for plot in PLOTS))]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return save(comparison(), tmp_path_factory.mktemp("runs") / "bench", STEM)


@pytest.fixture
def before() -> dict[str, Any]:
    return document(comparison())


def document(c: Comparison) -> dict[str, Any]:
    return dict(json.loads(json.dumps(c.json())))


def test_everything_stands_beside_the_record_and_nothing_else_is_left(kept: Kept) -> None:
    assert sorted(path.name for path in kept.folder.iterdir()) == sorted(FILES)
    assert sorted(kept.files) == sorted(FILES)
    assert kept.files[0] == FILES[0], "the document first"
    assert all(path.stat().st_size > 500 for path in kept.paths)
    assert load(kept.paths[0]) == document(comparison())
    lines = as_text(kept.table()).split("\n")
    assert lines[0] == f"8 files in {kept.folder}"
    assert lines[3].split()[0] == FILES[0]


def test_every_plot_is_a_picture_with_a_transparent_page(kept: Kept) -> None:
    for path in kept.paths:
        if path.suffix == ".png":
            image = np.asarray(Image.open(path).convert("RGBA"))
            assert image.shape[1] > 1200
            assert 0.02 < (image[:, :, 3] > 0).mean() < 0.98, path.name


def test_the_points_are_read_back_equal_from_csv_and_parquet(kept: Kept) -> None:
    columns = pq.read_table(kept.folder / f"{STEM}.points.parquet").to_pylist()
    with (kept.folder / f"{STEM}.points.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(columns) == len(lines) == len(POINTS)
    for point, column, line in zip(POINTS, columns, lines, strict=True):
        options = {name: column[name] for name in ("lists", "m", "ef_construction") if column[name] is not None}
        assert (column["index"], options) == (str(point.index), dict(point.index.options))
        assert (column["knob"], column["knob_value"]) == ((point.index.knob, point.value) if point.index.knob else (None, None))
        assert [column[f"q{share:03d}_ms"] for share in range(0, 101, 5)] == list(point.quantiles)
        wanted = ("recall", "recall_low", "recall_high", "queries", "clients", "searches_per_s", "p50_ms", "p95_ms", "p99_ms")
        recall = (point.recall.value, point.recall.low, point.recall.high)
        found = (*recall, point.queries, point.clients, point.qps, point.p50, point.p95, point.p99)
        assert tuple(column[name] for name in wanted) == found
        assert (column["server_p50_ms"], column["asked_searches"]) == (point.server_ms, point.asked)
        for name, value in column.items():
            read = line[name]
            assert (read == "") if value is None else (read == value if isinstance(value, str) else float(read) == value), name
    graph = next(one for one in columns if one["index"] == str(GRAPH))
    assert (graph["build_s"], graph["index_bytes"], graph["build_memory_bytes"]) == (3.173, 34_824_192, 67_108_864)


def test_where_nothing_was_measured_the_tables_have_no_rows_and_no_plot_of_before_is_left(tmp_path: Path) -> None:
    (tmp_path / f"{STEM}.builds.png").write_bytes(b"of an earlier call")
    (tmp_path / f"{STEM}.ipynb").write_text("the run's own notebook")
    found = save(without(), tmp_path, STEM)
    assert {path.name for path in tmp_path.iterdir()} == {*found.files, f"{STEM}.ipynb"}
    assert found.files == (f"{STEM}.vectors.json", f"{STEM}.points.csv", f"{STEM}.points.parquet")
    assert as_text(found.table()).startswith(f"3 files in {tmp_path}\n")
    assert (tmp_path / f"{STEM}.points.csv").read_text().strip() == ",".join(f'"{name}"' for name in keeping.COLUMNS)
    assert pq.read_table(tmp_path / f"{STEM}.points.parquet").num_rows == 0
    assert load(found.paths[0])["measured"] == []


def test_what_breaks_off_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save(comparison(server=object()), tmp_path, STEM)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(AyaError, match=r"^nothing can be kept in .*/file: .*\. Make room there, or name another folder$"):
        save(without(), tmp_path / "file", STEM)


def test_a_number_that_is_none_becomes_null(tmp_path: Path) -> None:
    odd = [replace(POINTS[0], qps=math.inf, server_ms=math.nan), POINTS[1]]
    found = save(without(points=odd), tmp_path, STEM)
    text = found.paths[0].read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert load(found.paths[0])["measured"][0]["latency_ms"]["server_p50"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not there. Name a file that ends in .vectors.json, beside a run record"),
        ("folder", "cannot be read: Is a directory"),
        ("{", "cannot be read: it is no JSON"),
        ("[1]", "is not a comparison of vector indexes"),
        ('{"schema": 1, "runbook": "failover", "outcome": "passed", "steps": []}', "is not a comparison of vector indexes"),
        (json.dumps(without().json() | {"measured": [{"qps": 1}]}), "is not a comparison of vector indexes"),
        (json.dumps(without().json() | {"schema": 9}), "has schema 9, this version reads 1"),
    ],
    ids=["missing", "folder", "broken", "list", "run record", "half", "newer"],
)
def test_what_is_no_kept_comparison_is_refused_in_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "a.vectors.json"
    if content == "folder":
        path.mkdir()
    elif content:
        path.write_text(content)
    with pytest.raises(UsageError) as error:
        load(path)
    assert f"{path} {said}" in str(error.value)
    assert "\n" not in str(error.value)


def test_kept_files_are_no_runs_and_are_pruned_with_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AYA_RUNS", str(tmp_path))
    folder = settings.runs() / "lab" / "benchmark_ivfflat"
    for stem in ("20200101T000000Z", "20200101T000000Z-2", STEM):
        Record.begin(folder / f"{stem}.json", runbook="benchmark_ivfflat", site="lab", pid=1).end("passed")
        save(without(), folder, stem)
    old = folder / "20200101T000000Z.json"
    old.write_text(json.dumps(json.loads(old.read_text()) | {"started": "2020-01-01T00:00:00.000Z"}))
    listed = runs.kept(runbook="benchmark_ivfflat")
    assert {run.record.stem for run in listed.runs} == {"20200101T000000Z", "20200101T000000Z-2", STEM}
    left = runs.prune(listed, "30d")
    assert [run.record.stem for run in set(listed.runs) - set(left.runs)] == ["20200101T000000Z"]
    assert not list(folder.glob("20200101T000000Z.*")), "the document and the points went with their record"
    assert len(list(folder.glob(f"{STEM}.*"))) == len(list(folder.glob("20200101T000000Z-2.*"))) == 4


GOLDEN = """\
! Recommendation: 1.50 times the searches per second of before
                   index                            searches/s      x     recall                     p95   size  build
  ---------------  -------------------------------  --------------  ----  -------------------------  ----  ----  -----
  recommendation   HNSW m=16 ef_construction=64     3,541 -> 5,312  1.50  0.952 (0.946 to 0.959)     0.50  1.00  2.00
                   ef_search=15                                           -> 0.972 (0.966 to 0.979)
                                                                          +0.020, intervals apart
  today            IVFFlat lists=100                984 -> 2,187    2.22  0.958 (0.952 to 0.964)     0.44  1.09  2.84
                   probes=10                                              -> 0.952 (0.946 to 0.958)
                   -> IVFFlat lists=600                                   -0.006, intervals overlap
                   probes=19
  exact search     exact search                     121             gone  1.000 (1.000 to 1.000)
  IVFFlat          IVFFlat lists=600                2,187 -> 2,187  1.00  0.952 (0.946 to 0.958)     1.00  1.00  1.00
                   probes=19                                              -> 0.952 (0.946 to 0.958)
                                                                          +0.000, intervals overlap
  IVFFlat halfvec  IVFFlat halfvec lists=520        1,810           gone  0.953 (0.946 to 0.959)
                   probes=18
  HNSW             HNSW m=16 ef_construction=64     3,541 -> 5,312  1.50  0.952 (0.946 to 0.959)     0.50  1.00  2.00
                   ef_search=15                                           -> 0.972 (0.966 to 0.979)
                                                                          +0.020, intervals apart
  HNSW bit         HNSW bit m=16                    1,801           gone  0.952 (0.947 to 0.957)
                   ef_construction=64
                   ef_search=80
  Not the same node: ALPHA before, GAMMA after.
  Not the same shared_buffers: 4,096 MB before, 8,192 MB after.
  Not the same cores: 2 before, 8 after.
  Before: 2026-11-24T22:24:49+00:00 on ALPHA (generated:20000x384). After: 2026-11-24T22:24:49+00:00 on GAMMA
  (generated:20000x384).
  x, p95, size and build: after as a multiple of before; new, gone: only in one of the two."""


def changed(before: dict[str, Any]) -> dict[str, Any]:
    """HNSW faster and better, another index as today's, no exact search, two families only, on another machine."""
    after = copy.deepcopy(before)
    graph = next(one for one in after["best_of_family"] if one["type"] == "hnsw")
    for one in (graph, after["recommendation"]):
        one["qps"] *= 1.5
        one["recall"] = {name: value if name == "queries" else value + 0.02 for name, value in one["recall"].items()}
        one["latency_ms"]["p95"] /= 2
        one["build_s"] *= 2
    after["today"] = copy.deepcopy(next(one for one in after["best_of_family"] if one["type"] == "ivfflat"))
    after["best_of_family"] = [one for one in after["best_of_family"] if one["type"] in ("ivfflat", "hnsw")]
    after["server"] |= {"node": "GAMMA", "cores": 8, "shared_buffers": 8 * 2**30}
    return after


def test_two_runs_are_compared_in_a_table(before: dict[str, Any]) -> None:
    found = difference(before, changed(before))
    assert as_text(found.table()) == GOLDEN


def test_a_difference_as_json_has_ratios_and_both_intervals(before: dict[str, Any]) -> None:
    found = difference(before, changed(before)).json()
    pairs = {pair["what"]: pair for pair in found["pairs"]}
    best, ratios = pairs["recommendation"], {"qps_ratio": 1.5, "p95_ratio": 0.5, "bytes_ratio": 1.0, "build_ratio": 2.0}
    assert {name: best[name] for name in ratios} == pytest.approx(ratios)
    assert best["recall_difference"] == pytest.approx(0.02)
    assert best["recall_intervals_overlap"] is False
    assert pairs["today"]["recall_intervals_overlap"] is True
    assert pairs["exact search"]["after"] is None
    assert pairs["exact search"]["qps_ratio"] is None
    assert json.loads(json.dumps(found)) == found


def test_other_vectors_another_k_target_or_metric_are_named_and_not_refused(before: dict[str, Any]) -> None:
    after = copy.deepcopy(before) | {"k": 100, "target": 0.9}
    after["corpus"] |= {"fingerprint": "another", "name": "file.hdf5", "rows": 100_000, "metric": "l2"}
    found = difference(before, after)
    assert found.unlike == [
        "Not the same vectors: generated:20000x384, 17,000 rows before, file.hdf5, 100,000 rows after;"
        " recall and speed are not of one thing.",
        "Not the same metric: cosine before, l2 after.",
        "Not the same k: 10 before, 100 after.",
        "Not the same target: 0.95 before, 0.9 after.",
    ]
    assert found.table().tone == "warning"


def test_equal_runs_are_like_each_other(before: dict[str, Any]) -> None:
    found = difference(before, before)
    assert found.unlike == []
    assert found.table().tone == "plain"
    assert {pair["qps_ratio"] for pair in found.pairs} == {1.0}
    assert found.headline == "Recommendation: 1.00 times the searches per second of before"


def test_without_a_recommendation_todays_index_is_compared(before: dict[str, Any]) -> None:
    assert difference(before | {"recommendation": None}, before).headline.startswith("Today: 1.00 times")
    nothing = document(without())
    assert difference(nothing, nothing).headline == "Nothing to compare: neither a recommendation nor today's index is in both"


def test_more_searches_than_two_clients_can_have_are_said_to_be_disturbed() -> None:
    """Two clients on two cores had three times what one had: something else ran while the one was measured."""
    fine = comparison()
    best = fine.recommendation
    assert best
    assert best.many
    assert "10 % is noise" in str(fine.table().notes)
    odd = replace(best, many=replace(best.many, qps=3 * best.point.qps))
    (said,) = [note for note in comparison(recommendation=odd).table().notes if "At 2 clients" in note]
    assert "more than 2 times the 3,541 of one: something else ran, run it again" in said
