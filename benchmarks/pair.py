"""Random histories of a real pair: the primary dies or freezes under load, operators are killed, and two come at once.

    python benchmarks/pair.py [--histories N] [--seed N]

A lab of its own, without embedding services, which each history finds as new: its stopped files are copied. An operator is a
process that steps through a runbook's cells, forked from one that has loaded everything, so that a kill hits work and not
imports. Counted are moments at which both nodes took a write, acknowledged rows that neither the primary has nor rejoin saved,
any loss under synchronous replication, and histories that no runbook brought to an end. Results go into pair.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.cluster import overview
from aya_lib.node import wait
from aya_lib.node.node import open_nodes
from aya_lib.runbook import parameters
from aya_lib.site import Site

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from pairs import freeze, kill, streaming
from tests_support import step
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
    primary: str = ""
    standby: str = ""
    seconds: float = 0.0


def operator(book: str, folder: str) -> ForkServerProcess:
    """Somebody who runs a runbook, with a folder of runs of his own."""
    process = get_context("forkserver").Process(target=_operate_as, args=(book, f"{os.environ['AYA_RUNS']}-{folder}"))
    process.start()
    return process


def ended(process: ForkServerProcess) -> int | None:
    """Its exit code, as ``aya run`` would give it; negative: killed; None: it did not end in time."""
    process.join(300)
    return process.exitcode


def _operate_as(book: str, runs: str) -> None:
    os.environ["AYA_RUNS"] = runs
    name, *words = book.replace("-p ", "").split()
    values = parameters.parse(parameters.declared(settings.notebooks() / f"{name}.ipynb"), words)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        code = step(name, site="lab", **values).exit_code
    os._exit(code)


def start(site: Site) -> None:
    for node in reversed(open_nodes(site).pair):
        node.supervisor.start("postgresql")
    streaming(site)


@contextlib.contextmanager
def copies(site: Site) -> Iterator[Callable[[bool], None]]:
    """What brings the lab back as it was when it was new, synchronous or not."""
    kept = {}
    for synchronous in (False, True):
        mode = "synchronous" if synchronous else "asynchronous"
        assert ended(operator(f"replication_mode -p mode={mode}", "three")) == 0
        labs.down(site)
        kept[synchronous] = site.root.with_name(mode)
        subprocess.run(["cp", "-a", site.root, kept[synchronous]], check=True)
        start(site)

    def again(synchronous: bool) -> None:
        labs.delete(site)
        subprocess.run(["cp", "-a", kept[synchronous], site.root], check=True)
        start(site)

    yield again


def one(site: Site, again: Callable[[bool], None], draw: random.Random) -> History:
    """A pair as new; load, a fault, two operators of whom one may be killed; then whatever brings it back."""
    found = History(draw.random() < 0.5, draw.choice(["killed", "frozen", "none"]))
    again(found.synchronous)
    with clients(site, 2) as at_work:
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
        found.refused += ended(process) == 3


def _settle(site: Site, found: History) -> bool:
    """What a person would do: finish what is under way, and bring the other node back, until both are what they should be."""
    for _ in range(ROUNDS):
        seen = overview.look(open_nodes(site))
        primary, standby = seen.pair(site)
        if not primary.writable or seen.state.under_way:
            book = "restore" if not (seen.state.under_way or standby.follows) else "failover -p emergency=true"
        elif not standby.follows or seen.fenced(standby.name):
            book = "rejoin"
        else:
            found.primary, found.standby = primary.name, standby.name
            return True
        found.done.append(f"{book}: {ended(operator(book, 'three'))}")
    return False


def _count(site: Site, found: History, at_work: Clients) -> None:
    there = at_work.stored(found.primary)
    look, alike = partial(at_work.stored, found.standby), "it has the same rows"
    wait.until(look, lambda rows: rows == there, node=found.standby, what=alike, deadline_s=60, poll_s=0.5)
    lost = set(at_work.acknowledged) - there
    text = "".join(path.read_text() for path in site.root.rglob("*.jsonl"))
    found.lost, found.lost_and_not_saved = len(lost), sum(f"{one}" not in text for one in lost)


def summed(found: list[History]) -> dict[str, object]:
    return {
        "histories": len(found),
        "median_s": statistics.median(one.seconds for one in found),
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
    parser.add_argument("--port", type=int, help="the first of six that are free")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="aya-bench-") as folder, lab(Path(folder), given.port) as site, copies(site) as again:
        for number in range(given.histories):
            began = time.monotonic()
            found.append(one(site, again, random.Random(given.seed * 10_000 + number)))
            found[-1].seconds = round(time.monotonic() - began, 1)
            print(f"{number + 1} of {given.histories}: {found[-1]}", file=sys.stderr, flush=True)
            given.out.write_text(json.dumps({"seed": given.seed, **summed(found)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
