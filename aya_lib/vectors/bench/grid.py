"""The grid: every wished setting of every wished index, in random order, one build for all settings of an index."""

from __future__ import annotations

import random
from collections.abc import Mapping
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
    """A grid around a number of lists: from an eighth of it to twice as many, and HNSW with usual settings."""
    scale = sorted({max(1, round(lists * factor)) for factor in (0.125, 0.35, 1, 2) if lists * factor <= rows / 4})
    wished: dict[Index, tuple[int, ...]] = {ivfflat(each): tuple(probes for probes in PROBES if probes <= each) for each in scale}
    return Grid({**wished, hnsw(): EF_SEARCH})


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
