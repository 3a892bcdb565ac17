"""The tuner beside the full grid, beside pgbench, and beside FAISS, each pair within one run. About an hour on two cores.

    python benchmarks/vectors.py [tuner] [grid] [families] [pgbench] [faiss] [duel] [--rows N] [--dimension D]

Without names all parts but duel run, in this order. FAISS is no dependency: ``pip install faiss-cpu==1.15.1`` first, or
that part says so. Generated vectors (their recipe: aya_lib/vectors/generated.py); a lab of its own with 4 GB of shared
buffers. Results are merged into vectors.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aya_lib import lab as labs
from aya_lib.lab.new import new
from aya_lib.node.node import Node, open_nodes
from aya_lib.runbook.refresh import model_site
from aya_lib.vectors import ivf_model, truth
from aya_lib.vectors.bench import Bench, Progress
from aya_lib.vectors.compare import Request, compare_indexes, prepare, sweep
from aya_lib.vectors.corpus import CHOOSE, VERIFY, Corpus, open_source
from aya_lib.vectors.explorer import Explorer
from aya_lib.vectors.index import Index, Table, hnsw, ivfflat
from aya_lib.vectors.result import Comparison, Point
from aya_lib.vectors.sandbox import open_sandbox
from aya_lib.vectors.truth import Recall
from aya_lib.vectors.tuner import Budget, Tuner

RESULTS = Path(__file__).with_suffix(".json")
LISTS = (50, 100, 200, 316, 500, 1000, 2000)
PROBES = tuple(range(1, 65))
TARGET, K = 0.95, 10
SETTINGS = ("shared_buffers = '4GB'", "max_wal_size = '8GB'", "checkpoint_timeout = '30min'", "jit = off")
ROUNDS = 5
TURNS = 9


@contextmanager
def server(scratch: Path) -> Iterator[Node]:
    scratch.chmod(0o755)
    os.environ |= {"AYA_PARAMETERS": str(model_site(scratch)), "AYA_RUNS": f"{scratch}/runs", "AYA_CACHE": f"{scratch}/cache"}
    site = new("bench", scratch / "lab", like="model")
    try:
        labs.up(site, embedding=False)
        node = open_nodes(site)["ALPHA"]
        with node.session(database="postgres", write=True) as connection:
            for setting in SETTINGS:
                connection.execute(f"ALTER SYSTEM SET {setting}".encode())
        node.supervisor.restart("postgresql")
        yield node
    finally:
        labs.delete(site)


def tuner(node: Node, corpus: Corpus, given: Table) -> tuple[Comparison, dict[str, Any]]:
    """IVFFlat alone, as a person asks for it who means to stay with that family."""
    started = time.perf_counter()
    found = compare_indexes(node, corpus, given, Request(TARGET, K, clients=1, families=("ivfflat",), today=None, fresh=True))
    spent = time.perf_counter() - started
    best = found.best["ivfflat"]
    return found, {
        "seconds": round(spent, 1),
        "by_phase": dict(found.seconds),
        "choice": f"{best.index}, probes={best.value}",
        "recall_on_held_out_queries": str(best.point.recall),
        "recall_predicted_by_its_centroids": best.point.predicted,
        "recall_predicted_by_its_twin": next(
            (r for t in found.twins if t.lists == best.index.option("lists") for p, r, _ in t.curve if p == best.value), None
        )
        or twin_recall(found, best.index, best.value, corpus),
        "qps": round(best.point.qps, 1),
    }


def twin_recall(found: Comparison, index: Index, value: int, corpus: Corpus) -> float:
    """The twin's recall at the very setting that was chosen, on the queries that verified it."""
    known = truth.exact(corpus.base, corpus.verify, corpus.metric, K)
    curve = ivf_model.twin(corpus.base, corpus.verify, known, index.option("lists"), corpus.metric)
    return round(curve.recall(value).value, 4)


def grid(node: Node, corpus: Corpus, choice: Point | None) -> dict[str, Any]:
    """Every point of the grid, timed as long as the tuner times its choice once; then the best of it and the tuner's choice
    once more, in turn, with all queries."""
    request = Request(TARGET, K, clients=1, fresh=True)
    started = time.perf_counter()
    with open_sandbox(node) as sandbox:
        bench = prepare(sandbox, corpus, request, Progress())
        sweep(bench, {ivfflat(lists): tuple(p for p in PROBES if p <= lists) for lists in LISTS}, bench.budget_s)
        spent = time.perf_counter() - started
        points = list(bench.journal.points.values())
        best = max((point for point in points if point.recall.value >= TARGET), key=lambda point: point.qps)
        bench.journal.close()
    beside = duel(node, corpus, best, choice) if choice else {}
    doubling = {1, 2, 4, 8, 16, 32, 64}
    few = sum(bench.journal.builds[ivfflat(lists)].seconds for lists in LISTS)
    few += sum(point.asked / point.qps for point in points if point.value in doubling)
    return {
        "points": len(points),
        "skipped_because_the_planner_did_not_use_the_index": len(bench.skipped),
        "seconds": round(spent, 1),
        "by_phase": dict(bench.seconds),
        "seconds_of_a_grid_of_doubling_probes_only": round(few, 1),
        "best": f"{best.index}, probes={best.value}",
        "best_qps_in_the_grid": round(best.qps, 1),
        "best_recall_in_the_grid": str(best.recall),
        **beside,
        "measured": [[p.index.option("lists"), p.value, round(p.recall.value, 4), round(p.qps, 1)] for p in points],
    }


def duel(node: Node, corpus: Corpus, best: Point, ours: Point) -> dict[str, Any]:
    """The grid's best and the tuner's choice, each built in a database of its own and searched in turn, with all queries."""
    request = Request(TARGET, K, clients=1, fresh=True)
    with open_sandbox(node) as one, open_sandbox(node) as two:
        benches = [(prepare(there, corpus, request, Progress()), point) for there, point in ((one, best), (two, ours))]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda pair: pair[0].build(pair[1].index), benches))
        rounds: list[list[Point]] = [[], []]
        for _ in range(TURNS):
            for (bench, point), found in zip(benches, rounds, strict=True):
                bench.journal.points.clear()
                measured = bench.measure(point.index, point.value, "verify")
                assert measured, point
                found.append(measured)
        benches[0][0].journal.close()
    qps = [float(np.median([point.qps for point in found])) for found in rounds]
    return {
        "in_turn_best_qps": round(qps[0], 1),
        "in_turn_best_recall": str(rounds[0][0].recall),
        "in_turn_tuners_choice_qps": round(qps[1], 1),
        "in_turn_tuners_choice_recall": str(rounds[1][0].recall),
        "tuners_choice_of_the_best": round(qps[1] / qps[0], 3),
    }


def stand_in(words: str) -> Point:
    """A setting to be measured, from ``lists:probes``."""
    lists, probes = (int(word) for word in words.split(":"))
    return Point(ivfflat(lists), probes, "verify", 1, Recall(0, 0, 0, 0), 0, 0, 0, 0, 0, 0, 0, ())


def families(node: Node, corpus: Corpus, given: Table) -> dict[str, Any]:
    found = compare_indexes(node, corpus, given, Request(TARGET, K, clients=2, fresh=True))
    said = found.json()
    slim = {
        name: said[name]
        for name in ("recommendation", "best_of_family", "today", "predicted", "cost_model", "skipped", "seconds")
    }
    times = {choice.index.family: round(found.speedup(choice) or 0, 2) for choice in found.best.values()}
    return {"times_todays_index": times, **slim, "seconds_in_all": round(sum(found.seconds.values()), 1)}


def pgbench(node: Node, corpus: Corpus, scratch_folder: Path) -> dict[str, Any]:
    """One client each, the same prepared search, in turn: ours and pgbench's."""
    found = {}
    with open_sandbox(node) as sandbox:
        bench = prepare(sandbox, corpus, Request(TARGET, K, clients=1, fresh=True), Progress())
        for index, value in ((ivfflat(1000), 17), (hnsw(), 40)):
            bench.build(index)
            scripts = write_scripts(bench, index, value, scratch_folder)
            ours, theirs = [], []
            for number in range(ROUNDS):
                bench.journal.points.clear()
                point = bench.measure(index, value, "verify")
                assert point
                ours.append(point.qps)
                theirs.append(run_pgbench(node, sandbox.database, scripts, index, value, number))
            found[str(index)] = {
                "ours_qps": round(float(np.median(ours)), 1),
                "pgbench_qps": round(float(np.median(theirs)), 1),
                "ours_of_pgbench": round(float(np.median(ours) / np.median(theirs)), 3),
            }
        bench.journal.close()
    return found


def write_scripts(bench: Bench, index: Index, value: int, folder: Path) -> list[Path]:
    """A script a query (pgbench takes 128 at most), the vector in it as text."""
    made = []
    statement = index.search(bench.table, K, value).as_string(bench.sandbox.connection)
    for number, query in enumerate(bench.queries["verify"][:120]):
        path = folder / f"{index.family}-{number}.sql"
        path.write_text(statement.replace("$1", "'[" + ",".join(map(str, query.tolist())) + "]'") + ";\n")
        made.append(path)
    return made


def run_pgbench(node: Node, database: str, scripts: list[Path], index: Index, value: int, seed: int) -> float:
    config = node.site.database
    options = " ".join(f"-c {name}={setting}" for name, setting in {**index.settings(value), "jit": "off"}.items())
    environment = {
        **os.environ,
        "PGOPTIONS": f"{options} -c plan_cache_mode=force_generic_plan",
        "PGPASSFILE": str(node.site.path(config.passfile)) if config.passfile else "",
    }
    address = ["-h", node.config.host, "-p", str(node.config.postgresql.port), "-U", config.owner]
    words = ["-n", "-M", "prepared", "-c", "1", "-T", "5", f"--random-seed={seed}", *(w for s in scripts for w in ("-f", str(s)))]
    command = node.command("pgbench", *address, *words, database)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120)
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return float(line.split("=")[1].split()[0])


def beside_faiss(node: Node, corpus: Corpus) -> dict[str, Any]:
    """Searches per second at the same recall, one thread in process against one client of PostgreSQL."""
    try:
        import faiss
    except ImportError:
        return {"skipped": "faiss is not installed: pip install faiss-cpu==1.15.1"}
    faiss.omp_set_num_threads(2)
    lists, size = 1000, corpus.dimension
    flat = faiss.IndexFlatIP(size)
    makers = {
        "ivfflat": faiss.IndexIVFFlat(flat, size, lists, faiss.METRIC_INNER_PRODUCT),
        "ivfflat_halfvec": faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(size), size, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        ),
        "hnsw": faiss.IndexHNSWFlat(size, 16, faiss.METRIC_INNER_PRODUCT),
    }
    found: dict[str, Any] = {"faiss": faiss.__version__}
    with open_sandbox(node) as sandbox:
        bench = prepare(sandbox, corpus, Request(TARGET, K, clients=1, fresh=True), Progress())
        for family, index in makers.items():
            found[family] = one_family(bench, corpus, family, index, lists, faiss)
        bench.journal.close()
    return found


def one_family(bench: Bench, corpus: Corpus, family: str, index: Any, lists: int, faiss: Any) -> dict[str, Any]:
    started = time.perf_counter()
    if family == "hnsw":
        index.hnsw.efConstruction = 64
    else:
        index.train(corpus.base[np.random.default_rng(1).permutation(corpus.rows)[: 50 * lists]])
    index.add(corpus.base)
    build_s = time.perf_counter() - started
    faiss.omp_set_num_threads(1)
    theirs = faiss_at(index, family, bench)
    faiss.omp_set_num_threads(2)
    ours_index = hnsw() if family == "hnsw" else ivfflat(lists, "halfvec" if family.endswith("halfvec") else "vector")
    explorer = Explorer(corpus, bench.truth["choose"], TARGET, 0.0)
    tuned = Tuner(bench, bench.table, TARGET, 1, Budget(), explorer, ivf_model.prior_cost(corpus.dimension))
    choice = next(tuned.hnsw([ours_index]), None) if family == "hnsw" else tuned.one_ivfflat(ours_index)
    assert choice, family
    return {
        "faiss": {**theirs, "build_s": round(build_s, 1)},
        "pgvector": {
            "knob": choice.value,
            "recall": round(choice.point.recall.value, 4),
            "qps": round(choice.point.qps, 1),
            "build_s": choice.built.seconds,
        },
        "faiss_of_pgvector_qps": round(theirs["qps"] / choice.point.qps, 2),
    }


def faiss_at(index: Any, family: str, bench: Bench) -> dict[str, Any]:
    """The smallest knob with the target recall, and searches per second there, one query at a time."""
    queries, known = bench.queries["verify"], bench.truth["verify"]
    for knob in [*range(1, 33), *range(34, 400, 4)]:
        if family == "hnsw":
            index.hnsw.efSearch = knob
        else:
            index.nprobe = knob
        _, rows = index.search(queries, K)
        recall = truth.hits(bench.corpus.base, queries, bench.corpus.metric, known, rows).mean()
        if recall >= TARGET:
            break
    started = time.perf_counter()
    for query in queries:
        index.search(query[None], K)
    return {"knob": knob, "recall": round(float(recall), 4), "qps": round(len(queries) / (time.perf_counter() - started), 1)}


def keep(out: Path, name: str, value: dict[str, Any]) -> None:
    found = json.loads(out.read_text()) if out.exists() else {}
    found[name] = value
    out.write_text(json.dumps(found, indent=1) + "\n")
    shown = {key: item for key, item in value.items() if key not in ("measured", "best_of_family", "predicted")}
    print(name, json.dumps(shown, indent=1), flush=True)


def main() -> None:
    parts = ["tuner", "grid", "families", "pgbench", "faiss"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=" ".join(parts))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--duel", nargs=2, metavar="LISTS:PROBES", default=["2000:14", "1800:14"], help="for the part duel")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    out = given.out
    wanted = given.parts or parts
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as folder, server(Path(folder)) as node:
        source = open_source(node, f"generated:{given.rows + CHOOSE + VERIFY}x{given.dimension}")
        corpus, table = source.corpus, source.given
        keep(out, "corpus", {"name": corpus.name, "rows": corpus.rows, "dimension": corpus.dimension, "target": TARGET, "k": K})
        choice = None
        if "tuner" in wanted:
            found, said = tuner(node, corpus, table)
            choice = replace(found.best["ivfflat"].point)
            keep(out, "tuner", said)
        if "grid" in wanted:
            said = grid(node, corpus, choice)
            kept = json.loads(out.read_text()).get("tuner")
            if kept and choice:
                said["tuner_seconds_of_the_grids"] = round(kept["seconds"] / said["seconds"], 3)
            keep(out, "grid", said)
        if "duel" in wanted:
            keep(out, "duel", duel(node, corpus, *(stand_in(words) for words in given.duel)))
        if "families" in wanted:
            keep(out, "families", families(node, corpus, table))
        if "pgbench" in wanted:
            keep(out, "pgbench", pgbench(node, corpus, Path(folder)))
        if "faiss" in wanted:
            keep(out, "faiss", beside_faiss(node, corpus))


if __name__ == "__main__":
    main()
