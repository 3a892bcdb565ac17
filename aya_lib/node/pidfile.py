"""Plain processes and their PID files, which are never trusted blindly.

One counts only when the process it names is alive and is the one it should be. The time of a start does not tell: when the
machine's clock is set, that of every process moves with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from aya_lib import files, settings
from aya_lib.node.host import Host
from aya_lib.node.ssh import Ssh
from aya_lib.node.supervisor import ServiceState

POLL_S = 0.02


def run_file(node: Host, name: str) -> Path:
    """Where a node's PID files and marks are: ``<node>-<name>`` below the site's ``run``."""
    return node.site.root / "run" / f"{node.name.lower()}-{name}"


def log_file(node: Host, service: str) -> Path:
    return node.site.root / "log" / f"{node.name.lower()}-{service}.log"


def claim(path: Path, process: psutil.Process, command: Sequence[str]) -> None:
    """Write whose PID file it is."""
    files.write(path, json.dumps({"pid": process.pid, "command": list(command)}))


def state(path: Path, command: Sequence[str]) -> ServiceState:
    """The process that the file claims; *stopped* when there is no file, *stale* when the claim is not true."""
    try:
        claimed = json.loads(path.read_text(encoding="utf-8"))
        pid, words = int(claimed["pid"]), list(claimed["command"])
    except FileNotFoundError:
        return ServiceState("stopped")
    except (ValueError, KeyError, TypeError):
        return ServiceState("stale", detail=f"{path.name} is not readable")
    return named(path.name, pid, lambda process: cmdline(process) == words and alike(words, command))


def named(file: str, pid: int, ours: Callable[[psutil.Process], bool]) -> ServiceState:
    """The process with this PID, if it is ``ours``; else the file is stale."""
    process = living(pid)
    if process is None:
        return ServiceState("stale", detail=f"{file} names PID {pid}, which is gone")
    if not ours(process):
        return ServiceState("stale", detail=f"{file} names PID {pid}, which is another process")
    return alive(process)


def alike(words: Sequence[str], command: Sequence[str]) -> bool:
    """Whether two argument lists are one command: the same interpreter goes by several names (``python``, ``python3``)."""
    return len(words) == len(command) and list(words[1:]) == list(command[1:])


def living(pid: int) -> psutil.Process | None:
    """The process with this PID, if it is alive."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    return process if runs(process) else None


def runs(process: psutil.Process) -> bool:
    """Whether it is there still; one that only waits to be reaped has ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(processes: Collection[psutil.Process], deadline_s: float) -> bool:
    """Wait until all of them have ended; False when one runs still after the deadline."""
    due = time.monotonic() + deadline_s
    while any(map(runs, processes)):
        if time.monotonic() > due:
            return False
        time.sleep(POLL_S)
    return True


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def alive(process: psutil.Process) -> ServiceState:
    """Running, or frozen by a signal."""
    frozen = process.status() == psutil.STATUS_STOPPED
    since = datetime.fromtimestamp(process.create_time(), UTC)
    return ServiceState("frozen" if frozen else "running", process.pid, since, "stopped by a signal" if frozen else "")


def spawn(node: Host, command: Sequence[str], log: Path) -> psutil.Process:
    """Start a program of ``node`` that is to outlive us: in a session of its own, its output in a log, with our sites. On a node
    with ssh it is started there; the process table is shared (see :mod:`aya_lib.node.process`)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    places = {"AYA_PARAMETERS": str(settings.parameters()), "AYA_NODE": node.name}
    if isinstance(node.shell, Ssh):
        return psutil.Process(node.shell.spawn(command, log, places))
    words: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True, "cwd": "/", "env": {**os.environ, **places}}
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **words)
    process.returncode = 0  # it is meant to outlive us: nothing waits for its end
    return psutil.Process(process.pid)


def thaw(pid: int) -> None:
    """Let a process that was stopped by a signal, and its children, go on."""
    process = living(pid)
    for member in [process, *process.children(recursive=True)] if process else []:
        member.resume()


def end(pid: int, deadline_s: float) -> None:
    """SIGTERM; SIGKILL when the process is still there after the deadline."""
    process = living(pid)
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        if not ended([process], deadline_s):
            process.kill()
            ended([process], deadline_s)
