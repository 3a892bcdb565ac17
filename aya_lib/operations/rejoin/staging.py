"""What stands beside a data directory while a node is brought back: a clone, old directories, and a journal of what was made."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from aya_lib.node.node import Node
from aya_lib.node.shell import read


@dataclass(frozen=True)
class Journal:
    """``done`` False: pg_rewind began and has not said that it ended."""

    node: str
    method: str
    system_identifier: str
    timeline: int
    done: bool


@dataclass(frozen=True)
class Staging:
    """What stands beside the data directory. ``journal``: what an earlier run wrote about the copy that it made.

    ``kept``: old data directories. ``scratch``: a server without network runs on the data directory, left by a killed run.
    """

    data: bool
    link: bool
    incoming: bool
    journal: Journal | None
    kept: tuple[str, ...]
    may_write: bool
    scratch: bool


def incoming(node: Node) -> Path:
    """Where a clone is made, beside the data directory."""
    return _sibling(node, "incoming")


def journal(node: Node) -> Path:
    return _sibling(node, "rejoin.json")


def own_settings(node: Node) -> Path:
    """Where the node's own configuration files are kept while a copy is made."""
    return _sibling(node, "rejoin.conf")


def look_staging(node: Node) -> Staging:
    """One look at the folder that the data directory stands in."""
    here = node.data_directory
    names = node.shell.run(["ls", "-1A", "--", str(here.parent)], account=node.account).checked().stdout.split("\n")
    data = here.name in names
    link = data and _test(node, "-L", here)
    text = read(node.shell, journal(node), account=node.account) if journal(node).name in names else None
    kept = tuple(sorted(name for name in names if re.fullmatch(re.escape(here.name) + r"\.before-[0-9TZ]+", name)))
    scratch = data and is_scratch(read(node.shell, here / "postmaster.pid", account=node.account) or "")
    return Staging(data, link, incoming(node).name in names, parse_journal(text), kept, _test(node, "-w", here.parent), scratch)


def parse_journal(text: str | None) -> Journal | None:
    """A journal that a kill left damaged says nothing: what it spoke of is made anew."""
    try:
        return Journal(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def is_scratch(postmaster_pid: str) -> bool:
    """Whether a postmaster.pid is that of a server without network: its sixth line, the first listen address, is empty."""
    lines = postmaster_pid.split("\n")
    return len(lines) > 7 and not lines[5].strip()


def _test(node: Node, flag: str, path: Path) -> bool:
    return node.shell.run(["test", flag, str(path)], account=node.account).status == 0


def _sibling(node: Node, ending: str) -> Path:
    return node.data_directory.with_name(f"{node.data_directory.name}.{ending}")
