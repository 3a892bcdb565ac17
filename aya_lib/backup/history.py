"""The timelines that a repository's WAL ran through. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.backup.records import Position, Repository
from aya_lib.cluster.lsn import lsn, number
from aya_lib.cluster.server import parse_history


@dataclass(frozen=True)
class Stretch:
    """The part of a timeline that a history runs through, in bytes; ``end`` None: it goes on."""

    timeline: int
    start: int
    end: int | None


def path_of(repository: Repository, timeline: int) -> list[Stretch] | None:
    """The history of a timeline, oldest part first; None when its file is missing."""
    if timeline > 1 and timeline not in repository.history:
        return None
    switches = parse_history(repository.history.get(timeline, ""))
    ends = [*((one.timeline, number(one.lsn)) for one in switches), (timeline, None)]
    starts = [0, *(number(one.lsn) for one in switches)]
    return [Stretch(each, start, end) for (each, end), start in zip(ends, starts, strict=True)]


def off(path: list[Stretch], place: Position) -> str:
    """Why a position is not on a history; empty: it is."""
    part = next((one for one in path if one.timeline == place.timeline), None)
    if part is None:
        return f"timeline {place.timeline} does not lead to timeline {path[-1].timeline}"
    if part.end is not None and number(place.lsn) > part.end:
        return f"timeline {path[-1].timeline} left timeline {place.timeline} at {lsn(part.end)}, before {place.lsn}"
    return ""
