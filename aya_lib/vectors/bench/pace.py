"""How long the rest will take: expected seconds of each step, corrected by how the steps so far really went."""

from __future__ import annotations

import html
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from aya_lib.show import in_notebook
from aya_lib.vectors.index import Index, Table

Watch = Callable[[str, float | None], None]
DELAY_S, EVERY_S = 5.0, 0.5  # before the bar is shown, and between two drawings
WIDTH = 24


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

    Shown from the fifth second on, and removed at the end; nothing is shown when ``out`` is None. In a notebook it is one
    output, drawn anew in place, so that nothing of it stays in the saved copy.
    """

    def __init__(self, out: TextIO | None = None, expected_s: float = 0.0) -> None:
        self._expected, self._done, self._name = max(1.0, expected_s), 0.0, ""
        self._started, self._drawn = time.monotonic(), 0.0
        self._bar = None if out is None else _Cell() if in_notebook() else _Terminal(out)

    def expect(self, seconds: float) -> None:
        """So many seconds more lie ahead than was known."""
        self._expected += seconds

    @contextmanager
    def step(self, name: str, expected_s: float) -> Iterator[Watch]:
        """A step that should take so long; the function it gives hears which share of it is done."""
        began, self._name = self._done, name
        self._expected = max(self._expected, began + expected_s)
        self._draw()

        def watch(phase: str, share: float | None) -> None:
            if share is not None:
                self._move(began + min(share, 1.0) * expected_s * 0.95)

        try:
            yield watch
        finally:
            self._move(began + expected_s)

    def close(self) -> None:
        if self._bar:
            self._bar.close()

    def _move(self, place: float) -> None:
        if place > self._done:
            self._done = place
            self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        gone = now - self._started
        if self._bar is None or gone < DELAY_S or now - self._drawn < EVERY_S:
            return
        self._drawn = now
        share = min(1.0, self._done / self._expected)
        left = gone * (1 - share) / share if share > 0.02 else self._expected
        self._bar.draw(share, f"{self._name}: {share:.0%}, {_clock(gone)} gone, about {_clock(left)} left")


class _Terminal:
    """The bar as a line that is written over."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def draw(self, share: float, said: str) -> None:
        full = round(share * WIDTH)
        self._out.write(f"\r\x1b[2K{'█' * full}{'·' * (WIDTH - full)} {said[:100]}")
        self._out.flush()

    def close(self) -> None:
        self._out.write("\r\x1b[2K")
        self._out.flush()


class _Cell:
    """The bar as an output of a notebook's cell."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, share: float, said: str) -> None:
        bar = f'<progress value="{share:.3f}" max="1" style="width:20em;vertical-align:middle"></progress> '
        self._show({"text/html": bar + html.escape(said), "text/plain": said})

    def close(self) -> None:
        if self._handle is not None:
            self._show({"text/html": "", "text/plain": ""})

    def _show(self, content: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(content, raw=True, display_id=uuid.uuid4().hex)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(content, raw=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
