"""What is wrong with a vector index, and what mends it: pure judgements of what a check-up found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aya_lib.check import Check, Judged, Status, evaluate
from aya_lib.node.unseen import Missing
from aya_lib.vectors.truth import Recall

if TYPE_CHECKING:
    from aya_lib.vectors.health.checkup import Checkup

Word = Literal[
    "healthy",
    "stale",
    "built too early",
    "wrong lists",
    "wrong probes",
    "no index",
    "invalid",
    "hnsw",
    "too few rows",
    "passed over",
]
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
    def words(self) -> str:
        """As a rebuild is asked for it."""
        return f"--lists {self.lists} --probes {self.value}"


@dataclass(frozen=True)
class Origin:
    """The index when it was built: ``rows``, and its recall where a rebuild recorded it. ``by``: *record* or *pages*."""

    rows: int
    by: Literal["record", "pages"]
    recall: float | None = None


@dataclass(frozen=True)
class Found:
    """What the verdict rests on. ``index``: its name, empty when there is no valid one.

    ``in_force``: as searches run; ``needed``: this index at the target; ``fresh``: a new one of the same lists at the target;
    ``better``: one of better lists, where lists and rows scanned are far out of balance (without an index: the one to build).
    ``exact_us``: microseconds of a search without an index. ``passed_over``: whether the planner reads the whole table all
    the same.
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
    def exact(self) -> bool:
        """Whether searches are exact, because the table is small and the planner reads it whole."""
        return self.passed_over and self.rows < PAYS

    @property
    def knob(self) -> str:
        return "ef_search" if self.method == "hnsw" else "probes"


@dataclass(frozen=True)
class Verdict:
    """``mend``: the command that mends it; empty when there is nothing to mend."""

    word: Word
    why: str
    mend: str = ""
    status: Literal["passed", "warning", "failed"] = field(default="passed")


def verdict(found: Found) -> Verdict:
    """The most telling thing that is wrong, or *healthy*."""
    if found.rows < found.k + 2:
        why = f"{found.rows} rows with a vector are too few to ask for {found.k} neighbours"
        later = f"; {found.index} should be built anew when the table is filled" if found.index else ""
        return Verdict("too few rows", why + later, "")
    if not found.index:
        return _none(found)
    if found.method == "hnsw":
        return _hnsw(found)
    if found.exact and not found.leftovers:
        return Verdict("passed over", f"the planner reads all {found.rows:,} rows: exact, and fast on so small a table")
    said = _old(found) or _lists(found) or _probes(found)
    if said:
        return said
    if found.leftovers:
        return Verdict("invalid", f"{_left(found)}, beside {found.index}, which is healthy", _drop(found), "warning")
    return Verdict("healthy", f"{found.target:g} is reached, and nothing is predicted to be much cheaper")


def _none(found: Found) -> Verdict:
    better = found.better
    mend = f"aya vectors rebuild {better.words}" if better else ""
    exact = f"an exact search of {found.rows:,} rows takes about {_ms(found.exact_us)}"
    if found.building:
        return Verdict("no index", f"one is being built; until then {exact}", "", "passed")
    if found.leftovers:
        return Verdict("invalid", f"{_left(found)}, and there is no other: {exact}", mend or _drop(found), "warning")
    if found.rows < PAYS:
        return Verdict("no index", f"none is needed yet: {exact}, and finds everything")
    said = f"; with {better.lists} lists about {_ms(better.us)}" if better else ""
    return Verdict("no index", exact + said, mend, "warning")


def _hnsw(found: Found) -> Verdict:
    now, needed = found.in_force, found.needed
    if now is None:
        return Verdict("hnsw", "its recall was not measured", "", "warning")
    said = f"recall@{found.k} {now.recall} at ef_search {now.value}, measured by {now.recall.queries} searches"
    if not found.low:
        mend = _drop(found) if found.leftovers else ""
        return Verdict("hnsw", f"{said}: {found.target:g} is reached", mend, "warning" if mend else "passed")
    if needed:
        enough = f"{needed.value} gives {needed.recall.value:.3f}"
        return Verdict("hnsw", f"{said}; {enough}", f"aya vectors rebuild --ef-search {needed.value}", "failed")
    return Verdict("hnsw", f"{said}, and no ef_search reaches {found.target:g}", "aya vectors rebuild --m 32", "failed")


def _old(found: Found) -> Verdict | None:
    """Stale, or built too early: it costs more than a fresh one of the same lists, or has lost recall."""
    lost = _lost(found)
    if not (lost or _dearer(found.needed, found.fresh)):
        return None
    why = lost or _costs(found, found.fresh, f"a fresh one of {found.fresh.lists} lists" if found.fresh else "")
    origin = found.origin
    lists = found.needed.lists if found.needed else 0
    few = min(ROWS_A_LIST * lists, found.rows // 2)
    early = origin is not None and (origin.rows < EARLY * found.rows or origin.rows < few)
    first = f"built on {origin.rows:,} rows, {found.rows:,} are there now; " if origin else ""
    word: Word = "built too early" if early else "stale"
    return Verdict(word, first + why, _rebuild(found), "failed" if found.low else "warning")


def _lists(found: Found) -> Verdict | None:
    better = found.better
    if better is None or not _dearer(found.needed, better):
        return None
    why = _costs(found, better, f"one of {better.lists} lists")
    return Verdict("wrong lists", why, _rebuild(found), "failed" if found.low else "warning")


def _probes(found: Found) -> Verdict | None:
    now, needed = found.in_force, found.needed
    if now is None or needed is None:
        return None
    mend = f"aya vectors rebuild --probes {needed.value}"
    if found.low:
        why = f"recall@{found.k} is {now.recall} at {_count(now.value, 'probe')}; {found.target:g} needs {needed.value}"
        return Verdict("wrong probes", why, mend, "failed")
    if slow(found):
        times = f"{now.us / needed.us:.1f} times the time"
        why = f"{_count(now.value, 'list')} are probed, where {_count(needed.value, 'probe')} would be enough: {times}"
        return Verdict("wrong probes", why, mend, "warning")
    return None


def slow(found: Found) -> bool:
    """Whether more is probed than is needed, by enough to be noticed."""
    now, needed = found.in_force, found.needed
    many = now is not None and needed is not None and now.value > TOO_MANY * needed.value
    return bool(many and now and needed and now.us - needed.us > MATTERS_US)


def _lost(found: Found) -> str:
    """What recall was lost since the build, in words; empty when none was, or when it is not known."""
    now, before = found.in_force, found.origin.recall if found.origin else None
    if now is None or before is None or now.recall.value >= before - LOST or now.recall.high >= before:
        return ""
    return f"recall@{found.k} is {now.recall}, it was {before:.3f} when it was built"


def _dearer(one: Setting | None, other: Setting | None) -> bool:
    return bool(one and other and one.us > DEARER * other.us and one.us - other.us > MATTERS_US)


def _costs(found: Found, other: Setting | None, what: str) -> str:
    needed = found.needed
    if needed is None or other is None:
        return ""
    ratio = f"{needed.us / other.us:.1f} times the time of {what}"
    return f"at recall {found.target:g} a search takes {ratio}: {needed.scanned:,.0f} rows scanned against {other.scanned:,.0f}"


def _rebuild(found: Found) -> str:
    """Built anew with the cheapest lists that are known; said again where they are the same as now."""
    choices = [one for one in (found.fresh, found.better) if one]
    if not choices:
        return "aya vectors rebuild --again"
    best = min(choices, key=lambda one: one.us)
    same = found.needed is not None and best.lists == found.needed.lists
    return f"aya vectors rebuild {best.words}" + (" --again" if same else "")


def _left(found: Found) -> str:
    names = ", ".join(found.leftovers)
    return f"{names} {'is' if len(found.leftovers) == 1 else 'are'} left invalid by a build that broke off"


def _drop(found: Found) -> str:
    return "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in found.leftovers)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _ms(us: float) -> str:
    return f"{us / 1000:.2g} ms" if us < 1000 else f"{us / 1000:.1f} ms" if us < 100_000 else f"{us / 1e6:.1f} s"


# Checks


def checks(found: Checkup | Missing) -> list[Check]:
    """What a runbook and the health check record of a check-up. Of an index that has no lists, or is not there, only what
    can be said of it."""
    if isinstance(found, Missing):
        names = (VALID, AT, LISTS, FRESH)
        return [evaluate(name, "seen", found, lambda _: Judged("unknown", ""), hint="Run aya vectors checkup") for name in names]
    one = found.found
    said = found.verdict
    if not one.index or said.word == "too few rows":
        return [_valid(one, said)]
    if one.method == "hnsw":
        return [_valid(one, said), _recall(one, said)]
    return [_valid(one, said), _recall(one, said), _best_lists(one, said), _fresh(one, said)]


def _valid(found: Found, said: Verdict) -> Check:
    status: Status = "passed"
    observed, hint = f"{found.index} is valid" if found.index else said.why, ""
    if found.leftovers:
        status, observed = "warning", f"{observed}; {_left(found)}" if found.index else said.why
        hint = _drop(found) if found.index else said.mend
    elif not found.index:
        status, hint = said.status, said.mend
    return Check(VALID, status, "a valid index, where one pays, and none left behind", observed, hint)


def _recall(found: Found, said: Verdict) -> Check:
    expected = f"recall@{found.k} >= {found.target:g}, within its interval"
    now, needed = found.in_force, found.needed
    if now is None:
        return Check(AT, "unknown", expected, "not measured")
    if found.exact:
        return Check(AT, "passed", expected, f"1: the planner passes the index over and reads all {found.rows:,} rows")
    observed = f"{now.recall} at {found.knob} {now.value}"
    if found.low:
        return Check(AT, "failed", expected, observed, said.mend)
    if needed and found.method == "ivfflat" and slow(found):
        hint = f"aya vectors rebuild --probes {needed.value}"
        return Check(AT, "warning", expected, f"{observed}; {needed.value} are enough", hint)
    return Check(AT, "passed", expected, observed)


def _best_lists(found: Found, said: Verdict) -> Check:
    expected = f"no other number of lists is {DEARER:g} times as fast"
    lists = found.needed.lists if found.needed else 0
    wrong = _lists(found)
    if wrong is None:
        observed = f"{_count(lists, 'list')} for {found.rows:,} rows"
        if found.needed and found.better:
            observed += f": {_ms(found.needed.us)} at {found.target:g}, {_ms(found.better.us)} with {found.better.lists} lists"
        return Check(LISTS, "passed", expected, observed)
    return Check(LISTS, wrong.status, expected, wrong.why, wrong.mend)


def _fresh(found: Found, said: Verdict) -> Check:
    expected = f"at most {DEARER:g} times the time of a fresh one, recall as when it was built"
    old = _old(found)
    if old is None:
        origin = found.origin
        built = f"built on {origin.rows:,} rows, {found.rows:,} are there now" if origin else f"{found.rows:,} rows"
        return Check(FRESH, "passed", expected, built)
    return Check(FRESH, old.status, expected, old.why, old.mend)
