"""The supervisor of a lab: plain processes with PID files that are never trusted blindly.

PostgreSQL is started and stopped by its own pg_ctl. A service that is enabled is started again by the node's keeper when it
died; see :mod:`aya_lib.node.keepalive`. A node with ``ssh`` is a host in a network namespace of this machine: what is started
on it is started through its own sshd, and seen in the process table that it shares with us.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

from aya_lib import settings
from aya_lib.errors import AyaError, CommandFailed, UsageError
from aya_lib.node import pidfile, shell, wait
from aya_lib.node.host import Host
from aya_lib.node.keepalive import Keepalive
from aya_lib.node.supervisor import Listener, ServiceAction, ServiceState
from aya_lib.site import Site

START_SLACK_S = 3.0  # postmaster.pid gives the start in whole seconds, some time after the process began
DYING_S = 2.0  # for the socket of a process that was just killed


def daemon_file(site: Site) -> Path:
    """What the sync daemon says of itself, as JSON; it is gone when the daemon ended in order."""
    return site.root / "run" / "sync-daemon.json"


def receiver_file(site: Site) -> Path:
    """The same of the receiver of WAL, in the repository of the site's backups."""
    assert site.backup
    return site.path(site.backup.directory) / "receiver.json"


@dataclass(frozen=True)
class Processes:
    """``postgresql``, ``embedding``, ``sync`` and ``wal`` of one node of this machine."""

    here: Host
    units: Mapping[str, str]

    def state(self, service: str) -> ServiceState:
        if service == "postgresql":
            return self._postgres()
        path = self.pid_file(service)
        return pidfile.state(path, self.command(service)) if path.exists() else self._unclaimed(service)

    def describe(self, action: ServiceAction, service: str) -> str:
        if action in ("enable", "disable"):
            mark = self.keep.mark(service).relative_to(self.here.site.root)
            return f"{'echo on >' if action == 'enable' else 'rm -f'} {mark}"
        if service == "postgresql":
            return f"pg_ctl {action} -D {self.here.data_directory}"
        serve = f"aya serve {service} --site {self.here.site.name}"
        serve += "" if service == "sync" else f" --node {self.here.name}"
        stop = f"kill -TERM $(jq .pid {self.pid_file(service)})"
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
            self._start_plain(service)

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
            pidfile.end(state.pid, self.here.site.deadlines.command_s)
            self.pid_file(service).unlink(missing_ok=True)

    @cached_property
    def keep(self) -> Keepalive:
        return Keepalive(self.here, self.units)

    def enabled(self, service: str) -> bool | None:
        return self.keep.kept(service) is not None

    def enable(self, service: str) -> None:
        running = self.state(service).status in ("running", "frozen", "stale")
        self.keep.enable(service, "on" if running else "stopped")

    def disable(self, service: str) -> None:
        self.keep.disable(service)

    def restart(self, service: str) -> None:
        self.stop(service)
        self.start(service)

    def pid_file(self, service: str) -> Path:
        return pidfile.run_file(self.here, f"{service}.pid")

    def log(self, service: str) -> Path:
        return pidfile.log_file(self.here, service)

    def command(self, service: str) -> list[str]:
        """The argument list of a service other than PostgreSQL."""
        site = str(settings.parameters() / self.here.site.name / "site.yaml")
        node = [] if service == "sync" else ["--node", self.here.name]
        return [sys.executable, "-m", "aya_lib", "serve", service, "--site", site, *node]

    def _postgres(self) -> ServiceState:
        text = shell.read(self.here.shell, self.here.data_directory / "postmaster.pid", account=self.here.account)
        if text is None:
            return ServiceState("stopped")
        pid, directory, started = text.split("\n")[:3]

        def ours(process: psutil.Process) -> bool:
            """A server of this data directory stands in it; who may not see that goes by the time of its start."""
            try:
                there = Path(process.cwd()).samefile(self.here.data_directory)
            except (psutil.Error, OSError):
                there = abs(process.create_time() - float(started)) <= START_SLACK_S
            return there and "postgres" in process.name() and Path(directory) == self.here.data_directory

        return pidfile.named("postmaster.pid", int(pid), ours)

    def _start_postgres(self) -> None:
        if self.state("postgresql").status == "stale":
            # Verified above not to be this cluster's postmaster: PostgreSQL itself would refuse if the PID is in use.
            stale = self.here.data_directory / "postmaster.pid"
            self.here.shell.run(["rm", "-f", str(stale)], account=self.here.account).checked()
        try:
            self._pg_ctl("start", "-s", "-l", str(self.log("postgresql")))
        except CommandFailed as error:
            raise CommandFailed(self.here.name, error.argv, error.status, self._last_words("postgresql")) from None

    def _pg_ctl(self, *arguments: str) -> None:
        seconds = self.here.site.deadlines.start_s
        directory = str(self.here.data_directory)
        command = ("pg_ctl", arguments[0], "-D", directory, "-w", "-t", str(int(seconds)), *arguments[1:])
        self.here.postgresql(*command, timeout_s=seconds + 5).checked()

    def _holder(self, service: str, dying_s: float = 0.0) -> Listener | None:
        """Who listens on the service's port; None: nobody, or it has no port. A process that was killed is gone a moment before
        its socket is: that one gets ``dying_s``."""
        port, end = self._port(service), time.monotonic() + dying_s
        if port is None:
            return None
        while (holder := self.here.listener(port)) and holder.pid is None and time.monotonic() < end:
            time.sleep(0.05)
        return holder

    def _port(self, service: str) -> int | None:
        return self.here.config.embedding.port if service == "embedding" and self.here.config.embedding else None

    def _unclaimed(self, service: str) -> ServiceState:
        """Without a PID file: a process with exactly our command on our port is ours, spawned by a run that was killed."""
        holder = self._holder(service)
        process = pidfile.living(holder.pid) if holder and holder.pid else None
        if process is None or not pidfile.alike(pidfile.cmdline(process), self.command(service)):
            return ServiceState("stopped")
        pidfile.claim(self.pid_file(service), process, pidfile.cmdline(process))
        return pidfile.alive(process)

    def _start_plain(self, service: str) -> None:
        if service == "embedding" and self.here.config.embedding is None:
            raise UsageError(f"site {self.here.site.name} asks for no embedding service on {self.here.name}")
        if holder := self._holder(service, dying_s=DYING_S):
            held = f"port {holder.port} is held by PID {holder.pid or 'unknown'}: {holder.command}"
            raise AyaError(f"{self.here.name}: {held}", hint="Stop that process, or give the service another port")
        process = pidfile.spawn(self.here, self.command(service), self.log(service))
        pidfile.claim(self.pid_file(service), process, self.command(service))
        self._wait_until_it_serves(service, process, self._port(service))

    def _wait_until_it_serves(self, service: str, process: psutil.Process, port: int | None) -> None:
        """A service with a port listens; another has said in its file that it is there."""
        file = daemon_file if service == "sync" else receiver_file

        def serves() -> bool:
            return self.here.listener(port) is not None if port else _says(file(self.here.site), process.pid)

        found = wait.until(
            lambda: "ended" if pidfile.living(process.pid) is None else "serves" if serves() else "",
            bool,
            node=self.here.name,
            what=f"{service} listens on port {port}" if port else f"{service} runs",
            deadline_s=self.here.site.deadlines.start_s,
        )
        if found == "ended":
            self.pid_file(service).unlink(missing_ok=True)
            raise AyaError(f"{self.here.name}: {service} ended at once: {self._last_words(service)}", hint=str(self.log(service)))

    def _last_words(self, service: str) -> str:
        log = self.log(service)
        return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-3:]) if log.exists() else "no log"


def _says(file: Path, pid: int) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["pid"] == pid)
    except (FileNotFoundError, ValueError, KeyError):
        return False
