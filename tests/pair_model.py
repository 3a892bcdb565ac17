"""A model of the pair for tests: two servers, their WAL, who can be reached, and what runbooks wrote down.

It makes the facts that the real judges and planners are asked with, and does to itself what their changes say; the walk over a
plan, with its undoing, is the real one. A WAL is a list of rows with the timeline each was written on; its position, its length.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from facts import FROZEN, NODES, NOW, SITE, STOPPED, UP

from aya_lib.cluster import service_file
from aya_lib.cluster.contents import Compared, Contents, TableSum
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Login, Receiver, Sender, Settings, Slot, Stream
from aya_lib.cluster.server import Cluster, Files, Switch
from aya_lib.cluster.state import MARK, State
from aya_lib.errors import AyaError, ChangeFailed, NoWayBack, Unreachable
from aya_lib.node.node import Node
from aya_lib.node.unseen import Down, Unseen
from aya_lib.operations.failover import fencing
from aya_lib.operations.failover.actions import CatchUp, Close, Promote
from aya_lib.operations.failover.look import Behind, Promotable, Request, look_behind, look_promise, resolved
from aya_lib.operations.failover.look import Found as Handing
from aya_lib.operations.rejoin import waldump
from aya_lib.operations.rejoin.actions import Clone, Rewind
from aya_lib.operations.rejoin.look import Control, Details, Rejoin, Source
from aya_lib.operations.rejoin.report import Report, Salvaged
from aya_lib.operations.rejoin.salvage import Save
from aya_lib.operations.rejoin.staging import Journal, Staging
from aya_lib.operations.restore.look import Found
from aya_lib.plan.actions import CreateSlot, Kill, Script, Service, SetState, Setting, Sql, WriteFile
from aya_lib.plan.change import Action

PAIR = ("ALPHA", "BETA")
ROW = 0x100  # bytes of WAL that one row stands for
NO_ROUTE = "no route to host"


def lsn(count: int) -> str:
    return f"0/{0x3000000 + ROW * count:X}"


@dataclass
class Server:
    """``cut``: only its own clients reach it. ``off``: its power is. ``asked``: pg_promote was called, and has not ended."""

    name: str
    signal: bool
    wal: list[tuple[int, int]] = field(default_factory=list)
    timeline: int = 1
    history: tuple[Switch, ...] = ()
    running: bool = True
    frozen: bool = False
    cut: bool = False
    off: bool = False
    clean: bool = False
    asked: bool = False
    autostart: bool = True
    fence: str | None = None
    slot: bool = False
    names: str = ""
    told: str | None = None
    journal: Journal | None = None
    incoming: bool = False
    saved: tuple[Salvaged, ...] = ()
    recovery: bool = field(init=False)

    def __post_init__(self) -> None:
        self.recovery = self.signal

    @property
    def rows(self) -> set[int]:
        return {row for _, row in self.wal}

    @property
    def leads(self) -> bool:
        return self.running and not self.frozen and not self.recovery

    @property
    def files(self) -> Files:
        state = "shut down" if self.clean else "in production"
        return Files(self.name, self.signal, "7", self.timeline, state, lsn(len(self.wal)), self.fence)

    def stop(self, *, clean: bool) -> None:
        self.running, self.frozen, self.clean, self.told = False, False, clean, None
        self.asked = False  # a server that starts forgets that it was to be promoted

    def start(self) -> None:
        self.running, self.clean, self.recovery = True, False, self.signal

    def copy(self, there: Server) -> None:
        """It is a standby of another one now, with its data."""
        self.wal, self.timeline, self.history = list(there.wal), there.timeline, there.history
        self.signal, self.fence, self.names = True, None, ""
        self.incoming = self.clean = self.slot = False

    def promoted(self) -> None:
        self.history = (*self.history, Switch(self.timeline, lsn(len(self.wal))))
        self.timeline += 1
        self.asked = self.recovery = self.signal = False


class World:
    """Both servers, what runbooks agreed on, and what clients were told: ``acknowledged`` rows, and those that ``wait``."""

    def __init__(self) -> None:
        self.servers = {"ALPHA": Server("ALPHA", False, slot=True), "BETA": Server("BETA", True)}
        self.state = State()
        self.acknowledged: set[int] = set()
        self.waiting: set[int] = set()
        self.salvaged: set[int] = set()
        self.count = 0
        self.lost: set[int] | None = None  # what was acknowledged and the node lacked, when pg_promote was called last
        self.slow = False  # the next promotion does not end in time

    def other(self, name: str) -> Server:
        return self.servers[PAIR[name == PAIR[0]]]

    # What happens by itself

    def write(self, name: str) -> None:
        server = self.servers[name]
        if server.leads:
            self.count += 1
            server.wal.append((server.timeline, self.count))
            (self.waiting if server.names else self.acknowledged).add(self.count)

    def streams(self, name: str) -> bool:
        """Whether the server receives from the other one."""
        here, there = self.servers[name], self.other(name)
        alive = here.running and here.recovery and not (here.frozen or here.asked or here.cut or there.cut)
        return alive and there.leads and there.slot and there.wal[: len(here.wal)] == here.wal

    def replicate(self) -> None:
        for name, here in self.servers.items():
            if self.streams(name):
                there = self.other(name)
                here.wal, here.timeline, here.history = list(there.wal), there.timeline, there.history
                here.told = lsn(len(here.wal))
                if there.names:
                    self.settle(here.rows)

    def settle(self, rows: set[int]) -> None:
        self.acknowledged |= self.waiting & rows
        self.waiting -= rows

    def able(self) -> list[str]:
        """The servers that acknowledge a write if one comes now."""
        return [name for name, it in self.servers.items() if it.leads and (not it.names or self.streams(self.other(name).name))]

    # What is seen

    def seen(self, name: str) -> NodeSeen:
        it = self.servers[name]
        if it.cut or it.off:
            away = Unseen(name, "ssh", NO_ROUTE)
            return NodeSeen(name, away, away, away, away, None, None, None, away)
        process = FROZEN if it.frozen else UP if it.running else STOPPED
        cluster: Any = Unseen(name, "SQL", "no answer") if it.frozen else Down(name, "connection refused")
        if it.running and not it.frozen:
            cluster = Cluster(name, "7", it.recovery, "18.1", it.timeline, lsn(len(it.wal)), 384, it.history)
        sender = self._sender(it) if it.leads else None
        receiver = self._receiver(it) if it.running and it.recovery and not it.frozen else None
        return NodeSeen(name, process, None, it.files, cluster, sender, receiver, None, it.autostart)

    def _sender(self, it: Server) -> Sender:
        other = self.other(it.name)
        follows = self.streams(other.name)
        mode = "sync" if it.names else "async"
        streams = (Stream(other.name.lower(), "c", 9, "streaming", mode, 0, 0.1, None),) if follows else ()
        slots = (Slot("beta_slot", follows, 9 if follows else None, "reserved", 10**8),) if it.slot else ()
        return Sender(it.name, streams, slots, Settings(it.names, "on", -1, len(self.waiting)))

    def _receiver(self, it: Server) -> Receiver:
        config = SITE.nodes[self.other(it.name).name]
        status, where = ("streaming" if self.streams(it.name) else None), (config.host, config.postgresql.port)
        return Receiver(it.name, status, "beta_slot", *where, 0.1, "not paused", True, 60.0)

    def overview(self) -> Overview:
        return Overview(NOW, {name: self.seen(name) for name in PAIR}, self.state)

    def look_failover(self, asked: Request) -> Handing:
        glance = self.overview()
        request = resolved(SITE, asked, glance)
        old, new = self.servers[request.old], self.servers[request.new]
        standby: Any = glance.nodes[new.name].cluster
        if isinstance(standby, Cluster):
            called, at = new.name.lower(), lsn(len(new.wal))
            standby = Promotable(at, NOW, new.told, 0.1, "", False, new.names, new.slot, called) if new.recovery else None
        promise = self._promise(old, glance, standby)
        return Handing(NODES, glance, request, standby, self._behind(old, new, glance, standby), promise)

    def _behind(self, old: Server, new: Server, glance: Overview, standby: Any) -> Any:
        """By its files as pg_waldump would tell; everything else is the real one's."""
        if isinstance(standby, Promotable) and not (old.leads or old.cut or old.off):
            past = [row for row in old.wal if row not in new.wal]
            return Behind("files", ROW * len(past), len(past), None, NOW, lsn(len(old.wal)))
        return look_behind(NODES[old.name], glance, standby)

    def _promise(self, old: Server, glance: Overview, standby: Any) -> fencing.Promise:
        if glance.nodes[old.name].sender is None and not (old.cut or old.off):
            called = standby.listens_as if isinstance(standby, Promotable) else ""
            return fencing.promise(f"{old.name}'s files say", old.names, "on", called, ())
        return look_promise(NODES[old.name], glance.nodes[old.name], glance.state, standby)

    def look_restore(self) -> Found:
        return Found(NODES, self.overview())

    def look_rejoin(self, name: str = "") -> Rejoin:
        self.replicate()
        glance = self.overview()
        leader, follower = glance.pair(SITE)
        name = name or follower.name
        it, there = self.servers[name], self.other(name)
        away = Unseen(name, "ssh", NO_ROUTE) if it.cut or it.off else None
        staging = away or Staging(True, False, it.incoming, it.journal, (), True, False)
        compared = None
        if leader.name != name and self.streams(name):
            sides = [Contents(one.name, lsn(len(one.wal)), {"t": TableSum(len(one.wal), 9, str(one.wal))}) for one in (there, it)]
            compared = Compared(sides[0], sides[1])
        found = Rejoin(NODES, glance, name, staging, compared, away or it.saved, None)
        return found if found.streams or name == leader.name else replace(found, details=self._details(it, leader, away))

    def _details(self, it: Server, leader: NodeSeen, away: Unseen | None) -> Details:
        source, login = Source(10**9, 10**8, 0, True), Login(it.name, leader.name, "replicator", "/pw", "")
        if away:
            return Details(away, None, None, away, away, source, away, away, away, away)
        fork: Switch | None = None
        past: waldump.Past | None = None
        if isinstance(leader.cluster, Cluster):
            fork = waldump.fork((it.timeline, it.history), (leader.cluster.timeline, leader.cluster.history))
            end, start = lsn(len(it.wal)), fork.lsn if fork else ""
            if fork and fork != waldump.NOWHERE:
                commits = max(0, (number(end) - number(start)) // ROW)
                past = waldump.Past((waldump.Span(fork.timeline, start),), end, ("1",), commits)
        return Details(Control(True, False, 16 << 20), fork, past, True, False, source, login, 1e8, 10**11, 10**11)

    # What is done

    def do(self, node: str, action: Action) -> None:
        """A change to the site as runbooks know it, or to a server; :class:`Unreachable` for one that is away."""
        it = self.servers[node]
        match action:
            case SetState():
                fenced = {**self.state.fenced, **({action.fence.node: action.fence} if action.fence else {})}
                fenced.pop(action.lift, None)
                self.state = replace(self.state, **action.changes, fenced=fenced)
            case Close():
                self.state = replace(self.state, under_way=None)
            case CatchUp(old=old):
                there = self.servers[old.name]
                if not there.clean or it.wal[: len(there.wal)] != there.wal:
                    raise ChangeFailed(f"{node} has not received everything")
            case _ if it.cut or it.off:
                raise Unreachable(node, "ssh", NO_ROUTE)
            case Promote():
                self._promote(it)
            case Service(service="postgresql"):
                self._service(it, action.action)
            case Kill():
                it.stop(clean=False)
            case WriteFile() if str(action.path).endswith(MARK):
                it.fence = action.text
            case WriteFile():
                it.signal = True
            case Script():
                self._script(it, action)
            case CreateSlot() | Sql():
                it.slot = isinstance(action, CreateSlot) or (it.slot and "pg_drop" not in action.statement)
            case Setting(name="synchronous_standby_names"):
                it.names = action.value or ""
                self.settle(set() if it.names else it.rows)
            case Save() | Clone() | Rewind():
                self._copy(it, action)
            case _:
                assert isinstance(action, Service | Setting | service_file.Write) or type(action).__name__ == "Nothing", action

    def _promote(self, it: Server) -> None:
        if not it.running or it.frozen:
            raise Unreachable(it.name, "SQL", "connection refused")
        if not it.recovery:
            return
        if self.state.under_way:
            self.state = replace(self.state, under_way={**self.state.under_way, "promoting": "now"})
        it.asked, self.lost = True, (self.acknowledged & self.other(it.name).rows) - it.rows
        if self.slow:
            self.slow = False
            raise NoWayBack("pg_promote was called and cannot be taken back")
        it.promoted()

    def _service(self, it: Server, verb: str) -> None:
        if verb == "stop" and it.frozen:
            raise AyaError("it does not stop")
        if verb == "stop" and it.running:
            self.replicate()  # an orderly stop sends all of its WAL
            it.stop(clean=True)
        elif verb == "start" and not it.running:
            it.start()
        elif verb in ("enable", "disable"):
            it.autostart = verb == "enable"

    def _script(self, it: Server, action: Script) -> None:
        shown = action.shown
        if shown.startswith("mv ") and it.incoming:
            it.copy(self.other(it.name))
        elif MARK in shown:
            it.fence = None
        elif "rejoin.json" in shown:
            it.journal = None

    def _copy(self, it: Server, action: Save | Clone | Rewind) -> None:
        there = self.other(it.name)
        if isinstance(action, Save):
            files, lost = it.files, it.rows - there.rows
            self.salvaged |= lost
            where = (it.name, there.name, "now", "7", files.timeline, "0/0", files.lsn, files.lsn, 1, ())
            it.saved = (*it.saved, Salvaged("folder", Report(*where, len(lost))))
            return
        if not there.leads or there.cut or it.running:
            raise Unreachable(there.name, "replication", "connection refused")
        clone = isinstance(action, Clone)
        it.incoming, it.journal = clone, Journal(it.name, "clone" if clone else "rewind", "7", there.timeline, True)
        if not clone:
            it.copy(there)


@dataclass(frozen=True)
class Modelled:
    """An action that is done to the model."""

    world: World
    name: str
    action: Action

    def command(self, node: Node) -> str:
        return self.action.command(node)

    def run(self, node: Node) -> None:
        self.world.do(self.name, self.action)
