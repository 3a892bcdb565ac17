"""Check-up of a live vector index in seconds. For IVFFlat no search is run: its pages and the table's rows tell its recall.

Everything here reads, in read-only sessions, so a standby serves as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aya_lib.cluster import roles
from aya_lib.errors import AyaError, Unreachable, UsageError
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.show import Badge, Cell, Code, Shown
from aya_lib.show import Table as Drawn
from aya_lib.vectors.health import diagnosis
from aya_lib.vectors.health.diagnosis import Found, Setting, Verdict
from aya_lib.vectors.health.examine import Examined, examine
from aya_lib.vectors.index import mb
from aya_lib.vectors.online import live
from aya_lib.vectors.online.live import Live

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHECKUP_S = 900  # the longest that one may take
K = 200  # the most neighbours
SHOWN = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181)  # probes of a curve that are listed


@dataclass(frozen=True, repr=False)
class Checkup(Shown):
    """What was ``examined`` on ``node``, and the verdict on it."""

    node: str
    table_name: str
    column: str
    examined: Examined
    verdict: Verdict
    seconds: float

    @property
    def found(self) -> Found:
        """What the verdict rests on."""
        return self.examined.found

    @property
    def rows_added_share(self) -> float | None:
        """Share of today's rows that came after the build; None when that is not known."""
        origin = self.found.origin
        return max(0.0, 1 - origin.rows / self.found.rows) if origin and self.found.rows else None

    def curve_points(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """For a plot: probes 1, 2, 3 ..., recall, and the mean of rows scanned; all empty without a curve."""
        import numpy as np

        if self.examined.curve is None:
            return np.empty(0, np.int64), np.empty(0), np.empty(0)
        return np.arange(1, self.examined.curve.lists + 1), self.examined.curve.recalls, self.examined.curve.scanned

    def json(self) -> dict[str, Any]:
        """Flat; None for what is not known or does not apply.

        ``rows``: with a vector; ``rows_when_built`` and who tells it (``rows_when_built_by``: *record* or *pages*);
        ``rows_added_share`` of today's rows, ``pages_added_share`` of the index's pages; ``probes`` (HNSW: ``ef_search``) in
        force and ``decided_by``; ``probes_needed`` (``ef_search_needed``) for ``target``; ``recall`` in force with its
        interval; ``list_sizes``: min, median, max, and skew, the largest over the mean; ``us_*``: microseconds of a search
        (predicted; of HNSW measured) in force, at the target with this index, with a fresh one of the same lists, with one of
        ``better`` lists, and without an index; ``curve``: [probes, recall, rows scanned]; ``status``: passed, warning or
        failed; ``mend``: a command; ``sample``: rows that were read.
        """
        seen_, found, curve, sizes = self.examined, self.found, self.examined.curve, self._sizes()
        index = seen_.index
        now, needed = found.in_force, found.needed
        recall = now.recall if now else None
        return {
            "node": self.node,
            "table": self.table_name,
            "column": self.column,
            "index": found.index or None,
            "method": found.method or None,
            "kind": index.kind if index else None,
            "bytes": index.bytes if index else None,
            "lists": curve.lists if curve else None,
            "rows": found.rows,
            "rows_when_built": found.origin.rows if found.origin else None,
            "rows_when_built_by": found.origin.by if found.origin else None,
            "rows_added_share": _round(self.rows_added_share),
            "pages_added_share": _round(self.examined.pages_added_share),
            "target": found.target,
            "k": found.k,
            "probes": now.value if now and curve else None,
            "ef_search": now.value if now and not curve else None,
            "decided_by": self.examined.decided or None,
            "recall": {"value": _round(recall.value), "low": _round(recall.low), "high": _round(recall.high)} if recall else None,
            "recall_when_built": found.origin.recall if found.origin else None,
            "probes_needed": needed.value if needed and curve else None,
            "ef_search_needed": needed.value if needed and not curve else None,
            "list_sizes": dict(zip(("min", "median", "max", "skew"), sizes, strict=True)) if sizes else None,
            "us_in_force": _round(now.us, 1) if now else None,
            "us_needed": _round(needed.us, 1) if needed else None,
            "us_fresh": _round(found.fresh.us, 1) if found.fresh else None,
            "us_better": _round(found.better.us, 1) if found.better else None,
            "better": {"lists": found.better.lists, "probes": found.better.value} if found.better else None,
            "us_exact": _round(found.exact_us, 1),
            "leftovers": list(found.leftovers),
            "curve": self._points(),
            "verdict": self.verdict.word,
            "status": self.verdict.status,
            "why": self.verdict.why,
            "mend": self.verdict.mend or None,
            "sample": self.examined.sample,
            "seconds": round(self.seconds, 2),
            "notes": list(self.examined.notes),
        }

    def table(self) -> Drawn:
        word = Badge(self.verdict.status, self.verdict.word)
        mend: list[tuple[Cell, ...]] = [("what mends it", Code(self.verdict.mend))] if self.verdict.mend else []
        title = f"Vector index of {self.table_name}.{self.column} on {self.node}: {self.verdict.word}"
        lines = (*self._lines(), ("verdict", word), ("why", self.verdict.why), *mend)
        return Drawn(title, ("", ""), lines, self.examined.notes, tone=self.verdict.status)

    def _lines(self) -> list[tuple[Cell, ...]]:
        found, sizes = self.found, self._sizes()
        now, needed = found.in_force, found.needed
        lines: list[tuple[Cell, ...]] = [("index", self._what()), ("rows with a vector", self._rows())]
        if sizes and self.examined.curve:
            words = f"{sizes[0]:,} to {sizes[2]:,} rows, median {sizes[1]:,}; the largest has {sizes[3]:.1f} times the mean"
            lines.append((f"sizes of its {self.examined.curve.lists:,} lists", words))
        if now:
            said = f"{found.knob} {now.value} ({self.examined.decided}): recall@{found.k} {now.recall}, {_ms(now.us)} a search"
            lines.append(("in force", said))
        if needed and self.examined.curve:
            lines.append((f"at recall {found.target:g}", self._at_target(needed)))
        return lines

    def _at_target(self, needed: Setting) -> str:
        found = self.found
        parts = [f"{found.knob} {needed.value}, {_ms(needed.us)} ({needed.scanned / max(1, found.rows):.1%} of the rows scanned)"]
        if found.fresh:
            parts.append(f"a fresh one of the same lists: {found.fresh.value}, {_ms(found.fresh.us)}")
        if found.better:
            parts.append(f"one of {found.better.lists:,} lists: {found.better.value}, {_ms(found.better.us)}")
        elif found.fresh:
            parts.append("other lists would gain little")
        return "\n".join(parts)

    def _what(self) -> str:
        index = self.examined.index
        return f"{index.name}: {index.index()}, {mb(index.bytes)}" if index else "none"

    def _rows(self) -> str:
        origin, added = self.found.origin, self.rows_added_share
        if origin is None or added is None:
            return f"{self.found.rows:,}"
        by = "as its rebuild recorded" if origin.by == "record" else "as its pages tell"
        return f"{self.found.rows:,} now, about {origin.rows:,} when it was built ({by}): {added:.0%} came later"

    def _points(self) -> list[list[float]]:
        if self.examined.curve is None:
            return []
        wanted = [probes for probes in (*SHOWN, self.examined.curve.lists) if probes <= self.examined.curve.lists]
        recalls = self.examined.curve.recalls
        return [[p, round(float(recalls[p - 1]), 4), round(self.examined.curve.scans(p), 1)] for p in dict.fromkeys(wanted)]

    def _sizes(self) -> tuple[int, int, int, float] | None:
        """Smallest, median and largest list, and the largest over the mean."""
        import numpy as np

        if self.examined.curve is None:
            return None
        sizes = self.examined.curve.sizes
        return int(sizes.min()), int(np.median(sizes)), int(sizes.max()), round(self.examined.curve.skew, 2)


def look(
    nodes: Nodes, table: str = "chunks", column: str = "embedding", target: float = 0.95, k: int = 10, node: str = ""
) -> Checkup | Missing:
    """Check up the vector index of a column. ``target``: recall@``k`` that is wished; ``node``: where, else the primary, or
    the standby when the primary does not answer.

    Raises :class:`UsageError` where there is no such table or column, or it holds no vectors of one dimension.
    """
    if not 0 < target < 1:
        raise UsageError(f"target {target:g}: allowed is a recall between 0 and 1")
    if not 1 <= k <= K:
        raise UsageError(f"k {k}: allowed is 1 to {K}")
    if node and node not in nodes:
        raise UsageError(f"node '{node}': allowed are {', '.join(nodes)}")
    try:
        on = nodes[node] if node else roles.readable(nodes)
    except Unreachable as error:
        return Unseen(error.node, "check up the vector index", error.reason)
    started = time.perf_counter()
    there = live.look(on, table, column)
    if not isinstance(there, Live):
        return there
    if there.problem:
        raise UsageError(there.problem)

    def ask() -> Examined | Missing:
        with on.session(deadline_s=CHECKUP_S) as connection:
            return examine(on, there, connection, target, k)

    try:
        found = seen(on.name, "check up the vector index", ask)
    except AyaError as error:
        return Unseen(on.name, "check up the vector index", str(error))
    if not isinstance(found, Examined):
        return found
    verdict = diagnosis.verdict(found.found)
    return Checkup(on.name, there.relation, column, found, verdict, time.perf_counter() - started)


def _ms(us: float) -> str:
    return f"{us / 1000:.2f} ms"


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
