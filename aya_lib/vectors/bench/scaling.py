"""What ten and a hundred times the rows would need: fitted on three smaller sizes, checked on the whole, error shown.

A smaller size is a random part of the corpus, so growth is taken to be more of the same. IVFFlat's cost is that of its twins
(nothing is built), fitted as a power of the rows; HNSW is built on the parts and timed, and fitted against the logarithm of
the rows, as its search is said to grow (Malkov and Yashunin, 2018). Everything is taken to be cached. On the parts the planner
may not pass the index over, which on a small table it rightly does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aya_lib.show import Shown, Table
from aya_lib.vectors.bench.bench import Bench
from aya_lib.vectors.bench.explore import Explorer
from aya_lib.vectors.bench.pace import build_s
from aya_lib.vectors.bench.result import Choice
from aya_lib.vectors.bench.tuner import MARGINS, Tuner
from aya_lib.vectors.corpus.corpus import Corpus
from aya_lib.vectors.index import Index, hnsw, index_bytes, ivfflat, mb
from aya_lib.vectors.index import Table as Indexed
from aya_lib.vectors.truth import exact

PARTS = (8, 4, 2)  # the whole over the sizes that are fitted
AHEAD = (1, 10, 100)  # times the rows
LEAST_ROWS = 8_000  # of the whole; parts of less say nothing about larger tables
ASKED = 400  # queries of a part
FAMILY = {"ivfflat": "ivfflat", "hnsw": "hnsw"}


@dataclass(frozen=True)
class Size:
    """What a family needs at the target for so many rows. ``us``: microseconds a search; ``knob``: probes or ef_search.

    ``how``: *fitted* (a part, used for the fit), *held out* (the whole, only compared with the fit), or *extrapolated*.
    """

    family: str
    rows: int
    how: str
    index: str
    knob: int
    us: float
    bytes: int
    build_s: float

    @property
    def qps(self) -> float:
        return 1e6 / self.us


@dataclass(frozen=True, repr=False)
class Scaling(Shown):
    """``error``: of each family's fit at the held-out size, as a share of what was found there (+0.1: predicted 10 % slower)."""

    sizes: tuple[Size, ...]
    error: dict[str, float]
    shared_buffers: int

    def json(self) -> dict[str, Any]:
        return {"sizes": [asdict(size) for size in self.sizes], "error": self.error}

    def of(self, family: str, how: str) -> list[Size]:
        return [size for size in self.sizes if size.family == family and size.how == how]

    def table(self) -> Table:
        rows = tuple(
            (f"{size.rows:,}", size.index, str(size.knob), f"{size.qps:,.0f}", mb(size.bytes), _span(size.build_s), size.how)
            for size in sorted(self.sizes, key=lambda size: (size.rows, size.family))
        )
        columns = ("rows", "index", "probes or ef_search", "searches/s", "memory to stay cached", "build", "")
        said = ", ".join(
            f"{family} {abs(error):.0%} too {'slow' if error > 0 else 'fast'}" for family, error in self.error.items()
        )
        notes = (f"At the size that no fit had seen, the fit was: {said}.", *self.advice())
        return Table("What more rows would need", columns, rows, notes)

    def advice(self) -> tuple[str, ...]:
        """When HNSW is the better choice, and from where on the index no longer fits into shared buffers."""
        found = []
        pairs = [(a, b) for a in self.of("ivfflat", "extrapolated") for b in self.of("hnsw", "extrapolated") if a.rows == b.rows]
        better = [(a, b) for a, b in pairs if b.us < a.us]
        if better:
            times = ", ".join(f"{a.us / b.us:.1f} times as fast at {a.rows:,} rows" for a, b in better)
            a, b = max(better, key=lambda pair: pair[0].rows)
            builds = f"{_span(b.build_s)} against {_span(a.build_s)} of IVFFlat at {a.rows:,} rows"
            found.append(f"HNSW is the better choice while its index stays cached: {times}; its build takes {builds}.")
        elif pairs:
            found.append("IVFFlat stays ahead of HNSW at these sizes, and builds sooner.")
        large = [size for size in self.sizes if size.how == "extrapolated" and size.bytes > self.shared_buffers]
        if large:
            first = min(large, key=lambda size: size.bytes)
            found.append(
                f"From {first.rows:,} rows on ({first.index}, {mb(first.bytes)}) the index is larger than shared_buffers"
                f" ({mb(self.shared_buffers)}); halfvec takes half the memory."
            )
        return tuple(found)


def advise(tuner: Tuner, bench_of: Callable[[Corpus], Bench], best: Sequence[Choice]) -> Scaling | None:
    """The advice for these vectors; None where there are too few rows. ``bench_of`` loads a part into the scratch table."""
    corpus, bench = tuner.bench.corpus, tuner.bench
    if corpus.rows < LEAST_ROWS:
        bench.skip("10 and 100 times the rows", f"{corpus.rows:,} rows are too few to be fitted; {LEAST_ROWS:,} are needed")
        return None
    built = {choice.index.method: choice for choice in best if choice.index.family in FAMILY and _there(choice, tuner.target)}
    sizes: list[Size] = []
    for divisor in PARTS:
        part = corpus.part(corpus.rows // divisor, seed=divisor)
        if "ivfflat" in built:
            sizes.append(_ivfflat(tuner, part, "fitted"))
        if "hnsw" in built:
            sizes += _hnsw(tuner, bench_of(part), built["hnsw"].index)
    if "ivfflat" in built:
        sizes.append(_ivfflat(tuner, corpus, "held out"))
    if "hnsw" in built:
        sizes.append(_measured(built["hnsw"], corpus))
    for family in built:
        count = sum(size.family == family and size.how == "fitted" for size in sizes)
        if count < len(PARTS):
            bench.skip(f"10 and 100 times the rows of {family}", f"only {count} of {len(PARTS)} parts reached the target")
    return _extrapolated(sizes, corpus, bench.table, bench.place.server.shared_buffers)


def _ivfflat(tuner: Tuner, part: Corpus, how: str) -> Size:
    """The best lists of a part, and their cost, by twins."""
    with tuner.bench.phase("scaling"), tuner.bench.pace.step(f"twins of {part.rows:,} rows", 3.0):
        queries = part.choose[:ASKED]
        small = Corpus(part.name, part.asked, part.metric, part.base, queries, part.verify, part.fingerprint)
        truth = exact(part.base, queries, part.metric, tuner.bench.k)
        explorer = Explorer(small, truth, tuner.target, MARGINS[0])
        whole = tuner.explorer.ranked(tuner.cost)[0]
        explorer.explore(tuner.cost, start=whole * (part.rows / tuner.bench.corpus.rows) ** 0.5)
    lists = explorer.ranked(tuner.cost)[0]
    index = ivfflat(lists)
    table = tuner.bench.table
    probes = explorer.probes(lists) or lists
    us = explorer.us(lists, tuner.cost)
    return Size(
        "ivfflat", part.rows, how, str(index), probes, us, index_bytes(index, table, part.rows), build_s(index, table, part.rows)
    )


def _hnsw(tuner: Tuner, bench: Bench, index: Index) -> list[Size]:
    """HNSW built on a part, and timed at the target."""
    bench.label, bench.forced = "scaling ", True
    part = Tuner(bench, tuner.given, tuner.target, 1, tuner.budget, tuner.explorer, tuner.cost)
    choice = next(part.hnsw([index]), None)
    bench.journal.close()
    for name, seconds in bench.seconds.items():
        key = "scaling" if name.startswith("scaling") else f"scaling {name}"
        tuner.bench.seconds[key] = round(tuner.bench.seconds.get(key, 0.0) + seconds, 3)
    return [_measured(choice, bench.corpus, "fitted")] if choice and _there(choice, tuner.target) else []


def _there(choice: Choice, target: float) -> bool:
    """Whether its recall reaches the target within its interval: enough for a fit."""
    return choice.point.recall.high >= target


def _measured(choice: Choice, corpus: Corpus, how: str = "held out") -> Size:
    built = choice.built
    return Size("hnsw", corpus.rows, how, str(choice.index), choice.value, 1e6 / choice.point.qps, built.bytes, built.seconds)


def _extrapolated(sizes: list[Size], corpus: Corpus, table: Indexed, shared_buffers: int) -> Scaling:
    error, ahead = {}, []
    for family, make in (("ivfflat", _power), ("hnsw", _logarithm)):
        of = [size for size in sizes if size.family == family]
        fitted = [size for size in of if size.how == "fitted"]
        held = [size for size in of if size.how == "held out"]
        if len(fitted) < 3 or not held:
            continue
        error[family] = round(make([s.rows for s in fitted], [s.us for s in fitted])(corpus.rows) / held[0].us - 1, 3)
        rows = [size.rows for size in of]
        us, knob = make(rows, [size.us for size in of]), make(rows, [float(size.knob) for size in of])
        lists = _power(rows, [float(_lists(size)) for size in of]) if family == "ivfflat" else None
        pace = held[0].build_s / max(1e-9, build_s(_index(held[0]), table, corpus.rows))
        for times in AHEAD:
            count = corpus.rows * times
            index = ivfflat(round(lists(count), -2 if lists(count) > 1000 else 0)) if lists else _index(held[0])  # type: ignore[arg-type]
            index = Index(index.family, tuple((name, int(value)) for name, value in index.options))
            size = index_bytes(index, table, count)
            taken = build_s(index, table, count) * pace
            ahead.append(
                Size(family, count, "extrapolated", str(index), max(1, round(knob(count))), us(count), size, round(taken, 1))
            )
    return Scaling((*sizes, *ahead), error, shared_buffers)


def _power(rows: Sequence[int], values: Sequence[float]) -> Callable[[float], float]:
    """values = a x rows^b, by least squares of the logarithms."""
    import numpy as np

    slope, base = np.polyfit(np.log(rows), np.log(values), 1)
    return lambda count: math.exp(float(base) + float(slope) * math.log(count))


def _logarithm(rows: Sequence[int], values: Sequence[float]) -> Callable[[float], float]:
    """values = a + b x log(rows), by least squares, never falling."""
    import numpy as np

    slope = float(np.polyfit(np.log(rows), values, 1)[0])
    rise, mean = max(0.0, slope), float(np.mean(values))
    middle = float(np.mean(np.log(rows)))
    return lambda count: mean + rise * (math.log(count) - middle)


def _lists(size: Size) -> int:
    return _index(size).option("lists")


def _index(size: Size) -> Index:
    """The index again from its name."""
    words = [word.split("=") for word in size.index.split()[1:]]
    options = {name: int(value) for name, value in words}
    return ivfflat(options["lists"]) if size.family == "ivfflat" else hnsw(options["m"], options["ef_construction"])


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
