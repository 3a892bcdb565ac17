"""The best index of each family for a recall target, with as few builds as can be.

IVFFlat: twins say which lists, the cost model ranks them, the best is built, its own centroids tell the probes, and the
searches that were timed correct the model; when that ranks others first, those are built as well. HNSW has no twin: it is
built, and its ef_search is searched for.
Every finalist is verified on queries that chose nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from psycopg import sql

from aya_lib.errors import AyaError
from aya_lib.vectors import ivf_model, ivfflat_pages
from aya_lib.vectors.bench import Bench, Queries
from aya_lib.vectors.explorer import Explorer
from aya_lib.vectors.index import EF_SEARCH, EXACT, Family, Index, Table, hnsw, mb
from aya_lib.vectors.ivf_model import Cost, Curve, Timed
from aya_lib.vectors.result import Choice, Point
from aya_lib.vectors.sandbox import INDEX, Built
from aya_lib.vectors.settle import reaches, rising, smallest
from aya_lib.vectors.truth import Recall

FINALISTS: dict[Family, int] = {"ivfflat": 2, "ivfflat_halfvec": 1}  # builds at the most
GRAPHS: dict[Family, list[Index]] = {
    "hnsw": [hnsw(), hnsw(32, 128)],
    "hnsw_halfvec": [hnsw(kind="halfvec")],
    "hnsw_bit": [hnsw(kind="bit")],
}
BELIEVED = 0.09  # a share of the predicted cost: the median error of the model, below which it decides nothing
ROUNDS = 3  # of the timing of a finalist; the median counts
MARGINS = (0.5, 2.0, 4.0)  # standard errors above the target, for the first verification, the second and the third
FURTHER = (1.0, 1.15, 1.5)  # times the setting that was searched for, where no curve tells the error
# A third try is verified on the queries that the second failed on: they are harder than others, which makes it no easier.
JUDGES: tuple[Queries, ...] = ("verify", "again", "again")


@dataclass(frozen=True)
class Budget:
    """What a build may take; None: no limit. ``memory`` and ``bytes`` in bytes."""

    build_s: float | None = None
    memory: int | None = None
    bytes: int | None = None

    def over(self, index: Index, table: Table, rows: int) -> str:
        """Why an index is over the budget, by estimate; empty when it is not."""
        for word, limit, need, shown in (
            ("build", self.build_s, index.build_seconds(table, rows), lambda value: f"{value:.0f} s"),
            ("build memory", self.memory, index.build_bytes(table, rows), mb),
            ("size", self.bytes, index.bytes(table, rows), mb),
        ):
            if limit is not None and need > limit:
                return f"over the budget: {word} about {shown(need)}, allowed {shown(limit)}"
        return ""


@dataclass
class Tuner:
    """``given``: the table as the person knows it, for the statements. ``clients``: measured beside one. ``real``: the curves of
    indexes that were built, from their own centroids; None where these cannot be read."""

    bench: Bench
    given: Table
    target: float
    clients: int
    budget: Budget
    explorer: Explorer
    cost: Cost
    timed: list[Timed] = field(default_factory=list)
    real: dict[Index, Curve | None] = field(default_factory=dict)

    def family(self, family: Family) -> Choice | None:
        """The best of a family, verified; None when it was left out, and why is in the bench's list. The fastest that meets the
        target; where none does, the one with the highest recall."""
        if family == "exact":
            point = self.bench.measure(EXACT, 0, least=10)
            return self._choice(EXACT, 0, point, None, Built()) if point else None
        choices = list(self.hnsw(GRAPHS[family]) if family in GRAPHS else self.ivfflat(family))
        fastest = max((choice for choice in choices if choice.met), key=lambda choice: choice.point.qps, default=None)
        return fastest or max(choices, key=lambda choice: choice.point.recall.value, default=None)

    def ivfflat(self, family: Family) -> Iterator[Choice]:
        """Build and verify the lists that rank first; after each the ranking is corrected by what was timed."""
        built: list[int] = []
        while len(built) < FINALISTS[family]:
            model = self._model(family)
            allowed = [lists for lists in self.explorer.ranked(model) if self._allowed(_lists(family, lists))]
            best = self.explorer.frugal(allowed, model)
            if best is None or best in built:
                return
            cheapest = min((self.explorer.us(lists, model) for lists in built), default=math.inf)
            if self.explorer.us(best, model) > cheapest * (1 - BELIEVED):
                why = f"not predicted to be {BELIEVED:.0%} faster than the finalist, and less is the model's own error"
                self.bench.skip(str(_lists(family, best)), why)
                return
            built.append(best)
            choice = self.one_ivfflat(_lists(family, best))
            if choice:
                yield choice

    def one_ivfflat(self, index: Index) -> Choice | None:
        """Build it, read its own centroids, take the probes that they ask for, and verify."""
        built, lists, curve = self.bench.build(index), index.option("lists"), self._curve(index)
        if curve is None:
            values = _further(self._searched(index, self.explorer.probes(lists) or 1, 1, lists), lists)
        else:
            others = [0, *(len(self.bench.queries[judge]) for judge in JUDGES[1:])]
            values = rising((curve.probes(self.target, *of) for of in zip(MARGINS, others, strict=True)), lists)
            self._calibrate(index, curve, values)
        return self._verified(index, values, built)

    def hnsw(self, indexes: list[Index]) -> Iterator[Choice]:
        """The first of these that reaches the target; the next is only built where the one before did not."""
        for index in indexes:
            if self.bench.k > EF_SEARCH:
                self.bench.skip(str(index), f"k = {self.bench.k} is more than hnsw.ef_search can be ({EF_SEARCH})")
                return
            if not self._allowed(index):
                return
            built = self.bench.build(index)
            value = self._searched(index, 40, min(self.bench.k, 40), EF_SEARCH)
            if value is not None:
                choice = self._verified(index, _further(value, EF_SEARCH), built)
                if choice:
                    yield choice
                return

    def _searched(self, index: Index, start: int, least: int, most: int) -> int | None:
        """The smallest knob that reaches the target on the queries that choose; said in ``skipped`` when none does."""
        recalls: dict[int, Recall] = {}

        def measure(value: int) -> Point | None:
            point = self.bench.measure(index, value, "choose")
            if point:
                recalls[value] = point.recall
            return point

        value = smallest(measure, lambda recall: reaches(recall, self.target, MARGINS[0]), start, least, most)
        if value is None and recalls:
            last = max(recalls)
            why = f"recall {recalls[last]} at {index.knob} = {last} does not reach {self.target:g}"
            self.bench.skip(str(index), why)
        return value

    def _verified(self, index: Index, values: list[int], built: Built) -> Choice | None:
        """Verify the settings in turn until one meets the target, each on queries that chose nothing, all of them asked."""
        last: Choice | None = None
        for value, judge in zip(values, JUDGES, strict=False):
            point = self.bench.measure(index, value, judge, least=len(self.bench.queries[judge]))
            if point is None:
                return last
            met = point.recall.value >= self.target
            if met or last is None:
                point = self.bench.best_of(point, ROUNDS)
                many = self.bench.measure(index, value, judge, self.clients) if self.clients > 1 else None
                last = self._choice(index, value, point, many, built)
            if met:
                return last
        return last

    def _choice(self, index: Index, value: int, point: Point, many: Point | None, built: Built) -> Choice:
        curve = self.real.get(index) or self.explorer.curves.get(index.option("lists")) if index.method == "ivfflat" else None
        point = replace(point, predicted=round(curve.recall(value).value, 4) if curve else None)
        name = f"{self.given.index_name}_{'_'.join([index.family, *(str(v) for _, v in index.options)])}"[:63]
        create = self._plain(index.create(self.given, name)) if index.method else ""
        search = self._plain(index.search(self.given, self.bench.k, value))
        return Choice(index, value, point, many, built, point.recall.value >= self.target, create, search)

    def _plain(self, statement: sql.Composed) -> str:
        """A statement with only those names quoted that need it, as the server's quote_ident says."""
        connection = self.bench.sandbox.connection

        def quoted(name: re.Match[str]) -> str:
            row = connection.execute("SELECT quote_ident(%s)", (name[1],)).fetchone()
            return str(row[0]) if row else name[0]

        return re.sub(r'"([^"]+)"', quoted, statement.as_string(connection))

    def _allowed(self, index: Index) -> bool:
        why = self.budget.over(index, self.bench.table, self.bench.corpus.rows) or self.bench.lacking(index)
        if why:
            self.bench.skip(str(index), why)
        return not why

    def _model(self, family: Family) -> Cost:
        if not family.endswith("halfvec"):
            return self.cost
        half = ivf_model.PRIOR_HALF_ROW / ivf_model.PRIOR_ROW
        return Cost(self.cost.per_list * half, self.cost.per_row * half, self.cost.fixed)

    def _curve(self, index: Index) -> Curve | None:
        """The curve of the index that was built, from its own centroids; None where they cannot be read."""
        bench, corpus = self.bench, self.bench.corpus
        if index not in self.real:
            with bench.phase("centroids", f"centroids of {index}", corpus.base.size * 1e-8):
                try:
                    centres = corpus.metric.prepare(ivfflat_pages.read(bench.sandbox.connection, INDEX))
                except AyaError as error:
                    bench.skip(f"the centroids of {index}", error.message)
                    return None
                self.real[index] = ivf_model.curve(corpus.base, corpus.choose, bench.truth["choose"], centres, corpus.metric)
        return self.real[index]

    def _calibrate(self, index: Index, curve: Curve, values: list[int]) -> None:
        """Time a few settings of a built index, and fit the cost model to them (of the column's own type only)."""
        if index.kind != "vector" or not values:
            return
        for value in sorted({1, max(1, values[0] // 3), values[0]}):
            point = self.bench.measure(index, value, "choose", budget_s=1.0)
            if point:
                self.timed.append(Timed(index.option("lists"), curve.scans(value), 1e6 / point.qps))
        self.cost = ivf_model.fit_cost(self.timed, ivf_model.prior_cost(self.bench.corpus.dimension))


def _lists(family: Family, lists: int) -> Index:
    return Index(family, (("lists", lists),))


def _further(value: int | None, most: int) -> list[int]:
    return [] if value is None else rising((math.ceil(value * further) for further in FURTHER), most)
