"""The WAL archive as the standby sees it, beside the oldest WAL that the primary still has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aya_lib.node.node import Node
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, seen
from aya_lib.site import Site


@dataclass(frozen=True)
class Archive:
    """``files``: name -> bytes. ``oldest``: name of the oldest segment in the primary's pg_wal."""

    node: str
    directory: str
    files: Mapping[str, int]
    segment_bytes: int
    oldest: str


@dataclass(frozen=True)
class _Oldest:
    segment_bytes: int
    oldest: str


def directory(site: Site) -> Path | None:
    """The archive's folder; None when the site keeps none."""
    found = site.replication.archive_directory
    return site.path(found) if found else None


def look(standby: Node, primary: Node) -> Archive | Missing | None:
    """List the archive on the standby, as the account that would restore from it; None when the site keeps no archive."""
    where = directory(standby.site)
    if where is None:
        return None

    def ask() -> Archive:
        listed = standby.shell.run(["ls", "-ln", str(where)], account=standby.account).checked()
        with primary.session(database="postgres") as connection:
            found = rows(connection, __package__, "archive", _Oldest)[0]
        return Archive(standby.name, str(where), parse_listing(listed.stdout), found.segment_bytes, found.oldest)

    return seen(standby.name, f"the archive {where}", ask)


def parse_listing(text: str) -> dict[str, int]:
    """Output of ``ls -ln``: name and size of each file (WAL's names hold no blanks)."""
    lines = [line.split() for line in text.splitlines() if line.startswith("-")]
    return {fields[-1]: int(fields[4]) for fields in lines if len(fields) >= 9}
