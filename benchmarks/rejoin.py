"""Rejoin of a cluster of 1 GB: by a clone and by pg_rewind, each from the look to the first streaming, beside the estimates.

``python benchmarks/rejoin.py [MB]`` prints a table and keeps it in benchmarks/rejoin.json. It uses a lab of its own.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from aya_lib import lab as labs
from aya_lib.cluster import state
from aya_lib.lab import faults
from aya_lib.lab.new import new
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.operations import rejoin
from aya_lib.operations.rejoin.method import choose
from aya_lib.operations.rejoin.report import Report
from aya_lib.plan.change import apply
from aya_lib.runbook.refresh import model_site
from aya_lib.site import Site

RESULTS = Path(__file__).with_suffix(".json")
ROUNDS = 3
LOST = 1000  # rows that only the old primary has, a transaction each


def fill(node: Node, megabytes: int) -> None:
    """A table of so many MB: rows of about 1 kB that do not compress away."""
    with node.session(write=True, deadline_s=900) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_rejoin (id bigint PRIMARY KEY, body text NOT NULL)")
        connection.execute("ALTER TABLE bench_rejoin ALTER body SET STORAGE plain")
        for start in range(0, megabytes * 1000, 50_000):
            connection.execute(
                "INSERT INTO bench_rejoin SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 30) AS k)"
                " FROM generate_series(%s, %s) AS n",
                (start, min(start + 50_000, megabytes * 1000) - 1),
            )
        connection.execute("CHECKPOINT")


def write(node: Node, rows: int) -> None:
    """Rows, each its own transaction, and changes all over the large table."""
    with node.session(write=True, deadline_s=120) as connection:
        connection.execute("SET synchronous_commit = local")
        for number in range(rows):
            connection.execute("INSERT INTO documents (content, source) VALUES (%s, 'bench')", (f"row {number}",))
        connection.execute("UPDATE bench_rejoin SET id = id WHERE id %% 500 = %s", (rows % 500,))


def pair(site: Site) -> tuple[Node, Node]:
    nodes = open_nodes(site)
    primary = state.read(site).primary or site.primary
    return nodes[primary], next(nodes[name] for name in site.pair if name != primary)


def fail_over(site: Site) -> None:
    """The standby misses rows, the primary is killed, the standby is promoted and written to."""
    old, successor = pair(site)
    successor.supervisor.stop("postgresql")
    write(old, LOST)
    faults.alpha_down(old, successor)
    successor.supervisor.start("postgresql")
    faults._promote(successor)
    state.change(site, primary=None if successor.name == site.primary else successor.name)
    write(successor, 100)


def bring_back(site: Site, method: str) -> dict[str, float]:
    """Seconds of the look, of each change, and until the node streams and holds the same rows; and the estimate."""
    nodes, started, told = open_nodes(site), time.perf_counter(), dict[str, float]()
    seen = rejoin.look(nodes)
    choice = choose(seen, method)
    told["look (s)"] = time.perf_counter() - started
    for step in rejoin.plan(seen, method).changes:
        before = time.perf_counter()
        step.action.run(nodes[step.node])
        name = step.title.split()[0].lower()
        told[f"{name} (s)"] = told.get(f"{name} (s)", 0) + time.perf_counter() - before
    after = wait.until(
        lambda: rejoin.look(nodes), lambda found: found.streams, node=seen.node.name, what="it streams", deadline_s=120
    )
    told["until it streams and holds the same rows (s)"] = time.perf_counter() - started
    told["estimated (s)"] = (choice.clone_s if method == "clone" else choice.rewind_s) or 0
    assert isinstance(after.salvage, tuple)
    report = after.salvage[-1].report
    assert isinstance(report, Report)
    told["rows that were saved"] = next(table.rows for table in report.tables if table.table == "public.documents")
    apply(rejoin.plan(after, remove_old=True), nodes, lambda *given: None)
    return told


def measure(site: Site, megabytes: int) -> dict[str, float]:
    labs.up(site, embedding=False)
    fill(pair(site)[0], megabytes)
    first = rejoin.look(open_nodes(site))
    if not first.streams:  # the lab keeps little WAL: filling it, the standby was left behind
        open_nodes(site)[first.node.name].supervisor.stop("postgresql")
        nodes = open_nodes(site)
        apply(rejoin.plan(rejoin.look(nodes), "clone"), nodes, lambda *given: None)
        seen = wait.until(lambda: rejoin.look(nodes), lambda one: one.streams, node="pair", what="it streams", deadline_s=120)
        apply(rejoin.plan(seen, remove_old=True), nodes, lambda *given: None)
    runs: dict[str, list[dict[str, float]]] = {"clone": [], "rewind": []}
    for _ in range(ROUNDS):
        for method, found in runs.items():
            fail_over(site)
            found.append(bring_back(site, method))
    table = {}
    for method, found in runs.items():
        for name in found[0]:
            table[f"{method}: {name}"] = round(statistics.median(run.get(name, 0) for run in found), 2)
    return table


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        os.environ |= {"AYA_PARAMETERS": str(model_site(folder)), "AYA_RUNS": str(folder / "runs")}
        site = new("lab", folder / "lab", like="model")
        try:
            found = measure(site, megabytes)
        finally:
            labs.delete(site)
    for name, value in found.items():
        print(f"{name:60} {value:8.2f}")
    machine = {"cores": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
    content = {"machine": machine, "megabytes": megabytes, "rounds": ROUNDS, "median": found}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
