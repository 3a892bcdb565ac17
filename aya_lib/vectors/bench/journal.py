"""What a run has measured, kept line by line, so that one that was broken off goes on from there.

A journal belongs to its corpus, metric, k, server and way of asking; a run that ends whole removes it, so that the next
one measures afresh.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from aya_lib.vectors.bench.build import Built
from aya_lib.vectors.bench.result import Point
from aya_lib.vectors.index import Index
from aya_lib.vectors.truth import Recall, folder


class Journal:
    """Points and builds by name. ``resumed``: how many were there from before."""

    def __init__(self, key: str) -> None:
        self.path = folder() / "bench" / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.jsonl"
        self.points: dict[str, Point] = {}
        self.builds: dict[str, Built] = {}
        self._read()
        self.resumed = len(self.points)

    def add(self, name: str, what: Point | Built) -> None:
        """Keep one; it is on disk when this returns."""
        kind = "point" if isinstance(what, Point) else "build"
        (self.points if kind == "point" else self.builds)[name] = what  # type: ignore[assignment]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "name": name, "content": asdict(what)}) + "\n")

    def close(self) -> None:
        """The run is whole: nothing is left to go on from."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                said = json.loads(line)
                if said["kind"] == "point":
                    self.points[said["name"]] = _point(said["content"])
                else:
                    self.builds[said["name"]] = Built(**said["content"])
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a run that was killed while it wrote


def _point(content: dict[str, Any]) -> Point:
    index = Index(content["index"]["family"], tuple((str(name), int(value)) for name, value in content["index"]["options"]))
    rest = {"index": index, "recall": Recall(**content["recall"]), "quantiles": tuple(content["quantiles"])}
    return Point(**{**content, **rest})
