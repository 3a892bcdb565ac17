"""What a run has measured, kept line by line, so that one that was broken off goes on from there.

A journal belongs to its corpus, metric, k, server and way of asking; a run that ends whole removes it, so that the next
one measures afresh.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pydantic import TypeAdapter

from aya_lib.vectors.index import Index
from aya_lib.vectors.result import Point
from aya_lib.vectors.sandbox import Built
from aya_lib.vectors.truth import folder

Key = tuple[Index, int, str, int]  # index, value of its knob, queries, clients


@dataclass(frozen=True)
class Entry:
    """One line: an index that was built, or a point that was measured."""

    index: Index
    built: Built | None = None
    point: Point | None = None


ENTRY = TypeAdapter(Entry)


class Journal:
    """Points and builds. ``resumed``: how many points were there from before."""

    def __init__(self, key: str) -> None:
        self.path = folder() / "bench" / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.jsonl"
        self.points: dict[Key, Point] = {}
        self.builds: dict[Index, Built] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                self._know(ENTRY.validate_json(line))
            except ValueError:
                continue  # the last line of a run that was killed while it wrote
        self.resumed = len(self.points)

    def add(self, entry: Entry) -> None:
        """Keep one; it is on disk when this returns."""
        self._know(entry)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(ENTRY.dump_json(entry, exclude_none=True) + b"\n")

    def close(self) -> None:
        """The run is whole: nothing is left to go on from."""
        self.path.unlink(missing_ok=True)

    def _know(self, entry: Entry) -> None:
        if entry.built:
            self.builds[entry.index] = entry.built
        if point := entry.point:
            self.points[point.index, point.value, point.queries, point.clients] = point
