"""What must hold before a rebuild. Pure."""

from __future__ import annotations

from collections.abc import Callable

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.node.unseen import Missing
from aya_lib.vectors.catalog import IDLE_S, Live, canonical
from aya_lib.vectors.index import EF_SEARCH, Index, mb
from aya_lib.vectors.rebuild.settings import noted

DISK_TIMES = 2  # the old index and the new one, and as much again for sorting and WAL
MEMORY_SHARE = 0.5  # of what is available, at most, for a build
SPARE = 1.1  # of the memory that a build is reckoned to need


def need_bytes(live: Live, index: Index) -> int:
    """Memory of its build with something to spare."""
    return int(index.build_bytes(live.as_table(), live.rows) * SPARE)


def unfit(live: Live, to: Index, value: int) -> str:
    """Why the request cannot be met, whatever the server has; empty when it can."""
    if not to.method:
        return "exact search has no index to rebuild"
    most = canonical(to).option("lists") if to.method == "ivfflat" else EF_SEARCH
    if not 1 <= value <= most:
        return f"{to.knob} = {value}: allowed is 1 to {most}"
    return to.fits(live.as_table(), live.rows)


def checks(live: Live | Missing, to: Index, value: int) -> list[Check]:
    """What must hold before the rebuild; a warning is for a person to read."""
    name = live.node if isinstance(live, Live) else "the node"
    if isinstance(live, Live) and live.problem:
        hint = "Name the table and its vector column"
        return [Check(f"{name} has the table", "failed", f"{live.relation}.{live.column}", live.problem, hint)]
    rules: list[tuple[str, str, Callable[[Live], Judged]]] = [
        (f"{name} accepts writes", "a primary", _primary),
        (f"{to} can be built", f"rows, dimension and {to.knob} within limits", lambda live: _fits(live, to, value)),
        ("nobody else builds an index on the table", "none", _alone),
        ("no transaction was left open", f"none older than {IDLE_S} s", _idle),
        ("the names for the new and the old index are free", "free", lambda live: _names(live, to)),
    ]
    judged = [evaluate(title, expected, live, rule) for title, expected, rule in rules]
    return judged + _resources(live, canonical(to)) if isinstance(live, Live) and not unfit(live, to, value) else judged


def _primary(live: Live) -> Judged:
    return passed_if(not live.in_recovery, "a standby" if live.in_recovery else "a primary", "Rebuild on the primary")


def _fits(live: Live, to: Index, value: int) -> Judged:
    why = unfit(live, to, value)
    return passed_if(not why, why or f"{live.rows:,} rows of {live.dimension} dimensions", "Ask for another index")


def _alone(live: Live) -> Judged:
    builds = "; ".join(f"PID {build.pid}: {build.command} {build.index}: {build.phase}" for build in live.builds)
    hint = "Wait for it. One whose client was killed ends by itself within seconds"
    return passed_if(not builds, builds or "none", hint)


def _idle(live: Live) -> Judged:
    left = "; ".join(
        f"PID {idle.pid} ({idle.role}, {idle.application or 'no name'}), begun {idle.age_s:.0f} s ago" for idle in live.idle
    )
    hint = "The build waits for it if it has touched the table: end it, or its client"
    return Judged("warning" if left else "passed", left or "none", hint)


def _names(live: Live, to: Index) -> Judged:
    """Valid indexes of these names that no rebuild of ours has noted are somebody's own. Of the same family none is needed."""
    note = noted(live)
    needed = live.current is None or live.current.index().family != to.family
    taken = [index.name for index in live.indexes if index.valid and index.name in (live.new_name, live.kept_name)]
    free = (note is not None and note.staged) or not needed or not taken
    return passed_if(free, ", ".join(taken) or "free", "Rename that index, or drop it")


def _resources(live: Live, to: Index) -> list[Check]:
    disk = DISK_TIMES * ((live.current.bytes if live.current else 0) + to.bytes(live.as_table(), live.rows))
    need = need_bytes(live, to)

    def free(bytes_: int) -> Judged:
        return passed_if(bytes_ >= disk, f"{mb(bytes_)} free", "Free disk, or ask for a smaller index (halfvec)")

    def memory(available: int) -> Judged:
        half = available * MEMORY_SHARE
        observed = f"half of what is available is {mb(half)}"
        if need <= half:
            return Judged("passed", observed)
        if to.method == "hnsw":
            return Judged("warning", observed, "It will be built in passes over the disk, which takes many times longer")
        return Judged("failed", observed, "Ask for fewer lists: pgvector refuses to build with less memory")

    room, enough = "the disk has room for both indexes", "the build has the memory it needs"
    own = Check(enough, "passed", mb(need), f"maintenance_work_mem is {mb(live.maintenance_work_mem)}")
    return [
        evaluate(room, mb(disk), live.free_bytes, free),
        # Within the server's own setting it does not matter what else there is.
        own if need <= live.maintenance_work_mem else evaluate(enough, mb(need), live.memory_bytes, memory),
    ]
