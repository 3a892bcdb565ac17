"""Make another node the primary: the plan is what is still missing, so that a failover that was broken off is finished."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from aya_lib.cluster import service_file, state
from aya_lib.cluster.overview import Overview
from aya_lib.cluster.replication import Sender
from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.services import Embedding
from aya_lib.cluster.standby import Answer
from aya_lib.cluster.state import Fence
from aya_lib.node.node import Node
from aya_lib.node.supervisor import ServiceState
from aya_lib.operations.failover.actions import CatchUp, Close, Promote, StopOrderly, durations
from aya_lib.operations.failover.fencing import condition, mark_path, reached
from aya_lib.operations.failover.look import Found, Promotable
from aya_lib.plan.actions import CreateSlot, Kill, Nothing, Service, SetState, Setting, WriteFile, drop_slot, remove_file
from aya_lib.plan.change import Change, Plan, change

DISABLE, ENABLE = Service("disable", "postgresql"), Service("enable", "postgresql")


def plan(found: Found, deadline_s: float = 30) -> Plan:
    """The changes that are missing. Before the promotion everything can be undone; from it on there is no way back by itself."""
    if found.request.take_back:
        return take_back(found)
    if found.new.writable:
        return finish(found)
    if found.promoting:
        return wait_on(found, deadline_s)
    return give_up(found, deadline_s) if found.request.emergency else hand_over(found, deadline_s)


def hand_over(found: Found, deadline_s: float) -> Plan:
    """A healthy primary is stopped in an orderly way, and the standby promoted once it has all of its WAL."""
    old, new = _nodes(found)
    steps = (
        _begin(found),
        *_prepare(found),
        *_fence(found),
        change(new, f"Be sure that {new.name} has everything", CatchUp(old), undo=Nothing()),
        change(new, f"Promote {new.name}", Promote(deadline_s), interrupts=True),
        *_settle(found),
    )
    return Plan(f"Hand over {old.name}, make {new.name} the primary", steps)


def give_up(found: Found, deadline_s: float) -> Plan:
    """A lost primary is fenced first, then the standby is freed of what could hold up its promotion, and promoted."""
    old, new = _nodes(found)
    steps = (
        _begin(found),
        *_fence(found),
        *_prepare(found),
        *_unhinder(found),
        change(new, f"Promote {new.name}", Promote(deadline_s), interrupts=True, destroys=True),
        *_settle(found),
    )
    return Plan(f"Give up {old.name}, make {new.name} the primary", steps)


def wait_on(found: Found, deadline_s: float) -> Plan:
    """The promotion was begun and its end was not seen: the fence is kept, and it is waited for."""
    new = found.nodes[found.request.new]
    promote = change(new, f"Promote {new.name}", Promote(deadline_s), interrupts=True, destroys=found.request.emergency)
    return Plan(
        f"Wait until {new.name} is the primary", (*_fence(found), *_unhinder(found), promote, *_settle(found)), unwind=False
    )


def finish(found: Found) -> Plan:
    """The new primary is there: only what is missing. An old one that was fenced by word and can be reached now is stopped."""
    old, new = _nodes(found)
    title, known = f"What is left of the failover to {new.name}", found.overview.state
    mark = known.fenced.get(old.name)
    if not known.under_way and known.primary == _agreed(new):
        return Plan(title, tuple(_stop_returned(found, mark)), unwind=False)
    steps = []
    if isinstance(found.new.sender, Sender) and found.new.sender.slot(new.site.replication.slot) is None:
        steps.append(_slot(new, old))
    if condition(found.old) in ("down", "unreachable") and not found.overview.fenced(old.name):
        mark = _mark(found)
        steps.append(change(old, f"Remember that {old.name} is fenced", SetState(fence=mark)))
    return Plan(title, (*steps, *_stop_returned(found, mark), *_settle(found)), unwind=False)


def take_back(found: Found) -> Plan:
    """Undo a failover that was broken off before the promotion: the old primary is started again."""
    (old, new), began, standby = _nodes(found), found.began, found.promotable
    steps = []
    if isinstance(standby, Promotable):
        now = {**_settings(standby), "summarize_wal": "on" if standby.summarizes else "off"}
        for name, value in began.get("settings", {}).items():
            if now.get(name) != value:
                steps.append(change(new, f"Put {name} back", Setting(name, value)))
        if standby.has_slot and not began.get("slot", True):
            steps.append(change(new, "Drop the slot that the failover created", drop_slot(new.site.replication.slot)))
    if isinstance(found.old.files, Files) and found.old.files.fenced is not None:
        steps.append(change(old, f"Take the fence's mark from {old.name}", remove_file(mark_path(old))))
    if old.name in found.overview.state.fenced:
        steps.append(change(old, f"Forget that {old.name} is fenced", SetState(lift=old.name)))
    if began.get("autostart") and found.old.autostart is not True:
        steps.append(change(old, f"Let {old.name} start by itself again", ENABLE))
    if condition(found.old) == "down":
        steps.append(change(old, "Start PostgreSQL", Service("start", "postgresql")))
    steps.append(change(new, "Write down that nothing is under way", SetState({"under_way": None})))
    return Plan(f"Take back the failover to {new.name}", tuple(steps), unwind=False)


def close(found: Found, after: Overview, record: Mapping[str, Any]) -> Plan:
    """The entry in the failover log of what is under way, with each step's seconds from the run's record; nothing when nothing
    is. ``after``: the site once the new primary serves."""
    title, began = "Close the failover log", after.state.under_way
    if not began:
        return Plan(title)
    new = found.nodes[str(began["new"])]
    server = after.nodes[new.name].cluster
    where: dict[str, Any] = {}
    if isinstance(server, Cluster):
        left = [vars(switch) for switch in server.history[-1:]]
        where = {"timeline": server.timeline, "lsn": server.lsn, "left": left}
    reason = str(record.get("parameters", {}).get("reason", ""))
    entry = Close({**began, "reason": reason, **where, "steps": durations(record)})
    return Plan(title, (change(new, "Write the failover log", entry, vital=False),), unwind=False)


def asks(old: Node, command: str) -> bool:
    """Whether a restore_command reaches out to a node: by its name or one of its addresses."""
    names = {old.config.host, *old.config.addresses, old.name, *([old.config.ssh.host] if old.config.ssh else [])}
    return any(name.lower() in command.lower() for name in names)


def _nodes(found: Found) -> tuple[Node, Node]:
    return found.nodes[found.request.old], found.nodes[found.request.new]


def _begin(found: Found) -> Change:
    """What is known now, and what is changed on the way as it was: for a run that finishes, or takes back, what another began."""
    request, promise = found.request, found.promise
    entry = {
        "kind": "emergency" if request.emergency else "planned",
        "old": request.old,
        "new": request.new,
        "by": request.by,
        "began": state.stamp(found.overview.at),
        "fenced": found.fencing.held,
        "loss": str(found.behind),
        "synchronous": promise.synchronous,
        "how": promise.how,
        **_before(found),
    }
    undo = SetState({"under_way": None})
    new = found.nodes[request.new]
    return change(new, "Write down that the failover begins", SetState({"under_way": entry}), undo=undo)


def _before(found: Found) -> dict[str, Any]:
    standby, began = found.promotable, found.began
    if {"summarizes", "settings", "slot"} <= set(began):
        return {key: began[key] for key in ("summarizes", "settings", "slot", "autostart")}
    if not isinstance(standby, Promotable):
        return {"summarizes": False, "settings": {}, "slot": True, "autostart": False}
    settings = {name: value for name, value in _settings(standby).items() if value}
    settings |= {"summarize_wal": "on"} if standby.summarizes else {}
    autostart = found.old.autostart is True
    return {"summarizes": standby.summarizes, "settings": settings, "slot": standby.has_slot, "autostart": autostart}


def _settings(standby: Promotable) -> dict[str, str]:
    return {"synchronous_standby_names": standby.synchronous_names, "restore_command": standby.restore_command}


def _prepare(found: Found) -> Iterator[Change]:
    """What must be so on the standby before it is promoted, and can be undone."""
    (old, new), standby = _nodes(found), found.promotable
    if not isinstance(standby, Promotable):
        return
    if not standby.has_slot:
        yield _slot(new, old)
    if standby.synchronous_names:
        title = "Let commits not wait for a standby that is not there"
        undo = Setting("synchronous_standby_names", standby.synchronous_names)
        yield change(new, title, Setting("synchronous_standby_names", ""), undo=undo)


def _unhinder(found: Found) -> Iterator[Change]:
    """What could hold up the promotion while the old primary does not answer."""
    (old, new), standby = _nodes(found), found.promotable
    if not isinstance(standby, Promotable):
        return
    if standby.summarizes:
        title = "Turn the WAL summarizer off: it can hold up a promotion"
        yield change(new, title, Setting("summarize_wal", "off"), undo=Setting("summarize_wal", "on"))
    answer = found.ready.answer if found.ready else None
    hangs = isinstance(answer, Answer) and answer.word in ("slow", "broken")
    if asks(old, standby.restore_command) or (hangs and standby.restore_command):
        undo = Setting("restore_command", standby.restore_command)
        title = f"Take back restore_command, which {'does not answer' if hangs else f'asks {old.name}'}"
        yield change(new, title, Setting("restore_command", ""), undo=undo)


def _slot(new: Node, old: Node) -> Change:
    slot = new.site.replication.slot
    return change(new, f"Create the slot {slot} for {old.name}", CreateSlot(slot), undo=drop_slot(slot))


def _fence(found: Found) -> Iterator[Change]:
    """Stop the old primary where it can be reached, and mark it in any case."""
    old, how, mark = found.nodes[found.request.old], condition(found.old), _mark(found)
    if reached(found.old):
        if found.old.autostart is True:
            yield change(old, f"Keep {old.name} from starting by itself", DISABLE, undo=ENABLE)
        stop = Service("stop", "postgresql")
        if how in ("frozen", "deaf", "starting"):
            yield _kill(found, f"Kill PostgreSQL ({how})")
        elif how == "primary":
            undo = Service("start", "postgresql")
            yield change(old, "Stop PostgreSQL in an orderly way", StopOrderly(), undo=undo, interrupts=True)
        elif how == "down" and found.old.autostart is True:
            title = f"Stop PostgreSQL, should {old.name} have started it again since the look"
            yield change(old, title, stop, undo=Nothing(), interrupts=True)
        if isinstance(found.old.files, Files):
            undo_mark = remove_file(mark_path(old))
            # Its disk may be why it is lost; stopped, kept from starting and remembered here it is fenced all the same.
            yield change(old, f"Mark {old.name} as fenced", _write_mark(old, mark), undo=undo_mark, vital=False)
    yield change(old, f"Remember that {old.name} is fenced", SetState(fence=mark), undo=SetState(lift=old.name))


def _stop_returned(found: Found, mark: Fence | None) -> Iterator[Change]:
    """A node that was fenced by word, because it could not be reached, and now can be: it is stopped and marked."""
    old = found.nodes[found.request.old]
    if mark is None or not reached(found.old):
        return
    if found.old.autostart is True:
        yield change(old, f"Keep {old.name} from starting by itself", DISABLE)
    if condition(found.old) in ("primary", "frozen", "deaf", "starting"):
        yield _kill(found, f"Kill PostgreSQL on {old.name}, which came back")
    if isinstance(found.old.files, Files) and found.old.files.fenced is None:
        yield change(old, f"Mark {old.name} as fenced", _write_mark(old, mark), vital=False)


def _kill(found: Found, title: str) -> Change:
    process = found.old.process
    pid, since = (process.pid or 0, process.since) if isinstance(process, ServiceState) else (0, None)
    return change(found.nodes[found.request.old], title, Kill("postgresql", pid, since), interrupts=True)


def _write_mark(node: Node, mark: Fence) -> WriteFile:
    return WriteFile(mark_path(node), json.dumps(asdict(mark), ensure_ascii=False) + "\n")


def _mark(found: Found) -> Fence:
    server = found.old.cluster if isinstance(found.old.cluster, Cluster) else found.old.files
    where = (server.timeline, server.lsn) if isinstance(server, Cluster | Files) else (None, None)
    since, why = state.stamp(found.overview.at), f"{found.request.new} was made the primary"
    return Fence(found.request.old, since, found.request.by, found.fencing.held or "none", why, *where)


def _settle(found: Found) -> Iterator[Change]:
    """What follows the promotion: the summarizer as it was, who is the primary, clients, and the embedding service. Whatever of
    it fails, the new primary is there: it is named, and the next run does it."""
    new, standby, service = found.nodes[found.request.new], found.promotable, found.new.embedding
    turned_off = found.request.emergency and isinstance(standby, Promotable) and standby.summarizes
    if found.began.get("summarizes") or turned_off:
        yield change(new, "Turn the WAL summarizer on again", Setting("summarize_wal", "on"), vital=False)
    if found.overview.state.primary != _agreed(new):
        agreed = SetState({"primary": _agreed(new), **_degraded(found)})
        yield change(new, f"Remember that {new.name} is the primary", agreed, vital=False)
    yield change(new, "Point clients that know one host to the new primary", service_file.Write(new.name), vital=False)
    if isinstance(service, Embedding) and isinstance(service.process, ServiceState) and service.process.status != "running":
        yield change(new, "Start the embedding service", Service("start", "embedding"), vital=False)


def _agreed(new: Node) -> str | None:
    """What the state says when this node is the primary: nothing where it is the configured one."""
    return None if new.name == new.site.primary else new.name


def _degraded(found: Found) -> dict[str, str]:
    """Until the old node returns, nothing waits for a standby: that is a degraded promise, and is written down."""
    agreed = found.overview.state.mode == "synchronous"
    if not (agreed or found.promise.synchronous or found.began.get("synchronous")):
        return {}
    since = state.stamp(found.overview.at)
    return {"mode": "degraded", "mode_since": since, "mode_by": f"{state.BY_FAILOVER}, {found.request.by}"}
