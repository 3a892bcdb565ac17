"""Bring a node back as a standby of the primary: the plan is what is still missing, so that a run that broke off is finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aya_lib.cluster.replication import Receiver, Sender, Slot, source_conninfo
from aya_lib.cluster.server import Cluster, Files
from aya_lib.errors import ParameterError
from aya_lib.node.node import Node
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing
from aya_lib.operations.failover.fencing import mark_path
from aya_lib.operations.rejoin.actions import Clone, Follow, Rewind, finish, let_read, remove, swap
from aya_lib.operations.rejoin.look import Details, Rejoin, Source
from aya_lib.operations.rejoin.method import Choice, choose, lost, may_just_start, ready, seconds, slot_of
from aya_lib.operations.rejoin.salvage import Save
from aya_lib.operations.rejoin.staging import Staging, end_copies, end_scratch
from aya_lib.operations.rejoin.waldump import Past
from aya_lib.plan.actions import Call, CreateSlot, Kill, Service, SetState, WriteFile, drop_slot, remove_file
from aya_lib.plan.change import Change, Plan, change

METHODS = ("auto", "clone", "rewind")
COPY_S = 86_400.0  # a copy whose duration cannot be told may take a day; otherwise ten times the estimate, and ten minutes


def plan(seen: Rejoin, method: str = "auto", *, remove_old: bool = False, by: str = "") -> Plan:
    """The changes that are missing, in order: stop, save, copy, start; and once it streams and is verified, tidy up.

    Raises :class:`ParameterError` for an unknown method. After a failure what was done stays: the next plan goes on from there.
    """
    if method not in METHODS:
        raise ParameterError(f"method: found '{method}', allowed are {', '.join(METHODS)}")
    node, primary = seen.nodes[seen.node.name], seen.nodes[seen.primary.name]
    steps: Iterable[Change] = ()
    if seen.node.name == seen.primary.name or isinstance(seen.compared, Missing):
        pass  # nothing to bring back; or it streams and could not be compared just now: that is no reason to make it anew
    elif seen.streams:
        steps = _tidy(node, seen, remove_old, by)
    elif ready(seen, method):
        steps = _start(node, seen)
    elif may_just_start(seen):
        steps = (*_signal(node, seen), *_start(node, seen))
    else:
        steps = _back(node, primary, seen, choose(seen, method))
    return Plan(f"How {seen.node.name} comes back as a standby of {seen.primary.name}", tuple(steps), unwind=False)


def rest(seen: Rejoin, *, remove_old: bool = False, by: str = "") -> Plan:
    """What follows once it streams and is verified, and nothing before."""
    steps = _tidy(seen.nodes[seen.node.name], seen, remove_old, by) if seen.streams else iter(())
    return Plan(f"What is left of the rejoin of {seen.node.name}", tuple(steps), unwind=False)


def _signal(node: Node, seen: Rejoin) -> Iterator[Change]:
    if isinstance(seen.node.files, Files) and not seen.node.files.standby_signal:
        title = f"Put standby.signal back: {node.name} was in recovery when it ended, and would start as a primary without"
        yield change(node, title, WriteFile(node.data_directory / "standby.signal", ""))


def _back(node: Node, primary: Node, seen: Rejoin, choice: Choice) -> Iterator[Change]:
    leader, details = seen.primary.cluster, seen.details
    if not isinstance(leader, Cluster) or details is None:
        return
    has = (
        tuple(slot.name for slot in seen.primary.sender.slots if slot.logical) if isinstance(seen.primary.sender, Sender) else ()
    )
    source, slot = source_conninfo(node, primary), node.site.replication.slot
    follow = Follow(source, slot, leader.system_identifier, leader.timeline, has)
    if isinstance(seen.staging, Staging) and seen.staging.copies:
        yield change(
            node,
            "End the copies that a killed run left",
            Call(f"kill -KILL {' '.join(map(str, seen.staging.copies))}", end_copies),
        )
    yield from _stop(node, seen)
    yield from _slot(primary, seen, choice)
    if not seen.incoming:
        yield from _save(node, seen, details, leader)
        yield from _copy(node, primary, details, choice, follow)
    if seen.incoming or choice.method == "clone":
        title = f"Put the clone in the place of {node.name}'s data directory, and keep the old one"
        yield change(node, title, swap(node, f"{node.data_directory.name}.before-{seen.overview.at:%Y%m%dT%H%M%SZ}"))
    yield from _start(node, seen, anew=True)


def _stop(node: Node, seen: Rejoin) -> Iterator[Change]:
    state = seen.node.process
    if isinstance(seen.staging, Staging) and seen.staging.scratch:
        yield change(
            node,
            "End the server without network that an earlier run left",
            Call(f"pg_ctl stop -m fast -D {node.data_directory}", end_scratch),
        )
    elif isinstance(state, ServiceState) and state.status in ("running", "frozen"):
        if seen.node.autostart is True:
            yield change(node, f"Keep {node.name} from starting by itself", Service("disable", "postgresql"))
        if state.status == "frozen" and state.pid:
            kill, title = (
                Kill("postgresql", state.pid, state.since),
                "Kill PostgreSQL (frozen: thawed, it could acknowledge writes)",
            )
            yield change(node, title, kill, interrupts=True)
        else:
            yield change(node, "Stop PostgreSQL in an orderly way", Service("stop", "postgresql"), interrupts=True)


def _slot(primary: Node, seen: Rejoin, choice: Choice) -> Iterator[Change]:
    """There, and with room: a clone needs no WAL from before it begins, so a slot that is nearly lost is made anew for it."""
    name, slot = primary.site.replication.slot, slot_of(seen)
    if slot is not None and (lost(seen) or (choice.method == "clone" and not seen.incoming and _tight(primary, slot))):
        yield change(primary, f"Drop the slot {name} ({_room(slot)})", drop_slot(name))
        slot = None
    if slot is None:
        yield change(primary, f"Create the slot {name}", CreateSlot(name, checkpoint=True))


def _tight(primary: Node, slot: Slot) -> bool:
    """Nobody uses it, and little more WAL may be written before it is lost."""
    warn = primary.site.replication.slot_warn_mb * 2**20
    return not slot.active and slot.safe_wal_size is not None and slot.safe_wal_size < warn


def _room(slot: Slot) -> str:
    return "lost" if slot.wal_status == "lost" else f"{(slot.safe_wal_size or 0) / 2**20:,.0f} MiB until it is lost"


def _save(node: Node, seen: Rejoin, details: Details, leader: Cluster) -> Iterator[Change]:
    """Not again what is saved already; and nothing of a directory that pg_rewind has begun to change."""
    files, past, salvage = seen.node.files, details.past, seen.salvage
    if seen.half_rewound or not isinstance(past, Past) or not isinstance(files, Files):
        return
    if not (past.bytes or past.gone) or (isinstance(salvage, tuple) and any(one.covers(files) for one in salvage)):
        return
    begun = [one.folder for one in salvage if one.report is None] if isinstance(salvage, tuple) else []
    folder = begun[-1].rsplit("/", 1)[-1] if begun else f"{node.name}-{seen.overview.at:%Y%m%dT%H%M%SZ}"
    title = f"Save what {seen.primary.name} never received: {past.bytes:,} bytes of WAL, {past.commits} transactions"
    known = tuple(details.source.prepared.values()) if isinstance(details.source, Source) else ()
    yield change(node, title, Save(folder, leader, known))


def _copy(node: Node, primary: Node, details: Details, choice: Choice, follow: Follow) -> Iterator[Change]:
    if choice.method == "clone":
        title = f"Clone {primary.name} beside the old data directory ({_estimated(choice)}; {choice.why})"
        yield change(node, title, Clone(follow, _limit(choice.clone_s)))
        return
    role = node.site.database.replication_role
    if isinstance(details.source, Source) and not details.source.readable:
        yield change(primary, f"Let {role} read the files that pg_rewind compares", let_read(role))
    title = f"Rewind {node.name}'s data directory in place ({_estimated(choice)}; {choice.why})"
    yield change(node, title, Rewind(follow, details.archive is True, _limit(choice.rewind_s)), destroys=True)


def _start(node: Node, seen: Rejoin, *, anew: bool = False) -> Iterator[Change]:
    """As a standby. The fence is lifted just before: it has standby.signal now, and a unit's guard asks for the fence."""
    running = isinstance(seen.node.cluster, Cluster) and not anew
    if seen.node.autostart is False and seen.primary.autostart is True:
        title = f"Let {node.name} start by itself again, as {seen.primary.name} does"
        yield change(node, title, Service("enable", "postgresql"))
    if isinstance(seen.node.files, Files) and seen.node.files.fenced is not None and not anew:
        yield change(node, f"Take the fence's mark from {node.name}", remove_file(mark_path(node)))
    if node.name in seen.overview.state.fenced:
        title = f"Lift the fence of {node.name}: it can only be a standby now"
        yield change(node, title, SetState(lift=node.name))
    if not running:
        title = f"Start {node.name} as a standby of {seen.primary.name}"
        yield change(node, title, Service("start", "postgresql"), undo=Service("stop", "postgresql"))


def _tidy(node: Node, seen: Rejoin, remove_old: bool, by: str) -> Iterator[Change]:
    """It streams and holds the same rows: only now is anything of the old one given up."""
    staging, leader = seen.staging, seen.primary.cluster
    yield from _start(node, seen)
    agreed = None if seen.primary.name == node.site.primary else seen.primary.name
    if seen.overview.state.primary != agreed:  # promoted without the failover runbook
        yield change(node, f"Remember that {seen.primary.name} is the primary", SetState({"primary": agreed}))
    if not isinstance(staging, Staging) or not isinstance(leader, Cluster):
        return
    has = {slot.name for slot in seen.node.receiver.slots} if isinstance(seen.node.receiver, Receiver) else set()
    for slot in staging.slots:
        if not slot.logical and slot.name not in has:
            yield change(node, f"Make the slot {slot.name} again, over which others read from {node.name}", CreateSlot(slot.name))
    if staging.journal is not None:
        entry = _entry(seen, staging.journal.method, leader.timeline, by)
        yield change(node, f"Write into the failover log that {node.name} is back", SetState(entry=entry))
        yield change(node, "Take away the journal of the rejoin", finish(node))
    if remove_old and staging.kept:
        yield change(node, f"Delete {len(staging.kept)} old data directories", remove(node, staging.kept), destroys=True)


def _entry(seen: Rejoin, method: str, timeline: int, by: str) -> dict[str, object]:
    """Who brought which node back, by which method, and what was saved."""
    last = seen.salvage[-1] if isinstance(seen.salvage, tuple) and seen.salvage else None
    salvaged = {"saved": last.folder if last else "", "rows_saved": last.report.rows if last and last.report else 0}
    names = {"node": seen.node.name, "primary": seen.primary.name, "method": method, "timeline": timeline}
    return {"what": "rejoin", "by": by, **names, **salvaged}


def _estimated(choice: Choice) -> str:
    return f"estimated: clone {seconds(choice.clone_s)}, rewind {seconds(choice.rewind_s)}"


def _limit(estimate: float | None) -> float:
    return COPY_S if estimate is None else 600 + 10 * estimate
