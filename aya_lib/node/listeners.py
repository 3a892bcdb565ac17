"""Who listens on a TCP port: from the process table here, from lsof or ss on another machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from aya_lib.errors import MissingProgram
from aya_lib.node.shell import Shell
from aya_lib.node.supervisor import Listener

HIDDEN = "a process of another account"
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
EARLY = 12  # files of a process that are read first


def local_listener(shell: Shell, port: int) -> Listener | None:
    """Who listens on the port of this machine; where the system hides it from us (macOS), as :func:`remote_listener`."""
    if TABLES[0].exists():
        sockets = _sockets(port)
        pid = _owner(sockets) if sockets else None
        return Listener(port, pid, command(pid) if pid else HIDDEN) if sockets else None
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return remote_listener(shell, port)
    for entry in connections:
        if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port:
            return Listener(port, entry.pid, command(entry.pid) if entry.pid else HIDDEN)
    return None


def _sockets(port: int) -> set[str]:
    """What Linux calls the sockets that listen on the port, as a process's folder of files names them."""
    row = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A (?:\S+ +){{5}}(\d+)")  # 0A: LISTEN; the ninth column is the inode
    found = (row.findall(table.read_text()) for table in TABLES if table.exists())
    return {f"socket:[{inode}]" for inode in next(filter(None, found), [])}


def _owner(sockets: set[str]) -> int | None:
    """The process that has one of them open. A program opens the socket on which it listens among its first files, so these are
    read first of all processes; None: none whose files we may read."""
    for early in (True, False):
        for pid in psutil.pids():
            try:
                files = [file for file in os.listdir(f"/proc/{pid}/fd") if (int(file) < EARLY) is early]
                if any(_file(pid, file) in sockets for file in files):
                    return pid
            except OSError:
                continue
    return None


def _file(pid: int, file: str) -> str:
    """What it is; empty when it was closed meanwhile."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{file}")
    except FileNotFoundError:
        return ""


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
