"""The benchmark as a runbook tells it: what is measured, what was found, what must hold, and the rebuild when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aya_lib import settings
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster.canary import writing
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, seen
from aya_lib.picture import Pictures
from aya_lib.plan.change import Plan
from aya_lib.show import Note, Shown, Table
from aya_lib.vectors import catalog, rebuild
from aya_lib.vectors.catalog import Live, node_of
from aya_lib.vectors.compare import TODAY, Request, compare_indexes
from aya_lib.vectors.corpus import Source, open_source
from aya_lib.vectors.index import FAMILIES, Index
from aya_lib.vectors.kept import Kept, save
from aya_lib.vectors.plots import PLOTS
from aya_lib.vectors.rebuild import Rebuild, plan, preconditions
from aya_lib.vectors.result import Comparison, LeftOut
from aya_lib.vectors.sandbox import abandoned
from aya_lib.vectors.tuner import Budget

__all__ = ["checks", "compare", "flush", "kept", "left_out", "leftover", "look", "plan", "plot", "preconditions", "recommended"]
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


def look(
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
    on = node_of(nodes, node)
    return Measured(on.name, open_source(on, _path(source), _path(queries), metric, table=table, column=column, k=k))


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
) -> Comparison | Missing:
    """Measure and tune, with a progress bar on standard output. ``families``: none for all. :class:`UsageError`."""
    on, source = nodes[measured.node], measured.source
    request = Request(
        target,
        k,
        clients,
        tuple(families) or FAMILIES,
        today(on, source),
        Budget(build_s=build_s or None),
        "around" if grid else None,
        seconds,
    )
    return seen(
        on.name,
        "measure the vector index",
        lambda: compare_indexes(on, source.corpus, source.given, request, out=sys.stdout),
    )


def today(node: Node, source: Source) -> Index | None:
    """The index that the table has now, where the table itself is measured; else the schema's first one."""
    if not source.of_table:
        return TODAY
    found = catalog.look(node, source.given.name, source.given.column)
    current = found.current if isinstance(found, Live) else None
    return current.index() if current else TODAY


def leftover(nodes: Nodes, node: str) -> tuple[str, ...] | Missing:
    """Scratch databases that are still on a node, and do not belong to a benchmark that runs."""

    def ask() -> tuple[str, ...]:
        with nodes[node].session(database="postgres") as connection:
            return tuple(abandoned(connection))

    return seen(node, "scratch databases", ask)


def checks(found: Comparison | Missing, left: tuple[str, ...] | Missing) -> list[Check]:
    """The recommendation holds on queries that chose nothing, predictions were near, and nothing was left behind."""
    return [
        evaluate("a recommendation reaches the target", "on queries that chose nothing", found, _reached),
        evaluate("predicted recall is near the measured", f"within {PREDICTED}", found, _near),
        evaluate("searches were answered from shared buffers", "all", found, _cached),
        evaluate("nothing is left on the node", "no scratch database", left, _none),
    ]


def _reached(c: Comparison) -> Judged:
    if best := c.recommendation:
        return passed_if(best.met, f"{best.index}, {best.point.setting}: {best.point.recall}")
    closest = max(c.best.values(), key=lambda choice: choice.point.recall.value, default=None)
    observed = f"closest: {closest.index}, {closest.point.recall}" if closest else "nothing could be measured"
    return passed_if(False, observed, "Lower the target, allow exact search, or read what was left out")


def _near(c: Comparison) -> Judged:
    points = [choice.point for choice in c.best.values()]
    errors = [abs(point.recall.value - point.predicted) for point in points if point.predicted is not None]
    if not errors:
        return passed_if(True, "no IVFFlat was measured")
    hint = "Believe the measured figures; the twins only ranked"
    return Judged("passed" if max(errors) <= PREDICTED else "warning", f"{max(errors):.3f} at the most", hint)


def _cached(c: Comparison) -> Judged:
    cold = sum(point.reads > 0 for point in c.points)
    hint = "Figures hold for a cache of this size: raise shared_buffers, or take a smaller index (halfvec)"
    return Judged("warning" if cold else "passed", f"{cold} of {len(c.points)} settings read from outside", hint)


def _none(names: tuple[str, ...]) -> Judged:
    return passed_if(not names, ", ".join(names) or "none")


def plot(found: Comparison | Missing, *names: str) -> Pictures | Note:
    """Some of the plots (``recall_qps``, ``lists_probes``, ``predicted``, ``builds``, ``latencies``), one below the other."""
    if not isinstance(found, Comparison):
        return Note("No plot: nothing was measured.", "quiet")
    return Pictures(tuple(PLOTS[name](found) for name in names))


def left_out(found: Comparison | Missing) -> LeftOut | Note:
    """What was skipped, with the reasons."""
    return LeftOut(found.skipped) if isinstance(found, Comparison) else Note("Nothing was measured.", "quiet")


def kept(found: Comparison | Missing, record: Path) -> Kept | Note:
    """Figures and pictures as files beside the run's record."""
    if not isinstance(found, Comparison):
        return Note("Nothing to keep: nothing was measured.", "quiet")
    return save(found, record.parent, record.stem)


def recommended(nodes: Nodes, measured: Measured, found: Comparison | Missing, *, wanted: bool) -> Rebuild:
    """The rebuild of the table's index as recommended; without an index, and with the reason, where that is not ``wanted`` or
    cannot be."""
    source, best = measured.source, found.recommendation if isinstance(found, Comparison) else None
    live = catalog.look(nodes[measured.node], source.given.name, source.given.column)
    why = "the benchmark recommends it"
    if not wanted:
        why = "it was not asked for (rebuild = false)"
    elif not source.of_table:
        why = f"{source.corpus.name} was measured, not the table {source.given.name}"
    elif best is None or not best.index.method:
        why = "no index is recommended"
    elif isinstance(found, Comparison):
        return Rebuild(measured.node, live, best.index, best.value, why, target=found.target, k=found.k)
    return Rebuild(measured.node, live, None, 0, why)


def flush(nodes: Nodes, built: Rebuild) -> Plan:
    """After a rebuild: the new index on disk, where the check-up reads it."""
    return rebuild.flush(nodes, built) if built.index else Plan("Nothing was rebuilt")


def _path(source: str) -> str:
    """Relative paths of a runbook stand below the project's folder, wherever the notebook is run."""
    special = source in ("", "auto") or source.startswith("generated")
    return source if special else str(settings.home() / Path(source).expanduser())
