"""Random histories of a real pair: the primary dies or freezes under load, operators are killed, and two come at once.

    python benchmarks/pair.py [--histories N] [--seed N]

A hundred histories take about 50 minutes on two cores. A lab of its own. Counted are moments at which both nodes took a write,
acknowledged rows that neither the primary has nor rejoin saved, any loss under synchronous replication, and histories that no
runbook brought to an end. Results go into pair.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aya_lib import lab as labs
from aya_lib.cluster import overview
from aya_lib.node import wait
from aya_lib.node.node import open_nodes
from aya_lib.site import Site

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from pairs import freeze, kill
from writers import Clients, clients

from benchmarks.failover import lab

RESULTS = Path(__file__).with_suffix(".json")
BOOKS = ("failover", "failover -p emergency=true", "failover -p take_back=true", "restore", "rejoin", "switchback")
ROUNDS = 8  # of what a person would try until the site is whole again


@dataclass
class History:
    """What was done, and what came of it. ``refused``: operators that found the site's lock taken."""

    synchronous: bool
    fault: str
    done: list[str] = field(default_factory=list)
    refused: int = 0
    acknowledged: int = 0
    both: int = 0
    lost: int = 0
    lost_and_not_saved: int = 0
    settled: bool = False


def operator(book: str, folder: str) -> subprocess.Popen[bytes]:
    """Somebody who runs a runbook, with a folder of runs of his own."""
    command = [sys.executable, "-m", "aya_lib", "run", *book.split(), "--quiet"]
    environment = {**os.environ, "AYA_RUNS": f"{os.environ['AYA_RUNS']}-{folder}"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def one(site: Site, draw: random.Random) -> History:
    """A pair as new; load, a fault, two operators of whom one may be killed; then whatever brings it back."""
    found = History(draw.random() < 0.5, draw.choice(["killed", "frozen", "none"]))
    labs.reset(site, embedding=False)
    operator(f"replication_mode -p mode={'synchronous' if found.synchronous else 'asynchronous'}", "three").wait(300)
    with clients(site) as at_work:
        wait.until(lambda: len(at_work.acknowledged), lambda n: n > 40, node="ALPHA", what="writes", deadline_s=60)
        if found.fault != "none":
            {"killed": kill, "frozen": freeze}[found.fault](open_nodes(site)["ALPHA"])
        _operate(found, draw)
        found.settled = _settle(site, found)
        found.acknowledged, found.both = len(at_work.acknowledged), len(at_work.both)
    if found.settled:
        _count(site, found, at_work)
    return found


def _operate(found: History, draw: random.Random) -> None:
    first = "failover" if found.fault == "none" else "failover -p emergency=true"
    running = {}
    for folder, book in (("one", first), ("two", draw.choice(BOOKS))):
        running[folder] = operator(book, folder)
        found.done.append(book)
        time.sleep(draw.uniform(0, 3))
    if draw.random() < 0.6:
        time.sleep(draw.uniform(0, 4))
        victim = draw.choice(list(running))
        running[victim].kill()
        found.done.append(f"kill -9 of {victim}")
    for process in running.values():
        found.refused += process.wait(300) == 3


def _settle(site: Site, found: History) -> bool:
    """What a person would do: finish what is under way, bring the other node back, and hand back."""
    for _ in range(ROUNDS):
        seen = overview.look(open_nodes(site))
        primary, standby = seen.pair(site)
        if not primary.writable or seen.state.under_way:
            book = "restore" if not (seen.state.under_way or standby.follows) else "failover -p emergency=true"
        elif not standby.follows or seen.fenced(standby.name):
            book = "rejoin"
        elif primary.name != site.primary:
            book = "switchback"
        else:
            return operator("verify_replication", "three").wait(300) == 0
        found.done.append(f"{book}: {operator(book, 'three').wait(300)}")
    return False


def _count(site: Site, found: History, at_work: Clients) -> None:
    lost = set(at_work.acknowledged) - at_work.stored(site.primary)
    text = "".join(path.read_text() for path in site.root.rglob("*.jsonl"))
    found.lost, found.lost_and_not_saved = len(lost), sum(f"{one}" not in text for one in lost)


def summed(found: list[History]) -> dict[str, object]:
    return {
        "histories": len(found),
        "acknowledged": sum(one.acknowledged for one in found),
        "moments_with_two_writable_nodes": sum(one.both for one in found),
        "lost_under_synchronous": sum(one.lost for one in found if one.synchronous),
        "lost_otherwise": sum(one.lost for one in found if not one.synchronous),
        "lost_and_not_saved": sum(one.lost_and_not_saved for one in found),
        "operators_refused_by_the_lock": sum(one.refused for one in found),
        "not_settled": [asdict(one) for one in found if not one.settled],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as folder, lab(Path(folder)) as site:
        for number in range(given.histories):
            found.append(one(site, random.Random(given.seed * 10_000 + number)))
            print(f"{number + 1} of {given.histories}: {found[-1]}", file=sys.stderr, flush=True)
            given.out.write_text(json.dumps({"seed": given.seed, **summed(found)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
