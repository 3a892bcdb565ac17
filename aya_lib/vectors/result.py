"""What a comparison found: every measured point, the best of each family, the recommendation, and what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aya_lib.show import Shown, Table
from aya_lib.vectors.index import Family, Index, mb
from aya_lib.vectors.ivf_model import Cost
from aya_lib.vectors.sandbox import Built, Server
from aya_lib.vectors.truth import Recall

SCHEMA = 1
LATER = "Measure again when the table has doubled: other lists, and perhaps another family, are best then."
NOISE = "measured once, and on a machine with other work to do 10 % is noise"
SLACK = 0.1  # of noise, above which n clients cannot have more than n times what one has


@dataclass(frozen=True)
class Point:
    """One measured setting. ``value``: of the index's knob. ``queries``: which set was asked, *choose*, *verify* or *again*.

    ``p50``, ``p95``, ``p99`` are milliseconds at the client, ``server_ms`` the median in the server. ``quantiles``: 0, 5,
    10 ... 100 % of the latencies in ms. ``reads``: blocks that were not in shared buffers, in the explained searches.
    ``predicted``: the twin's recall, where there is one.
    """

    index: Index
    value: int
    queries: str
    clients: int
    recall: Recall
    qps: float
    p50: float
    p95: float
    p99: float
    server_ms: float
    asked: int
    reads: int
    quantiles: tuple[float, ...]
    predicted: float | None = None

    @property
    def setting(self) -> str:
        return f"{self.index.knob.split('.')[-1]}={self.value}" if self.index.knob else ""

    @property
    def latency_ms(self) -> dict[str, float]:
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99}

    def figures(self) -> dict[str, Any]:
        """What is told of a measured point and of a chosen one alike."""
        index = self.index
        return {
            "index": str(index),
            "type": index.family,
            "options": dict(index.options),
            "search_settings": {index.knob: self.value} if index.knob else {},
            "recall": asdict(self.recall),
            "predicted_recall": self.predicted,
            "qps": round(self.qps, 1),
            "latency_ms": {**self.latency_ms, "server_p50": self.server_ms},
        }

    def json(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("queries", "clients", "asked")}
        return self.figures() | own | {"latency_quantiles_ms": list(self.quantiles), "uncached_blocks": self.reads}


@dataclass(frozen=True)
class Choice:
    """An index with its setting, verified on queries that chose nothing. ``met``: its recall reaches the target there.

    ``many``: the same at more clients.
    """

    index: Index
    value: int
    point: Point
    many: Point | None
    built: Built
    met: bool
    create_sql: str
    search_sql: str

    def json(self) -> dict[str, Any]:
        many = self.many
        document = self.point.figures() | {
            "create_sql": self.create_sql,
            "search_sql": self.search_sql,
            "meets_target": self.met,
            "build_s": self.built.seconds,
            "build_memory_bytes": self.built.memory,
            "bytes": self.built.bytes,
        }
        if many:
            document["concurrent"] = {"clients": many.clients, "qps": round(many.qps, 1), "latency_ms": many.latency_ms}
        return document


@dataclass(frozen=True)
class Twin:
    """What a twin predicts for ``lists``: over probes 1, 2, 3, 5, 8 ... the recall and the rows scanned; ``probes`` and
    ``us`` (microseconds a search, by the cost model) at the target; None where the target is not reached."""

    lists: int
    curve: tuple[tuple[int, float, float], ...]
    probes: int | None
    us: float | None


@dataclass(frozen=True)
class Skipped:
    """What was not measured, and why."""

    what: str
    why: str


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """All of it. ``today``: the index that is there now (or the schema's first one), at the target. ``asked``: the queries, in
    words; ``seconds``: by phase."""

    corpus: str
    asked: str
    rows: int
    dimension: int
    metric: str
    k: int
    target: float
    server: Server
    points: tuple[Point, ...]
    builds: Mapping[Index, Built]
    best: Mapping[Family, Choice]
    today: Choice | None
    recommendation: Choice | None
    twins: tuple[Twin, ...]
    cost: Cost
    cost_error: float
    skipped: tuple[Skipped, ...]
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    at: str = ""
    fingerprint: str = ""

    def speedup(self, choice: Choice | None) -> float | None:
        """Searches per second as a multiple of today's index at the same target."""
        return choice.point.qps / self.today.point.qps if choice and self.today else None

    def json(self) -> dict[str, Any]:
        """One document; ``schema`` rises when a key changes its meaning."""
        corpus = {name: getattr(self, name) for name in ("rows", "dimension", "metric", "fingerprint")}
        return {
            "schema": SCHEMA,
            "at": self.at,
            "corpus": {"name": self.corpus, "queries": self.asked, **corpus},
            "k": self.k,
            "target": self.target,
            "server": asdict(self.server),
            "recommendation": self.recommendation.json() if self.recommendation else None,
            "best_of_family": [choice.json() for choice in self.best.values()],
            "today": self.today.json() if self.today else None,
            "measured": [point.json() for point in self.points],
            "predicted": [asdict(twin) for twin in self.twins],
            "cost_model": {**asdict(self.cost), "median_error": None if math.isnan(self.cost_error) else self.cost_error},
            "builds": {str(index): asdict(built) for index, built in self.builds.items()},
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
        }

    def table(self) -> Table:
        columns = ("", "index", "setting", "recall", "searches/s", "x today", "p50", "p95", "p99 ms", "build", "size")
        ordered = sorted(self.best.values(), key=lambda choice: -choice.point.qps)
        lines = [("today", self.today)] if self.today else []
        lines += [("best" if choice is self.recommendation else "", choice) for choice in ordered]
        title = f"{self._headline()} ({self.rows:,} rows of {self.dimension} dimensions, {self.metric}, k = {self.k})"
        rows = tuple(self._line(word, choice) for word, choice in lines)
        return Table(title, columns, rows, self._notes(), "passed" if self.recommendation else "warning")

    def _headline(self) -> str:
        best = self.recommendation
        if best is None:
            return f"No index reaches recall {self.target:g}"
        times = self.speedup(best)
        faster = f": {times:.1f} times today's index" if times and self.today and best.index != self.today.index else ""
        return f"Recommended: {best.index}, {best.point.setting or 'no setting'}{faster}"

    def _line(self, word: str, choice: Choice) -> tuple[str, ...]:
        point, times = choice.point, self.speedup(choice)
        return (
            word,
            str(choice.index),
            point.setting,
            str(point.recall) + ("" if choice.met else " missed"),
            f"{point.qps:,.0f}",
            "" if times is None else f"{times:.1f}",
            *(f"{value:.2f}" for value in point.latency_ms.values()),
            f"{choice.built.seconds:.1f} s",
            mb(choice.built.bytes),
        )

    def _notes(self) -> tuple[str, ...]:
        spent = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items() if seconds >= 0.5)
        best = self.recommendation
        many = best.many if best else None
        one = best.point.qps if best else math.inf
        noise = NOISE
        if many and many.qps > many.clients * one * (1 + SLACK):
            noise = f"more than {many.clients} times the {one:,.0f} of one: something else ran, run it again"
        return (
            f"Corpus: {self.corpus}; queries: {self.asked}. One client; in brackets: 95 % confidence interval, on queries that"
            " chose nothing.",
            *([f"At {many.clients} clients {many.index}: {many.qps:,.0f} searches/s, {noise}."] if many else []),
            f"Took {sum(self.seconds.values()):.0f} s ({spent}).",
            *self.notes,
            LATER,
        )


@dataclass(frozen=True, repr=False)
class LeftOut(Shown):
    """What a comparison skipped, with the reasons."""

    skipped: tuple[Skipped, ...]

    def table(self) -> Table:
        title = f"Left out: {len(self.skipped)}" if self.skipped else "Nothing was left out"
        return Table(title, ("what", "why"), tuple((skipped.what, skipped.why) for skipped in self.skipped), (), "quiet")
