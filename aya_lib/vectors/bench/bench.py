"""The bench: one corpus in a scratch table, one index at a time, each setting measured once and remembered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from aya_lib.node.sql import Connection
from aya_lib.vectors.bench.build import Built, build
from aya_lib.vectors.bench.journal import Journal
from aya_lib.vectors.bench.pace import Pace, build_s
from aya_lib.vectors.bench.result import Point, Skipped
from aya_lib.vectors.bench.scratch import Place
from aya_lib.vectors.corpus.corpus import Corpus
from aya_lib.vectors.index import Index, Table
from aya_lib.vectors.measure import Search, SearchPlan, Timing, time_searches
from aya_lib.vectors.truth import Truth, hits, interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Queries = Literal["choose", "verify", "again"]
QUANTILES = tuple(range(0, 101, 5))


@dataclass
class Bench:
    """``truth``: of each set of queries. ``again``: verification of a second setting, on queries that saw no first one."""

    place: Place
    corpus: Corpus
    k: int
    queries: dict[str, NDArray[np.float32]]
    truth: dict[str, Truth]
    journal: Journal
    pace: Pace
    table: Table
    budget_s: float = 4.0
    label: str = ""  # before the names of phases
    forced: bool = False  # whether the planner must take an index that there is
    built: Index | None = None
    skipped: list[Skipped] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    sessions: list[Connection] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of a phase; phases may be entered many times and do not stand in each other."""
        name, started = f"{self.label}{name}", time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - started, 3)

    def build(self, index: Index) -> Built:
        """Have this index on the table, built now unless it is the one that is there."""
        known = self.journal.builds.get(str(index))
        if self.built == index and known:
            return known
        with self.phase("build"), self.pace.step(f"build {index}", build_s(index, self.table, self.corpus.rows)) as watch:
            self.built = None
            found = build(self.place, index, self.table, self.corpus.rows, watch)
            self.place.warm(bool(index.method), found.bytes)
            self.built = index
        if known is None or known.seconds == 0:
            self.journal.add(str(index), found)
        return self.journal.builds[str(index)]

    def measure(
        self,
        index: Index,
        value: int,
        queries: Queries = "verify",
        clients: int = 1,
        *,
        budget_s: float | None = None,
        least: int = 50,
    ) -> Point | None:
        """One setting, measured now or known from before. None when its plan did not use the index: said in ``skipped``."""
        name = f"{index}|{value}|{queries}|{clients}"
        if name in self.journal.points:
            return self.journal.points[name]
        self.build(index)
        budget = budget_s or self.budget_s
        with self.phase("time"), self.pace.step(f"time {index} {value or ''}", budget / 2):
            raw = time_searches(
                self._sessions(clients),
                Search(self.table, index, self.k, value),
                self.queries[queries],
                budget_s=budget,
                least=least,
            )
        if isinstance(raw, SearchPlan):
            said = f"the planner chose a {raw.scan.lower()}: at this setting the index saves nothing"
            self.skip(f"{index}, {index.knob} = {value}", said)
            return None
        point = self._point(index, value, queries, raw)
        self.journal.add(name, point)
        return point

    def best_of(self, point: Point, rounds: int) -> Point:
        """The same point measured again, so many times: the round with the median searches per second."""
        found = [point]
        for number in range(rounds - 1):
            with self.phase("time"), self.pace.step(f"time {point.index} again", self.budget_s / 2):
                raw = time_searches(
                    self._sessions(point.clients),
                    Search(self.table, point.index, self.k, point.value),
                    self.queries[point.queries],
                    budget_s=self.budget_s,
                    seed=number + 2,
                )
            if not isinstance(raw, SearchPlan):
                found.append(self._point(point.index, point.value, point.queries, raw))
        middle = sorted(found, key=lambda one: one.qps)[len(found) // 2]
        return replace(middle, recall=max(found, key=lambda one: one.asked).recall)

    def _point(self, index: Index, value: int, queries: str, raw: Timing) -> Point:
        import numpy as np

        truth, asked = self.truth[queries], self.queries[queries][raw.asked]
        picked = Truth(truth.rows[raw.asked], truth.distances[raw.asked])
        recall = interval(hits(self.corpus.base, asked, self.corpus.metric, picked, raw.keys(self.k)))
        quantiles = tuple(round(float(one) * 1000, 4) for one in np.percentile(raw.seconds, QUANTILES))
        p50, p95, p99 = (round(raw.percentile(percent), 4) for percent in (50, 95, 99))
        return Point(
            index,
            value,
            queries,
            raw.clients,
            recall,
            raw.qps,
            p50,
            p95,
            p99,
            raw.plan.ms,
            len(raw.seconds),
            raw.plan.reads,
            quantiles,
        )

    def _sessions(self, clients: int) -> Sequence[Connection]:
        while len(self.sessions) < clients:
            session = self.place.session()
            if self.forced:
                session.execute("SET enable_seqscan = off")
            self.sessions.append(session)
        return self.sessions[:clients]

    def skip(self, what: str, why: str) -> None:
        if all(one.what != what for one in self.skipped):
            self.skipped.append(Skipped(what, why))
