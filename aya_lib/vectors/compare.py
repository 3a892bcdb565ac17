"""Compare the ways to index these vectors, on this server, for a recall target: the library call behind the command."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import Node
from aya_lib.vectors import ivf_model
from aya_lib.vectors.bench import Bench, Journal, Progress, Queries
from aya_lib.vectors.corpus import Corpus
from aya_lib.vectors.explorer import Explorer
from aya_lib.vectors.index import FAMILIES, Family, Index, Table, hnsw, ivfflat
from aya_lib.vectors.measure import exact_distances
from aya_lib.vectors.result import Choice, Comparison
from aya_lib.vectors.sandbox import Sandbox, no_room, open_sandbox
from aya_lib.vectors.truth import agree, cached
from aya_lib.vectors.tuner import GRAPHS, MARGINS, Budget, Tuner

TODAY = ivfflat(100)  # what the schema builds at first
AGREED = 3  # queries whose exact neighbours are also asked of PostgreSQL
COPIES = 4  # of the vectors that must fit onto the disk: the table, an index, and the sorting of its build
AGAIN = 3  # every so-many-th query that verifies is kept for a second verification
PROBES = (1, 2, 4, 8, 16, 32, 64)
EF_SEARCH = (10, 20, 40, 80, 160)
GRID_S = 2.0  # of searches at a point of a grid, at the most

Grid = Mapping[Index, tuple[int, ...]]  # values of the knob for each index


@dataclass(frozen=True)
class Request:
    """What is asked for. ``clients``: measured beside one client. ``today``: the index that all others are compared with.

    ``grid``: also measure a grid: this one, one *around* the best lists, or a *whole* one over the families. ``budget_s``:
    seconds of searches at one setting. ``fresh``: do not go on from a run that broke off. :class:`UsageError` for what cannot
    be.
    """

    target: float = 0.95
    k: int = 10
    clients: int = 2
    families: Sequence[str] = FAMILIES
    today: Index | None = TODAY
    budget: Budget = field(default_factory=Budget)
    grid: Grid | Literal["around", "whole"] | None = None
    budget_s: float = 4.0
    fresh: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise UsageError(f"target {self.target:g}: allowed is a recall above 0 and up to 1, for example 0.95")
        if self.k < 1:
            raise UsageError(f"k = {self.k}: allowed is 1 or more neighbours")
        if not 1 <= self.clients <= 64:
            raise UsageError(f"clients = {self.clients}: allowed is 1 to 64")
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown or not self.families:
            raise UsageError(f"family '{', '.join(unknown)}': allowed are {', '.join(FAMILIES)}")

    @property
    def chosen(self) -> list[Family]:
        """The families, in the order in which they are measured: exact search first."""
        return [family for family in FAMILIES if family in self.families]


def compare_indexes(
    node: Node, corpus: Corpus, given: Table, request: Request | None = None, *, out: TextIO | None = None
) -> Comparison:
    """Find the best index of each family for a recall target, on ``node``, in a scratch database that is gone afterwards.

    ``given``: the table that the recommendation's statements name. ``out``: where a progress bar is drawn. Ctrl-C keeps
    what was measured; the same call again goes on from there. Raises :class:`UsageError` for what cannot be measured.
    """
    request = request or Request()
    if request.k >= corpus.rows:
        raise UsageError(f"k = {request.k}: {corpus.name} has {corpus.rows} rows to search")
    if why := no_room(node, COPIES * corpus.base.nbytes):
        raise AyaError(f"{corpus.name} cannot be measured on {node.name}: {why}", hint="Free disk, or read fewer --rows")
    progress = Progress(out, 30.0)
    try:
        with open_sandbox(node) as sandbox:
            return _compared(prepare(sandbox, corpus, request, progress), given, request)
    finally:
        progress.close()


def prepare(sandbox: Sandbox, corpus: Corpus, request: Request, progress: Progress) -> Bench:
    """The corpus in the scratch table, its exact neighbours known and agreed on with PostgreSQL, nothing built yet."""
    server = sandbox.server
    settings = [server.node, server.version, server.pgvector, server.shared_buffers, server.parallel_maintenance]
    key = json.dumps([corpus.fingerprint, request.k, *settings])
    if request.fresh:
        Journal(key).close()
    first = np.delete(corpus.verify, np.arange(0, len(corpus.verify), AGAIN), axis=0)
    queries: dict[Queries, NDArray[np.float32]] = {"choose": corpus.choose, "verify": first, "again": corpus.verify[::AGAIN]}
    table = Table("bench", "embedding", "id", corpus.dimension, corpus.metric)
    bench = Bench(sandbox, corpus, request.k, queries, {}, Journal(key), progress, table, request.budget_s)
    with bench.phase("load", "load the vectors", 1 + corpus.base.nbytes / 6e7):
        bench.table = sandbox.load(corpus.base, corpus.metric)
    with bench.phase("truth", "exact neighbours", corpus.base.size * 4e-8):
        for name, asked in queries.items():
            known = f"{corpus.fingerprint}-{name}"
            bench.truth[name], _ = cached(corpus.base, asked, corpus.metric, request.k, known)
        by_sql = exact_distances(sandbox.session(), bench.table, queries["verify"][:AGREED], request.k)
        agree(bench.truth["verify"].distances[:AGREED], by_sql)
    return bench


def _compared(bench: Bench, given: Table, request: Request) -> Comparison:
    explorer = Explorer(bench.corpus, bench.truth["choose"], request.target, MARGINS[0])
    model = ivf_model.prior_cost(bench.corpus.dimension)
    tuner = Tuner(bench, given, request.target, request.clients, request.budget, explorer, model)
    families = request.chosen
    bench.progress.expect(_ahead(bench, families) + 25)
    best: dict[Family, Choice | None] = {"exact": tuner.family("exact")} if "exact" in families else {}
    today = _today(tuner, request.today)
    if any(family.startswith("ivfflat") for family in families):
        with bench.phase("twins", "twins of IVFFlat", 20.0):
            explorer.explore(tuner.cost, _most_lists(tuner))
    for family in families:
        if family != "exact":
            best[family] = tuner.family(family)
    _grid(bench, request, tuner)
    comparison = _result(bench, request, tuner, {family: choice for family, choice in best.items() if choice}, today)
    bench.journal.close()
    return comparison


def _ahead(bench: Bench, families: list[Family]) -> float:
    """Seconds that lie ahead, before anything is known."""
    lists = max(1, round(4 * bench.corpus.rows**0.5))
    likely: dict[Family, list[Index]] = {family: indexes[:1] for family, indexes in GRAPHS.items()}
    likely |= {"ivfflat": [ivfflat(lists), ivfflat(2 * lists)], "ivfflat_halfvec": [ivfflat(lists, "halfvec")]}
    indexes = [index for family in families for index in likely.get(family, [])]
    return sum(index.build_seconds(bench.table, bench.corpus.rows) + 4 * bench.budget_s for index in indexes)


def _today(tuner: Tuner, index: Index | None) -> Choice | None:
    """Today's index at the target, with the knob that it needs for it."""
    if index is None or index.method == "":
        return None
    if why := index.fits(tuner.bench.table, tuner.bench.corpus.rows):
        tuner.bench.skip(f"today's index, {index}", why)
        return None
    return tuner.one_ivfflat(index) if index.method == "ivfflat" else next(tuner.hnsw([index]), None)


def _most_lists(tuner: Tuner) -> int:
    """The largest number of lists that the budget lets be built; lowered until it fits."""
    most = max(1, tuner.bench.corpus.rows // ivf_model.ROWS_A_LIST)
    while most > 1 and tuner.budget.over(ivfflat(most), tuner.bench.table, tuner.bench.corpus.rows):
        most = most * 4 // 5
    return most


def _grid(bench: Bench, request: Request, tuner: Tuner) -> None:
    grid = request.grid
    if isinstance(grid, str):
        ranked, rows = tuner.explorer.ranked(tuner.cost), bench.corpus.rows
        lists = ranked[0] if ranked else max(1, round(4 * rows**0.5))
        made = around(lists, rows) if grid == "around" else whole(lists, rows)
        grid = {index: values for index, values in made.items() if index.family in request.families}
    if grid:
        bench.label = "grid "
        sweep(bench, grid, min(GRID_S, request.budget_s))
        bench.label = ""


def around(lists: int, rows: int) -> Grid:
    """A coarse grid around a number of lists, and HNSW with usual settings: enough to be looked at."""
    return {**_scaled(lists, rows, (0.125, 0.35, 1, 2)), hnsw(): EF_SEARCH}


def whole(lists: int, rows: int) -> Grid:
    """A grid over all families: more lists, halfvec beside vector, three HNSW graphs, and bits ranked again."""
    graphs = [hnsw(8, 64), hnsw(), hnsw(32, 128), hnsw(kind="halfvec"), hnsw(kind="bit")]
    halves = _scaled(lists, rows, (0.5, 1, 2), "halfvec")
    return {**_scaled(lists, rows, (0.125, 0.25, 0.5, 1, 2)), **halves, **dict.fromkeys(graphs, EF_SEARCH)}


def _scaled(lists: int, rows: int, factors: Sequence[float], kind: Literal["vector", "halfvec"] = "vector") -> Grid:
    numbers = sorted({max(1, round(lists * factor)) for factor in factors if lists * factor <= rows / ivf_model.ROWS_A_LIST})
    return {ivfflat(number, kind): tuple(probes for probes in PROBES if probes <= number) for number in numbers}


def sweep(bench: Bench, grid: Grid, budget_s: float) -> None:
    """Measure every setting of every index, in random order, one build for all settings of an index; points that are known
    already cost nothing. ``budget_s``: seconds of searches at a point, after which no new one begins."""
    rows = bench.corpus.rows
    expected = [index.build_seconds(bench.table, rows) + len(values) * budget_s / 2 for index, values in grid.items()]
    bench.progress.expect(sum(expected))
    draw, indexes = random.Random(1), list(grid)
    draw.shuffle(indexes)
    for index in indexes:
        if why := bench.lacking(index):
            bench.skip(str(index), why)
            continue
        values = list(grid[index])
        draw.shuffle(values)
        for value in values:
            bench.measure(index, value, "verify", budget_s=budget_s)


def _result(bench: Bench, request: Request, tuner: Tuner, best: dict[Family, Choice], today: Choice | None) -> Comparison:
    corpus, notes = bench.corpus, list(bench.corpus.notes)
    points = tuple(bench.journal.points.values())
    met = [choice for choice in best.values() if choice.met]
    if uncached := sum(point.reads > 0 for point in points):
        notes.append(f"{uncached} settings read blocks from outside shared buffers: the index does not fit there")
    if bench.journal.resumed:
        notes.append(f"{bench.journal.resumed} settings were kept from a run that broke off")
    if not met:
        closest = max(best.values(), key=lambda choice: choice.point.recall.value, default=None)
        why = f"not reached by any index; the closest is {closest.index}, {closest.point.recall}" if closest else ""
        bench.skip(f"recall {request.target:g}", why or "nothing could be measured")
    return Comparison(
        corpus=corpus.name,
        asked=corpus.asked,
        rows=corpus.rows,
        dimension=corpus.dimension,
        metric=corpus.metric.name,
        k=request.k,
        target=request.target,
        server=bench.sandbox.server,
        points=points,
        builds=dict(bench.journal.builds),
        best=best,
        today=today,
        recommendation=max(met, key=lambda choice: choice.point.qps, default=None),
        twins=tuner.explorer.twins(tuner.cost),
        cost=tuner.cost,
        cost_error=ivf_model.cost_error(tuner.cost, tuner.timed),
        skipped=tuple(bench.skipped),
        seconds=bench.seconds,
        notes=tuple(notes),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=corpus.fingerprint,
    )
