"""Which index is wished for: named by its options, taken from a kept measurement, or advised by the check-up."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing
from aya_lib.plan.change import Plan
from aya_lib.show import Shown, Table
from aya_lib.vectors.benchmark import PROVEN, node_of
from aya_lib.vectors.health import checkup, diagnosis
from aya_lib.vectors.health.checkup import Checkup
from aya_lib.vectors.index import FAMILIES, Index
from aya_lib.vectors.online import flush, live, proof, rebuild
from aya_lib.vectors.online.live import Live
from aya_lib.vectors.online.swap import Proof

M, EF_CONSTRUCTION = 16, 64  # pgvector's defaults


@dataclass(frozen=True)
class Options:
    """What was given of an index; 0 and empty: not given. ``again``: build anew what is as wished already."""

    family: str = ""
    lists: int = 0
    probes: int = 0
    m: int = 0
    ef_construction: int = 0
    ef_search: int = 0
    again: bool = False

    @property
    def given(self) -> bool:
        return any((self.family, self.lists, self.probes, self.m, self.ef_construction, self.ef_search, self.again))


@dataclass(frozen=True, repr=False)
class Wish(Shown):
    """``index`` None: nothing is to be rebuilt, and ``why`` says so. ``value``: of its knob."""

    node: str
    live: Live | Missing
    index: Index | None
    value: int
    again: bool
    why: str

    def table(self) -> Table:
        now = self.live.current if isinstance(self.live, Live) else None
        is_ = f"{now.index()}, searched with {self.live.value(now.index())}" if now and isinstance(self.live, Live) else "none"
        wished = f"{self.index}, searched with {self.index.knob} = {self.value}" if self.index else "as it is"
        rows = (("now", is_), ("wished", wished), ("because", self.why))
        return Table(f"The vector index on {self.node}", ("", ""), rows)


def look(
    nodes: Nodes,
    options: Options,
    *,
    result: str = "",
    table: str = "chunks",
    column: str = "embedding",
    node: str = "",
    target: float = 0.95,
    k: int = 10,
) -> Wish:
    """What is there and what is wished. Without options and ``result`` (a kept measurement) the check-up decides.

    Raises :class:`UsageError` for options that do not go together or a file that is no measurement.
    """
    there = node_of(nodes, node)
    found = live.look(there, table, column)
    if not isinstance(found, Live):
        return Wish(there.name, found, None, 0, False, str(found))
    if found.problem:
        raise UsageError(f"{there.name}: {found.problem}", hint="Name the table and its vector column")
    if result:
        index, value, why = _recommended(Path(result), found)
        return Wish(there.name, found, index, value, options.again, why)
    if options.given:
        index, value = resolve(options, found)
        return Wish(there.name, found, index, value, options.again, "it was asked for")
    seen = checkup.look(nodes, table, column, target, k, there.name)
    if not isinstance(seen, Checkup):
        return Wish(there.name, seen, None, 0, False, str(seen))
    advised = advice(seen)
    said = f"the check-up says {seen.verdict.word}: {seen.verdict.why}"
    if advised is None:
        return Wish(there.name, found, None, 0, False, said)
    index, value = resolve(advised, found)
    return Wish(there.name, found, index, value, advised.again, said)


def advice(found: Checkup) -> Options | None:
    """The options of the check-up's mending command; None where it has none that rebuilds."""
    words = shlex.split(found.verdict.mend)
    if words[:3] != ["aya", "vectors", "rebuild"]:
        return None
    given: dict[str, Any] = {"again": "--again" in words}
    for name, value in pairwise(words):
        key = name.removeprefix("--").replace("-", "_")
        if name.startswith("--") and key in Options.__dataclass_fields__ and not value.startswith("--"):
            given[key] = value if key == "family" else int(value)
    return Options(**given)


def resolve(options: Options, found: Live) -> tuple[Index, int]:
    """The whole index and its setting, what is not given taken from the one that is there. :class:`UsageError`."""
    now = found.current.index() if found.current else None
    family = options.family or _family(options, now)
    if family not in FAMILIES or family == "exact":
        raise UsageError(f"family '{family}': allowed are {', '.join(one for one in FAMILIES if one != 'exact')}")
    same = now is not None and now.family == family
    old = dict(now.options) if now and same else {}
    if family.startswith("ivfflat"):
        if options.m or options.ef_construction or options.ef_search:
            raise UsageError(f"--m, --ef-construction and --ef-search are of hnsw, not of {family}")
        lists = options.lists or old.get("lists", 0)
        if not lists:
            raise UsageError("an IVFFlat index needs --lists", hint="aya bench vectors finds the best number")
        index = Index(family, (("lists", lists),))
        return index, options.probes or _value(found, index, now)
    if options.lists or options.probes:
        raise UsageError(f"--lists and --probes are of ivfflat, not of {family}")
    wide = options.ef_construction or old.get("ef_construction", EF_CONSTRUCTION)
    index = Index(family, (("m", options.m or old.get("m", M)), ("ef_construction", wide)))
    return index, options.ef_search or _value(found, index, now)


def plan(nodes: Nodes, wish: Wish, *, target: float = 0.95, k: int = 10) -> Plan:
    """The rebuild with its proof: recall of the live index at ``target``, less what few queries may be off, or the old one
    comes back."""
    if wish.index is None or not isinstance(wish.live, Live):
        return Plan(f"No rebuild: {wish.why}")
    there = wish.live
    table = f"{there.schema}.{there.relation}" if there.schema else there.relation
    proving = Proof(lambda node: proof.live_recall(node, k, 100, table, there.column), max(0.0, target - PROVEN))
    return rebuild.plan(nodes[wish.node], there, wish.index, wish.value, proof=proving, again=wish.again)


def written(nodes: Nodes, wish: Wish) -> Plan:
    """A checkpoint, where the check-up could not read the index from disk yet."""
    if not isinstance(wish.live, Live):
        return Plan(flush.TITLE)
    return flush.plan(nodes[wish.node], wish.live.relation, wish.live.column)


def before(wish: Wish) -> list[Check]:
    """What must hold before the rebuild; a table that could not be seen is unknown."""
    if not isinstance(wish.live, Live):
        return [
            evaluate(
                "the vector index could be looked at", "seen", wish.live, lambda _: passed_if(True, "seen"), hint="Run restore"
            )
        ]
    if wish.index is None:
        return [evaluate("a rebuild is needed", "or not", wish.live, lambda _: Judged("passed", wish.why))]
    return rebuild.checks(wish.live, wish.index, wish.value)


def after(nodes: Nodes, wish: Wish, *, target: float = 0.95, k: int = 10) -> list[Check]:
    """The index that is there now is the wished one, no half of one is left, and the check-up of it."""
    if not isinstance(wish.live, Live):
        return []
    now = live.look(nodes[wish.node], wish.live.relation, wish.live.column)

    def wished(one: Live) -> Judged:
        said = f"{one.current.index()}, {one.value(one.current.index())}" if one.current else "no index"
        if wish.index is None or one.current is None:
            return passed_if(wish.index is None, said)
        good = one.current.index() == wish.index and one.value(wish.index) == wish.value
        return passed_if(good, said, "Run rebuild_index again: it goes on from here")

    def whole(one: Live) -> Judged:
        names = ", ".join(index.name for index in one.leftovers)
        return passed_if(not names and one.note is None, names or ("a rebuild is noted as under way" if one.note else "none"))

    expected = f"{wish.index}, {wish.value}" if wish.index else "as it was"
    try:
        found: Checkup | Missing = checkup.look(nodes, wish.live.relation, wish.live.column, target, k, wish.node)
    except AyaError:
        return [
            evaluate("the index is as wished", expected, now, wished),
            evaluate("nothing half-built is left", "none", now, whole),
        ]
    return [
        evaluate("the index is as wished", expected, now, wished),
        evaluate("nothing half-built is left", "none", now, whole),
        *diagnosis.checks(found),
    ]


def _family(options: Options, now: Index | None) -> str:
    if options.lists or options.probes:
        return now.family if now and now.method == "ivfflat" else "ivfflat"
    if options.m or options.ef_construction or options.ef_search:
        return now.family if now and now.method == "hnsw" else "hnsw"
    if now is None:
        raise UsageError("there is no index yet: say which", hint="For example --lists 300 --probes 12, or --family hnsw")
    return now.family


def _value(found: Live, index: Index, now: Index | None) -> int:
    """The knob when none is given: as it is for the same index, else what a search takes by itself."""
    return found.value(index) if now == index else found.chosen(index)


def _recommended(path: Path, found: Live) -> tuple[Index, int, str]:
    """The recommendation of a kept measurement, of these vectors' dimension. :class:`UsageError`."""
    from aya_lib.vectors.kept import load

    said = load(path)
    best = said.get("recommendation")
    if not best or best["type"] == "exact":
        raise UsageError(f"{path} recommends no index to build")
    dimension = said["corpus"]["dimension"]
    if dimension != found.dimension:
        raise UsageError(
            f"{path} measured vectors of {dimension} dimensions, {found.relation}.{found.column} has {found.dimension}"
        )
    index = Index(best["type"], tuple((str(name), int(value)) for name, value in best["options"].items()))
    figures = f"recall {best['recall']['value']:.3f}, {best['qps']:,.0f} searches/s on {said['corpus']['name']}"
    why = f"{path.name} recommends it: {figures}"
    return index, int(next(iter(best["search_settings"].values()))), why
