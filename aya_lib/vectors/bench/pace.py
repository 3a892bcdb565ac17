"""How long the rest will take: expected seconds of each step, corrected by how the steps so far really went."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from aya_lib.vectors.index import Index, Table

Watch = Callable[[str, float | None], None]
FORMAT = "{desc} {bar:24} {percentage:3.0f} %, {elapsed} gone, about {remaining} left"


def build_s(index: Index, table: Table, rows: int) -> float:
    """Seconds that building takes on two cores, roughly (IVFFlat: k-means and assignment; HNSW: a search a row)."""
    if index.method == "ivfflat":
        lists, size = index.option("lists"), table.dimension
        samples = min(rows, max(50 * lists, 10_000))
        return 0.3 + rows * size * 4e-8 + 2.7e-10 * size * lists * (rows + samples)
    if index.method == "hnsw":
        kind = {"vector": 1.0, "halfvec": 0.85, "bit": 0.35}[index.kind]
        scale = float((table.dimension / 768) ** 0.7)
        return 0.3 + rows * 4.3e-4 * scale * index.option("ef_construction") / 64 * kind
    return 0.0


class Pace:
    """A bar over expected seconds: what is left is the rest of the expectation at the pace of what is done.

    Shown from the fifth second on, and removed at the end; nothing is shown when ``out`` is None.
    """

    def __init__(self, out: TextIO | None = None, expected_s: float = 0.0) -> None:
        from tqdm import tqdm

        self._live = out is not None
        self._expected, self._done = max(1.0, expected_s), 0.0
        self._bar = tqdm(
            total=self._expected,
            bar_format=FORMAT,
            file=out or sys.stderr,
            disable=not self._live,
            leave=False,
            delay=5,
            mininterval=0.5,
        )

    def expect(self, seconds: float) -> None:
        """So many seconds more lie ahead than was known."""
        self._expected += seconds

    @contextmanager
    def step(self, name: str, expected_s: float) -> Iterator[Watch]:
        """A step that should take so long; the function it gives hears which share of it is done."""
        began = self._done
        self._expected = max(self._expected, began + expected_s)
        self._bar.set_description_str(f"{name[:44]:44}", refresh=False)

        def watch(phase: str, share: float | None) -> None:
            if share is not None:
                self._move(began + min(share, 1.0) * expected_s * 0.95)

        try:
            yield watch
        finally:
            self._move(began + expected_s)

    def close(self) -> None:
        self._bar.close()

    def _move(self, place: float) -> None:
        ahead, self._done = place - self._done, max(place, self._done)
        if self._live and ahead > 0:
            self._bar.total = self._expected
            self._bar.update(ahead)
