"""The lab's keep-alive: which services of a node are started again when they died, and the keeper that does it.

Files below the site's ``run`` say it: ``<node>-<service>.keep`` holds ``on``, or ``stopped`` for what was stopped on purpose;
``<node>-keeper.pid`` names the one process that watches them, :mod:`aya_lib.lab.keeper`. No such file: nothing is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout

from aya_lib import files, settings
from aya_lib.errors import DeadlinePassed
from aya_lib.node import pidfile, wait
from aya_lib.node.host import Host
from aya_lib.node.supervisor import ServiceState

Kept = Literal["on", "stopped"]


@dataclass(frozen=True)
class Keepalive:
    """Of one node of this machine, for the services named ``units``. Whoever acts on a kept service holds its lock, the keeper
    too."""

    here: Host
    units: Collection[str]

    def mark(self, service: str) -> Path:
        return pidfile.run_file(self.here, f"{service}.keep")

    def kept(self, service: str) -> Kept | None:
        """``on``: to be running; ``stopped``: enabled, and stopped on purpose; None: not enabled."""
        try:
            return "stopped" if self.mark(service).read_text(encoding="utf-8").strip() == "stopped" else "on"
        except FileNotFoundError:
            return None

    def services(self) -> list[str]:
        """The services that are enabled."""
        return [service for service in self.units if self.kept(service)]

    def enable(self, service: str, now: Kept) -> None:
        """Keep it from now on; one that is enabled stays as it is. Returns when the keeper watches."""
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        with self.lock(service):
            if self.kept(service) is None:
                self._write(service, now)
        self.watch()

    def disable(self, service: str) -> None:
        """Forget it. When this returns no start of the keeper's is under way; the last one takes the keeper with it."""
        if self.pid_file.parent.exists():
            with self.lock(service):
                self.mark(service).unlink(missing_ok=True)
        keeper = self.keeper()
        if keeper.pid and not self.services():
            pidfile.thaw(keeper.pid)
            pidfile.end(keeper.pid, self.here.site.deadlines.start_s)
        if not self.services():
            self.pid_file.unlink(missing_ok=True)

    @contextmanager
    def acting(self, service: str, becomes: Kept) -> Iterator[None]:
        """Around a start or a stop by hand: the keeper stays away meanwhile, and knows what holds afterwards."""
        if self.kept(service) is None:
            yield
            return
        with self.lock(service):
            if self.kept(service):
                self._write(service, becomes)
            yield

    @contextmanager
    def lock(self, service: str, *, wait_s: float | None = None) -> Iterator[None]:
        """:class:`DeadlinePassed` when somebody else acts on the service for longer than ``wait_s``."""
        limit = self.here.site.deadlines.start_s + 10 if wait_s is None else wait_s
        lock = FileLock(str(self.mark(service).with_suffix(".lock")), timeout=limit)
        try:
            lock.acquire()
        except Timeout:
            reason = f"somebody else has been at it for {limit:g} s"
            raise DeadlinePassed(self.here.name, f"start or stop {service}", reason) from None
        try:
            yield
        finally:
            lock.release()

    @property
    def pid_file(self) -> Path:
        return pidfile.run_file(self.here, "keeper.pid")

    @property
    def log(self) -> Path:
        return pidfile.log_file(self.here, "keeper")

    @property
    def command(self) -> list[str]:
        """The keeper's argument list; ``-D`` and the folder mark it as a process of this lab."""
        site = settings.parameters() / self.here.site.name / "site.yaml"
        words = ["--site", str(site), "--node", self.here.name, "-D", str(self.pid_file.parent)]
        return [sys.executable, "-m", "aya_lib.lab.keeper", *words]

    def keeper(self) -> ServiceState:
        return pidfile.state(self.pid_file, self.command)

    def watch(self) -> None:
        """See that the node's keeper runs, when there is something to keep."""
        if not self.services() or self.keeper().status in ("running", "frozen"):
            return
        process = pidfile.spawn(self.here, self.command, self.log)
        wait.until(
            self.keeper,
            lambda keeper: keeper.status == "running",
            node=self.here.name,
            what=f"its keeper runs (log: {self.log})",
            deadline_s=self.here.site.deadlines.start_s,
        )
        with suppress(psutil.Error):
            process.wait(0)  # a second one ends at once, and is reaped

    def _write(self, service: str, word: Kept) -> None:
        files.write(self.mark(service), f"{word}\n")
