"""Losing the primary, in figures: how long a failover takes, what chaos loses, what synchronous replication costs.

    python benchmarks/failover.py [speed] [chaos] [commits] [--rounds N]

Without names all parts run, in this order; about 20 minutes on two cores. A lab of its own, without embedding services: their
start is not part of a failover's way to the first write. Results are merged into failover.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.lab import faults
from aya_lib.lab.new import new
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.runbook.refresh import model_site
from aya_lib.site import Site, load_site, read_yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import chaos as rounds  # the same rounds as the tests', more of them
from tests_support import passed, step
from writers import clients

RESULTS = Path(__file__).with_suffix(".json")
SPEED_ROUNDS = 5
TPS_S, TPS_CLIENTS, TPS_TURNS = 8, 8, 3


@contextmanager
def lab(folder: Path, port: int | None = None) -> Iterator[Site]:
    """A lab of its own. ``port``: the first of six; None: any that are free."""
    folder.chmod(0o755)
    os.environ |= {"AYA_PARAMETERS": str(model_site(folder)), "AYA_RUNS": f"{folder}/runs", "AYA_CACHE": f"{folder}/cache"}
    os.environ["NO_COLOR"] = "1"
    site = new("lab", folder / "lab", port, like="model")
    path = settings.parameters() / "lab" / "site.yaml"
    content = read_yaml(path)
    content["nodes"].pop("AIR")
    for node in content["nodes"].values():
        node.pop("embedding", None)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    site = load_site("lab")
    try:
        labs.up(site, embedding=False)
        yield site
    finally:
        labs.delete(site)


def speed(site: Site) -> dict[str, Any]:
    """From starting `aya run failover` to the first write that a client has acknowledged, and the promotion within it."""
    found = []
    for _ in range(SPEED_ROUNDS):
        labs.reset(site, embedding=False)
        with clients(site, 2, probe=False) as at_work:
            wait.until(lambda: len(at_work.acknowledged), lambda n: n > 50, node="ALPHA", what="writes", deadline_s=30)
            faults.inject(site, "alpha-down")
            at_work.mark()
            command = [sys.executable, "-m", "aya_lib", "run", "failover", "-p", "emergency=true", "--json"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            seconds = wait.until(lambda: at_work.first_after, bool, node="BETA", what="a write", deadline_s=60)
            out, _ = process.communicate(timeout=60)
        record = json.loads(out)
        assert record["outcome"] == "passed", record["verdict"]
        promoted = [one for one in record["steps"] if one["kind"] == "change" and one["title"] == "Promote BETA"]
        began, ended = (time_of(one["at"]) for one in promoted)
        asked = time_of(record["started"])
        found.append(
            {
                "to_first_write_s": round(float(seconds or 0), 3),
                "promotion_s": round(ended - began, 3),
                "promotion_and_reconnection_s": round(float(seconds or 0) - (began - at_work.began), 3),
                "looking_and_gate_s": round(began - asked, 3),
                "run_s": record["seconds"],
            }
        )
    names = list(found[0])
    return {"rounds": found, "median": {name: round(statistics.median(one[name] for one in found), 3) for name in names}}


def time_of(stamp: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(stamp).timestamp()


def chaos(site: Site, count: int) -> dict[str, Any]:
    """Rounds of killed, passed over, brought back, handed back; every other one synchronous."""
    found: dict[str, list[dict[str, Any]]] = {"synchronous": [], "asynchronous": []}
    for number in range(count):
        synchronous = number % 2 == 0
        one = rounds.one(site, synchronous=synchronous)
        found["synchronous" if synchronous else "asynchronous"].append(asdict(one))
        print(f"round {number + 1} of {count}: {one}", file=sys.stderr, flush=True)
    return {mode: summed(all_of) for mode, all_of in found.items() if all_of}


def summed(found: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [one["seconds"] for one in found]
    return {
        "rounds": len(found),
        "acknowledged": sum(one["acknowledged"] for one in found),
        "lost": sum(one["lost"] for one in found),
        "most_lost_in_a_round": max(one["lost"] for one in found),
        "beyond_the_stated_bound": sum(max(0, one["lost"] - (one["bound"] or 0)) for one in found),
        "lost_and_saved_by_rejoin": sum(one["saved"] for one in found),
        "moments_with_two_writable_nodes": sum(one["both"] for one in found),
        "kill_to_first_write_s": {"median": round(statistics.median(seconds), 2), "most": round(max(seconds), 2)},
    }


def commits(site: Site) -> dict[str, Any]:
    """pgbench's own simple update, the three modes in turn: transactions per second, as ratios to asynchronous."""
    labs.reset(site, embedding=False)
    node = open_nodes(site)["ALPHA"]
    pgbench(node, "-i", "-q", "-s", "5")
    found: dict[str, list[float]] = {"asynchronous": [], "synchronous": [], "degraded": []}
    for _ in range(TPS_TURNS):
        for mode, rates in found.items():
            passed(step("replication_mode", site=site.name, mode=mode))
            out = pgbench(node, "-N", "-M", "prepared", "-c", str(TPS_CLIENTS), "-j", "2", "-T", str(TPS_S))
            rates.append(float(next(line for line in out.splitlines() if line.startswith("tps")).split("=")[1].split()[0]))
    passed(step("replication_mode", site=site.name, mode="asynchronous"))
    tps = {mode: round(statistics.median(rates), 1) for mode, rates in found.items()}
    return {"tps": tps, "of_asynchronous": {mode: round(rate / tps["asynchronous"], 3) for mode, rate in tps.items()}}


def pgbench(node: Node, *words: str) -> str:
    config = node.site.database
    environment = {**os.environ, "PGPASSFILE": str(node.site.path(config.passfile)) if config.passfile else ""}
    address = ["-h", node.config.host, "-p", str(node.config.postgresql.port), "-U", config.owner]
    command = node.command("pgbench", *address, *words, config.name)
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=300).stdout


def keep(out: Path, name: str, value: dict[str, Any]) -> None:
    found = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(found | {name: value}, indent=1) + "\n")
    print(name, json.dumps(value, indent=1), file=sys.stderr, flush=True)


def main() -> None:
    parts = ["speed", "chaos", "commits"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=" ".join(parts))
    parser.add_argument("--rounds", type=int, default=50, help="of chaos")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    wanted = given.parts or parts
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as folder, lab(Path(folder)) as site:
        if "speed" in wanted:
            keep(given.out, "speed", speed(site))
        if "chaos" in wanted:
            keep(given.out, "chaos", chaos(site, given.rounds))
        if "commits" in wanted:
            keep(given.out, "commits", commits(site))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
