"""What the keeper's repository holds, in one look; and how its records are read and written. No database is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from aya_lib.backup.records import Backup, Position, Receiver, Repository, Segment
from aya_lib.cluster.machine import parse_df
from aya_lib.errors import CommandFailed, UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, Otherwise, seen
from aya_lib.site import Backup as Section
from aya_lib.site import Site

LABEL = r"\d{8}T\d{6}Z-(?:full|incremental)"
LOOK_S = 60.0  # a listing of some thousand files of WAL, and as many records as there are backups
# Each part begins with a line of its own, which no file of text has: record separator, then its name.
SCRIPT = r"""
say() { printf '\n\036%s\n' "$1"; }
text() { cat -- "$1" 2>&1; }
cd -- "$1" 2>/dev/null || { test ! -e "$1" && echo absent && exit; cd -- "$1" || exit; }
say now; date -u +%s
say disk; df -Pk .
say id; text repository.json
say receiver; test -e receiver.json && text receiver.json
say wal; test -d wal && ls -lnR wal
for f in wal/*.history; do test -f "$f" && say "history ${f#wal/}" && text "$f"; done
for d in backups/*.part; do test -d "$d" && say "left ${d#backups/}"; done
for d in backups/*Z-full backups/*Z-incremental; do test -d "$d" && say "backup ${d#backups/}" && text "$d/backup.json"; done
say busy; ps -A -ww -o args= | grep -F " aya-lock $1 " | grep -v grep
exit 0
"""
_BACKUP: TypeAdapter[Backup] = TypeAdapter(Backup)


@dataclass(frozen=True)
class NoRepository(Otherwise):
    """There is none yet: no backup was ever made."""


def section(site: Site) -> Section:
    """The site's own; :class:`UsageError` when it makes no backups."""
    if site.backup is None:
        raise UsageError(f"site {site.name} keeps no backups", hint="Add the section backup to its site.yaml: docs/backup.md")
    return site.backup


def keeper(nodes: Nodes) -> Node:
    """The node that holds the repository."""
    return nodes[section(nodes.site).node]


def folder(site: Site) -> Path:
    """The repository's folder, on the keeper."""
    return site.path(section(site).directory)


def place(site: Site, label: str) -> Path:
    """A backup's folder, on the keeper."""
    return folder(site) / "backups" / label


def look(nodes: Nodes) -> Repository | Missing:
    """The repository as it is now; :class:`NoRepository` before the first backup. :class:`UsageError` where the site has none."""
    return look_at(keeper(nodes))


def look_at(node: Node, where: Path | None = None) -> Repository | Missing:
    """The same, of the keeper itself; ``where``: another folder that has the form of a repository."""
    where = where or folder(node.site)

    def ask() -> Repository | Missing:
        words = ["sh", "-c", SCRIPT, "sh", str(where)]
        output = node.shell.run(words, account=node.account, timeout_s=LOOK_S).checked()
        if output.stdout.strip() == "absent":
            return NoRepository(node.name, f"keeps no backups yet: there is no folder {where}")
        return parse(node.name, str(where), output.stdout)

    return seen(node.name, f"look into {where}", ask)


def parse(node: str, directory: str, text: str) -> Repository | Missing:
    """Of what :data:`SCRIPT` printed. A record that cannot be read is named, and does not end the look."""
    parts = [part.partition("\n") for part in text.split("\n\x1e")[1:]]
    named = {name: body.strip("\n") for name, _, body in parts}
    own = _object(named["id"])
    if not {"system_identifier", "segment_bytes"} <= own.keys():
        if "No such file" in named["id"]:
            return NoRepository(node, f"keeps no backups yet: {directory} has no repository.json")
        raise CommandFailed(node, ["cat", f"{directory}/repository.json"], 0, f"it is damaged: {named['id'][:80]}")
    backups: list[Backup] = []
    damaged: dict[str, str] = {}
    for label, body in _each(named, "backup "):
        try:
            backups.append(_recorded(label, body))
        except ValueError as error:
            damaged[label] = f"its record backup.json cannot be read: {' '.join(str(error).split())[:200]}"
    history = {int(name[:8], 16): body for name, body in _each(named, "history ") if re.fullmatch(r"[0-9A-F]{8}\.history", name)}
    receiver, flushed = receiver_of(named["receiver"])
    busy = named["busy"].split(f" aya-lock {directory} ")[-1].strip()
    return Repository(
        node=node,
        directory=directory,
        system_identifier=str(own["system_identifier"]),
        segment_bytes=int(str(own["segment_bytes"])),
        backups=tuple(sorted(backups, key=lambda one: one.ended)),
        segments=tuple(segments(named["wal"])),
        history=history,
        receiver=receiver,
        flushed=flushed,
        free_bytes=parse_df(node, named["disk"] + "\n"),
        now=datetime.fromtimestamp(int(named["now"]), UTC),
        left=() if busy else tuple(label for label, _ in _each(named, "left ")),
        damaged=damaged,
        busy=busy,
    )


def segments(listing: str) -> Iterator[Segment]:
    """The WAL in what ``ls -lnR wal`` printed, in order; other files are none of it."""
    found: list[Segment] = []
    below = ""
    for line in listing.splitlines():
        if line.endswith(":"):
            below = line[:-1].partition("/")[2]
        fields = line.split()
        name = re.fullmatch(r"([0-9A-F]{24})(\.partial)?", fields[-1]) if line.startswith("-") and len(fields) >= 9 else None
        if name:
            found.append(Segment(name[1], int(fields[4]), name[2] is not None, below))
    yield from sorted(found, key=lambda one: (one.name, one.partial, one.folder))


def receiver_of(text: str) -> tuple[Receiver, Position | None]:
    """What the receiver's file says, and how far WAL is safe; without a file there is no receiver."""
    said = _object(text)
    state, at = said.get("state"), _time(said.get("at"))
    if state not in ("receiving", "waiting", "gone") or at is None:
        return Receiver("gone", reason="it was never started" if not text else "its file receiver.json cannot be read"), None
    gaps = said.get("gaps")
    named = tuple(map(str, gaps)) if isinstance(gaps, list) else ()
    found = Receiver(state, at, str(said.get("reason", "")), str(said.get("source", "")), named)
    safe_at, timeline, flushed = _time(said.get("safe_at")), said.get("timeline"), said.get("flushed")
    known = safe_at is not None and isinstance(timeline, int) and isinstance(flushed, str)
    return found, Position(timeline, flushed, safe_at) if known else None  # type: ignore[arg-type]


def written(backup: Backup) -> str:
    """The text of a backup's record."""
    return _BACKUP.dump_json(backup, indent=1).decode() + "\n"


def _recorded(label: str, text: str) -> Backup:
    try:
        found = _BACKUP.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()) from None
    if found.label != label:
        raise ValueError(f"it is that of {found.label}")
    return found


def _each(named: Mapping[str, str], kind: str) -> list[tuple[str, str]]:
    return [(name.removeprefix(kind), body) for name, body in named.items() if name.startswith(kind)]


def _object(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
