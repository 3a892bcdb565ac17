"""The recall of the live index, measured on the server as searches have it: their settings, their form of asking."""

from __future__ import annotations

from aya_lib.errors import AyaError, ChangeFailed
from aya_lib.node.node import Node
from aya_lib.vectors import catalog, measure
from aya_lib.vectors.catalog import Live, LiveIndex
from aya_lib.vectors.index import EF_SEARCH
from aya_lib.vectors.measure import Search, SearchPlan

MEASURE_S = 900  # the longest that measuring may take


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
