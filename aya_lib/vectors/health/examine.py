"""Looking at a live vector index: what its pages, the table's rows and its twins say of it. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from aya_lib.node.node import Node
from aya_lib.node.sql import Connection
from aya_lib.node.unseen import Unseen
from aya_lib.vectors import cost
from aya_lib.vectors.cost import Cost
from aya_lib.vectors.health import centroids, sampled
from aya_lib.vectors.health.asked import Asker
from aya_lib.vectors.health.centroids import Centroids
from aya_lib.vectors.health.diagnosis import PAYS, Found, Origin, Setting
from aya_lib.vectors.health.sampled import Measured, Vectors, Yardstick
from aya_lib.vectors.index import EF_SEARCH, LISTS, Table
from aya_lib.vectors.online.live import Live, LiveIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT_ROW_US = 2.15  # of a row read without an index, at 768 dimensions: it lies outside of the heap and is fetched
OUT_OF_BALANCE = 4.0  # times that lists and rows scanned may differ in cost before other lists are tried
NEAR = 1.25  # numbers of lists that are as good as the same
TWINS = 2  # of better lists that are made at most
ROWS_A_LIST = 4  # fewer make no list
PROBES = 10  # that the first guess at the best lists reckons with
HNSW_QUERIES = 100
RECORDED_K = 10  # neighbours, of the recall that a rebuild records
AGREES = 0.2  # the record of a build must agree so far with what the pages tell


@dataclass(frozen=True)
class Examined:
    """``curve``: recall and rows scanned over probes, of IVFFlat only; ``decided``: who chose the value in force; ``sample``:
    rows that were read; ``pages_added_share``: of the index's pages, those that came after the build."""

    found: Found
    index: LiveIndex | None
    curve: Measured | None = None
    decided: str = ""
    sample: int = 0
    pages_added_share: float | None = None
    notes: tuple[str, ...] = ()


def examine(node: Node, live: Live, connection: Connection, target: float, k: int) -> Examined | Unseen:
    """What there is to see of the column's index; :class:`Unseen` where its pages cannot be read."""
    return _Examination(node, live, connection, target, k).result()


@dataclass(frozen=True)
class _Examination:
    node: Node
    live: Live
    connection: Connection
    target: float
    k: int

    def result(self) -> Examined | Unseen:
        current = self.live.current
        if self.live.rows < self.k + 2:
            return Examined(self._found(self.live.rows), current)
        if current is None:
            return self._without()
        if current.dimension not in (None, self.live.dimension):
            why = f"it indexes {current.dimension} dimensions of something else than {self.live.column}"
            return Unseen(self.node.name, f"check up {current.name}", why)
        if current.method == "hnsw":
            return self._hnsw(current)
        pages = centroids.look(self.connection, self.node.name, self._name(current))
        return pages if isinstance(pages, Unseen) else self._ivfflat(current, pages)

    # The three kinds

    def _without(self) -> Examined:
        """No valid index: whether one would pay, and which."""
        found = self._found(self.live.rows)
        if self.live.rows < PAYS or self.live.builds:
            return Examined(found, None)
        vectors = self._vectors
        if len(vectors.base) < self.k + 2:
            return Examined(self._found(vectors.rows), None)
        better = self._better(None)
        return Examined(replace(found, rows=vectors.rows, better=better), None, sample=len(vectors.base), notes=self._notes())

    def _ivfflat(self, current: LiveIndex, pages: Centroids) -> Examined:
        vectors, layout = self._vectors, pages.layout
        if len(vectors.base) < self.k + 2:
            return Examined(self._found(vectors.rows), current)
        curve = self._yardstick.curve(self._table.metric.prepare(layout.centers))
        value = self.live.value(current.index())
        needed = self._at_target(curve)
        fresh = self._at_target(self._yardstick.twin(layout.lists))
        found = replace(
            self._found(vectors.rows),
            in_force=self._setting(curve, min(value, layout.lists)),
            needed=needed,
            fresh=fresh,
            better=self._better(fresh),
            origin=self._origin(current, pages, vectors.rows),
            passed_over=self._passed_over(current, value),
        )
        measured = pages.origin(vectors.rows)
        share = measured.pages_added_share if measured else None
        return Examined(found, current, curve, self._decided(current), len(vectors.base), share, self._notes(current, pages))

    def _hnsw(self, current: LiveIndex) -> Examined:
        """Searched for rows of the table, against exact neighbours: of all rows where they were read, else by SQL."""
        vectors, index = self._vectors, current.index()
        if len(vectors.base) < self.k + 2:
            return Examined(self._found(vectors.rows), current)
        chosen = self._yardstick.queries[:HNSW_QUERIES]
        asker = Asker(self.connection, self._table, index, current.name, self.k, vectors.base[chosen])
        whole = not vectors.sampled
        limits = self._yardstick.truth.distances[:HNSW_QUERIES, -1] if whole else asker.limits()
        value = self.live.value(index)
        settings = list(self._searched(asker, value, limits))
        reached = next((one for one in settings if one.recall.value >= self.target), None)
        found = replace(self._found(vectors.rows), in_force=settings[0], needed=reached)
        how = "all rows, read and compared here" if whole else "exact searches by SQL"
        note = f"HNSW has no centroids to read: recall was measured by {len(limits)} searches at each ef_search, against {how}."
        return Examined(found, current, None, self._decided(current), len(vectors.base), None, (note,))

    def _searched(self, asker: Asker, value: int, limits: NDArray[np.float64]) -> Iterator[Setting]:
        """The ef_search in force, then twice as much until the target is reached."""
        while True:
            recall, ms = asker.recall(value, limits)
            yield Setting(0, value, recall, float("nan"), 1000 * ms)
            if recall.value >= self.target or value >= EF_SEARCH:
                return
            value = min(EF_SEARCH, 2 * value)

    # What they rest on

    @cached_property
    def _table(self) -> Table:
        return self.live.as_table()

    @cached_property
    def _vectors(self) -> Vectors:
        return sampled.read(self.connection, self._table, self.live.rows)

    @cached_property
    def _yardstick(self) -> Yardstick:
        return Yardstick(self._vectors, self._table.metric, self.k)

    @cached_property
    def _cost(self) -> Cost:
        return cost.prior(self.live.dimension, self.live.current.kind if self.live.current else "vector")

    def _found(self, rows: int) -> Found:
        current = self.live.current
        return Found(
            index=current.name if current else "",
            method=current.method if current else "",
            rows=rows,
            target=self.target,
            k=self.k,
            exact_us=EXACT_ROW_US * self.live.dimension / cost.PRIOR_DIMENSION * rows,
            leftovers=tuple(one.name for one in self.live.leftovers),
            building=bool(self.live.builds),
        )

    def _passed_over(self, current: LiveIndex, value: int) -> bool:
        """Whether the planner reads the whole table with this setting. The plan is looked at, nothing is searched."""
        index = current.index()
        for name, setting in index.settings(value).items():
            self.connection.execute("SELECT set_config(%s, %s, false)", (name, setting))
        query = sql.SQL("EXPLAIN {}").format(index.search(self._table, self.k, value))
        text = "[" + ",".join(map(repr, self._vectors.base[0].tolist())) + "]"
        plan = psycopg.RawCursor(self.connection).execute(query, [text]).fetchall()
        return not any("Index Scan" in str(line) for (line,) in plan)

    def _setting(self, curve: Measured, probes: int) -> Setting:
        scanned = curve.scans(probes)
        return Setting(curve.lists, probes, curve.recall(probes), scanned, self._cost.us(curve.lists, scanned))

    def _at_target(self, curve: Measured) -> Setting:
        return self._setting(curve, curve.probes(self.target) or curve.lists)

    def _better(self, fresh: Setting | None) -> Setting | None:
        """A twin of better lists, where ``fresh`` is out of balance; it is tried at most twice. Without ``fresh`` the best."""
        model, rows = self._cost, self._vectors.rows
        if fresh:
            balance = model.per_list * fresh.lists / max(1e-9, model.per_row * fresh.scanned)
            if 1 / OUT_OF_BALANCE <= balance <= OUT_OF_BALANCE:
                return None
        best = fresh
        for _ in range(TWINS):
            lists = model.best_lists(rows, best.value if best else PROBES)
            lists = max(1, min(lists, LISTS, len(self._vectors.base) // ROWS_A_LIST))
            if best and 1 / NEAR <= lists / best.lists <= NEAR:
                break
            one = self._at_target(self._yardstick.twin(lists))
            if best and one.us >= best.us:
                break
            best = one
        return best if best is not fresh else None

    def _origin(self, current: LiveIndex, pages: Centroids, rows: int) -> Origin | None:
        """As its rebuild recorded it, if that is of this very index; else as the pages tell. The recorded recall counts only
        where searches still run with the probes it was measured at."""
        told, stored = pages.origin(rows), self.live.stored or {}
        record = stored.get("built") or {}
        count = int(record.get("rows") or 0)
        of_this = count > 0 and record.get("index") == str(current.index())
        if of_this and (told is None or abs(told.rows - count) <= AGREES * count):
            same = self.k == RECORDED_K and stored.get("probes") == self.live.value(current.index())
            return Origin(count, "record", record.get("recall") if same else None)
        return Origin(told.rows, "pages") if told else None

    def _decided(self, current: LiveIndex) -> str:
        """Who chose the value in force, in the order in which it is looked for."""
        knob = current.index().knob
        if any(one.name == knob and one.role in (None, self.live.application_role) for one in self.live.roles):
            return "set for the role or the database"
        if (self.live.stored or {}).get(knob.split(".")[1]):
            return "chosen by the tuning"
        return "set in the configuration" if dict(self.live.configured).get(knob) else "by default"

    def _name(self, index: LiveIndex) -> str:
        return sql.Identifier(self.live.schema, index.name).as_string()

    def _notes(self, current: LiveIndex | None = None, pages: Centroids | None = None) -> tuple[str, ...]:
        return tuple(self._told(current, pages))

    def _told(self, current: LiveIndex | None, pages: Centroids | None) -> Iterator[str]:
        vectors = self._vectors
        rows = f"all {vectors.rows:,} rows"
        if vectors.sampled:
            rows = f"a sample of {len(vectors.base):,} of about {vectors.rows:,} rows, carried on to all"
        yield (
            f"{len(self._yardstick.queries)} of its rows stand for queries, their neighbours found in {rows}; no search was run. "
            f"Times are those of a model, measured at {cost.PRIOR_DIMENSION} dimensions on two cores: for comparing."
        )
        if vectors.without_direction:
            yield f"{vectors.without_direction:,} zero vectors have no direction: an index by cosine leaves them out."
        if current and pages and current.options.get("lists") != pages.layout.lists:
            yield (
                f"{current.name} is declared with {current.options.get('lists')} lists and was built with {pages.layout.lists}:"
                " the declared ones hold when it is next built."
            )
        others = [one.name + (" (partial)" if one.partial else "") for one in self.live.indexes if one.valid and one != current]
        if others:
            yield f"There is also {', '.join(others)}, which was not looked at."
        metric = self._table.metric.name
        if current and self.live.relation == "chunks" and metric != "cosine":
            yield f"Search asks for the nearest by cosine and does not use {current.name}, which orders by {metric}."
