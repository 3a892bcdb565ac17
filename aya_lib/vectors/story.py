"""The benchmark as a runbook tells it: what is measured, what was found, what must hold, and the rebuild when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aya_lib import settings
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster.canary import writing
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, seen
from aya_lib.picture import Picture
from aya_lib.plan.change import Plan
from aya_lib.show import Note, Shown, Table
from aya_lib.vectors import catalog, rebuild
from aya_lib.vectors.bench import scaling, scratch
from aya_lib.vectors.bench.compare import TODAY, Wish, compare_indexes
from aya_lib.vectors.bench.result import Comparison, LeftOut
from aya_lib.vectors.bench.tuner import Budget
from aya_lib.vectors.catalog import Live, node_of
from aya_lib.vectors.corpus.source import Source, open_source
from aya_lib.vectors.index import FAMILIES, Family, Index
from aya_lib.vectors.rebuild import Rebuild
from aya_lib.vectors.report import keep, plots

PREDICTED = 0.02  # how far a twin's recall may lie from the measured one


@dataclass(frozen=True, repr=False)
class Measured(Shown):
    """The vectors to be measured and the node it is done on."""

    node: str
    source: Source

    def table(self) -> Table:
        corpus = self.source.corpus
        rows = (
            ("corpus", corpus.name),
            ("rows", f"{corpus.rows:,} of {corpus.dimension} dimensions"),
            ("distance", f"{corpus.metric.name} ({corpus.metric.operator})"),
            ("queries", corpus.asked),
            ("of which choose", f"{len(corpus.choose):,}"),
            ("of which only verify", f"{len(corpus.verify):,}"),
            ("measured on", self.node),
        )
        return Table("What is measured", ("", ""), rows, corpus.notes)


def corpus(
    nodes: Nodes,
    source: str = "auto",
    queries: str = "",
    *,
    k: int = 10,
    metric: str = "",
    table: str = "chunks",
    column: str = "embedding",
    node: str = "",
) -> Measured:
    """Read or make the vectors. Relative paths of files stand below the project's folder. :class:`UsageError`."""
    there = node_of(nodes, node)
    made = open_source(there, _path(source), _path(queries), metric, table=table, column=column, k=k)
    return Measured(there.name, made)


@writing("a scratch database for the measurement, dropped at the end")
def compare(
    nodes: Nodes,
    measured: Measured,
    *,
    target: float = 0.95,
    k: int = 10,
    clients: int = 2,
    families: Sequence[str] = (),
    seconds: float = 4.0,
    build_s: float = 0,
    grid: bool = False,
    growth: bool = False,
) -> Comparison | Missing:
    """Measure and tune, with a progress bar on standard output."""
    there = nodes[measured.node]
    unknown = [one for one in families if one not in FAMILIES]
    if unknown:
        raise UsageError(f"family '{', '.join(unknown)}': allowed are {', '.join(FAMILIES)}")
    chosen: list[Family] = [one for one in FAMILIES if not families or one in families]
    wish = Wish(
        target,
        k,
        clients,
        chosen,
        today(there, measured.source),
        Budget(build_s=build_s or None),
        "around" if grid else None,
        growth,
        seconds,
    )
    source = measured.source

    def run() -> Comparison:
        return compare_indexes(there, source.corpus, source.given, wish, out=sys.stdout)

    return seen(there.name, "measure the vector index", run)


def today(node: Node, source: Source) -> Index | None:
    """The index that the table has now, where the table itself is measured; else the schema's first one."""
    if not _is_table(source):
        return TODAY
    found = catalog.look(node, source.given.name, source.given.column)
    current = found.current if isinstance(found, Live) else None
    return current.index() if current else TODAY


@dataclass(frozen=True)
class Leftover:
    """Scratch databases that are still on a node, and do not belong to a benchmark that runs."""

    names: tuple[str, ...]


def leftover(nodes: Nodes, node: str) -> Leftover | Missing:
    """What a benchmark left behind."""

    def ask() -> Leftover:
        with nodes[node].session(database="postgres") as connection:
            return Leftover(tuple(scratch.abandoned(connection)))

    return seen(node, "scratch databases", ask)


def check(found: Comparison | Missing, left: Leftover | Missing) -> list[Check]:
    """The recommendation holds on queries that chose nothing, predictions were near, and nothing was left behind."""

    def reached(one: Comparison) -> Judged:
        best = one.recommendation
        if best is None:
            closest = max(one.best.values(), key=lambda choice: choice.point.recall.value, default=None)
            said = f"closest: {closest.index}, {closest.point.recall}" if closest else "nothing could be measured"
            return passed_if(False, said, "Lower the target, allow exact search, or read what was left out")
        return passed_if(best.met, f"{best.index}, {best.point.setting}: {best.point.recall}")

    def near(one: Comparison) -> Judged:
        pairs = [choice.point for choice in one.best.values() if choice.point.predicted is not None]
        if not pairs:
            return passed_if(True, "no IVFFlat was measured")
        worst = max(abs(point.recall.value - (point.predicted or 0)) for point in pairs)
        hint = "Believe the measured figures; the twins only ranked"
        return Judged("passed" if worst <= PREDICTED else "warning", f"{worst:.3f} at the most", hint)

    def cached(one: Comparison) -> Judged:
        cold = sum(point.reads > 0 for point in one.points)
        hint = "Figures hold for a cache of this size: raise shared_buffers, or take a smaller index (halfvec)"
        return Judged("warning" if cold else "passed", f"{cold} of {len(one.points)} settings read from outside", hint)

    return [
        evaluate("a recommendation reaches the target", "on queries that chose nothing", found, reached),
        evaluate("predicted recall is near the measured", f"within {PREDICTED}", found, near),
        evaluate("searches were answered from shared buffers", "all", found, cached),
        evaluate("nothing is left on the node", "no scratch database", left, lambda one: passed_if(not one.names, _names(one))),
    ]


def plot(found: Comparison | Missing, name: str) -> Picture | Note:
    """One of the plots (``recall_qps``, ``lists_probes``, ``predicted``, ``builds``, ``latencies``, ``scaling``)."""
    return plots.PLOTS[name](found) if isinstance(found, Comparison) else Note("No plot: nothing was measured.", "quiet")


def left_out(found: Comparison | Missing) -> LeftOut | Note:
    """What was skipped, with the reasons."""
    return LeftOut(found.skipped) if isinstance(found, Comparison) else Note("Nothing was measured.", "quiet")


def advice(found: Comparison | Missing) -> scaling.Scaling | Note:
    """What more rows would need."""
    if isinstance(found, Comparison) and isinstance(found.scaling, scaling.Scaling):
        return found.scaling
    return Note("Not asked for, or too few rows to fit.", "quiet")


def kept(found: Comparison | Missing, record: Path) -> Shown:
    """Figures and pictures as files beside the run's record."""
    if not isinstance(found, Comparison):
        return Note("Nothing to keep: nothing was measured.", "quiet")
    return keep.save(found, record.parent, record.stem)


def plan(nodes: Nodes, measured: Measured, found: Comparison | Missing, *, wanted: bool) -> Plan:
    """Rebuild the table's index as recommended; empty, with the reason as its title, where that is not wanted or cannot be."""
    best = found.recommendation if isinstance(found, Comparison) else None
    why = _why_not(measured.source, best is not None and bool(best.index.method), wanted)
    if why or best is None or not isinstance(found, Comparison):
        return Plan(why or "No rebuild: nothing was measured")
    return rebuild.plan(nodes, _rebuild(nodes, measured, found))


def written(nodes: Nodes, measured: Measured, done: Plan) -> Plan:
    """After a rebuild: the new index on disk, where the check-up reads it."""
    given = measured.source.given
    return rebuild.flush(nodes[measured.node], given.name, given.column) if done else Plan(rebuild.FLUSH)


def preconditions(nodes: Nodes, measured: Measured, found: Comparison | Missing, planned: Plan) -> list[Check]:
    """What must hold before the rebuild; nothing where none is planned."""
    return rebuild.preconditions(_rebuild(nodes, measured, found)) if planned and isinstance(found, Comparison) else []


def _rebuild(nodes: Nodes, measured: Measured, found: Comparison) -> Rebuild:
    given, best = measured.source.given, found.recommendation
    live = catalog.look(nodes[measured.node], given.name, given.column)
    why = "the benchmark recommends it" if isinstance(live, Live) else str(live)
    index, value = (best.index, best.value) if best else (None, 0)
    return Rebuild(measured.node, live, index, value, why, target=found.target, k=found.k)


def _why_not(source: Source, index: bool, wanted: bool) -> str:
    if not wanted:
        return "No rebuild was asked for (rebuild = false)"
    if not _is_table(source):
        return f"No rebuild: {source.corpus.name} was measured, not the table {source.given.name}"
    return "" if index else "No rebuild: no index is recommended"


def _is_table(source: Source) -> bool:
    return source.corpus.name.startswith(f"{source.given.name}.{source.given.column} on ")


def _names(one: Leftover) -> str:
    return ", ".join(one.names) or "none"


def _path(source: str) -> str:
    """Relative paths of a runbook stand below the project's folder, wherever the notebook is run."""
    special = source in ("", "auto") or source.startswith("generated")
    return source if special else str(settings.home() / Path(source).expanduser())
