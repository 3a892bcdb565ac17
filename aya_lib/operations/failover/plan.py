"""Make another node the primary: the plan is what is still missing, so that a failover that was broken off is finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aya_lib.cluster import service_file, state
from aya_lib.cluster.lsn import number
from aya_lib.cluster.replication import Sender
from aya_lib.cluster.server import Cluster, Files, look_files
from aya_lib.cluster.services import Embedding
from aya_lib.cluster.state import Fence
from aya_lib.errors import ChangeFailed
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.operations.failover import fence
from aya_lib.operations.failover import look as facts
from aya_lib.operations.failover.judge import Found, Wish
from aya_lib.operations.failover.look import Promotable
from aya_lib.plan.actions import Nothing, Service, Sql
from aya_lib.plan.change import Change, Plan, change

POLL_S = 0.02


@dataclass(frozen=True)
class Promote:
    """pg_promote without its own waiting, which says no where it is only slow: what counts is what the node is, until the
    deadline."""

    deadline_s: float

    def command(self, node: Node) -> str:
        return f"SELECT pg_promote(false), then wait until it accepts writes, at most {self.deadline_s:g} s"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True, deadline_s=self.deadline_s + 5) as connection:
            recovering = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            if recovering and recovering[0]:
                connection.execute("SELECT pg_promote(false)")
            wait.until(
                lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone(),
                lambda row: row is not None and row[0] is False,
                node=node.name,
                what="it accepts writes",
                deadline_s=self.deadline_s,
                poll_s=POLL_S,
            )


@dataclass(frozen=True)
class HasAll:
    """The standby has received all that the old primary wrote before it stopped in an orderly way."""

    old: Node

    def command(self, node: Node) -> str:
        return f"wait until {node.name} has {self.old.name}'s last checkpoint"

    def run(self, node: Node) -> None:
        files = look_files(self.old)
        if not isinstance(files, Files):
            raise ChangeFailed(f"{self.old.name}'s last position cannot be seen: {files}")
        if not files.clean:
            raise ChangeFailed(f"{self.old.name} did not stop in an orderly way: {files.state}")
        with node.session(database="postgres") as connection:
            wait.until(
                lambda: str((connection.execute("SELECT pg_last_wal_receive_lsn()").fetchone() or ("0/0",))[0]),
                lambda lsn: number(lsn) > number(files.lsn),
                node=node.name,
                what=f"it has received {files.lsn}",
                deadline_s=node.site.deadlines.command_s,
                poll_s=POLL_S,
            )


def plan(nodes: Nodes, wish: Wish, found: Found, deadline_s: float = 30) -> Plan:
    """The changes that are missing. Before the promotion everything can be undone; from it on there is no way back by itself."""
    if wish.take_back:
        return take_back(nodes, wish, found)
    old, new = nodes[wish.old], nodes[wish.new]
    title = f"{'Give up' if wish.emergency else 'Hand over'} {wish.old}, make {wish.new} the primary"
    if found.overview.nodes[wish.new].writable:
        return Plan(f"What is left of the failover to {wish.new}", tuple(_after(old, new, wish, found)), unwind=False)
    prepare = list(_prepare(old, new, wish, found))
    shut = list(_fence(old, wish, found))
    steps = [_begin(new, wish, found), *([*shut, *prepare] if wish.emergency else [*prepare, *shut])]
    if not wish.emergency:
        steps.append(change(new, f"Be sure that {wish.new} has everything", HasAll(old), undo=Nothing()))
    steps.append(change(new, f"Promote {wish.new}", Promote(deadline_s), interrupts=True, destroys=wish.emergency))
    return Plan(title, (*steps, *_after(old, new, wish, found)))


def _begin(new: Node, wish: Wish, found: Found) -> Change:
    entry = {
        "kind": "emergency" if wish.emergency else "planned",
        "old": wish.old,
        "new": wish.new,
        "by": wish.by,
        "began": state.stamp(),
        "fenced": found.fencing.held,
        "loss": str(found.behind),
        "synchronous": found.promise.synchronous,
        "how": found.promise.how,
        **_before(new, wish, found),
    }
    undo = fence.Stand({"under_way": None})
    return change(new, "Write down that the failover begins", fence.Stand({"under_way": entry}), undo=undo)


def _before(new: Node, wish: Wish, found: Found) -> dict[str, Any]:
    """What is changed on the way to the promotion, as it was: for a run that finishes, or takes back, what another began."""
    has, known = found.promotable, found.overview.state.under_way or {}
    if {"summarizes", "settings", "slot"} <= set(known):
        return {key: known[key] for key in ("summarizes", "settings", "slot", "autostart")}
    if not isinstance(has, Promotable):
        return {"summarizes": False, "settings": {}, "slot": True, "autostart": False}
    names = {"synchronous_standby_names": has.synchronous_names, "restore_command": has.restore_command}
    settings = {name: value for name, value in names.items() if value} | ({"summarize_wal": "on"} if has.summarizes else {})
    seen = found.overview.nodes[wish.old]
    autostart = seen.autostart is True
    return {"summarizes": has.summarizes, "settings": settings, "slot": has.has_slot, "autostart": autostart}


def take_back(nodes: Nodes, wish: Wish, found: Found) -> Plan:
    """Undo a failover that was broken off before the promotion: the old primary is started again."""
    old, new = nodes[wish.old], nodes[wish.new]
    began, seen, has = found.overview.state.under_way or {}, found.overview.nodes[wish.old], found.promotable
    steps = []
    if isinstance(has, Promotable):
        now = {"synchronous_standby_names": has.synchronous_names, "restore_command": has.restore_command}
        now |= {"summarize_wal": "on" if has.summarizes else "off"}
        for name, value in began.get("settings", {}).items():
            if now.get(name) != value:
                steps.append(change(new, f"Put {name} back", fence.Setting(name, value)))
        if has.has_slot and not began.get("slot", True):
            drop = Sql("SELECT pg_drop_replication_slot(%s)", (new.site.replication.slot,))
            steps.append(change(new, "Drop the slot that the failover created", drop))
    if isinstance(seen.files, Files) and seen.files.fenced is not None:
        steps.append(change(old, f"Take the fence's mark from {wish.old}", fence.Unmark()))
    if wish.old in found.overview.state.fenced:
        steps.append(change(old, f"Forget that {wish.old} is fenced", fence.Forget(wish.old)))
    if began.get("autostart") and seen.autostart is not True:
        steps.append(change(old, f"Let {wish.old} start by itself again", fence.Autostart(on=True)))
    if facts.condition(seen) == "down":
        steps.append(change(old, "Start PostgreSQL", Service("start", "postgresql")))
    steps.append(change(new, "Write down that nothing is under way", fence.Stand({"under_way": None})))
    return Plan(f"Take back the failover to {wish.new}", tuple(steps), unwind=False)


def _prepare(old: Node, new: Node, wish: Wish, found: Found) -> Iterator[Change]:
    """What must be so on the standby before it is promoted, and can be undone."""
    has = found.promotable
    if not isinstance(has, Promotable):
        return
    slot = new.site.replication.slot
    if not has.has_slot:
        create = Sql("SELECT pg_create_physical_replication_slot(%s, true)", (slot,))
        yield change(
            new, f"Create the slot {slot} for {wish.old}", create, undo=Sql("SELECT pg_drop_replication_slot(%s)", (slot,))
        )
    if has.synchronous_names:
        title = "Let commits not wait for a standby that is not there"
        undo = fence.Setting("synchronous_standby_names", has.synchronous_names)
        yield change(new, title, fence.Setting("synchronous_standby_names", ""), undo=undo)
    if wish.emergency and has.summarizes:
        title = "Turn the WAL summarizer off: it can hold up a promotion"
        undo = fence.Setting("summarize_wal", "on")
        yield change(new, title, fence.Setting("summarize_wal", "off"), undo=undo)
    if wish.emergency and asks(old, has.restore_command):
        title = f"Take back restore_command, which asks {wish.old}"
        undo = fence.Setting("restore_command", has.restore_command)
        yield change(new, title, fence.Setting("restore_command", ""), undo=undo)


def asks(old: Node, command: str) -> bool:
    """Whether a restore_command reaches out to a node: by its name or one of its addresses."""
    names = {old.wish.host, *old.wish.addresses, old.name, *([old.wish.ssh.host] if old.wish.ssh else [])}
    return any(name.lower() in command.lower() for name in names)


def _fence(old: Node, wish: Wish, found: Found) -> Iterator[Change]:
    """Stop the old primary where it can be reached, and mark it in any case."""
    seen, mark = found.overview.nodes[wish.old], _mark(wish, found)
    here = facts.reached(seen)
    if here and isinstance(seen.process, ServiceState):
        if seen.autostart is True:
            title = f"Keep {wish.old} from starting by itself"
            yield change(old, title, fence.Autostart(on=False), undo=fence.Autostart(on=True))
        how = facts.condition(seen)
        if how in ("frozen", "deaf", "starting"):
            yield change(old, f"Kill PostgreSQL ({how})", fence.Kill(seen.process.pid or 0), interrupts=True)
        elif how == "primary":
            undo = Service("start", "postgresql")
            yield change(old, "Stop PostgreSQL in an orderly way", Service("stop", "postgresql"), undo=undo, interrupts=True)
        elif how == "down" and seen.autostart is True:
            title = f"Stop PostgreSQL, should {wish.old} have started it again since the look"
            yield change(old, title, Service("stop", "postgresql"), undo=Nothing(), interrupts=True)
        if isinstance(seen.files, Files):
            yield change(old, f"Mark {wish.old} as fenced", fence.Mark(mark), undo=fence.Unmark())
    yield change(old, f"Remember that {wish.old} is fenced", fence.Remember(mark), undo=fence.Forget(wish.old))


def _came_back(old: Node, wish: Wish, found: Found) -> Iterator[Change]:
    """A node that was fenced by word, because it could not be reached, and now can be: it is stopped and marked."""
    seen, mark = found.overview.nodes[wish.old], found.overview.state.fenced.get(wish.old)
    if mark is None or not facts.reached(seen) or not isinstance(seen.process, ServiceState):
        return
    if seen.autostart is True:
        yield change(old, f"Keep {wish.old} from starting by itself", fence.Autostart(on=False))
    if facts.condition(seen) in ("primary", "frozen", "deaf", "starting"):
        yield change(old, f"Kill PostgreSQL on {wish.old}, which came back", fence.Kill(seen.process.pid or 0), interrupts=True)
    if isinstance(seen.files, Files) and seen.files.fenced is None:
        yield change(old, f"Mark {wish.old} as fenced", fence.Mark(mark))


def _mark(wish: Wish, found: Found) -> Fence:
    seen = found.overview.nodes[wish.old]
    known = seen.cluster if isinstance(seen.cluster, Cluster) else seen.files
    where = (known.timeline, known.lsn) if isinstance(known, Cluster | Files) else (None, None)
    way = found.fencing.held or "none"
    return Fence(wish.old, state.stamp(), wish.by, way, f"{wish.new} was made the primary", *where)


def _after(old: Node, new: Node, wish: Wish, found: Found) -> Iterator[Change]:
    """What follows a promotion. With the new primary there already: only what is missing."""
    seen, known = found.overview.nodes[wish.new], found.overview.state
    past = seen.writable
    if past and not known.under_way and known.primary == _primary(new):
        yield from _came_back(old, wish, found)
        return
    if past:
        if isinstance(seen.sender, Sender) and seen.sender.slot(new.site.replication.slot) is None:
            slot = new.site.replication.slot
            create = Sql("SELECT pg_create_physical_replication_slot(%s, true)", (slot,))
            yield change(new, f"Create the slot {slot} for {wish.old}", create)
        behind = found.overview.nodes[wish.old]
        yield from _came_back(old, wish, found)
        if facts.condition(behind) in ("down", "unreachable") and not found.overview.fenced(wish.old):
            yield change(old, f"Remember that {wish.old} is fenced", fence.Remember(_mark(wish, found)))
    has, began = found.promotable, known.under_way or {}
    if began.get("summarizes") or (wish.emergency and isinstance(has, Promotable) and has.summarizes):
        yield change(new, "Turn the WAL summarizer on again", fence.Setting("summarize_wal", "on"))
    if known.primary != _primary(new):
        changes = {"primary": _primary(new), **_degraded(wish, found)}
        yield change(new, f"Remember that {wish.new} is the primary", fence.Stand(changes))
    yield change(new, "Point clients that know one host to the new primary", service_file.Write(wish.new))
    service = seen.embedding
    if isinstance(service, Embedding) and isinstance(service.process, ServiceState) and service.process.status != "running":
        yield change(new, "Start the embedding service", Service("start", "embedding"))


def _primary(new: Node) -> str | None:
    """What the state says when this node is the primary: nothing where the site wishes it so."""
    return None if new.name == new.site.primary else new.name


def _degraded(wish: Wish, found: Found) -> dict[str, str]:
    """Until the old node returns, nothing waits for a standby: that is a degraded promise, and is written down."""
    began = found.overview.state.under_way or {}
    if not (found.promise.synchronous or began.get("synchronous")):
        return {}
    return {"mode": "degraded", "mode_since": state.stamp(), "mode_by": f"{state.BY_FAILOVER}, {wish.by}"}
