"""The grid: every wished setting of every wished index, in random order, one build for all settings of an index."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aya_lib.vectors.bench.bench import Bench
from aya_lib.vectors.bench.build import lacking
from aya_lib.vectors.bench.pace import build_s
from aya_lib.vectors.index import Index, hnsw, ivfflat

PROBES = (1, 2, 4, 8, 16, 32, 64)
EF_SEARCH = (10, 20, 40, 80, 160)


@dataclass(frozen=True)
class Grid:
    """Values of the knob for each index. ``budget_s``: seconds of searches at a point, after which no new one begins."""

    values: Mapping[Index, tuple[int, ...]] = field(default_factory=dict)
    budget_s: float = 2.0
    least: int = 50

    def __len__(self) -> int:
        return sum(len(values) for values in self.values.values())


def around(lists: int, rows: int) -> Grid:
    """A coarse grid around a number of lists, and HNSW with usual settings: enough to be looked at."""
    wished = {ivfflat(each): _probes(each) for each in _scale(lists, rows, (0.125, 0.35, 1, 2))}
    return Grid({**wished, hnsw(): EF_SEARCH})


def whole(lists: int, rows: int) -> Grid:
    """A grid over all families: more lists, halfvec beside vector, three HNSW graphs, and bits ranked again."""
    wished = {ivfflat(each): _probes(each) for each in _scale(lists, rows, (0.125, 0.25, 0.5, 1, 2))}
    halves = {ivfflat(each, "halfvec"): _probes(each) for each in _scale(lists, rows, (0.5, 1, 2))}
    graphs = [hnsw(8, 64), hnsw(), hnsw(32, 128), hnsw(kind="halfvec"), hnsw(kind="bit")]
    return Grid({**wished, **halves, **dict.fromkeys(graphs, EF_SEARCH)})


def _scale(lists: int, rows: int, factors: Sequence[float]) -> list[int]:
    return sorted({max(1, round(lists * factor)) for factor in factors if lists * factor <= rows / 4})


def _probes(lists: int) -> tuple[int, ...]:
    return tuple(probes for probes in PROBES if probes <= lists)


def expected_s(bench: Bench, grid: Grid) -> float:
    """Seconds that a grid should take, builds and searches."""
    rows = bench.corpus.rows
    return sum(build_s(index, bench.table, rows) + len(values) * grid.budget_s / 2 for index, values in grid.values.items())


def sweep(bench: Bench, grid: Grid, seed: int = 1) -> None:
    """Measure it all; points that are known already cost nothing, and builds without a point to measure are not made."""
    draw = random.Random(seed)
    indexes = list(grid.values)
    draw.shuffle(indexes)
    for index in indexes:
        why = lacking(bench.place, index, bench.table, bench.corpus.rows)
        if why:
            bench.skip(str(index), why)
            continue
        values = list(grid.values[index])
        draw.shuffle(values)
        for value in values:
            bench.measure(index, value, "verify", budget_s=grid.budget_s, least=grid.least)
