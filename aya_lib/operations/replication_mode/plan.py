"""Change the mode of replication, the slots' limit, and the archive: what is still missing, in an order that never hangs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from aya_lib.cluster import archive, state
from aya_lib.cluster.canary import Commits
from aya_lib.node.node import Node
from aya_lib.node.unseen import Missing
from aya_lib.operations.replication_mode.actions import AwaitSync
from aya_lib.operations.replication_mode.judge import wanted
from aya_lib.operations.replication_mode.look import PROGRAM, Found, Request, Server, Store, program
from aya_lib.plan.actions import Script, Service, SetState, Setting, WriteFile, remove_file
from aya_lib.plan.change import Change, Plan, change

TITLES = {
    "max_slot_wal_keep_size": "Limit the WAL that a slot may hold",
    "archive_command": "Set the archive_command",
    "restore_command": "Set the restore_command",
    "archive_mode": "Turn archiving on",
    "synchronous_commit": "Say what a commit waits for",
}


def plan(request: Request, seen: Found, proof: Commits | Missing | None = None) -> Plan:
    """The changes that are missing. A mode without waiting is written down before it holds, one with waiting after it was
    proven by marked commits (``proof``): what the state promises was always true."""
    title = f"Make replication {request.mode}"
    rest = [step for name in (seen.standby, seen.primary) for step in _server(seen.nodes[name], request, seen)]
    names = [*_names(seen.nodes[seen.primary], request, seen)]
    if not request.synchronous:
        return Plan(title, (*_agree(request, seen), *names, *rest), unwind=False)
    proven = isinstance(proof, Commits) and proof.usual.waited
    return Plan(title, tuple([*rest, *names] or (_agree(request, seen) if proven else ())))


def _agree(request: Request, seen: Found) -> Iterator[Change]:
    """Into the site's state, with a line in the failover log; undone, the state is as it was, and the log says so too."""
    known, node = seen.overview.state, seen.nodes[seen.primary]
    if (known.mode or "asynchronous") == request.mode:
        return
    line = {"kind": "mode", "node": node.name}
    entry = {**line, "mode": request.mode, "was": known.mode, "by": request.by, "reason": request.why}
    since = state.stamp(seen.overview.at)
    action = SetState({"mode": request.mode, "mode_since": since, "mode_by": request.by}, entry=entry)
    back = {**line, "mode": known.mode, "was": request.mode, "by": known.mode_by, "reason": "", "taken_back": True}
    before = {"mode": known.mode, "mode_since": known.mode_since, "mode_by": known.mode_by}
    yield change(node, f"Write down that replication is {request.mode}", action, undo=SetState(before, entry=back))


def _names(node: Node, request: Request, seen: Found) -> Iterator[Change]:
    """For whom commits wait; last when it is turned on, so that what they wait for is settled before."""
    name, server = "synchronous_standby_names", seen.servers[node.name]
    value = wanted(request, seen, node.name)[name]
    if not isinstance(server, Server):
        return
    title = f"Let commits wait for {seen.standby}" if request.synchronous else "Let commits wait for nobody"
    yield from _setting(node, server, name, value, title)
    waits = seen.stream is not None and seen.stream.synchronous and server.value(name) == value
    if request.synchronous and not waits:
        yield change(node, f"Be sure that commits wait for {seen.standby}", AwaitSync(node.site.replication.slot))


def _server(node: Node, request: Request, seen: Found) -> Iterator[Change]:
    """Limits and archive of one node; nothing where the server could not be seen."""
    server, store = seen.servers[node.name], seen.stores[node.name]
    if not isinstance(server, Server):
        return
    if isinstance(store, Store):
        yield from _store(node, store)
    for name, value in wanted(request, seen, node.name).items():
        if name == "archive_mode":
            yield from _archive_mode(node, server)
        elif name != "synchronous_standby_names":
            yield from _setting(node, server, name, value, TITLES[name])


def _store(node: Node, store: Store) -> Iterator[Change]:
    """The folder, and no folder above it: a share that is not mounted is not to be covered. And the program, in the data
    directory: there a clone of the node brings it along."""
    folder, path = str(archive.directory(node.site)), node.data_directory / PROGRAM
    if store.folder == "absent":
        hint = "Make it, and give it to the account that owns the cluster; is its share mounted?"
        shown = f"mkdir -m 700 {shlex.quote(folder)}"
        make = Script('test -d "$1" || mkdir -m 700 "$1"', (folder,), shown=shown, hint=hint)
        yield change(node, "Make the archive's folder", make, undo=Script(("rmdir", "--", folder)))
    if not store.installed:
        yield change(node, "Install the archive program", WriteFile(path, program()), undo=remove_file(path))


def _archive_mode(node: Node, server: Server) -> Iterator[Change]:
    now = server.settings["archive_mode"]
    if now.value in ("on", "always"):
        return
    if not now.pending_restart:
        undo = Setting("archive_mode", now.value if now.own else None)
        yield change(node, TITLES["archive_mode"], Setting("archive_mode", "on"), undo=undo)
    yield change(node, "Restart PostgreSQL: archive_mode is read at the start", Service("restart", "postgresql"), interrupts=True)


def _setting(node: Node, server: Server, name: str, value: str, title: str) -> Iterator[Change]:
    now, unit = server.settings[name], "MB" if name == "max_slot_wal_keep_size" else ""
    if now.value == value:
        return
    before = now.value if now.value == "-1" else f"{now.value}{unit}"
    yield change(node, title, Setting(name, f"{value}{unit}"), undo=Setting(name, before if now.own else None))
