"""``python -m aya_lib.lab.keeper --site FILE --node NODE``: the lab's launchd. Starts enabled services of a node that died.

What was stopped on purpose stays stopped, a PostgreSQL that the guard refuses stays down, and one that keeps on dying is
tried less and less often. The keeper ends when nothing is enabled any more, at SIGTERM, or when another one watches already.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from aya_lib.errors import AyaError, DeadlinePassed
from aya_lib.node import pidfile
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.process import Processes
from aya_lib.operations import guard
from aya_lib.site import load_site

POLL_S = 0.2
LONGEST_S = 30.0  # between two attempts
STEADY_S = 10.0  # one that ran for this long starts with a clean sheet


@dataclass
class Watched:
    """One service: its process as last seen, when it may be tried again, and what was last said about it."""

    service: str
    process: psutil.Process | None = None
    wait_s: float = 0.0
    not_before: float = 0.0
    said: str = ""

    def runs(self) -> bool:
        """Whether the process seen last is there still; cheap enough for every turn."""
        return self.process is not None and pidfile.runs(self.process)

    def say(self, line: str) -> None:
        """Once, not at every turn."""
        if line != self.said:
            print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f} {self.service}: {line}", flush=True)
            self.said = line

    def later(self) -> None:
        """Wait twice as long before the next attempt, unless it had been steady."""
        self.wait_s = min(LONGEST_S, max(0.5, self.wait_s * 2))
        self.not_before = time.monotonic() + self.wait_s


@dataclass
class Keeper:
    here: Node
    keeps: Processes
    watched: dict[str, Watched] = field(default_factory=dict)
    ending: bool = False

    def watch(self) -> None:
        """Until nothing is enabled any more."""
        while not self.ending and (services := self.keeps.keep.services()):
            for service in services:
                self.turn(self.watched.setdefault(service, Watched(service)))
            _reap()
            time.sleep(POLL_S)

    def turn(self, one: Watched) -> None:
        if one.runs() or self.keeps.keep.kept(one.service) != "on" or time.monotonic() < one.not_before:
            return
        try:
            with self.keeps.keep.lock(one.service, wait_s=0):
                self._attempt(one)
        except DeadlinePassed:
            return  # somebody starts or stops it just now

    def _attempt(self, one: Watched) -> None:
        """The keeper outlives whatever goes wrong with one service."""
        try:
            self._see_to(one)
        except (AyaError, OSError, psutil.Error) as error:
            one.say(f"could not be started: {error}")

    def _see_to(self, one: Watched) -> None:
        """With the lock held: look properly, and start it if it is down and may be."""
        state = self.keeps.state(one.service)
        if state.status in ("running", "frozen") and state.pid:
            one.process = psutil.Process(state.pid)
            return
        if self.keeps.keep.kept(one.service) != "on":
            return
        if one.process is not None and time.time() - one.process.create_time() > STEADY_S:
            one.wait_s = 0.0
        one.process = None
        one.later()
        ruling = guard.rule(guard.look(open_nodes(self.here.site), self.here.name)) if one.service == "postgresql" else None
        if ruling and not ruling.may_start:
            one.say(ruling.line)
            return
        one.say(f"is {state.status}{f' ({state.detail})' if state.detail else ''}; starting it. {ruling.line if ruling else ''}")
        self.keeps.launch(one.service)
        found = self.keeps.state(one.service)
        one.process = psutil.Process(found.pid) if found.pid else None
        one.say(f"runs, PID {found.pid}")


def _reap() -> None:
    """Services that the keeper started itself are its children: take note of their end, or they stay as zombies."""
    for child in psutil.Process().children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE:
                child.wait(0)
        except psutil.Error:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aya_lib.lab.keeper", description=__doc__)
    parser.add_argument("--site", required=True, help="the site's site.yaml")
    parser.add_argument("--node", required=True)
    parser.add_argument("-D", dest="folder", type=Path, required=True, help="the lab's folder of PID files")
    chosen = parser.parse_args()
    here = open_nodes(load_site(chosen.site))[chosen.node]
    keeps = here.supervisor
    if not isinstance(keeps, Processes):
        print("aya: only a lab's node has a keeper", file=sys.stderr)
        return 2
    try:
        with FileLock(str(keeps.keep.pid_file.with_suffix(".lock")), timeout=0):
            return _keep(Keeper(here, keeps))
    except Timeout:
        return 0


def _keep(keeper: Keeper) -> int:
    def end(number: int, frame: object) -> None:
        keeper.ending = True  # what is being started is started to its end

    signal.signal(signal.SIGTERM, end)
    keep = keeper.keeps.keep
    pidfile.claim(keep.pid_file, psutil.Process(), keep.command)
    try:
        keeper.watch()
    finally:
        keep.pid_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
