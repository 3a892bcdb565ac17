"""The files of the write-ahead log in a node's ``pg_wal``, server running or not."""

from __future__ import annotations

import re
from pathlib import Path

from aya_lib.cluster.lsn import lsn, number
from aya_lib.node.node import Node

SEGMENT = re.compile(r"[0-9A-F]{24}")


def folder(node: Node) -> Path:
    return node.data_directory / "pg_wal"


def segments(node: Node) -> list[str]:
    """Names of the WAL segments in the node's ``pg_wal``, in order."""
    output = node.shell.run(["ls", "-1", "--", str(folder(node))], account=node.account).checked()
    return sorted(line for line in output.stdout.split() if SEGMENT.fullmatch(line))


def name(timeline: int, position: int, segment_bytes: int) -> str:
    """The name of the segment that holds a position. (PostgreSQL: XLogFileName.)"""
    number, each = position // segment_bytes, (1 << 32) // segment_bytes
    return f"{timeline:08X}{number // each:08X}{number % each:08X}"


def position(segment: str, segment_bytes: int) -> int:
    """Where a segment begins."""
    return (int(segment[8:16], 16) * ((1 << 32) // segment_bytes) + int(segment[16:], 16)) * segment_bytes


def stretch(timeline: int, start: str, present: list[str], segment_bytes: int, end: str | None = None) -> tuple[str, str, str]:
    """The first and the last of the segments that follow one another without a gap from ``start`` on, and the position at which
    they end, at most ``end``: what pg_waldump is given to read.

    The files are named to it because it learns the size of a segment from the first file that the folder gives, and stops when
    that is one that the server only made beforehand, all zeros.
    """
    first = last = number(start) // segment_bytes
    limit = number(end) if end else 1 << 64
    while (last + 1) * segment_bytes < limit and name(timeline, (last + 1) * segment_bytes, segment_bytes) in present:
        last += 1
    until = lsn(min((last + 1) * segment_bytes, limit))
    return name(timeline, first * segment_bytes, segment_bytes), name(timeline, last * segment_bytes, segment_bytes), until
