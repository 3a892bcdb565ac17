"""The bench: one corpus in a scratch table, one index at a time, each setting measured once and remembered.

What was measured is kept line by line in a journal, so that a run that was broken off goes on from there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from tqdm import tqdm

from aya_lib.node.sql import Connection
from aya_lib.show import in_notebook
from aya_lib.vectors.corpus import Corpus
from aya_lib.vectors.index import Index, Table
from aya_lib.vectors.measure import Search, Timing, time_searches
from aya_lib.vectors.result import Point, Skipped
from aya_lib.vectors.sandbox import Built, Sandbox
from aya_lib.vectors.truth import Truth, folder, hits, interval

Queries = Literal["choose", "verify", "again"]
QUANTILES = tuple(range(0, 101, 5))
BAR = "{desc} {percentage:3.0f}% |{bar:24}| {elapsed} gone, about {remaining} left"


class Progress:
    """A bar over expected seconds, shown from the fifth on and removed at the end; none where ``out`` is None. What is left is
    told at the pace of what is done."""

    def __init__(self, out: TextIO | None = None, expected_s: float = 0.0) -> None:
        self._expected = expected_s
        self._bar = tqdm(total=expected_s, file=out, disable=out is None, delay=5, leave=False, bar_format=BAR)

    def expect(self, seconds: float) -> None:
        """So many seconds more lie ahead than was known."""
        self._expected += seconds
        self._bar.total = self._expected

    @contextmanager
    def step(self, name: str, expected_s: float) -> Iterator[None]:
        """A step that should take so long."""
        self.expect(max(0.0, self._bar.n + expected_s - self._expected))
        self._bar.set_description_str(name)
        try:
            yield
        finally:
            self._bar.update(expected_s)

    def close(self) -> None:
        shown = not self._bar.disable
        self._bar.close()
        if shown and in_notebook():
            from IPython.display import clear_output

            clear_output()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Entry:
    """One line of a journal: an index that was built, or a point that was measured."""

    index: Index
    built: Built | None = None
    point: Point | None = None


ENTRY = TypeAdapter(Entry)


class Journal:
    """Points and builds of one corpus, metric, k and server. ``resumed``: how many points were there from before.

    A run that ends whole removes it, so that the next one measures afresh.
    """

    def __init__(self, key: str) -> None:
        self.path = folder() / "bench" / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.jsonl"
        self.points: dict[tuple[Index, int, str, int], Point] = {}  # by index, value of its knob, queries, clients
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


@dataclass
class Bench:
    """``queries`` that choose, that verify, and that verify *again*: a second setting, on queries that saw no first one;
    ``truth``: of each. ``label``: before the names of phases."""

    sandbox: Sandbox
    corpus: Corpus
    k: int
    queries: dict[Queries, NDArray[np.float32]]
    truth: dict[Queries, Truth]
    journal: Journal
    progress: Progress
    table: Table
    budget_s: float = 4.0
    label: str = ""
    built: Index | None = None
    skipped: list[Skipped] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    sessions: list[Connection] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, step: str, expected_s: float) -> Iterator[None]:
        """Count the seconds of a phase; phases may be entered many times and do not stand in each other. ``step``: on the bar."""
        name, started = f"{self.label}{name}", time.perf_counter()
        try:
            with self.progress.step(step, expected_s):
                yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 3)

    def build(self, index: Index) -> Built:
        """Have this index on the table, built now unless it is the one that is there."""
        known = self.journal.builds.get(index)
        if self.built == index and known:
            return known
        with self.phase("build", f"build {index}", index.build_seconds(self.table, self.corpus.rows)):
            self.built = None
            built = self.sandbox.build(index, self.table, self.corpus.rows)
            self.built = index
        if known is None or known.seconds == 0:
            self.journal.add(Entry(index, built=built))
        return self.journal.builds[index]

    def lacking(self, index: Index) -> str:
        """Why it cannot be built here, in words; empty when it can."""
        return self.sandbox.lacking(index, self.table, self.corpus.rows)

    def measure(
        self, index: Index, value: int, queries: Queries = "verify", clients: int = 1, *, budget_s: float = 0, least: int = 50
    ) -> Point | None:
        """One setting, measured now or known from before. None when its plan did not use the index: said in ``skipped``."""
        known = self.journal.points.get((index, value, queries, clients))
        if known is None:
            self.build(index)
            known = self._point(index, value, queries, clients, budget_s or self.budget_s, least)
            if known:
                self.journal.add(Entry(index, point=known))
        return known

    def best_of(self, point: Point, rounds: int) -> Point:
        """The same point measured again, so many times: the round with the median searches per second."""
        points = [point]
        for seed in range(2, rounds + 1):
            again = self._point(point.index, point.value, point.queries, point.clients, self.budget_s, seed=seed)  # type: ignore[arg-type]
            points += [again] if again else []
        middle = sorted(points, key=lambda point: point.qps)[len(points) // 2]
        return replace(middle, recall=max(points, key=lambda point: point.asked).recall)

    def _point(
        self, index: Index, value: int, queries: Queries, clients: int, budget_s: float, least: int = 50, seed: int = 1
    ) -> Point | None:
        search = Search(self.table, index, self.k, value)
        with self.phase("time", f"time {index} {value or ''}".strip(), budget_s / 2):
            asked = self.queries[queries]
            timing = time_searches(self._sessions(clients), search, asked, budget_s=budget_s, least=least, seed=seed)
        if not isinstance(timing, Timing):
            why = f"the planner chose a {timing.scan.lower()}: at this setting the index saves nothing"
            self.skip(f"{index}, {index.knob} = {value}", why)
            return None
        truth = self.truth[queries].of(timing.asked)
        recall = interval(hits(self.corpus.base, asked[timing.asked], self.corpus.metric, truth, timing.keys(self.k)))
        p50, p95, p99, *quantiles = (round(timing.percentile(percent), 4) for percent in (50, 95, 99, *QUANTILES))
        served = (timing.plan.ms, len(timing.seconds), timing.plan.reads, tuple(quantiles))
        return Point(index, value, queries, timing.clients, recall, timing.qps, p50, p95, p99, *served)

    def _sessions(self, clients: int) -> Sequence[Connection]:
        while len(self.sessions) < clients:
            self.sessions.append(self.sandbox.session())
        return self.sessions[:clients]

    def skip(self, what: str, why: str) -> None:
        if all(skipped.what != what for skipped in self.skipped):
            self.skipped.append(Skipped(what, why))
