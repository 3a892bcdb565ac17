"""A data directory while its node is brought back: what stands beside it (a clone, old directories, a journal of what was made),
and the old one started once more without network (:mod:`aya_lib.cluster.scratch`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aya_lib.cluster import scratch, wal
from aya_lib.cluster.replication import Slot
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.shell import read

# A slot's name, its database (0: physical) and persistency (0: it lasts). (PostgreSQL: ReplicationSlotOnDisk in slot.c.)
LIST_SLOTS = (
    'for slot in "$1"/pg_replslot/*; do [ -f "$slot/state" ] || continue; '
    'echo "${slot##*/} $(od -An -tu4 -j80 -N8 "$slot/state")"; done'
)


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
    ``copies``: PIDs of pg_basebackup and pg_rewind that run on for one. ``slots``: over which others read, before a copy.
    ``wal_link``: its pg_wal lies elsewhere.
    """

    data: bool
    link: bool
    incoming: bool
    journal: Journal | None
    kept: tuple[str, ...]
    may_write: bool
    scratch: bool
    copies: tuple[int, ...] = ()
    slots: tuple[Slot, ...] = ()
    wal_link: bool = False


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
    server = data and scratch.is_scratch(read(node.shell, here / "postmaster.pid", account=node.account) or "")
    may_write, copies = _test(node, "-w", here.parent), look_copies(node)
    slots = read(node.shell, own_settings(node) / "slots", account=node.account) if own_settings(node).name in names else None
    found = parse_journal(text), kept, may_write, server, copies, parse_slots(slots or "", node.site.replication.slot)
    return Staging(data, link, incoming(node).name in names, *found, data and _test(node, "-L", wal.folder(node)))


def look_slots(node: Node) -> tuple[Slot, ...]:
    """The slots in the node's data directory, server running or not, without the site's own."""
    words = ["sh", "-c", LIST_SLOTS, "sh", str(node.data_directory)]
    return parse_slots(node.shell.run(words, account=node.account).checked().stdout, node.site.replication.slot)


def parse_slots(text: str, own: str) -> tuple[Slot, ...]:
    """What :data:`LIST_SLOTS` printed, without temporary slots and ``own``."""
    found = re.findall(r"^(\w+) +(\d+) +0$", text, re.MULTILINE)
    return tuple(Slot(name, False, None, None, None, int(database) > 0) for name, database in found if name != own)


def look_copies(node: Node) -> tuple[int, ...]:
    """PIDs of copies into this node's folders: each is known by its program and by the folder that it writes to."""
    table = node.shell.run(["ps", "-A", "-ww", "-o", "pid=,args="]).checked().stdout
    return parse_copies(table, {"pg_basebackup": incoming(node), "pg_rewind": node.data_directory})


def parse_copies(table: str, targets: Mapping[str, Path]) -> tuple[int, ...]:
    """The processes in ``ps``'s table (PID, arguments) that are one of these programs with its target as option -D."""
    found = re.findall(r"^\s*(\d+)\s+(\S+)( .*)$", table, re.MULTILINE)
    return tuple(int(pid) for pid, path, rest in found if f" -D {targets.get(Path(path).name)} " in f"{rest} ")


def parse_journal(text: str | None) -> Journal | None:
    """A journal that a kill left damaged says nothing: what it spoke of is made anew."""
    try:
        return Journal(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def end_scratch(node: Node) -> None:
    """End a scratch server that a killed run left on the data directory."""
    scratch.end(node, node.data_directory)


def end_copies(node: Node) -> None:
    """End the copies that a killed run left; :class:`DeadlinePassed` when one does not end. What they wrote is made anew."""
    pids = look_copies(node)
    if pids:
        node.shell.run(["kill", "-KILL", *map(str, pids)], account=node.account)
        limit = node.site.deadlines.command_s
        wait.until(lambda: look_copies(node), lambda left: not left, node=node.name, what="copies are ended", deadline_s=limit)


def _test(node: Node, flag: str, path: Path) -> bool:
    return node.shell.run(["test", flag, str(path)], account=node.account).status == 0


def _sibling(node: Node, ending: str) -> Path:
    return node.data_directory.with_name(f"{node.data_directory.name}.{ending}")
