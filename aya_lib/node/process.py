"""The supervisor of a lab: plain processes with PID files that are never trusted blindly.

PostgreSQL is started and stopped by its own pg_ctl. A PID file counts only when the process it names is alive, started
when the file says, and runs the command it should.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from aya_lib import settings
from aya_lib.errors import AyaError, CommandFailed, UsageError
from aya_lib.node import shell, wait
from aya_lib.node.listeners import local_listener
from aya_lib.node.supervisor import Action, Listener, ServiceState

if TYPE_CHECKING:
    from aya_lib.node.node import Node

START_SLACK_S = 3.0  # postmaster.pid gives the start in whole seconds, some time after the process began


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
        if service == "postgresql":
            return f"pg_ctl {action} -D {self.here.data_directory}"
        serve = f"aya serve embedding --site {self.here.site.name} --node {self.here.name}"
        stop = f"kill -TERM $(jq .pid {self.pid_file})"
        return {"start": serve, "stop": stop, "restart": f"{stop}; {serve}"}[action]

    def start(self, service: str) -> None:
        if self.state(service).status in ("running", "frozen"):
            return
        if service == "postgresql":
            self._start_postgres()
        else:
            self._start_embedding()

    def stop(self, service: str) -> None:
        state = self.state(service)
        if state.status == "frozen" and state.pid:
            thaw(state.pid)
        if state.status not in ("running", "frozen") or not state.pid:
            return
        if service == "postgresql":
            self._pg_ctl("stop", "-m", "fast")
        else:
            end(state.pid, self.here.name, self.here.site.deadlines.command_s)
            self.pid_file.unlink(missing_ok=True)

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
        process = _process(int(pid))
        if process is None:
            return ServiceState("stale", detail=f"postmaster.pid names PID {pid}, which is gone")
        same = abs(process.create_time() - float(started)) < START_SLACK_S and "postgres" in process.name()
        if not same or Path(directory) != self.here.data_directory:
            return ServiceState("stale", detail=f"postmaster.pid names PID {pid}, which is another process")
        return _alive(process)

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
        try:
            claim = json.loads(self.pid_file.read_text(encoding="utf-8"))
            pid, started, command = int(claim["pid"]), float(claim["started"]), list(claim["command"])
        except FileNotFoundError:
            return self._unclaimed()
        except (ValueError, KeyError, TypeError):
            return ServiceState("stale", detail=f"{self.pid_file.name} is not readable")
        process = _process(pid)
        if process is None:
            return ServiceState("stale", detail=f"{self.pid_file.name} names PID {pid}, which is gone")
        if abs(process.create_time() - started) > START_SLACK_S or _cmdline(process) != command:
            return ServiceState("stale", detail=f"{self.pid_file.name} names PID {pid}, which is another process")
        return _alive(process)

    def _unclaimed(self) -> ServiceState:
        """Without a PID file: a process with exactly our command on our port is ours, spawned by a run that was killed."""
        holder = self.listener(self.here.wish.embedding.port) if self.here.wish.embedding else None
        process = _process(holder.pid) if holder and holder.pid else None
        if process is None or _cmdline(process) != self.command:
            return ServiceState("stopped")
        self._claim(process)
        return _alive(process)

    def _start_embedding(self) -> None:
        if self.here.wish.embedding is None:
            raise UsageError(f"site {self.here.site.name} wishes no embedding service on {self.here.name}")
        port = self.here.wish.embedding.port
        holder = self.listener(port)
        if holder:
            held = f"port {port} is held by PID {holder.pid or 'unknown'}: {holder.command}"
            raise AyaError(f"{self.here.name}: {held}", hint="Stop that process, or give the service another port")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "AYA_PARAMETERS": str(settings.parameters())}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        self._claim(psutil.Process(process.pid))
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

    def _claim(self, process: psutil.Process) -> None:
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        content = {"pid": process.pid, "started": process.create_time(), "command": self.command}
        beside = self.pid_file.with_suffix(".new")
        beside.write_text(json.dumps(content), encoding="utf-8")
        beside.replace(self.pid_file)

    def _last_words(self, log: Path) -> str:
        return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-3:]) if log.exists() else "no log"


def thaw(pid: int) -> None:
    """Let a process that was stopped by a signal, and its children, go on."""
    process = _process(pid)
    for member in [process, *process.children(recursive=True)] if process else []:
        member.resume()


def end(pid: int, node: str, deadline_s: float) -> None:
    """SIGTERM; SIGKILL when the process is still there after the deadline."""
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(deadline_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(deadline_s)
    except psutil.NoSuchProcess:
        return


def _process(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _alive(process: psutil.Process) -> ServiceState:
    frozen = process.status() == psutil.STATUS_STOPPED
    since = datetime.fromtimestamp(process.create_time(), UTC)
    return ServiceState("frozen" if frozen else "running", process.pid, since, "stopped by a signal" if frozen else "")
