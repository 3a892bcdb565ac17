"""Which index is asked for: by options, by a kept measurement, or by the check-up; what follows, and whether it came true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.errors import AyaError, ChangeFailed, UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing
from aya_lib.plan.actions import Sql
from aya_lib.plan.change import Plan, change
from aya_lib.show import Shown, Table
from aya_lib.vectors import catalog, checkup, ivfflat_pages, measure
from aya_lib.vectors.catalog import Live, LiveIndex, node_of
from aya_lib.vectors.checkup import Checkup
from aya_lib.vectors.index import EF_SEARCH, Index
from aya_lib.vectors.ivfflat_pages import NotWritten
from aya_lib.vectors.measure import Search, SearchPlan
from aya_lib.vectors.rebuild import judge
from aya_lib.vectors.rebuild.actions import Proof
from aya_lib.vectors.rebuild.plan import plan as steps
from aya_lib.vectors.rebuild.settings import noted
from aya_lib.vectors.request import Request

PROVEN = 0.02  # how far below the target a live index may lie, measured with fewer queries, before it is taken back
QUERIES = 100  # that measure it
MEASURE_S = 900  # the longest that measuring may take
CHECKPOINT_S = 600


@dataclass(frozen=True, repr=False)
class Rebuild(Shown):
    """The ``live`` index and what it is to become. ``index`` None: nothing is to be rebuilt, and ``why`` says so. ``value``: of
    its knob; ``again``: build it anew even if it is so already; ``target``: recall@``k`` that it must have."""

    node: str
    live: Live | Missing
    index: Index | None
    value: int
    why: str
    again: bool = False
    target: float = 0.95
    k: int = 10

    def table(self) -> Table:
        now = "none"
        if isinstance(self.live, Live) and self.live.current:
            current = self.live.current.index()
            now = f"{current}, searched with {self.live.value(current)}"
        requested = f"{self.index}, searched with {self.index.knob} = {self.value}" if self.index else "as it is"
        rows = (("now", now), ("requested", requested), ("because", self.why))
        return Table(f"The vector index on {self.node}", ("", ""), rows)


def look(
    nodes: Nodes,
    request: Request,
    *,
    result: str = "",
    table: str = "chunks",
    column: str = "embedding",
    node: str = "",
    target: float = 0.95,
    k: int = 10,
) -> Rebuild:
    """What is there and what is asked for. Without a request and ``result`` (a kept measurement) the check-up decides.

    Raises :class:`UsageError` for options that do not go together or a file that is no measurement.
    """
    on = node_of(nodes, node)
    live = catalog.look(on, table, column)
    if not isinstance(live, Live):
        return Rebuild(on.name, live, None, 0, str(live))
    if live.problem:
        raise UsageError(f"{on.name}: {live.problem}", hint="Name the table and its vector column")
    if result:
        index, value, why = _recommended(Path(result), live)
        return Rebuild(on.name, live, index, value, why, request.again, target, k)
    why = "it was asked for"
    if not request:
        found = checkup.look(nodes, table, column, target, k, on.name)
        if not isinstance(found, Checkup):
            return Rebuild(on.name, found, None, 0, str(found))
        said = found.verdict
        why = f"the check-up says {said.word}: {said.why}"
        if not said.request:
            return Rebuild(on.name, live, None, 0, why, False, target, k)
        request = said.request
    return Rebuild(on.name, live, *request.resolve(live), why, request.again, target, k)


def preconditions(found: Rebuild) -> list[Check]:
    """What must hold before the rebuild; a table that could not be seen is unknown."""
    if not isinstance(found.live, Live):
        name = "the vector index could be looked at"
        return [evaluate(name, "seen", found.live, lambda _: passed_if(True, "seen"), hint="Run restore")]
    if found.index is None:
        return [Check("a rebuild is needed", "passed", "or not", found.why)]
    return judge.checks(found.live, found.index, found.value)


def plan(nodes: Nodes, found: Rebuild) -> Plan:
    """The rebuild with its proof: recall of the live index at the target, less what few queries may be off, or the old one
    comes back."""
    if found.index is None or not isinstance(found.live, Live):
        return Plan(f"No rebuild: {found.why}")
    table, column = found.live.relation, found.live.column
    proving = Proof(lambda node: live_recall(node, found.k, QUERIES, table, column), max(0.0, found.target - PROVEN), found.k)
    return steps(nodes[found.node], found.live, found.index, found.value, proof=proving, again=found.again)


def flush(nodes: Nodes, found: Rebuild) -> Plan:
    """A checkpoint, where the centroids of the live index are not on disk yet and pageinspect is not there to read them."""
    title, node = "Write the new index to disk, so that its pages can be read", nodes[found.node]
    live = catalog.look(node, found.live.relation, found.live.column) if isinstance(found.live, Live) else found.live
    if isinstance(live, Live) and live.current and live.current.method == "ivfflat":
        try:
            with node.session() as connection:
                ivfflat_pages.read(connection, live.qualified(live.current))
        except NotWritten:
            checkpoint = Sql("CHECKPOINT", database=None, deadline_s=CHECKPOINT_S)
            return Plan(title, (change(node, title, checkpoint),), unwind=False)
        except AyaError:
            pass  # the check-up says what it cannot read
    return Plan(title)


def checks(nodes: Nodes, found: Rebuild) -> list[Check]:
    """The index that is there now is the requested one, no half of one is left, and the check-up of it."""
    if not isinstance(found.live, Live):
        return []

    def requested(live: Live) -> Judged:
        current = live.current.index() if live.current else None
        observed = f"{current}, {live.value(current)}" if current else "no index"
        good = found.index is None or (current == found.index and live.value(found.index) == found.value)
        return passed_if(good, observed, "Run rebuild_index again: it goes on from here")

    def whole(live: Live) -> Judged:
        left = ", ".join(index.name for index in live.leftovers) or ("a rebuild is noted as under way" if noted(live) else "")
        return passed_if(not left, left or "none")

    now = catalog.look(nodes[found.node], found.live.relation, found.live.column)
    expected = f"{found.index}, {found.value}" if found.index else "as it was"
    own = [
        evaluate("the index is as requested", expected, now, requested),
        evaluate("nothing half-built is left", "none", now, whole),
    ]
    try:
        after = checkup.look(nodes, found.live.relation, found.live.column, found.target, found.k, found.node)
    except UsageError:
        return own
    return own + checkup.checks(after)


def live_recall(node: Node, k: int = 10, queries: int = 100, table: str = "chunks", column: str = "embedding") -> float:
    """Share of the ``k`` nearest neighbours that the live index finds, from 0 to 1, for ``queries`` vectors of the table
    itself (a vector is not counted as its own neighbour).

    Raises :class:`ChangeFailed` when the search is not planned with the live index, and :class:`AyaError` when there is none.
    """
    live = catalog.look(node, table, column)
    if not isinstance(live, Live):
        raise AyaError(f"{node.name}: the vector index could not be looked at: {live}")
    if live.problem or live.current is None:
        raise AyaError(f"{node.name}: {live.problem or f'no index on {table}.{column}'}")
    k = min(k, live.rows - 1)
    if k < 1:
        return 1.0
    index, table_ = live.current.index(), live.as_table()
    with node.session(deadline_s=MEASURE_S) as session:
        asked = measure.sample(session, table_, queries)
        kth = measure.exact_distances(session, table_, asked, k, own=True)[:, -1]
        search = Search(table_, index, k, live.value(index), live.current.name)
        measured = measure.recall_by_searches(
            session, search, asked, kth, {"enable_seqscan": "off"} | _others(live, live.current)
        )
    if isinstance(measured, SearchPlan):
        hint = "Its recall cannot be measured so: drop the other index, or ask for a smaller value of the knob"
        used = f"{measured.scan} using {measured.index}" if measured.index else measured.scan
        raise ChangeFailed(f"{node.name}: the search is planned without {live.current.name}: {used}", hint=hint)
    return measured[0].value


def _others(live: Live, current: LiveIndex) -> dict[str, str]:
    """While the old index is there too, it is made as dear as it can be, so that it is not chosen."""
    settings: dict[str, str] = {}
    for other in live.indexes:
        if other.valid and other.method != current.method:
            most = other.options["lists"] if other.method == "ivfflat" else EF_SEARCH
            settings |= other.index().settings(most)
    return settings


def _recommended(path: Path, live: Live) -> tuple[Index, int, str]:
    """The recommendation of a kept measurement, of these vectors' dimension. :class:`UsageError`."""
    from aya_lib.vectors.kept import load

    kept = load(path)
    best, corpus = kept.get("recommendation"), kept["corpus"]
    if not best or best["type"] == "exact":
        raise UsageError(f"{path} recommends no index to build")
    if corpus["dimension"] != live.dimension:
        of = f"{live.relation}.{live.column} has {live.dimension}"
        raise UsageError(f"{path} measured vectors of {corpus['dimension']} dimensions, {of}")
    index = Index(best["type"], tuple((str(name), int(value)) for name, value in best["options"].items()))
    figures = f"recall {best['recall']['value']:.3f}, {best['qps']:,.0f} searches/s on {corpus['name']}"
    return index, int(next(iter(best["search_settings"].values()))), f"{path.name} recommends it: {figures}"
