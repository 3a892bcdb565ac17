"""What restores the whole cluster: beside first, and put in its place by a rename that can be undone up to the start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from aya_lib.cluster import service_file, state
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.state import Fence
from aya_lib.operations.failover.fencing import mark_path, reached
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.whole.actions import Put, Restore, Start, finish
from aya_lib.operations.restore_backup.whole.look import Beside, Whole
from aya_lib.plan.actions import CreateSlot, Service, SetState, WriteFile, remove_file
from aya_lib.plan.change import Change, Plan, change


def prepare(found: Whole) -> Plan:
    """Restore, prove and promote in a folder of its own; nothing of the pair is touched."""
    title = f"How the cluster is restored beside {found.name}'s data directory"
    if found.ready or found.placed or not isinstance(found.aim, Aim):
        return Plan(title)
    words = f"Restore {found.aim.backup.label} beside, look at it, and promote it there"
    stamp = f"{found.overview.at:%Y%m%dT%H%M%SZ}"
    return Plan(title, (change(found.node, words, Restore(found.aim, found.asked, stamp)),), unwind=False)


def put(found: Whole) -> Plan:
    """Fence the other node, put the restored directory in its place, and start it. Up to the start everything can be undone."""
    title = f"How {found.name} becomes the primary with what was restored"
    if not (found.ready or (found.placed and not found.serves)):
        return Plan(title)
    return Plan(title, (*_fence(found), *_place(found), *_agree(found), *_start(found)))


def rest(found: Whole) -> Plan:
    """What follows once it serves: the slot for the standby, clients, the log, the folder away. The old directory stays."""
    title, node = f"What is left of the restore on {found.name}", found.node
    if not found.serves or found.made is None:
        return Plan(title)
    entry = {"what": "restore_backup", "by": found.by, "new": found.name, **asdict(found.made)}
    service, slot = found.here.embedding, found.site.replication.slot
    steps = [
        change(node, f"Create the slot {slot} for {found.other.name}", CreateSlot(slot)),
        change(node, "Point clients that know one host to the new primary", service_file.Write(found.name), vital=False),
    ]
    if service is not None and getattr(service.process, "status", "running") != "running":
        steps.append(change(node, "Start the embedding service", Service("start", "embedding"), vital=False))
    steps.append(change(node, "Write the failover log", SetState(entry=entry), vital=False))
    steps.append(change(node, "Take away the journal and the folder of the restore", finish(node)))
    return Plan(title, tuple(steps), unwind=False)


def _fence(found: Whole) -> Iterator[Change]:
    """As a failover does: the other node must not start as a primary again; rejoin lifts it."""
    seen, name = found.other, found.other.name
    other = found.nodes[name]
    if seen.autostart is True:
        off, on = Service("disable", "postgresql"), Service("enable", "postgresql")
        yield change(other, f"Keep {name} from starting by itself", off, undo=on)
    if found.overview.fenced(name):
        return
    files = seen.files if isinstance(seen.files, Files) else None
    where = (files.timeline, files.lsn) if files else (None, None)
    why = f"{found.name} was restored from a backup and made the primary"
    mark = Fence(name, state.stamp(found.overview.at), found.by, found.fencing.held or "none", why, *where)
    if reached(seen) and files:
        text = json.dumps(asdict(mark), ensure_ascii=False) + "\n"
        writing = WriteFile(mark_path(other), text)
        yield change(other, f"Mark {name} as fenced", writing, undo=remove_file(mark_path(other)), vital=False)
    yield change(other, f"Remember that {name} is fenced", SetState(fence=mark), undo=SetState(lift=name))


def _place(found: Whole) -> Iterator[Change]:
    if found.ready and isinstance(found.beside, Beside):
        before = f"{found.node.data_directory.name}.before-{found.overview.at:%Y%m%dT%H%M%SZ}"
        title = f"Put the restored directory in its place; the old one stays as {before}"
        yield change(found.node, title, Put(before), undo=Put(before, back=True), interrupts=True)


def _agree(found: Whole) -> Iterator[Change]:
    agreed = None if found.name == found.site.primary else found.name
    known = found.overview.state
    changed: dict[str, str | None] = {"primary": agreed}
    if known.mode == "synchronous":  # nothing waits for a standby until there is one again
        since = state.stamp(found.overview.at)
        changed |= {"mode": "degraded", "mode_since": since, "mode_by": f"{state.BY_FAILOVER}, {found.by}"}
    if known.primary != agreed or len(changed) > 1:
        undo = SetState({name: getattr(known, name) for name in changed})
        yield change(found.node, f"Remember that {found.name} is the primary", SetState(changed), undo=undo)
    if found.name in known.fenced:
        lift, back = SetState(lift=found.name), SetState(fence=known.fenced[found.name])
        yield change(found.node, f"Lift the fence of {found.name}: it is another cluster's history now", lift, undo=back)
    if found.here.autostart is False:
        on, off = Service("enable", "postgresql"), Service("disable", "postgresql")
        yield change(found.node, f"Let {found.name} start by itself", on, undo=off)


def _start(found: Whole) -> Iterator[Change]:
    if not isinstance(found.here.cluster, Cluster):
        title = f"Start {found.name} as the primary: from here on writes are accepted that the old directory never gets"
        yield change(found.node, title, Start(), interrupts=True, destroys=True)
