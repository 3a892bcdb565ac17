"""Who listens on a TCP port: from Linux's own lists here, from lsof or ss on another machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from aya_lib.errors import MissingProgram
from aya_lib.node.shell import Shell
from aya_lib.node.supervisor import Listener

HIDDEN = "a process of another account"


def local_listener(shell: Shell, port: int) -> Listener | None:
    """Who listens on the port of this machine; where the system has no list of sockets (macOS), as :func:`remote_listener`."""
    tables = [path.read_text() for name in ("tcp", "tcp6") if (path := Path("/proc/net", name)).exists()]
    if not tables:
        return remote_listener(shell, port)
    row = re.compile(rf"^ *\d+: \w+:{port:04X} \S+ 0A (?:\S+ +){{5}}(\d+)", re.MULTILINE)  # 0A: LISTEN; the last one: inode
    sockets = {f"socket:[{inode}]" for table in tables for inode in row.findall(table)}
    if not sockets:
        return None
    # Whose it is costs a look at every process's files, so only then; in order: who opened it before those that it forked.
    pid = next((pid for pid in psutil.pids() if any(_leads_to(file, sockets) for file in _files(pid))), None)
    return Listener(port, pid, command(pid) if pid else HIDDEN)


def _files(pid: int) -> list[str]:
    """The open files of a process; none when it has ended, or is another account's."""
    try:
        return [f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def _leads_to(file: str, targets: set[str]) -> bool:
    try:
        return os.readlink(file) in targets
    except OSError:
        return False  # closed meanwhile


def command(pid: int) -> str:
    """The command line of a process of this machine, shortened to 120 characters."""
    try:
        return " ".join(" ".join(psutil.Process(pid).cmdline()).split())[:120] or psutil.Process(pid).name()
    except psutil.Error:
        return HIDDEN


def remote_listener(shell: Shell, port: int) -> Listener | None:
    """Who listens on the port, by ``lsof`` or ``ss``; :class:`MissingProgram` when the node has neither.

    Without root's rights both see another account's socket but not its process: ``pid`` is None then.
    """
    for argv, parse in (
        (["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-F", "pcn"], parse_lsof),
        (["ss", "-H", "-ltnp", f"sport = :{port}"], parse_ss),
    ):
        try:
            output = shell.run(argv)
        except MissingProgram:
            continue
        if argv[0] == "lsof" and output.status == 1 and not output.stderr.strip():
            return None  # lsof's status when nothing was found
        return parse(output.checked().stdout, port)
    raise MissingProgram(f"{shell.node}: neither lsof nor ss is there to tell who listens on port {port}")


def parse_lsof(text: str, port: int) -> Listener | None:
    """Output of ``lsof -F pcn``: one field a line, its letter first."""
    pid = re.search(r"^p(\d+)$", text, re.MULTILINE)
    name = re.search(r"^c(.+)$", text, re.MULTILINE)
    return Listener(port, int(pid[1]), name[1] if name else "") if pid else None


def parse_ss(text: str, port: int) -> Listener | None:
    """Output of ``ss -H -ltnp``: one socket a line, its processes in the last column when they may be seen."""
    if not text.strip():
        return None
    found = re.search(r'users:\(\("([^"]*)",pid=(\d+)', text)
    return Listener(port, int(found[2]), found[1]) if found else Listener(port, None, HIDDEN)
