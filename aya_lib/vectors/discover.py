"""Looking at a live vector index: what its pages, the table's rows and its twins say of it. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection
from aya_lib.vectors import ivf_model, ivfflat_pages, measure, yardstick
from aya_lib.vectors.catalog import Live, LiveIndex
from aya_lib.vectors.index import EF_SEARCH, LISTS, Table
from aya_lib.vectors.ivf_model import ROWS_A_LIST, Cost, Curve
from aya_lib.vectors.measure import Search, SearchPlan
from aya_lib.vectors.verdict import PAYS, Facts, Setting
from aya_lib.vectors.yardstick import Yardstick

EXACT_ROW_US = 2.15  # of a row read without an index, at 768 dimensions: it lies outside of the heap and is fetched
OUT_OF_BALANCE = 4.0  # times that lists and rows scanned may differ in cost before other lists are tried
NEAR = 1.25  # numbers of lists that are as good as the same
TWINS = 2  # of better lists that are made at most
PROBES = 10  # that the first guess at the best lists reckons with
HNSW_QUERIES = 100


@dataclass(frozen=True)
class Discovered:
    """``curve``: recall and rows scanned over probes, of IVFFlat only; ``sample``: rows held."""

    facts: Facts
    curve: Curve | None = None
    sample: int = 0
    notes: tuple[str, ...] = ()


def discover(live: Live, connection: Connection, target: float, k: int) -> Discovered:
    """What there is to see of the column's index; :class:`AyaError` where its pages cannot be read."""
    return _Discovery(live, connection, target, k).result()


@dataclass(frozen=True)
class _Discovery:
    live: Live
    connection: Connection
    target: float
    k: int

    def result(self) -> Discovered:
        live, current = self.live, self.live.current
        few = live.rows < self.k + 2
        if few or (current is None and (live.rows < PAYS or live.builds)):
            return Discovered(self._facts(live.rows))
        if current and current.dimension not in (None, live.dimension):
            raise AyaError(f"{current.name} indexes {current.dimension} dimensions of something else than {live.column}")
        if not len(self._rows.queries):  # nearly all are zero vectors
            return Discovered(self._facts(self._rows.rows))
        if current is None:
            facts = replace(self._facts(self._rows.rows), better=self._better(None))
            return Discovered(facts, None, len(self._rows.base), tuple(self._notes()))
        return self._hnsw(current) if current.method == "hnsw" else self._ivfflat(current)

    def _ivfflat(self, current: LiveIndex) -> Discovered:
        centroids = ivfflat_pages.read(self.connection, self.live.qualified(current))
        lists = len(centroids)
        curve = self._rows.curve(self._table.metric.prepare(centroids))
        value = self.live.value(current.index())
        planned = measure.planned(self.connection, Search(self._table, current.index(), self.k, value), self._rows.base[0])
        fresh = self._at_target(self._rows.twin(lists))
        facts = replace(
            self._facts(self._rows.rows),
            in_force=self._setting(curve, min(value, lists)),
            needed=self._at_target(curve),
            fresh=fresh,
            better=self._better(fresh),
            built=self.live.built,
            passed_over=not planned.index,
        )
        return Discovered(facts, curve, len(self._rows.base), tuple(self._notes(current, lists)))

    def _hnsw(self, current: LiveIndex) -> Discovered:
        """Searched for rows of the table."""
        settings = list(self._searched(current))
        reached = next((setting for setting in settings if setting.recall.value >= self.target), None)
        facts = replace(self._facts(self._rows.rows), in_force=settings[0], needed=reached)
        asked = settings[0].recall.queries
        note = f"HNSW has no centroids to read: recall was measured by {asked} searches at each ef_search, against exact ones."
        return Discovered(facts, None, len(self._rows.base), (note,))

    def _searched(self, current: LiveIndex) -> Iterator[Setting]:
        """The ef_search in force, then twice as much until the target is reached."""
        index, value = current.index(), self.live.value(current.index())
        queries, kth = self._rows.queries[:HNSW_QUERIES], self._rows.distances[:HNSW_QUERIES, -1]
        while True:
            search = Search(self._table, index, self.k, value, current.name)
            measured = measure.recall_by_searches(self.connection, search, queries, kth, {"enable_seqscan": "off"})
            if isinstance(measured, SearchPlan):
                hint = "EXPLAIN says why: another index, or another form?"
                raise AyaError(f"a search does not use {current.name}, but {measured.index or measured.scan}", hint=hint)
            recall, timing = measured
            yield Setting(0, value, recall, float("nan"), 1000 * timing.percentile(50))
            if recall.value >= self.target or value >= EF_SEARCH:
                return
            value = min(EF_SEARCH, 2 * value)

    # What they rest on

    @cached_property
    def _table(self) -> Table:
        return self.live.as_table()

    @cached_property
    def _rows(self) -> Yardstick:
        return yardstick.read(self.connection, self._table, self.live.rows, self.k)

    @cached_property
    def _cost(self) -> Cost:
        return ivf_model.prior_cost(self.live.dimension, self.live.current.kind if self.live.current else "vector")

    def _facts(self, rows: int) -> Facts:
        current = self.live.current
        return Facts(
            index=current.name if current else "",
            method=current.method if current else "",
            rows=rows,
            target=self.target,
            k=self.k,
            exact_us=EXACT_ROW_US * self.live.dimension / ivf_model.PRIOR_DIMENSION * rows,
            leftovers=tuple(index.name for index in self.live.leftovers),
            building=bool(self.live.builds),
        )

    def _setting(self, curve: Curve, probes: int) -> Setting:
        scanned = curve.scans(probes)
        return Setting(curve.lists, probes, curve.recall(probes), scanned, self._cost.us(curve.lists, scanned))

    def _at_target(self, curve: Curve) -> Setting:
        return self._setting(curve, curve.probes(self.target) or curve.lists)

    def _better(self, fresh: Setting | None) -> Setting | None:
        """A twin of better lists, where ``fresh`` is out of balance; it is tried at most twice. Without ``fresh`` the best."""
        model = self._cost
        if fresh:
            balance = model.per_list * fresh.lists / max(1e-9, model.per_row * fresh.scanned)
            if 1 / OUT_OF_BALANCE <= balance <= OUT_OF_BALANCE:
                return None
        best = fresh
        for _ in range(TWINS):
            lists = model.best_lists(self._rows.rows, best.value if best else PROBES)
            lists = max(1, min(lists, LISTS, len(self._rows.base) // ROWS_A_LIST))
            if best and 1 / NEAR <= lists / best.lists <= NEAR:
                break
            tried = self._at_target(self._rows.twin(lists))
            if best and tried.us >= best.us:
                break
            best = tried
        return best if best is not fresh else None

    def _notes(self, current: LiveIndex | None = None, lists: int = 0) -> Iterator[str]:
        rows = self._rows
        yield (
            f"{len(rows.queries)} of its rows stand for queries, their neighbours found in all {rows.rows:,} rows; no search was"
            f" run. Times are those of a model, measured at {ivf_model.PRIOR_DIMENSION} dimensions on two cores: for comparing."
        )
        if rows.without_direction:
            yield f"{rows.without_direction:,} zero vectors have no direction: an index by cosine leaves them out."
        if current and lists and current.options["lists"] != lists:
            yield (
                f"{current.name} is declared with {current.options['lists']} lists and was built with {lists}:"
                " the declared ones hold when it is next built."
            )
        others = [
            index.name + (" (partial)" if index.partial else "")
            for index in self.live.indexes
            if index.valid and index != current
        ]
        if others:
            yield f"There is also {', '.join(others)}, which was not looked at."
        metric = self._table.metric.name
        if current and self.live.relation == "chunks" and metric != "cosine":
            yield f"Search asks for the nearest by cosine and does not use {current.name}, which orders by {metric}."
