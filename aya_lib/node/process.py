"""The supervisor of a lab: plain processes with PID files that are never trusted blindly.

PostgreSQL is started and stopped by its own pg_ctl. A service that is enabled is started again by the node's keeper when it
died; see :mod:`aya_lib.node.keepalive`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from aya_lib import settings
from aya_lib.errors import AyaError, CommandFailed, UsageError
from aya_lib.node import pidfile, shell, wait
from aya_lib.node.keepalive import Keepalive
from aya_lib.node.listeners import local_listener
from aya_lib.node.supervisor import Action, Listener, ServiceState

if TYPE_CHECKING:
    from aya_lib.node.node import Node


@dataclass(frozen=True)
class Processes:
    """``postgresql`` and ``embedding`` of one node of this machine."""

    here: Node
    units: Mapping[str, str]

    def state(self, service: str) -> ServiceState:
        return self._postgres() if service == "postgresql" else self._embedding()

    def listener(self, port: int) -> Listener | None:
        return local_listener(self.here.shell, port)

    def describe(self, action: Action, service: str) -> str:
        if action in ("enable", "disable"):
            mark = self.keep.mark(service).relative_to(self.here.site.root)
            return f"{'echo on >' if action == 'enable' else 'rm -f'} {mark}"
        if service == "postgresql":
            return f"pg_ctl {action} -D {self.here.data_directory}"
        serve = f"aya serve embedding --site {self.here.site.name} --node {self.here.name}"
        stop = f"kill -TERM $(jq .pid {self.pid_file})"
        return {"start": serve, "stop": stop, "restart": f"{stop}; {serve}"}[action]

    def start(self, service: str) -> None:
        with self.keep.acting(service, "on"):
            self.launch(service)
        self.keep.watch()

    def launch(self, service: str) -> None:
        """Start it; the keep-alive is left out, for it is the keeper that calls this."""
        if self.state(service).status in ("running", "frozen"):
            return
        if service == "postgresql":
            self._start_postgres()
        else:
            self._start_embedding()

    def stop(self, service: str) -> None:
        with self.keep.acting(service, "stopped"):
            self._stop(service)

    def _stop(self, service: str) -> None:
        state = self.state(service)
        if state.status == "frozen" and state.pid:
            pidfile.thaw(state.pid)
        if state.status not in ("running", "frozen") or not state.pid:
            return
        if service == "postgresql":
            self._pg_ctl("stop", "-m", "fast")
        else:
            pidfile.end(state.pid, self.here.name, self.here.site.deadlines.command_s)
            self.pid_file.unlink(missing_ok=True)

    @cached_property
    def keep(self) -> Keepalive:
        return Keepalive(self.here)

    def enabled(self, service: str) -> bool | None:
        return self.keep.wished(service) is not None

    def enable(self, service: str) -> None:
        running = self.state(service).status in ("running", "frozen", "stale")
        self.keep.enable(service, "on" if running else "stopped")

    def disable(self, service: str) -> None:
        self.keep.disable(service)

    def restart(self, service: str) -> None:
        self.stop(service)
        self.start(service)

    @property
    def pid_file(self) -> Path:
        return self.here.site.root / "run" / f"{self.here.name.lower()}-embedding.pid"

    @property
    def log(self) -> Path:
        return self.here.site.root / "log" / f"{self.here.name.lower()}-embedding.log"

    @property
    def command(self) -> list[str]:
        """The argument list of the node's embedding service."""
        site = settings.parameters() / self.here.site.name / "site.yaml"
        return [sys.executable, "-m", "aya_lib.embedding", "--site", str(site), "--node", self.here.name]

    def _postgres(self) -> ServiceState:
        text = shell.read(self.here.shell, self.here.data_directory / "postmaster.pid", account=self.here.account)
        if text is None:
            return ServiceState("stopped")
        pid, directory, started = text.split("\n")[:3]
        process = pidfile.living(int(pid))
        if process is None:
            return ServiceState("stale", detail=f"postmaster.pid names PID {pid}, which is gone")
        same = abs(process.create_time() - float(started)) < pidfile.START_SLACK_S and "postgres" in process.name()
        if not same or Path(directory) != self.here.data_directory:
            return ServiceState("stale", detail=f"postmaster.pid names PID {pid}, which is another process")
        return pidfile.alive(process)

    def _start_postgres(self) -> None:
        if self.state("postgresql").status == "stale":
            # Verified above not to be this cluster's postmaster: PostgreSQL itself would refuse if the PID is in use.
            stale = self.here.data_directory / "postmaster.pid"
            self.here.shell.run(["rm", "-f", str(stale)], account=self.here.account).checked()
        try:
            self._pg_ctl("start", "-s", "-l", str(self._postgres_log))
        except CommandFailed as error:
            raise CommandFailed(self.here.name, error.argv, error.status, self._last_words(self._postgres_log)) from None

    @property
    def _postgres_log(self) -> Path:
        return self.here.site.root / "log" / f"{self.here.name.lower()}-postgresql.log"

    def _pg_ctl(self, *arguments: str) -> None:
        seconds = self.here.site.deadlines.start_s
        directory = str(self.here.data_directory)
        command = ("pg_ctl", arguments[0], "-D", directory, "-w", "-t", str(int(seconds)), *arguments[1:])
        self.here.postgresql(*command, timeout_s=seconds + 5).checked()

    def _embedding(self) -> ServiceState:
        return pidfile.state(self.pid_file, self.command) if self.pid_file.exists() else self._unclaimed()

    def _unclaimed(self) -> ServiceState:
        """Without a PID file: a process with exactly our command on our port is ours, spawned by a run that was killed."""
        holder = self.listener(self.here.wish.embedding.port) if self.here.wish.embedding else None
        process = pidfile.living(holder.pid) if holder and holder.pid else None
        if process is None or not pidfile.alike(pidfile.cmdline(process), self.command):
            return ServiceState("stopped")
        pidfile.claim(self.pid_file, process, pidfile.cmdline(process))
        return pidfile.alive(process)

    def _start_embedding(self) -> None:
        if self.here.wish.embedding is None:
            raise UsageError(f"site {self.here.site.name} wishes no embedding service on {self.here.name}")
        port = self.here.wish.embedding.port
        holder = self.listener(port)
        if holder:
            held = f"port {port} is held by PID {holder.pid or 'unknown'}: {holder.command}"
            raise AyaError(f"{self.here.name}: {held}", hint="Stop that process, or give the service another port")
        process = pidfile.spawn(self.command, self.log)
        pidfile.claim(self.pid_file, psutil.Process(process.pid), self.command)
        self._wait_until_it_listens(process, port)
        process.returncode = 0  # it is meant to outlive us: nothing waits for its end

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], port: int) -> None:
        wait.until(
            lambda: process.poll() is not None or self.listener(port) is not None,
            lambda done: done,
            node=self.here.name,
            what=f"the embedding service listens on port {port}",
            deadline_s=self.here.site.deadlines.start_s,
        )
        if process.poll() is not None:
            self.pid_file.unlink(missing_ok=True)
            raise CommandFailed(self.here.name, self.command, process.returncode, self._last_words(self.log))

    def _last_words(self, log: Path) -> str:
        return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-3:]) if log.exists() else "no log"
