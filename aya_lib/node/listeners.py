"""Who listens on a TCP port: from the process table here, from lsof or ss on another machine."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from aya_lib.errors import MissingProgram
from aya_lib.node.shell import Shell
from aya_lib.node.supervisor import Listener

HIDDEN = "a process of another account"


def local_listener(shell: Shell, port: int) -> Listener | None:
    """Who listens on the port of this machine; where the system hides it from us (macOS), as :func:`remote_listener`."""
    if _nobody(port):
        return None
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return remote_listener(shell, port)
    for entry in connections:
        if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port:
            return Listener(port, entry.pid, command(entry.pid) if entry.pid else HIDDEN)
    return None


def _nobody(port: int) -> bool:
    """Whether Linux lists no listener on the port: cheap, while finding whose a socket is reads every process's files."""
    tables = [path for name in ("tcp", "tcp6") if (path := Path("/proc/net") / name).exists()]
    rows = [line.split() for path in tables for line in path.read_text().splitlines()[1:]]
    return bool(tables) and not any(row[3] == "0A" and row[1].endswith(f":{port:04X}") for row in rows)  # 0A: LISTEN


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
