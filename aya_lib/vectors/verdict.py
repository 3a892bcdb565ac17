"""What is wrong with a vector index, and what mends it: one judgement for each aspect, and the most telling of them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aya_lib.check import Check, Judged, Status, absent, conclude
from aya_lib.node.unseen import Missing
from aya_lib.vectors.catalog import Built
from aya_lib.vectors.request import Request
from aya_lib.vectors.truth import Recall

Word = Literal[
    "healthy", "stale", "built too early", "wrong lists", "wrong probes", "no index",
    "invalid", "hnsw", "too few rows", "passed over",
]  # fmt: skip
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
class Facts:
    """What the verdict rests on. ``index``: its name, empty when there is no valid one.

    ``in_force``: as searches run; ``needed``: this index at the target; ``fresh``: a new one of the same lists at the target;
    ``better``: one of better lists, where lists and rows scanned are far out of balance (without an index: the one to build).
    ``built``: what its rebuild recorded; ``exact_us``: microseconds of a search without an index; ``passed_over``: whether the
    planner reads the whole table all the same.
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
    built: Built | None = None
    exact_us: float = 0.0
    leftovers: tuple[str, ...] = ()
    building: bool = False
    passed_over: bool = False

    @property
    def few(self) -> bool:
        return self.rows < self.k + 2

    @property
    def low(self) -> bool:
        """Whether recall is below the target by more than its interval."""
        return self.in_force is not None and self.in_force.recall.high < self.target and not self.exact

    @property
    def exact(self) -> bool:
        """Whether searches are exact, because the table is small and the planner reads it whole."""
        return self.passed_over and self.rows < PAYS

    @property
    def knob(self) -> str:
        return "ef_search" if self.method == "hnsw" else "probes"

    @property
    def recall_when_built(self) -> float | None:
        """As it was recorded, where it was measured as searches run now."""
        built, now = self.built, self.in_force
        return built.recall if built and now and (built.k, built.value) == (self.k, now.value) else None

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
    """On one aspect, or on the whole. ``request``: the rebuild that mends it; ``drop``: indexes to drop instead."""

    word: Word
    why: str
    status: Status = "passed"
    request: Request | None = None
    drop: tuple[str, ...] = ()

    @property
    def mend(self) -> str:
        """The command that mends it; empty when there is nothing to mend."""
        return self.request.command if self.request else "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in self.drop)


def verdict(facts: Facts) -> Verdict:
    """The most telling thing that is wrong (age before lists, lists before probes), else what there is to say."""
    judged = [said for _, _, said in _aspects(facts)]
    wrong = [said for said in reversed(judged) if said.status != "passed"]
    if wrong:
        return wrong[0]
    if facts.exact or len(judged) < len(ASPECTS):
        return judged[:2][-1]
    return Verdict("healthy", f"{facts.target:g} is reached, and nothing is predicted to be much cheaper")


def checks(facts: Facts | Missing) -> list[Check]:
    """What a runbook and the health check record of a check-up. Of an index that has no lists, or is not there, only what
    can be said of it."""
    if isinstance(facts, Missing):
        return [absent(name, "seen", facts, "Run aya vectors checkup") for name, _, _ in ASPECTS]
    whole = verdict(facts)
    return [
        conclude(name, expected, Judged(said.status, said.why, (said if name == VALID else whole).mend))
        for name, expected, said in _aspects(facts)
    ]


def _aspects(facts: Facts) -> list[tuple[str, str, Verdict]]:
    """Each aspect that the index has: its name, what is expected, and what there is."""
    many = 1 if facts.few or not facts.index else 2 if facts.method == "hnsw" else len(ASPECTS)
    return [(name, expected.format(facts=facts), judge(facts)) for name, expected, judge in ASPECTS[:many]]


def _valid(facts: Facts) -> Verdict:
    better = None if facts.index else facts.better
    request = better.request if better else None
    exact = f"an exact search of {facts.rows:,} rows takes about {_ms(facts.exact_us)}"
    if facts.leftovers:
        verb = "is" if len(facts.leftovers) == 1 else "are"
        left = f"{', '.join(facts.leftovers)} {verb} left invalid by a build that broke off"
        beside = f"beside {facts.index}, which is valid" if facts.index else f"and there is no other: {exact}"
        return Verdict("invalid", f"{left}, {beside}", "warning", request, facts.leftovers)
    if facts.few:
        why = f"{facts.rows} rows with a vector are too few to ask for {facts.k} neighbours"
        later = f"; {facts.index} should be built anew when the table is filled" if facts.index else ""
        return Verdict("too few rows", why + later)
    if facts.index:
        return Verdict("healthy", f"{facts.index} is valid")
    if facts.building:
        return Verdict("no index", f"one is being built; until then {exact}")
    if facts.rows < PAYS:
        return Verdict("no index", f"none is needed yet: {exact}, and finds everything")
    gain = f"; with {better.lists} lists about {_ms(better.us)}" if better else ""
    return Verdict("no index", exact + gain, "warning", request)


def _recall(facts: Facts) -> Verdict:
    now, needed, graph = facts.in_force, facts.needed, facts.method == "hnsw"
    word: Word = "hnsw" if graph else "wrong probes"
    if now is None:
        return Verdict(word, "its recall was not measured", "unknown")
    if facts.exact:
        return Verdict("passed over", f"the planner reads all {facts.rows:,} rows: exact, and fast on so small a table")
    by = f", measured by {now.recall.queries} searches" if graph else ""
    observed = f"recall@{facts.k} is {now.recall} at {facts.knob} {now.value}{by}"
    if facts.low and needed is None:
        return Verdict(word, f"{observed}, and no {facts.knob} reaches {facts.target:g}", "failed", Request(m=32))
    if needed and facts.low:
        request = Request(ef_search=needed.value) if graph else Request(probes=needed.value)
        return Verdict(word, f"{observed}; {facts.target:g} needs {needed.value}", "failed", request)
    if needed and not graph and now.value > TOO_MANY * needed.value and now.us - needed.us > MATTERS_US:
        why = f"{observed}; {needed.value} would be enough: {now.us / needed.us:.1f} times the time"
        return Verdict(word, why, "warning", Request(probes=needed.value))
    return Verdict(word, observed)


def _lists(facts: Facts) -> Verdict:
    needed, better = facts.needed, facts.better
    if needed and better and _dearer(facts, better):
        return Verdict("wrong lists", _costs(facts, needed, better, "one"), _status(facts), facts.rebuilt)
    lists = needed.lists if needed else 0
    observed = f"{lists:,} list{'' if lists == 1 else 's'} for {facts.rows:,} rows"
    if needed and better:
        observed += f": {_ms(needed.us)} at {facts.target:g}, {_ms(better.us)} with {better.lists} lists"
    return Verdict("healthy", observed)


def _fresh(facts: Facts) -> Verdict:
    """Stale, or built too early: it costs more than a fresh one of the same lists, or has lost recall."""
    needed, fresh, built = facts.needed, facts.fresh, facts.built
    rows = f"built on {built.rows:,} rows, {facts.rows:,} are there now" if built else f"{facts.rows:,} rows"
    lost = _lost(facts)
    if not lost and not _dearer(facts, fresh):
        return Verdict("healthy", rows)
    why = lost or (_costs(facts, needed, fresh, "a fresh one") if needed and fresh else "")
    few = min(ROWS_A_LIST * (needed.lists if needed else 0), facts.rows // 2)
    early = built is not None and (built.rows < EARLY * facts.rows or built.rows < few)
    first = f"{rows}; " if built else ""
    return Verdict("built too early" if early else "stale", first + why, _status(facts), facts.rebuilt)


ASPECTS: tuple[tuple[str, str, Callable[[Facts], Verdict]], ...] = (
    (VALID, "a valid index, where one pays, and none left behind", _valid),
    (AT, "recall@{facts.k} >= {facts.target:g}, within its interval", _recall),
    (LISTS, f"no other number of lists is {DEARER:g} times as fast", _lists),
    (FRESH, f"at most {DEARER:g} times the time of a fresh one, recall as when it was built", _fresh),
)


def _status(facts: Facts) -> Status:
    return "failed" if facts.low else "warning"


def _lost(facts: Facts) -> str:
    """What recall was lost since the build, in words; empty when none was, or when it is not known."""
    now, before = facts.in_force, facts.recall_when_built
    if now is None or before is None or facts.exact or now.recall.value >= before - LOST or now.recall.high >= before:
        return ""
    return f"recall@{facts.k} is {now.recall}, it was {before:.3f} when it was built"


def _dearer(facts: Facts, other: Setting | None) -> bool:
    """Whether a search at the target costs much more than with the other one, and whether that is noticed."""
    needed = facts.needed
    if needed is None or other is None or facts.exact:
        return False
    return needed.us > DEARER * other.us and needed.us - other.us > MATTERS_US


def _costs(facts: Facts, needed: Setting, other: Setting, what: str) -> str:
    ratio = f"{needed.us / other.us:.1f} times the time of {what} of {other.lists} lists"
    return f"at recall {facts.target:g} a search takes {ratio}: {needed.scanned:,.0f} rows scanned against {other.scanned:,.0f}"


def _ms(us: float) -> str:
    return f"{us / 1000:.2g} ms" if us < 1000 else f"{us / 1000:.1f} ms" if us < 100_000 else f"{us / 1e6:.1f} s"
