"""Which files of WAL a receiver may go on from: pure. pg_receivewal begins after the last whole segment in its folder, so what no
server of this history continues must not be the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import Switch
from aya_lib.cluster.wal import position


@dataclass(frozen=True)
class Begin:
    """``aside``: files that move into a folder of their own. ``again``: a whole segment that is to be received once
    more, from the place where this history left its timeline."""

    aside: tuple[str, ...]
    again: str | None


def begin(names: Sequence[str], timeline: int, history: Sequence[Switch], segment_bytes: int) -> Begin:
    """Of the files in the folder, whole or ``.partial``, for a server on ``timeline`` whose earlier ones ended as in ``history``.

    A later timeline than the server's own stays: the server may not have got there yet, and pg_receivewal says so.
    """
    ends = {switch.timeline: number(switch.lsn) for switch in history}
    aside = tuple(name for name in names if _beyond(name, timeline, ends, segment_bytes))
    whole = [name for name in names if name not in aside and not name.endswith(".partial")]
    last = max(whole, key=_order, default=None)
    if last is None or any(_order(name) > _order(last) for name in names if name not in aside):
        return Begin(aside, None)
    end = ends.get(_timeline(last))
    return Begin(aside, last if end is not None and end < position(last, segment_bytes) + segment_bytes else None)


def next_position(names: Sequence[str], segment_bytes: int) -> int | None:
    """Where pg_receivewal goes on (bytes): after the last whole segment, or where the last begun one begins; None: no files."""
    if not names:
        return None
    last = max(names, key=_order)
    start = position(last[:24], segment_bytes)
    return start if last.endswith(".partial") else start + segment_bytes


def _timeline(name: str) -> int:
    return int(name[:8], 16)


def _order(name: str) -> tuple[str, str, bool]:
    """In the order in which a receiver writes: by timeline, then by place; a whole file is after its begun form."""
    return name[:8], name[8:24], not name.endswith(".partial")


def _beyond(name: str, timeline: int, ends: dict[int, int], segment_bytes: int) -> bool:
    """Whether the file lies on a branch that this server's history does not have."""
    own = _timeline(name)
    if own >= timeline:
        return False
    return own not in ends or position(name[:24], segment_bytes) >= ends[own]
