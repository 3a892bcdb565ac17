"""Change the mode of replication, the slots' limit, and the archive: what is still missing, in an order that never hangs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from aya_lib.cluster import archive
from aya_lib.cluster import state as standing
from aya_lib.cluster.canary import Commits
from aya_lib.cluster.replication import look_sender
from aya_lib.cluster.state import State
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing
from aya_lib.operations.failover.fence import Setting
from aya_lib.operations.mode import judge as checks
from aya_lib.operations.mode import look as facts
from aya_lib.operations.mode.judge import WAITED_FOR, Wish
from aya_lib.operations.mode.look import PROGRAM, Mode, Server, Store
from aya_lib.plan.actions import Service
from aya_lib.plan.change import Change, Plan, change

TITLES = {
    "max_slot_wal_keep_size": "Limit the WAL that a slot may hold",
    "archive_command": "Set the archive_command",
    "restore_command": "Set the restore_command",
    "archive_mode": "Turn archiving on",
    "synchronous_commit": "Say what a commit waits for",
}


@dataclass(frozen=True)
class Agree:
    """Write the mode into the site's state, and the action into the failover log. ``back``: an undo, put back as it was."""

    mode: standing.Mode | None
    was: standing.Mode | None
    by: str | None
    why: str = ""
    since: str | None = None
    back: bool = False

    def command(self, node: Node) -> str:
        return f"{standing.path(node.site).name}: mode = {self.mode}, by {self.by}"

    def run(self, node: Node) -> None:
        since = self.since if self.back else standing.stamp()
        standing.change(node.site, mode=self.mode, mode_since=since, mode_by=self.by)
        entry = {"kind": "mode", "node": node.name, "mode": self.mode, "was": self.was, "by": self.by, "reason": self.why}
        standing.log(node.site, entry | ({"taken_back": True} if self.back else {}))


@dataclass(frozen=True)
class Waits:
    """The primary says that commits wait for the standby."""

    slot: str

    def command(self, node: Node) -> str:
        return "wait until pg_stat_replication.sync_state is sync"

    def run(self, node: Node) -> None:
        def state() -> str:
            sender = look_sender(node)
            stream = None if isinstance(sender, Missing) else sender.stream(self.slot)
            return stream.sync_state if stream else "no stream"

        what, limit = "commits wait for the standby", node.site.deadlines.command_s
        wait.until(state, lambda said: said in WAITED_FOR, node=node.name, what=what, deadline_s=limit)


@dataclass(frozen=True)
class Install:
    """Put the archive program into the data directory, as the cluster's owner: there a clone of the node brings it along."""

    text: str

    def command(self, node: Node) -> str:
        return f"write {node.data_directory / PROGRAM}"

    def run(self, node: Node) -> None:
        target = shlex.quote(str(node.data_directory / PROGRAM))
        script = f"cat > {target}.new && mv {target}.new {target}"
        node.shell.run(["sh", "-c", script], stdin=self.text, account=node.account).checked()


@dataclass(frozen=True)
class MakeFolder:
    """Make the archive's folder, and no folder above it: a share that is not mounted is not to be covered."""

    path: str

    def command(self, node: Node) -> str:
        return f"mkdir -m 700 {shlex.quote(self.path)}"

    def run(self, node: Node) -> None:
        script = 'test -d "$1" || mkdir -m 700 "$1"'
        hint = "Make it, and give it to the account that owns the cluster; is its share mounted?"
        node.shell.run(["sh", "-c", script, "sh", self.path], account=node.account).checked(hint)


@dataclass(frozen=True)
class Remove:
    """Take away a file or an empty folder that was made."""

    path: str
    folder: bool = False

    def command(self, node: Node) -> str:
        return f"{'rmdir' if self.folder else 'rm -f'} {shlex.quote(self.path)}"

    def run(self, node: Node) -> None:
        words = ["rmdir"] if self.folder else ["rm", "-f"]
        node.shell.run([*words, "--", self.path], account=node.account).checked()


@dataclass(frozen=True)
class Restart:
    """Restart PostgreSQL and wait until it answers: not every supervisor waits."""

    def command(self, node: Node) -> str:
        return Service("restart", "postgresql").command(node)

    def run(self, node: Node) -> None:
        Service("restart", "postgresql").run(node)
        wait.until(
            lambda: facts.look_server(node),
            lambda found: isinstance(found, Server),
            node=node.name,
            what="PostgreSQL answers again",
            deadline_s=node.site.deadlines.start_s,
        )


def plan(nodes: Nodes, wish: Wish, seen: Mode, proof: Commits | Missing | None = None) -> Plan:
    """The changes that are missing. A mode without waiting is written down before it holds, one with waiting after it was
    proven by marked commits (``proof``): what the standing promises was always true."""
    title = f"Make replication {wish.mode}"
    rest = [step for name in (seen.standby, seen.primary) for step in _server(nodes[name], wish, seen)]
    primary = nodes[seen.primary]
    if not wish.synchronous:
        return Plan(title, (*_agree(primary, wish, seen), *_names(primary, wish, seen), *rest), unwind=False)
    steps = [*rest, *_names(primary, wish, seen)]
    proven = isinstance(proof, Commits) and proof.usual.waited
    return Plan(title, tuple(steps or (_agree(primary, wish, seen) if proven else ())))


def _agree(node: Node, wish: Wish, seen: Mode) -> Iterator[Change]:
    known = seen.overview.state
    if (known.mode or "asynchronous") == wish.mode:
        return
    action = Agree(wish.mode, known.mode, wish.by, wish.why)
    yield change(node, f"Write down that replication is {wish.mode}", action, undo=_as_before(known, wish))


def _as_before(known: State, wish: Wish) -> Agree:
    return Agree(known.mode, wish.mode, known.mode_by, since=known.mode_since, back=True)


def _names(node: Node, wish: Wish, seen: Mode) -> Iterator[Change]:
    """For whom commits wait; last when it is turned on, so that what they wait for is settled before."""
    name, server = "synchronous_standby_names", seen.servers[node.name]
    value = checks.wanted(node.site, wish, seen, node.name)[name]
    if not isinstance(server, Server):
        return
    title = f"Let commits wait for {seen.standby}" if wish.synchronous else "Let commits wait for nobody"
    yield from _setting(node, server, name, value, title)
    waits = seen.stream is not None and seen.stream.sync_state in WAITED_FOR and server.value(name) == value
    if wish.synchronous and not waits:
        yield change(node, f"Be sure that commits wait for {seen.standby}", Waits(node.site.replication.slot))


def _server(node: Node, wish: Wish, seen: Mode) -> Iterator[Change]:
    """Limits and archive of one node; nothing where the server could not be seen."""
    server, store = seen.servers[node.name], seen.stores[node.name]
    if not isinstance(server, Server):
        return
    if isinstance(store, Store):
        yield from _store(node, store)
    for name, value in checks.wanted(node.site, wish, seen, node.name).items():
        if name == "archive_mode":
            yield from _archive_mode(node, server)
        elif name != "synchronous_standby_names":
            yield from _setting(node, server, name, value, TITLES[name])


def _store(node: Node, store: Store) -> Iterator[Change]:
    where = str(archive.directory(node.site))
    if store.folder == "absent":
        yield change(node, "Make the archive's folder", MakeFolder(where), undo=Remove(where, folder=True))
    if not store.installed:
        undo = Remove(str(node.data_directory / PROGRAM))
        yield change(node, "Install the archive program", Install(facts.program()), undo=undo)


def _archive_mode(node: Node, server: Server) -> Iterator[Change]:
    found = server.settings["archive_mode"]
    if found.value in ("on", "always"):
        return
    if not found.pending_restart:
        undo = Setting("archive_mode", found.value if found.own else None)
        yield change(node, TITLES["archive_mode"], Setting("archive_mode", "on"), undo=undo)
    yield change(node, "Restart PostgreSQL: archive_mode is read at the start", Restart(), interrupts=True)


def _setting(node: Node, server: Server, name: str, value: str, title: str) -> Iterator[Change]:
    found = server.settings[name]
    if found.value == value:
        return
    unit = "MB" if name == "max_slot_wal_keep_size" else ""
    before = found.value if found.value == "-1" else f"{found.value}{unit}"
    undo = Setting(name, before if found.own else None)
    yield change(node, title, Setting(name, f"{value}{unit}"), undo=undo)
