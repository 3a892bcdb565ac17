"""Who listens on a TCP port: from Linux's own lists here, from lsof or ss on another machine."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from pathlib import Path

import psutil

from aya_lib.errors import MissingProgram
from aya_lib.node import sock_diag
from aya_lib.node.shell import Shell
from aya_lib.node.supervisor import Listener

HIDDEN = "a process of another account"
LAST: dict[int, int] = {}  # port: PID, to be looked at first; it counts only while that process has the very socket


def local_listener(shell: Shell, port: int) -> Listener | None:
    """Who listens on the port of this machine; where the system has no list of sockets (macOS), as :func:`remote_listener`."""
    inodes = _listening(port)
    if inodes is None:
        return remote_listener(shell, port)
    if not inodes:
        return None
    pid = _holder(port, {f"socket:[{inode}]" for inode in inodes})
    return Listener(port, pid, command(pid) if pid else HIDDEN)


def _listening(port: int) -> set[int] | None:
    """Inodes of the sockets that listen on the port; None where there is no list of them."""
    if hasattr(socket, "AF_NETLINK"):
        with suppress(OSError):
            return sock_diag.listening(port)
    tables = [path.read_text() for name in ("tcp", "tcp6") if (path := Path("/proc/net", name)).exists()]
    row = re.compile(rf"^ *\d+: \w+:{port:04X} \S+ 0A (?:\S+ +){{5}}(\d+)", re.MULTILINE)  # 0A: LISTEN; the last one: inode
    return {int(inode) for table in tables for inode in row.findall(table)} if tables else None


def _holder(port: int, sockets: set[str]) -> int | None:
    """The process that has one of these sockets open. Reading the files of all processes is the dear part, so whoever had the
    port last is asked first; else the oldest, before those that it forked."""
    for pid in (LAST.get(port, 0), *psutil.pids()):  # 0 is nobody
        if any(_leads_to(file, sockets) for file in _files(pid)):
            LAST[port] = pid
            return pid
    return None


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
