"""What a build can have on a node: free disk below the data directory, and memory. Parsers of Linux's and macOS's programs."""

from __future__ import annotations

import re
from pathlib import Path

from aya_lib.errors import CommandFailed
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.node.unseen import Missing, seen


def free_bytes(node: Node, folder: Path | None = None) -> int | Missing:
    """Bytes that are free on the disk of a folder; by default the data directory."""
    where = folder or node.data_directory

    def ask() -> int:
        output = node.shell.run(["df", "-Pk", str(where)], account=node.account).checked()
        return parse_df(node.name, output.stdout)

    return seen(node.name, f"df {where}", ask)


def memory_bytes(node: Node) -> int | Missing:
    """Bytes of memory that programs can have without swapping."""

    def ask() -> int:
        text = read(node.shell, Path("/proc/meminfo"))
        if text is not None:
            return parse_meminfo(node.name, text)
        return parse_vm_stat(node.name, node.shell.run(["vm_stat"]).checked().stdout)

    return seen(node.name, "look at the memory", ask)


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
