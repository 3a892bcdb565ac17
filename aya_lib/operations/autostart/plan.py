"""Make a node's services start by themselves, or no longer: unit files, the secrets' file, enabling. And kill them to see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aya_lib.node.node import Node
from aya_lib.node.supervisor import ServiceState
from aya_lib.operations.autostart.look import Autostart, NodeSeen, Private, ServiceSeen
from aya_lib.operations.autostart.units import HEADER, Home, Unit, environment, units
from aya_lib.plan.actions import Kill, Script, Service, WriteFile
from aya_lib.plan.change import Change, Plan, change

DOWN = ("not loaded", "no such unit", "inactive (dead)")  # a timer that the supervisor does not wait for
BEFORE = ".before-aya"  # what was there and was not ours
RELOAD = ("systemctl", "daemon-reload")
# $1 the unit file, $2 what is appended to the name of one that was there before us; systemd's drop-in for it goes too.
REMOVE = 'set -e; rm -f -- "$1" "$1.d/aya-disabled.conf"; rmdir "$1.d" 2>/dev/null || true; [ ! -e "$1$2" ] || mv "$1$2" "$1"'
DELETE = 'rm -f -- "$1"; rmdir "${1%/*}" 2>/dev/null || true'
SECRETS = 'mkdir -p "${1%/*}" && umask 077 && { [ -e "$1" ] || cat > "$1"; } && chmod 0600 "$1" && chown "$2" "$1"'


def write(node: Node, path: str, text: str) -> WriteFile:
    """Write a unit file and have systemd read it."""
    return WriteFile(path, text, root=True, then=RELOAD if _systemd(node) else ())


def put_aside(path: str) -> Script:
    """Keep a unit file that somebody else wrote."""
    return Script(("cp", "-p", "--", path, path + BEFORE), root=True, shown=f"cp -p {path} {path}{BEFORE}")


def remove(node: Node, path: str) -> Script:
    """Remove our unit file; what was there before us comes back."""
    then = f"; {' '.join(RELOAD)}" if _systemd(node) else ""
    return Script(REMOVE + then, (path, BEFORE), root=True, shown=f"rm -f {path}{then}")


def secrets(path: str, text: str, account: str) -> Script:
    """The environment file: made with names only when it is not there, and readable for its account alone."""
    return Script(SECRETS, (path, account), text, root=True, shown=f"install -m 0600 -o {account} <names, no values> {path}")


def delete(path: str) -> Script:
    return Script(DELETE, (path,), root=True, shown=f"rm -f {path}")


def reload() -> Script:
    """Have systemd read the unit files."""
    return Script(RELOAD, root=True)


def plan(found: Autostart) -> Plan:
    """What is missing until everything that should starts by itself, or until nothing of ours does."""
    steps_of = _install if found.action == "install" else _uninstall
    steps = [step for name, seen in found.seen.items() for step in steps_of(found.nodes[name], seen)]
    return Plan(f"What autostart {found.action}s", tuple(steps))


def kill(found: Autostart, wanted: bool = True, service: str = "") -> Plan:
    """Kill what is enabled and runs, to see it return: one ``service``, or all; nothing unless ``wanted``."""
    steps = [
        change(
            found.nodes[it.node],
            f"Kill {it.service}, PID {it.pid}",
            Kill(it.service, it.pid, it.since, children=False, root=True),
            interrupts=True,
        )
        for it in found.kept(wanted, service)
    ]
    return Plan("Killed to see them return", tuple(steps), unwind=False)


def leave(before: Autostart, after: Autostart, *, keep: bool) -> Plan:
    """On a lab, and unless ``keep``: switch off again what this run switched on. Elsewhere autostart is there to stay."""
    steps = [
        change(after.nodes[name], f"Switch the keep-alive of {it.name} off again", Service("disable", it.name))
        for name, seen in after.seen.items()
        for it in seen.services
        if not keep and seen.keeper is not None and it.enabled is True and _was_off(before, name, it.name)
    ]
    return Plan("What is left as it was found", tuple(steps), unwind=False)


def _was_off(before: Autostart, node: str, service: str) -> bool:
    """Seen before, and not enabled then."""
    if node not in before.seen:
        return False
    was = before.seen[node].service(service)
    return was is None or was.enabled is not True


def _install(node: Node, seen: NodeSeen) -> Iterator[Change]:
    generated = units(node.site, node.name, seen.account)
    files = seen.files if isinstance(seen.files, dict) else {}
    differing = [unit for unit in generated if str(unit.path) in files and files[str(unit.path)] != unit.text]
    if generated and not (isinstance(seen.environment, Private) and seen.environment.only_of(str(seen.account))):
        yield _environment(node, seen)
    stopped = set()
    for unit in differing:
        service = seen.service(unit.service)
        if node.config.supervisor == "launchd" and service and _loaded(service):
            stopped.add(unit.service)
            title, undo = f"Unload {unit.service}, whose file changes", Service("start", unit.service)
            yield change(node, title, Service("stop", unit.service), undo=undo, interrupts=True)
        yield from _write(node, unit, files[str(unit.path)])
    if seen.reload is True and not differing:
        yield change(node, "Have systemd read its files", reload(), undo=reload())
    for one in seen.services:
        yield from _enable(node, seen, one, one.name in stopped)


def _environment(node: Node, seen: NodeSeen) -> Change:
    path, account = str(Home(node.site, node.name, str(seen.account)).environment), str(seen.account)
    there = isinstance(seen.environment, Private)
    title = "Let nobody else read the environment file" if there else "Make the environment file, names only"
    action = secrets(path, environment(node.site, node.name), account)
    return change(node, title, action, undo=action if there else delete(path))  # a file that was open stays closed


def _write(node: Node, unit: Unit, there: str | None) -> Iterator[Change]:
    path = str(unit.path)
    foreign = there is not None and HEADER not in there
    if foreign:
        yield change(node, f"Keep the {unit.path.name} that was there", put_aside(path), undo=delete(path + BEFORE))
    undo = remove(node, path) if foreign or there is None else write(node, path, there)
    title = f"{'Install' if there is None else 'Replace'} {unit.path.name}"
    yield change(node, title, write(node, path, unit.text), undo=undo)


def _enable(node: Node, seen: NodeSeen, one: ServiceSeen, was_stopped: bool) -> Iterator[Change]:
    fenced = one.name == "postgresql" and bool(seen.fenced)
    if not one.expected or fenced:
        return
    if one.enabled is not True:
        undo = Service("disable", one.name)
        yield change(node, f"Let {one.name} start by itself", Service("enable", one.name), undo=undo)
    elif seen.keeper is not None and seen.keeper.status != "running":
        yield change(node, f"Start the keeper again ({seen.keeper.status})", Service("enable", one.name))
    if seen.keeper is None and (was_stopped or _down(one)):
        yield change(node, f"Start {one.name}", Service("start", one.name), undo=Service("stop", one.name))


def _loaded(one: ServiceSeen) -> bool:
    """Runs, or the supervisor would start it in its time."""
    return isinstance(one.process, ServiceState) and (one.process.status != "stopped" or one.process.detail not in DOWN)


def _down(one: ServiceSeen) -> bool:
    """Known to be down; a timer is down when nobody waits for its time."""
    if one.name == "status":
        return isinstance(one.process, ServiceState) and not _loaded(one)
    return isinstance(one.process, ServiceState) and one.process.status in ("stopped", "failed")


def _uninstall(node: Node, seen: NodeSeen) -> Iterator[Change]:
    if seen.keeper is not None:
        for one in seen.services:
            if one.enabled is True:
                undo = Service("enable", one.name)
                yield change(node, f"Switch the keep-alive of {one.name} off", Service("disable", one.name), undo=undo)
        return
    texts = {path: text for path, text in seen.files.items() if text} if isinstance(seen.files, dict) else {}
    ours = [path for path, text in texts.items() if HEADER in text]
    services = {unit.service for unit in units(node.site, node.name, seen.account) if str(unit.path) in ours}
    for one in seen.services:
        if one.name not in services:
            continue
        if one.enabled is True and _systemd(node):
            undo = Service("enable", one.name)
            yield change(node, f"Let {one.name} no longer start by itself", Service("disable", one.name), undo=undo)
        if _loaded(one):
            undo = Service("start", one.name)
            yield change(node, f"Stop {one.name}", Service("stop", one.name), undo=undo, interrupts=True)
    for path in ours:
        yield change(node, f"Remove {Path(path).name}", remove(node, path), undo=write(node, path, texts[path]))
    if seen.reload is True and not ours:
        yield change(node, "Have systemd read its files", reload(), undo=reload())
    if isinstance(seen.environment, Private):
        path = seen.environment.path
        yield change(node, "Remove the environment file with its secrets", delete(path), destroys=True)


def _systemd(node: Node) -> bool:
    return node.config.supervisor == "systemd"
