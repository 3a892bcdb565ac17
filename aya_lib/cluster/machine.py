"""The machine below a server: free disk, memory, and processes that a signal stopped. Parsers of Linux's and macOS's programs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aya_lib.errors import CommandFailed
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.node.unseen import Missing, looking, seen

# The postmaster and its children that are in state T: ps of Linux and of macOS print it alike. Where the kernel names the
# children, only they are read.
STOPPED = """df -Pk -- "$1" "$1/pg_wal" || exit; echo; read -r p < "$1/postmaster.pid" 2>/dev/null || exit 0
set -- -A
children=$(cat "/proc/$p/task/$p/children" 2>/dev/null) && set -- -p "$p" && for c in $children; do set -- "$@" -p "$c"; done
all=$(ps "$@" -o pid=,ppid=,stat=,args=) || exit
printf '%s\\n' "$all" | awk -v p="$p" '($1 == p || $2 == p) && $3 ~ /^T/ { $2 = $3 = ""; print }'"""


@dataclass(frozen=True)
class Machine:
    """``free``: bytes on the disk of the data directory and of ``pg_wal``; ``stopped``: PID and title of each of the server's
    processes that a signal stopped."""

    node: str
    free: Mapping[str, int]
    stopped: tuple[str, ...] = ()


@looking("df {node.data_directory}")
def look(node: Node) -> Machine:
    """Both in one command, as the cluster's owner."""
    where = str(node.data_directory)
    output = node.shell.run(["sh", "-c", STOPPED, "sh", where], account=node.account).checked()
    disks, _, stopped = output.stdout.partition("\n\n")
    free = {
        folder: parse_df(node.name, line) for folder, line in zip((where, f"{where}/pg_wal"), disks.splitlines()[1:], strict=True)
    }
    return Machine(node.name, free, tuple(" ".join(line.split()) for line in stopped.splitlines()))


def free_bytes(node: Node, folder: Path | None = None) -> int | Missing:
    """Bytes that are free on the disk of a folder; by default the data directory."""
    where = folder or node.data_directory

    def ask() -> int:
        output = node.shell.run(["df", "-Pk", str(where)], account=node.account).checked()
        return parse_df(node.name, output.stdout)

    return seen(node.name, f"df {where}", ask)


@looking("look at the memory")
def memory_bytes(node: Node) -> int:
    """Bytes of memory that programs can have without swapping."""
    text = read(node.shell, Path("/proc/meminfo"))
    if text is not None:
        return parse_meminfo(node.name, text)
    return parse_vm_stat(node.name, node.shell.run(["vm_stat"]).checked().stdout)


def parse_df(node: str, text: str) -> int:
    """Free bytes, of what ``df -Pk`` printed for one folder; :class:`CommandFailed` when no line has them."""
    found = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", text)
    if not found:
        raise CommandFailed(node, ["df", "-Pk"], 0, f"no line with sizes in its output: {text}")
    return int(found[1]) * 1024


def parse_meminfo(node: str, text: str) -> int:
    """Bytes that programs can have without swapping, of Linux's ``/proc/meminfo``."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    if not found:
        raise CommandFailed(node, ["cat", "/proc/meminfo"], 0, "no line MemAvailable in its output")
    return int(found[1]) * 1024


def parse_vm_stat(node: str, text: str) -> int:
    """The same of macOS's ``vm_stat``: pages that are free, and those that are given up first."""
    size = re.search(r"page size of (\d+) bytes", text)
    pages = dict(re.findall(r"^Pages (free|inactive|speculative|purgeable):\s+(\d+)\.", text, re.MULTILINE))
    if not size or "free" not in pages:
        raise CommandFailed(node, ["vm_stat"], 0, "no page size, or no line 'Pages free', in its output")
    return int(size[1]) * sum(map(int, pages.values()))
