"""The best index of each family for a recall target, with as few builds as can be.

IVFFlat: twins say which lists, the cost model ranks them, the best is built, its own centroids tell the probes, and the
searches that were timed correct the model; when that ranks others first, those are built as well. HNSW has no twin: it is
built, and its ef_search is searched for.
Every finalist is verified on queries that chose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from aya_lib.errors import AyaError
from aya_lib.vectors import cost, ivfflat_pages, twins
from aya_lib.vectors.bench.bench import Bench, Queries
from aya_lib.vectors.bench.build import Built, lacking
from aya_lib.vectors.bench.explore import WORTH, Explorer
from aya_lib.vectors.bench.pace import build_s
from aya_lib.vectors.bench.result import Choice, Point
from aya_lib.vectors.bench.scratch import INDEX
from aya_lib.vectors.bench.settle import reaches, rising, smallest
from aya_lib.vectors.cost import Cost, Timed
from aya_lib.vectors.index import EF_SEARCH, EXACT, Family, Index, Table, hnsw, index_bytes, ivfflat, mb
from aya_lib.vectors.truth import Recall

FINALISTS = 2  # builds of IVFFlat on the column's own type, at the most
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
            ("build", self.build_s, build_s(index, table, rows), lambda value: f"{value:.0f} s"),
            ("build memory", self.memory, index.build_bytes(table, rows), mb),
            ("size", self.bytes, index_bytes(index, table, rows), mb),
        ):
            if limit is not None and need > limit:
                return f"over the budget: {word} about {shown(need)}, allowed {shown(limit)}"
        return ""


@dataclass
class Tuner:
    """``given``: the table as the person knows it, for the statements. ``clients``: measured beside one."""

    bench: Bench
    given: Table
    target: float
    clients: int
    budget: Budget
    explorer: Explorer
    cost: Cost
    timed: list[Timed] = field(default_factory=list)
    real: dict[Index, twins.Curve] = field(default_factory=dict)

    def family(self, family: Family) -> Choice | None:
        """The best of a family, verified; None when it was left out, and why is in the bench's list."""
        match family:
            case "exact":
                return self.exact()
            case "ivfflat":
                return self._best(self.ivfflat(FINALISTS, "vector"))
            case "ivfflat_halfvec":
                return self._best(self.ivfflat(1, "halfvec"))
            case "hnsw":
                return self._best(self.hnsw([hnsw(), hnsw(32, 128)]))
            case "hnsw_halfvec":
                return self._best(self.hnsw([hnsw(kind="halfvec")]))
            case "hnsw_bit":
                return self._best(self.hnsw([hnsw(kind="bit")]))

    def exact(self) -> Choice | None:
        point = self.bench.measure(EXACT, 0, "verify", budget_s=self.bench.budget_s, least=10)
        return self._choice(EXACT, 0, point, None, Built(), 1) if point else None

    def ivfflat(self, finalists: int, kind: str) -> Iterator[Choice]:
        """Build and verify the lists that rank first; after each the ranking is corrected by what was timed."""
        built: list[int] = []
        like = ivfflat(1, "halfvec" if kind == "halfvec" else "vector")
        while len(built) < finalists:
            model = self._model(kind)
            best = self._frugal([one for one in self.explorer.ranked(model) if self._allowed(self._lists(like, one))], model)
            if best is None or best in built:
                return
            cheapest = min((self.explorer.us(lists, model) for lists in built), default=math.inf)
            if self.explorer.us(best, model) > cheapest * (1 - BELIEVED):
                why = f"not predicted to be {BELIEVED:.0%} faster than the finalist, and less is the model's own error"
                self.bench.skip(str(self._lists(like, best)), why)
                return
            built.append(best)
            choice = self.one_ivfflat(self._lists(like, best))
            if choice:
                yield choice

    def _frugal(self, ranked: list[int], model: Cost) -> int | None:
        """The fewest lists that are predicted to cost nearly as little as the best: k-means takes time and memory with the
        square of them, and the cost is flat around its bottom."""
        if not ranked:
            return None
        least = self.explorer.us(ranked[0], model)
        return min(lists for lists in ranked if self.explorer.us(lists, model) <= least * (1 + WORTH))

    def one_ivfflat(self, index: Index) -> Choice | None:
        """Build it, read its own centroids, take the probes that they ask for, and verify."""
        built = self.bench.build(index)
        curve = self._curve(index)
        if curve is None:
            start = self.explorer.probes(index.option("lists")) or 1
            values = self._further(self._searched(index, start, 1, index.option("lists")), index.option("lists"))
        else:
            others = [0, *(len(self.bench.queries[judge]) for judge in JUDGES[1:])]
            found = [curve.probes(self.target, *of) for of in zip(MARGINS, others, strict=True)]
            values = rising(found, index.option("lists"))
        self._calibrate(index, curve, values[:1])
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
                choice = self._verified(index, self._further(value, EF_SEARCH), built)
                if choice:
                    yield choice
                return

    def _searched(self, index: Index, start: int, least: int, most: int) -> int | None:
        """The smallest knob that reaches the target on the queries that choose; said in ``skipped`` when none does."""
        seen: dict[int, Recall] = {}

        def measure(value: int) -> Point | None:
            point = self.bench.measure(index, value, "choose")
            if point:
                seen[value] = point.recall
            return point

        value = smallest(measure, lambda recall: reaches(recall, self.target, MARGINS[0]), start, least, most)
        if value is None and seen:
            last = max(seen)
            said = f"recall {seen[last]} at {index.knob} = {last} does not reach {self.target:g}"
            self.bench.skip(str(index), said)
        return value

    def _further(self, value: int | None, most: int) -> list[int]:
        return [] if value is None else rising((math.ceil(value * further) for further in FURTHER), most)

    def _verified(self, index: Index, values: list[int], built: Built) -> Choice | None:
        """Verify the settings in turn until one meets the target, each on queries that chose nothing, all of them asked."""
        last: Choice | None = None
        for number, (value, asked) in enumerate(zip(values, JUDGES, strict=False), 1):
            point = self.bench.measure(index, value, asked, least=len(self.bench.queries[asked]))
            if point is None:
                return last
            met = point.recall.value >= self.target
            if met or last is None:
                point = self.bench.best_of(point, ROUNDS)
                many = self.bench.measure(index, value, asked, self.clients) if self.clients > 1 else None
                last = self._choice(index, value, point, many, built, number)
            if met:
                return last
        return last

    def _choice(self, index: Index, value: int, point: Point, many: Point | None, built: Built, tries: int) -> Choice:
        plain = self.plain
        curve = self.real.get(index) or self.explorer.curves.get(index.option("lists")) if index.method == "ivfflat" else None
        predicted = round(curve.recall(value).value, 4) if curve else None
        name = f"{self.given.index_name}_{'_'.join([index.family, *(str(v) for _, v in index.options)])}"[:63]
        create = plain(index.create(self.given, name)) if index.method else ""
        search = plain(index.search(self.given, self.bench.k, value))
        point = replace(point, predicted=predicted)
        return Choice(index, value, point, many, built, point.recall.value >= self.target, tries, create, search)

    def plain(self, statement: object) -> str:
        """A statement with only those names quoted that need it, as the server's quote_ident says."""
        import re

        from psycopg import sql

        connection = self.bench.place.connection
        assert isinstance(statement, sql.Composable)

        def quoted(found: re.Match[str]) -> str:
            row = connection.execute("SELECT quote_ident(%s)", (found[1],)).fetchone()
            return str(row[0]) if row else found[0]

        return re.sub(r'"([^"]+)"', quoted, statement.as_string(connection))

    def _best(self, choices: Iterator[Choice]) -> Choice | None:
        """The fastest that meets the target; where none does, the one with the highest recall."""
        found = list(choices)
        met = [choice for choice in found if choice.met]
        if met:
            return max(met, key=lambda choice: choice.point.qps)
        return max(found, key=lambda choice: choice.point.recall.value) if found else None

    def _allowed(self, index: Index) -> bool:
        place, table, rows = self.bench.place, self.bench.table, self.bench.corpus.rows
        why = self.budget.over(index, table, rows) or lacking(place, index, table, rows)
        if why:
            self.bench.skip(str(index), why)
        return not why

    def _lists(self, like: Index, lists: int) -> Index:
        return Index(like.family, (("lists", lists),))

    def _model(self, kind: str) -> Cost:
        if kind == "vector":
            return self.cost
        half = cost.PRIOR_HALF_ROW / cost.PRIOR_ROW
        return Cost(self.cost.per_list * half, self.cost.per_row * half, self.cost.fixed)

    def _curve(self, index: Index) -> twins.Curve | None:
        """The curve of the index that was built, from its own centroids; None where they cannot be read."""
        bench, corpus = self.bench, self.bench.corpus
        if index not in self.real:
            with bench.phase("centroids"):
                try:
                    centres = corpus.metric.prepare(ivfflat_pages.read(bench.place.connection, INDEX).centers)
                except AyaError as error:
                    bench.skip(f"the centroids of {index}", error.message)
                    return None
                self.real[index] = twins.curve(corpus.base, corpus.choose, bench.truth["choose"], centres, corpus.metric)
        return self.real[index]

    def _calibrate(self, index: Index, curve: twins.Curve | None, values: list[int]) -> None:
        """Time a few settings of a built index, and fit the cost model to them (of the column's own type only)."""
        if curve is None or index.kind != "vector" or not values:
            return
        lists = index.option("lists")
        for value in sorted({1, max(1, values[0] // 3), values[0]}):
            point = self.bench.measure(index, value, "choose", budget_s=1.0)
            if point:
                self.timed.append(Timed(lists, curve.scans(value), 1e6 / point.qps))
        self.cost = cost.fit(self.timed, cost.prior(self.bench.corpus.dimension))
