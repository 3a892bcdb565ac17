"""What is wrong with a vector index, and what mends it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aya_lib.check import Check, Judged, Status, evaluate
from aya_lib.node.unseen import Missing
from aya_lib.vectors.request import Request
from aya_lib.vectors.truth import Recall

Word = Literal[
    "healthy", "stale", "built too early", "wrong lists", "wrong probes", "no index",
    "invalid", "hnsw", "too few rows", "passed over",
]  # fmt: skip
Level = Literal["passed", "warning", "failed"]
DEARER = 1.5  # times the predicted time that something better would take
MATTERS_US = 100.0  # microseconds of a search that must be at stake: below, nobody notices
EARLY = 0.1  # of today's rows
ROWS_A_LIST = 10  # with fewer at the build, centroids are single rows
LOST = 0.02  # of recall since it was built
TOO_MANY = 2.0  # times the probes needed
PAYS = 5000  # rows below which an exact scan is fast

AT = "vector index: recall at the probes in force"
LISTS = "vector index: lists"
FRESH = "vector index: not stale"
VALID = "vector index: valid"


@dataclass(frozen=True)
class Setting:
    """A way of searching. ``value``: of the knob, probes or ef_search; ``scanned``: rows looked at by a search; ``us``: its
    microseconds. Predicted for IVFFlat; for HNSW, which has no lists, measured, and ``scanned`` is not known."""

    lists: int
    value: int
    recall: Recall
    scanned: float
    us: float

    @property
    def request(self) -> Request:
        return Request(lists=self.lists, probes=self.value)


@dataclass(frozen=True)
class Origin:
    """The index when it was built: ``rows``, and its recall where a rebuild recorded it. ``by``: that record, or the pages of
    an index that was built on fewer rows than lists."""

    rows: int
    by: Literal["record", "pages"]
    recall: float | None = None


@dataclass(frozen=True)
class Facts:
    """What the verdict rests on. ``index``: its name, empty when there is no valid one.

    ``in_force``: as searches run; ``needed``: this index at the target; ``fresh``: a new one of the same lists at the target;
    ``better``: one of better lists, where lists and rows scanned are far out of balance (without an index: the one to build).
    ``exact_us``: microseconds of a search without an index. ``passed_over``: whether the planner reads the whole table all
    the same. ``origin`` None: not known.
    """

    index: str
    method: str
    rows: int
    target: float
    k: int
    in_force: Setting | None = None
    needed: Setting | None = None
    fresh: Setting | None = None
    better: Setting | None = None
    origin: Origin | None = None
    exact_us: float = 0.0
    leftovers: tuple[str, ...] = ()
    building: bool = False
    passed_over: bool = False

    @property
    def low(self) -> bool:
        """Whether recall is below the target by more than its interval."""
        return self.in_force is not None and self.in_force.recall.high < self.target and not self.exact

    @property
    def slow(self) -> bool:
        """Whether more is probed than is needed, by enough to be noticed."""
        now, needed = self.in_force, self.needed
        return bool(now and needed and now.value > TOO_MANY * needed.value and now.us - needed.us > MATTERS_US)

    @property
    def exact(self) -> bool:
        """Whether searches are exact, because the table is small and the planner reads it whole."""
        return self.passed_over and self.rows < PAYS

    @property
    def knob(self) -> str:
        return "ef_search" if self.method == "hnsw" else "probes"

    @property
    def left(self) -> str:
        """What is left behind, in words."""
        verb = "is" if len(self.leftovers) == 1 else "are"
        return f"{', '.join(self.leftovers)} {verb} left invalid by a build that broke off"

    @property
    def rebuilt(self) -> Request:
        """Built anew with the cheapest lists that are known; said again where they are the same as now."""
        best = min((choice for choice in (self.fresh, self.better) if choice), key=lambda choice: choice.us, default=None)
        if best is None:
            return Request(again=True)
        same = self.needed is not None and best.lists == self.needed.lists
        return Request(lists=best.lists, probes=best.value, again=same)


@dataclass(frozen=True)
class Verdict:
    """The most telling thing that is wrong, or *healthy*. ``request``: the rebuild that mends it; ``drop``: indexes that are to
    be dropped instead."""

    word: Word
    why: str
    status: Level = "passed"
    request: Request | None = None
    drop: tuple[str, ...] = ()

    @property
    def mend(self) -> str:
        """The command that mends it; empty when there is nothing to mend."""
        return self.request.command if self.request else _drop(self.drop)


def verdict(facts: Facts) -> Verdict:
    """The most telling thing that is wrong, or *healthy*."""
    if facts.rows < facts.k + 2:
        why = f"{facts.rows} rows with a vector are too few to ask for {facts.k} neighbours"
        later = f"; {facts.index} should be built anew when the table is filled" if facts.index else ""
        return Verdict("too few rows", why + later)
    if not facts.index:
        return _none(facts)
    if facts.method == "hnsw":
        return _hnsw(facts)
    if facts.exact and not facts.leftovers:
        return Verdict("passed over", f"the planner reads all {facts.rows:,} rows: exact, and fast on so small a table")
    wrong = _old(facts) or _lists(facts) or _probes(facts)
    if wrong:
        return wrong
    if facts.leftovers:
        why = f"{facts.left}, beside {facts.index}, which is healthy"
        return Verdict("invalid", why, "warning", drop=facts.leftovers)
    return Verdict("healthy", f"{facts.target:g} is reached, and nothing is predicted to be much cheaper")


def _none(facts: Facts) -> Verdict:
    better = facts.better
    request = better.request if better else None
    exact = f"an exact search of {facts.rows:,} rows takes about {_ms(facts.exact_us)}"
    if facts.building:
        return Verdict("no index", f"one is being built; until then {exact}")
    if facts.leftovers:
        return Verdict("invalid", f"{facts.left}, and there is no other: {exact}", "warning", request, facts.leftovers)
    if facts.rows < PAYS:
        return Verdict("no index", f"none is needed yet: {exact}, and finds everything")
    gain = f"; with {better.lists} lists about {_ms(better.us)}" if better else ""
    return Verdict("no index", exact + gain, "warning", request)


def _hnsw(facts: Facts) -> Verdict:
    now, needed = facts.in_force, facts.needed
    if now is None:
        return Verdict("hnsw", "its recall was not measured", "warning")
    measured = f"recall@{facts.k} {now.recall} at ef_search {now.value}, measured by {now.recall.queries} searches"
    if not facts.low:
        status: Level = "warning" if facts.leftovers else "passed"
        return Verdict("hnsw", f"{measured}: {facts.target:g} is reached", status, drop=facts.leftovers)
    if needed:
        why = f"{measured}; {needed.value} gives {needed.recall.value:.3f}"
        return Verdict("hnsw", why, "failed", Request(ef_search=needed.value))
    return Verdict("hnsw", f"{measured}, and no ef_search reaches {facts.target:g}", "failed", Request(m=32))


def _old(facts: Facts) -> Verdict | None:
    """Stale, or built too early: it costs more than a fresh one of the same lists, or has lost recall."""
    lost = _lost(facts)
    if not (lost or _dearer(facts.needed, facts.fresh)):
        return None
    why = lost or _costs(facts, facts.fresh, f"a fresh one of {facts.fresh.lists} lists" if facts.fresh else "")
    origin = facts.origin
    few = min(ROWS_A_LIST * (facts.needed.lists if facts.needed else 0), facts.rows // 2)
    early = origin is not None and (origin.rows < EARLY * facts.rows or origin.rows < few)
    first = f"built on {origin.rows:,} rows, {facts.rows:,} are there now; " if origin else ""
    return Verdict("built too early" if early else "stale", first + why, _status(facts), facts.rebuilt)


def _lists(facts: Facts) -> Verdict | None:
    better = facts.better
    if better is None or not _dearer(facts.needed, better):
        return None
    return Verdict("wrong lists", _costs(facts, better, f"one of {better.lists} lists"), _status(facts), facts.rebuilt)


def _probes(facts: Facts) -> Verdict | None:
    now, needed = facts.in_force, facts.needed
    if now is None or needed is None:
        return None
    request = Request(probes=needed.value)
    if facts.low:
        why = f"recall@{facts.k} is {now.recall} at {_count(now.value, 'probe')}; {facts.target:g} needs {needed.value}"
        return Verdict("wrong probes", why, "failed", request)
    if facts.slow:
        times = f"{now.us / needed.us:.1f} times the time"
        why = f"{_count(now.value, 'list')} are probed, where {_count(needed.value, 'probe')} would be enough: {times}"
        return Verdict("wrong probes", why, "warning", request)
    return None


def _status(facts: Facts) -> Level:
    return "failed" if facts.low else "warning"


def _lost(facts: Facts) -> str:
    """What recall was lost since the build, in words; empty when none was, or when it is not known."""
    now, before = facts.in_force, facts.origin.recall if facts.origin else None
    if now is None or before is None or now.recall.value >= before - LOST or now.recall.high >= before:
        return ""
    return f"recall@{facts.k} is {now.recall}, it was {before:.3f} when it was built"


def _dearer(choice: Setting | None, other: Setting | None) -> bool:
    return bool(choice and other and choice.us > DEARER * other.us and choice.us - other.us > MATTERS_US)


def _costs(facts: Facts, other: Setting | None, what: str) -> str:
    needed = facts.needed
    if needed is None or other is None:
        return ""
    ratio = f"{needed.us / other.us:.1f} times the time of {what}"
    return f"at recall {facts.target:g} a search takes {ratio}: {needed.scanned:,.0f} rows scanned against {other.scanned:,.0f}"


def _drop(names: tuple[str, ...]) -> str:
    return "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in names)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _ms(us: float) -> str:
    return f"{us / 1000:.2g} ms" if us < 1000 else f"{us / 1000:.1f} ms" if us < 100_000 else f"{us / 1e6:.1f} s"


# Checks


def checks(facts: Facts | Missing) -> list[Check]:
    """What a runbook and the health check record of a check-up. Of an index that has no lists, or is not there, only what
    can be said of it."""
    if isinstance(facts, Missing):
        names = (VALID, AT, LISTS, FRESH)
        return [evaluate(name, "seen", facts, lambda _: Judged("unknown", ""), hint="Run aya vectors checkup") for name in names]
    said = verdict(facts)
    if not facts.index or said.word == "too few rows":
        return [_valid(facts, said)]
    if facts.method == "hnsw":
        return [_valid(facts, said), _recall(facts, said)]
    return [_valid(facts, said), _recall(facts, said), _best_lists(facts), _fresh(facts)]


def _valid(facts: Facts, said: Verdict) -> Check:
    expected = "a valid index, where one pays, and none left behind"
    if not facts.index:
        status: Status = "warning" if facts.leftovers else said.status
        return Check(VALID, status, expected, said.why, said.mend)
    observed = f"{facts.index} is valid"
    if facts.leftovers:
        return Check(VALID, "warning", expected, f"{observed}; {facts.left}", _drop(facts.leftovers))
    return Check(VALID, "passed", expected, observed)


def _recall(facts: Facts, said: Verdict) -> Check:
    expected = f"recall@{facts.k} >= {facts.target:g}, within its interval"
    now, needed = facts.in_force, facts.needed
    if now is None:
        return Check(AT, "unknown", expected, "not measured")
    if facts.exact:
        return Check(AT, "passed", expected, f"1: the planner passes the index over and reads all {facts.rows:,} rows")
    observed = f"{now.recall} at {facts.knob} {now.value}"
    if facts.low:
        return Check(AT, "failed", expected, observed, said.mend)
    if needed and facts.method == "ivfflat" and facts.slow:
        return Check(AT, "warning", expected, f"{observed}; {needed.value} are enough", Request(probes=needed.value).command)
    return Check(AT, "passed", expected, observed)


def _best_lists(facts: Facts) -> Check:
    expected = f"no other number of lists is {DEARER:g} times as fast"
    wrong = _lists(facts)
    if wrong:
        return Check(LISTS, wrong.status, expected, wrong.why, wrong.mend)
    needed, better = facts.needed, facts.better
    observed = f"{_count(needed.lists if needed else 0, 'list')} for {facts.rows:,} rows"
    if needed and better:
        observed += f": {_ms(needed.us)} at {facts.target:g}, {_ms(better.us)} with {better.lists} lists"
    return Check(LISTS, "passed", expected, observed)


def _fresh(facts: Facts) -> Check:
    expected = f"at most {DEARER:g} times the time of a fresh one, recall as when it was built"
    old = _old(facts)
    if old:
        return Check(FRESH, old.status, expected, old.why, old.mend)
    origin = facts.origin
    built = f"built on {origin.rows:,} rows, {facts.rows:,} are there now" if origin else f"{facts.rows:,} rows"
    return Check(FRESH, "passed", expected, built)
