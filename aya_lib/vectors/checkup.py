"""Check-up of a live vector index in seconds. For IVFFlat no search is run: its pages and the table's rows tell its recall.

Everything here reads, in read-only sessions, so a standby serves as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from aya_lib.check import Check
from aya_lib.cluster import roles
from aya_lib.errors import AyaError, Unreachable, UsageError
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.show import Badge, Cell, Code, Shown
from aya_lib.show import Table as Drawn
from aya_lib.vectors import catalog, verdict
from aya_lib.vectors.catalog import Live, node_of
from aya_lib.vectors.discover import Discovered, discover
from aya_lib.vectors.index import mb
from aya_lib.vectors.verdict import Setting, Verdict

CHECKUP_S = 900  # the longest that one may take
K = 200  # the most neighbours
SHOWN = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181)  # probes of a curve that are listed


@dataclass(frozen=True, repr=False)
class Checkup(Shown):
    """What was discovered about the index of ``live``, and the verdict on it."""

    live: Live
    discovered: Discovered
    seconds: float

    @property
    def facts(self) -> verdict.Facts:
        """What the verdict rests on."""
        return self.discovered.facts

    @property
    def verdict(self) -> Verdict:
        return verdict.verdict(self.facts)

    @property
    def decided_by(self) -> str:
        """Who chose the value in force."""
        return self.live.decided_by(self.live.current.index()) if self.live.current and self.facts.in_force else ""

    @property
    def rows_added_share(self) -> float | None:
        """Share of today's rows that came after the build; None when that is not known."""
        built = self.facts.built
        return max(0.0, 1 - built.rows / self.facts.rows) if built and self.facts.rows else None

    @property
    def list_sizes(self) -> dict[str, float]:
        """Rows of the smallest (*min*), median and largest list (*max*), and *skew*, the largest over the mean; empty without
        lists."""
        curve = self.discovered.curve
        if curve is None:
            return {}
        sizes = {"min": int(curve.sizes.min()), "median": int(np.median(curve.sizes)), "max": int(curve.sizes.max())}
        return {**sizes, "skew": round(curve.skew, 2)}

    def json(self) -> dict[str, Any]:
        """The facts (:class:`Facts`: ways of searching with their recall, rows scanned and microseconds), where they are from,
        and the verdict. None for what is not known or does not apply.

        ``rows``: with a vector; ``rows_added_share`` of them came after the build; ``decided_by``: who chose the value in
        force; ``list_sizes``: min, median, max, and skew, the largest over the mean; ``curve``: [probes, recall, rows scanned];
        ``mend``: a command; ``sample``: rows that were held.
        """
        index, found, said = self.live.current, self.discovered, self.verdict
        document = {
            "node": self.live.node,
            "table": self.live.relation,
            "column": self.live.column,
            **vars(self.facts),
            "kind": index.kind if index else None,
            "bytes": index.bytes if index else None,
            "lists": found.curve.lists if found.curve else None,
            "decided_by": self.decided_by or None,
            "rows_added_share": self.rows_added_share,
            "list_sizes": self.list_sizes or None,
            "curve": self._points(),
            "verdict": said.word,
            "status": said.status,
            "why": said.why,
            "mend": said.mend or None,
            "sample": found.sample,
            "seconds": round(self.seconds, 2),
            "notes": found.notes,
        }
        return dict(from_json(to_json(document, inf_nan_mode="null")))  # JSON has no word for what is not a number

    def table(self) -> Drawn:
        said = self.verdict
        mend: list[tuple[Cell, ...]] = [("what mends it", Code(said.mend))] if said.mend else []
        title = f"Vector index of {self.live.relation}.{self.live.column} on {self.live.node}: {said.word}"
        lines = (*self._lines(), ("verdict", Badge(said.status, said.word)), ("why", said.why), *mend)
        return Drawn(title, ("", ""), lines, self.discovered.notes, tone=said.status)

    def _lines(self) -> list[tuple[Cell, ...]]:
        facts, index, curve, sizes = self.facts, self.live.current, self.discovered.curve, self.list_sizes
        what = f"{index.name}: {index.index()}, {mb(index.bytes)}" if index else "none"
        lines: list[tuple[Cell, ...]] = [("index", what), ("rows with a vector", self._rows())]
        if curve:
            range_ = f"{sizes['min']:,} to {sizes['max']:,} rows, median {sizes['median']:,}"
            lines.append((f"sizes of its {curve.lists:,} lists", f"{range_}; the largest has {sizes['skew']:.1f} times the mean"))
        if now := facts.in_force:
            in_force = f"{facts.knob} {now.value} ({self.decided_by}): recall@{facts.k} {now.recall}, {_ms(now.us)} a search"
            lines.append(("in force", in_force))
        if facts.needed and curve:
            lines.append((f"at recall {facts.target:g}", self._at_target(facts.needed)))
        return lines

    def _at_target(self, needed: Setting) -> str:
        facts = self.facts
        share = f"{needed.scanned / max(1, facts.rows):.1%} of the rows scanned"
        lines = [f"{facts.knob} {needed.value}, {_ms(needed.us)} ({share})"]
        if facts.fresh:
            lines.append(f"a fresh one of the same lists: {facts.fresh.value}, {_ms(facts.fresh.us)}")
        if facts.better:
            lines.append(f"one of {facts.better.lists:,} lists: {facts.better.value}, {_ms(facts.better.us)}")
        elif facts.fresh:
            lines.append("other lists would gain little")
        return "\n".join(lines)

    def _rows(self) -> str:
        built, added, now = self.facts.built, self.rows_added_share, f"{self.facts.rows:,}"
        if built is None or added is None:
            return f"{now} now; how many when it was built is unknown" if self.facts.index else now
        return f"{now} now, {built.rows:,} when it was built: {added:.0%} came later"

    def _points(self) -> list[list[float]]:
        curve = self.discovered.curve
        if curve is None:
            return []
        wanted = [probes for probes in (*SHOWN, curve.lists) if probes <= curve.lists]
        return [[p, round(float(curve.recalls[p - 1]), 4), round(curve.scans(p), 1)] for p in dict.fromkeys(wanted)]


def look(
    nodes: Nodes, table: str = "chunks", column: str = "embedding", target: float = 0.95, k: int = 10, node: str = ""
) -> Checkup | Missing:
    """Check up the vector index of a column. ``target``: recall@``k`` that is asked for; ``node``: where, else the primary, or
    the standby when the primary does not answer.

    Raises :class:`UsageError` where there is no such table or column, or it holds no vectors of one dimension.
    """
    if not 0 < target < 1:
        raise UsageError(f"target {target:g}: allowed is a recall between 0 and 1")
    if not 1 <= k <= K:
        raise UsageError(f"k {k}: allowed is 1 to {K}")
    tried = "check up the vector index"
    try:
        on = node_of(nodes, node, roles.readable)
    except Unreachable as error:
        return Unseen(error.node, tried, error.reason)
    started = time.perf_counter()
    live = catalog.look(on, table, column)
    if not isinstance(live, Live):
        return live
    if live.problem:
        raise UsageError(live.problem)

    def ask() -> Checkup:
        with on.session(deadline_s=CHECKUP_S) as connection:
            discovered = discover(live, connection, target, k)
        return Checkup(live, discovered, time.perf_counter() - started)

    try:
        return seen(on.name, tried, ask)
    except AyaError as error:
        return Unseen(on.name, tried, str(error))


def checks(found: Checkup | Missing) -> list[Check]:
    """What a runbook and the health check record of it."""
    return verdict.checks(found.facts if isinstance(found, Checkup) else found)


def _ms(us: float) -> str:
    return f"{us / 1000:.2f} ms"
