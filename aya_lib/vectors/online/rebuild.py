"""Rebuilding the vector index beside running searches: what must hold before, and the plan. Nothing here asks a server.

Two ways. Of the same family: new options and REINDEX INDEX CONCURRENTLY, held until every searcher has read settings that
are good for both indexes. Of another family: CREATE INDEX CONCURRENTLY, names and settings swapped in one transaction, and
the old index dropped when the new one is proven. What is under way is noted in the stored settings, because after ALTER
INDEX the catalog no longer tells what was built; a plan made after an interruption goes on from the note.
"""

from __future__ import annotations

from collections.abc import Callable

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.errors import UsageError
from aya_lib.node.node import Node
from aya_lib.node.unseen import Missing
from aya_lib.plan.change import Plan
from aya_lib.vectors.index import EF_SEARCH, Index, mb
from aya_lib.vectors.online.gate import BUILD_S, Progress
from aya_lib.vectors.online.live import IDLE_S, Live
from aya_lib.vectors.online.steps import MEMORY_SHARE, SPARE, Rebuild
from aya_lib.vectors.online.stored import canonical
from aya_lib.vectors.online.swap import Proof

DISK_TIMES = 2  # the old index and the new one, and as much again for sorting and WAL


def plan(
    node: Node,
    live: Live,
    wish: Index,
    value: int,
    *,
    proof: Proof | None = None,
    again: bool = False,
    deadline_s: float = BUILD_S,
    progress: Progress | None = None,
) -> Plan:
    """The changes that make ``wish`` the live index, searched with ``value`` (of its knob: probes or ef_search).

    Empty when that holds already; ``again``: build it anew all the same, because it is stale. Without ``proof`` nothing is
    measured. A failure brings back the old index with its old settings. Raises :class:`UsageError` for what cannot be.
    """
    why = live.problem or unfit(live, wish, value)
    if why:
        raise UsageError(f"{node.name}: {why}")
    rebuild = Rebuild(node, live, canonical(wish), value, proof, again, deadline_s, progress)
    return Plan(f"Rebuild {live.name} as {wish}, searched with {wish.knob} = {value}", tuple(rebuild.changes()))


def unfit(live: Live, wish: Index, value: int) -> str:
    """Why the wish cannot be, whatever the server has; empty when it can."""
    if not wish.method:
        return "exact search has no index to rebuild"
    most = canonical(wish).option("lists") if wish.method == "ivfflat" else EF_SEARCH
    if not 1 <= value <= most:
        return f"{wish.knob} = {value}: allowed is 1 to {most}"
    return wish.fits(live.as_table(), live.rows)


def checks(live: Live | Missing, wish: Index, value: int) -> list[Check]:
    """What must hold before the rebuild; a warning is for a person to read."""
    name = live.node if isinstance(live, Live) else "the node"
    if isinstance(live, Live) and live.problem:
        hint = "Name the table and its vector column"
        return [
            evaluate(
                f"{name} has the table", f"{live.relation}.{live.column}", live, lambda one: passed_if(False, one.problem, hint)
            )
        ]
    judges: list[tuple[str, str, Callable[[Live], Judged]]] = [
        (f"{name} accepts writes", "a primary", _primary),
        (f"{wish} can be built", f"rows, dimension and {wish.knob} within limits", lambda one: _fits(one, wish, value)),
        ("nobody else builds an index on the table", "none", _alone),
        ("no transaction was left open", f"none older than {IDLE_S} s", _idle),
        ("the names for the new and the old index are free", "free", lambda one: _names(one, wish)),
    ]
    found = [evaluate(title, expected, live, of) for title, expected, of in judges]
    return found + _resources(live, canonical(wish)) if isinstance(live, Live) and not unfit(live, wish, value) else found


def _primary(live: Live) -> Judged:
    return passed_if(not live.in_recovery, "a standby" if live.in_recovery else "a primary", "Rebuild on the primary")


def _fits(live: Live, wish: Index, value: int) -> Judged:
    why = unfit(live, wish, value)
    return passed_if(not why, why or f"{live.rows:,} rows of {live.dimension} dimensions", "Wish for another index")


def _alone(live: Live) -> Judged:
    said = "; ".join(f"PID {one.pid}: {one.command} {one.index}: {one.phase}" for one in live.builds)
    hint = "Wait for it. One whose client was killed ends by itself within seconds"
    return passed_if(not live.builds, said or "none", hint)


def _idle(live: Live) -> Judged:
    said = "; ".join(
        f"PID {one.pid} ({one.role}, {one.application or 'no name'}), begun {one.age_s:.0f} s ago" for one in live.idle
    )
    hint = "The build waits for it if it has touched the table: end it, or its client"
    return Judged("warning" if live.idle else "passed", said or "none", hint)


def _names(live: Live, wish: Index) -> Judged:
    """Valid indexes of these names that no rebuild of ours has noted are somebody's own. Of the same family none is needed."""
    ours = live.note is not None and live.note.beside
    needed = live.current is None or live.current.index().family != wish.family
    taken = [one.name for one in live.indexes if one.valid and one.name in (f"{live.name}_new", f"{live.name}_old")]
    return passed_if(ours or not needed or not taken, ", ".join(taken) or "free", "Rename that index, or drop it")


def _resources(live: Live, wish: Index) -> list[Check]:
    table, current = live.as_table(), live.current
    disk = DISK_TIMES * ((current.bytes if current else 0) + wish.bytes(table, live.rows))
    need = int(wish.build_bytes(table, live.rows) * SPARE)

    def free(there: int) -> Judged:
        return passed_if(there >= disk, f"{mb(there)} free", "Free disk, or wish for a smaller index (halfvec)")

    def room(available: int) -> Judged:
        said = f"half of what is available is {mb(available * MEMORY_SHARE)}"
        if need <= available * MEMORY_SHARE:
            return Judged("passed", said)
        if wish.method == "hnsw":
            return Judged("warning", said, "It will be built in passes over the disk, which takes many times longer")
        return Judged("failed", said, "Wish for fewer lists: pgvector refuses to build with less memory")

    own = Judged("passed", f"maintenance_work_mem is {mb(live.maintenance_work_mem)}")
    enough = need <= live.maintenance_work_mem  # then it does not matter what else there is
    return [
        evaluate("the disk has room for both indexes", f"{mb(disk)}", live.free_bytes, free),
        evaluate(
            "the build has the memory it needs",
            f"{mb(need)}",
            0 if enough else live.memory_bytes,
            lambda there: own if enough else room(there),
        ),
    ]
