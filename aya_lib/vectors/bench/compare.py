"""Compare the ways to index these vectors, on this server, for a recall target: the library call behind the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from psycopg import sql

from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import Node
from aya_lib.vectors import cost
from aya_lib.vectors.bench.bench import Bench
from aya_lib.vectors.bench.build import no_room
from aya_lib.vectors.bench.explore import Explorer
from aya_lib.vectors.bench.grid import Grid, around, expected_s, sweep, whole
from aya_lib.vectors.bench.journal import Journal
from aya_lib.vectors.bench.pace import Pace, build_s
from aya_lib.vectors.bench.result import Choice, Comparison, Skipped
from aya_lib.vectors.bench.scaling import advise
from aya_lib.vectors.bench.scratch import Place, place
from aya_lib.vectors.bench.tuner import MARGINS, Budget, Tuner
from aya_lib.vectors.corpus.corpus import Corpus
from aya_lib.vectors.index import FAMILIES, Family, Index, Table, hnsw, ivfflat
from aya_lib.vectors.truth import Truth, agree, cached

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TODAY = ivfflat(100)  # what the schema builds at first
AGREED = 3  # queries whose exact neighbours are also asked of PostgreSQL
COPIES = 4  # of the vectors that must fit onto the disk: the table, an index, and the sorting of its build
AGAIN = 3  # every so-many-th query that verifies is kept for a second verification


@dataclass(frozen=True)
class Wish:
    """What is asked for. ``clients``: measured beside one client. ``today``: the index that all others are compared with.

    ``grid``: also measure a grid: this one, one *around* the best lists, or a *whole* one over the families. ``scaling``: also
    say what 10 and 100 times the rows would need. ``budget_s``: seconds of searches at one setting. ``fresh``: do not go on
    from a run that broke off.
    """

    target: float = 0.95
    k: int = 10
    clients: int = 2
    families: Sequence[Family] = FAMILIES
    today: Index | None = TODAY
    budget: Budget = field(default_factory=Budget)
    grid: Grid | Literal["around", "whole"] | None = None
    scaling: bool = False
    budget_s: float = 4.0
    fresh: bool = False

    def refuse(self) -> None:
        """:class:`UsageError` for a wish that cannot be."""
        if not 0 < self.target <= 1:
            raise UsageError(f"target {self.target:g}: allowed is a recall above 0 and up to 1, for example 0.95")
        if self.k < 1:
            raise UsageError(f"k = {self.k}: allowed is 1 or more neighbours")
        if not 1 <= self.clients <= 64:
            raise UsageError(f"clients = {self.clients}: allowed is 1 to 64")
        unknown = [one for one in self.families if one not in FAMILIES]
        if unknown or not self.families:
            raise UsageError(f"family '{', '.join(unknown)}': allowed are {', '.join(FAMILIES)}")


def compare_indexes(
    node: Node, corpus: Corpus, given: Table, wish: Wish | None = None, *, out: TextIO | None = None
) -> Comparison:
    """Find the best index of each family for a recall target, on ``node``, in a scratch database that is gone afterwards.

    ``given``: the table that the recommendation's statements name. ``out``: where a progress bar is drawn. Ctrl-C keeps
    what was measured; the same call again goes on from there. Raises :class:`UsageError` for what cannot be measured.
    """
    wish = wish or Wish()
    wish.refuse()
    if wish.k >= corpus.rows:
        raise UsageError(f"k = {wish.k}: {corpus.name} has {corpus.rows} rows to search")
    why = no_room(node, COPIES * corpus.base.nbytes)
    if why:
        raise AyaError(f"{corpus.name} cannot be measured on {node.name}: {why}", hint="Free disk, or read fewer --rows")
    pace = Pace(out, 30.0)
    try:
        with place(node) as scratch:
            bench = prepare(scratch, corpus, wish, pace)
            return _run(bench, given, wish)
    finally:
        pace.close()


def prepare(scratch: Place, corpus: Corpus, wish: Wish, pace: Pace) -> Bench:
    """The corpus in the scratch table, its exact neighbours known and agreed on with PostgreSQL, nothing built yet."""
    server = scratch.server
    key = [
        corpus.fingerprint,
        wish.k,
        server.node,
        server.version,
        server.pgvector,
        server.shared_buffers,
        server.parallel_maintenance,
    ]
    journal = Journal(json.dumps(key))
    if wish.fresh:
        journal.close()
        journal = Journal(json.dumps(key))
    table = Table("bench", "embedding", "id", corpus.dimension, corpus.metric)
    bench = Bench(scratch, corpus, wish.k, _queries(corpus), {}, journal, pace, table, wish.budget_s)
    with bench.phase("load"), pace.step("load the vectors", 1 + corpus.base.nbytes / 6e7):
        bench.table = scratch.load(corpus.base, corpus.metric)
    with bench.phase("truth"), pace.step("exact neighbours", corpus.base.size * 4e-8):
        for name, queries in bench.queries.items():
            found, _ = cached(corpus.base, queries, corpus.metric, wish.k, f"{corpus.fingerprint}-{name}")
            bench.truth[name] = found
        _agree(bench)
    return bench


def _queries(corpus: Corpus) -> dict[str, NDArray[np.float32]]:
    """The queries that choose, those that verify, and those kept for a second verification."""
    import numpy as np

    again = corpus.verify[::AGAIN]
    first = np.delete(corpus.verify, np.arange(0, len(corpus.verify), AGAIN), axis=0)
    return {"choose": corpus.choose, "verify": first, "again": again}


def _agree(bench: Bench) -> None:
    """Exact search by SQL on a few queries must give the neighbours computed here."""
    import numpy as np

    truth: Truth = bench.truth["verify"]
    table, connection = bench.table, bench.place.connection
    text = sql.SQL("SELECT {column} {operator} %b::vector FROM {table} ORDER BY 1 LIMIT {k}").format(
        column=sql.Identifier(table.column),
        operator=sql.SQL(table.metric.operator),
        table=table.identifier,
        k=sql.Literal(bench.k),
    )
    found = []
    for query in bench.queries["verify"][:AGREED]:
        given = "[" + ",".join(map(str, query.tolist())) + "]"
        statement = sql.SQL(text.as_string(connection).replace("%b", "%s"))
        found.append([float(str(row[0])) for row in connection.execute(statement, (given,)).fetchall()])
    agree(truth.distances[:AGREED], np.array(found))


def _run(bench: Bench, given: Table, wish: Wish) -> Comparison:
    explorer = Explorer(bench.corpus, bench.truth["choose"], wish.target, MARGINS[0])
    model = cost.prior(bench.corpus.dimension)
    tuner = Tuner(bench, given, wish.target, wish.clients, wish.budget, explorer, model)
    families = [one for one in FAMILIES if one in wish.families]
    _expect(bench, wish, families)
    best: dict[Family, Choice] = {}
    with bench.pace.step("exact search", bench.budget_s):
        choice = tuner.family("exact") if "exact" in families else None
    if choice:
        best["exact"] = choice
    today = _today(tuner, wish.today)
    if any(one.startswith("ivfflat") for one in families):
        with bench.phase("twins"), bench.pace.step("twins of IVFFlat", 20.0):
            explorer.explore(tuner.cost, _most_lists(tuner))
    for family in [one for one in families if one != "exact"]:
        choice = tuner.family(family)
        if choice:
            best[family] = choice
    met = [one for one in best.values() if one.met]
    recommendation = max(met, key=lambda one: one.point.qps) if met else None
    _grid(bench, wish, explorer, tuner)
    found = _result(bench, given, wish, tuner, best, today, recommendation)
    if wish.scaling:
        small = replace(wish, budget_s=min(1.0, wish.budget_s))
        advice = advise(tuner, lambda part: prepare(bench.place, part, small, bench.pace), list(best.values()))
        found = replace(found, scaling=advice, skipped=tuple(bench.skipped), seconds=bench.seconds)
    bench.journal.close()
    return found


def _expect(bench: Bench, wish: Wish, families: Sequence[Family]) -> None:
    """Tell the bar what lies ahead, before any of it is known."""
    rows, lists = bench.corpus.rows, max(1, round(4 * bench.corpus.rows**0.5))
    likely = {
        "ivfflat": [ivfflat(lists), ivfflat(2 * lists)],
        "ivfflat_halfvec": [ivfflat(lists, "halfvec")],
        "hnsw": [hnsw()],
        "hnsw_halfvec": [hnsw(kind="halfvec")],
        "hnsw_bit": [hnsw(kind="bit")],
    }
    ahead = sum(build_s(index, bench.table, rows) + 4 * bench.budget_s for one in families for index in likely.get(one, []))
    if isinstance(wish.grid, Grid):
        ahead += expected_s(bench, wish.grid)
    bench.pace.expect(ahead + 25)


def _today(tuner: Tuner, index: Index | None) -> Choice | None:
    """Today's index at the target, with the probes it needs for it."""
    if index is None or index.method == "":
        return None
    why = index.fits(tuner.bench.table, tuner.bench.corpus.rows)
    if why:
        tuner.bench.skip(f"today's index, {index}", why)
        return None
    if index.method == "ivfflat":
        return tuner.one_ivfflat(index)
    return next(tuner.hnsw([index]), None)


def _most_lists(tuner: Tuner) -> int:
    """The largest number of lists that the budget lets be built; halved until it fits."""
    most = max(1, tuner.bench.corpus.rows // 4)
    while most > 1 and tuner.budget.over(ivfflat(most), tuner.bench.table, tuner.bench.corpus.rows):
        most = most * 4 // 5
    return most


def _grid(bench: Bench, wish: Wish, explorer: Explorer, tuner: Tuner) -> None:
    grid = wish.grid
    if isinstance(grid, str):
        ranked, rows = explorer.ranked(tuner.cost), bench.corpus.rows
        lists = ranked[0] if ranked else max(1, round(4 * rows**0.5))
        grid = around(lists, rows) if grid == "around" else whole(lists, rows)
        values = {index: knobs for index, knobs in grid.values.items() if index.family in wish.families}
        grid = Grid(values, min(grid.budget_s, wish.budget_s))
        bench.pace.expect(expected_s(bench, grid))
    if isinstance(grid, Grid):
        bench.label = "grid "
        sweep(bench, grid)
        bench.label = ""


def _result(
    bench: Bench,
    given: Table,
    wish: Wish,
    tuner: Tuner,
    best: dict[Family, Choice],
    today: Choice | None,
    recommendation: Choice | None,
) -> Comparison:
    corpus, notes = bench.corpus, list(bench.corpus.notes)
    uncached = sum(point.reads > 0 for point in bench.journal.points.values())
    if uncached:
        notes.append(f"{uncached} settings read blocks from outside shared buffers: the index does not fit there")
    if bench.journal.resumed:
        notes.append(f"{bench.journal.resumed} settings were kept from a run that broke off")
    if recommendation is None:
        closest = max(best.values(), key=lambda one: one.point.recall.value, default=None)
        bench.skipped.append(
            Skipped(
                f"recall {wish.target:g}",
                f"not reached by any index; the closest is {closest.index}, {closest.point.recall}"
                if closest
                else "nothing could be measured",
            )
        )
    return Comparison(
        corpus=corpus.name,
        asked=corpus.asked,
        rows=corpus.rows,
        dimension=corpus.dimension,
        metric=corpus.metric.name,
        k=wish.k,
        target=wish.target,
        table_name=given.name,
        server=bench.place.server,
        points=tuple(bench.journal.points.values()),
        builds=dict(bench.journal.builds),
        best=best,
        today=today,
        recommendation=recommendation,
        twins=tuner.explorer.twins(tuner.cost),
        cost=tuner.cost,
        cost_error=cost.error(tuner.cost, tuner.timed),
        skipped=tuple(bench.skipped),
        seconds=bench.seconds,
        notes=tuple(notes),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=corpus.fingerprint,
    )
