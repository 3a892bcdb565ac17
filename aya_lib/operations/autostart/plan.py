"""Make a node's services start by themselves, or no longer: unit files, the secrets' file, enabling. And kill them to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aya_lib.errors import ParameterError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.units import HEADER, Home, Unit, environment, units
from aya_lib.operations.autostart.look import Autostart, Kept, NodeSeen, Private, ServiceSeen
from aya_lib.plan.actions import Service
from aya_lib.plan.change import Change, Plan, change

DOWN = ("not loaded", "no such unit", "inactive (dead)")  # a timer that the supervisor does not wait for
BEFORE = ".before-aya"  # what was there and was not ours


@dataclass(frozen=True)
class Write:
    """Write a unit file, whole or not at all, and have systemd read it."""

    path: str
    text: str

    def command(self, node: Node) -> str:
        return _typed(node, f"install -m 0644 <as generated> {self.path}{_then_reload(node)}")

    def run(self, node: Node) -> None:
        script = 'cat > "$1.new" && chmod 0644 "$1.new" && mv "$1.new" "$1"'
        _root(node, ["sh", "-c", script, "sh", self.path], stdin=self.text)
        _reload(node)


@dataclass(frozen=True)
class PutAside:
    """Keep a unit file that somebody else wrote."""

    path: str

    def command(self, node: Node) -> str:
        return _typed(node, f"cp -p {self.path} {self.path}{BEFORE}")

    def run(self, node: Node) -> None:
        _root(node, ["cp", "-p", "--", self.path, self.path + BEFORE])


@dataclass(frozen=True)
class Remove:
    """Remove our unit file, and systemd's drop-in for it; what was there before us comes back."""

    path: str

    def command(self, node: Node) -> str:
        return _typed(node, f"rm -f {self.path}{_then_reload(node)}")

    def run(self, node: Node) -> None:
        script = 'rm -f -- "$1" "$1.d/aya-disabled.conf"; rmdir "$1.d" 2>/dev/null; [ ! -e "$1$2" ] || mv "$1$2" "$1"'
        _root(node, ["sh", "-c", script, "sh", self.path, BEFORE])
        _reload(node)


@dataclass(frozen=True)
class Secrets:
    """The environment file: made with names only when it is not there, and readable for its account alone."""

    path: str
    text: str
    account: str

    def command(self, node: Node) -> str:
        return _typed(node, f"install -m 0600 -o {self.account} <names, no values> {self.path}")

    def run(self, node: Node) -> None:
        script = 'mkdir -p "${1%/*}" && umask 077 && { [ -e "$1" ] || cat > "$1"; } && chmod 0600 "$1" && chown "$2" "$1"'
        _root(node, ["sh", "-c", script, "sh", self.path, self.account], stdin=self.text)


@dataclass(frozen=True)
class Delete:
    path: str

    def command(self, node: Node) -> str:
        return _typed(node, f"rm -f {self.path}")

    def run(self, node: Node) -> None:
        _root(node, ["sh", "-c", 'rm -f -- "$1"; rmdir "${1%/*}" 2>/dev/null || true', "sh", self.path])


@dataclass(frozen=True)
class Reload:
    """Have systemd read the unit files."""

    def command(self, node: Node) -> str:
        return _typed(node, "systemctl daemon-reload")

    def run(self, node: Node) -> None:
        _reload(node)


@dataclass(frozen=True)
class Kill:
    """SIGKILL, only to the process that was seen."""

    service: str
    pid: int

    def command(self, node: Node) -> str:
        return _typed(node, f"kill -KILL {self.pid}")

    def run(self, node: Node) -> None:
        if node.supervisor.state(self.service).pid == self.pid:
            _root(node, ["kill", "-KILL", str(self.pid)])


def plan(nodes: Nodes, seen: Autostart, action: str = "install") -> Plan:
    """What is missing until everything that is wished starts by itself, or until nothing of ours does."""
    if action not in ("install", "uninstall"):
        raise ParameterError(f"action: found '{action}', allowed are install and uninstall")
    of = _install if action == "install" else _uninstall
    steps = [step for name, found in seen.nodes.items() for step in of(nodes[name], found)]
    return Plan(f"What autostart {action}s", tuple(steps))


def kill(nodes: Nodes, kept: Iterable[Kept]) -> Plan:
    """Kill each of them, to see it return."""
    return Plan(
        "Killed to see them return",
        tuple(
            change(nodes[one.node], f"Kill {one.service}, PID {one.pid}", Kill(one.service, one.pid), interrupts=True)
            for one in kept
        ),
        unwind=False,
    )


def leave(nodes: Nodes, before: Autostart, after: Autostart, *, keep: bool) -> Plan:
    """On a lab, and unless ``keep``: switch off again what this run switched on. Elsewhere autostart is there to stay."""
    steps = [
        change(nodes[name], f"Switch the keep-alive of {one.name} off again", Service("disable", one.name))
        for name, found in after.nodes.items()
        for one in found.services
        if not keep and found.keeper is not None and one.enabled is True and not _was_on(before, name, one.name)
    ]
    return Plan("What is left as it was found", tuple(steps), unwind=False)


def leave_one(nodes: Nodes, before: NodeSeen | None, after: Autostart, *, keep: bool) -> Plan:
    """:func:`leave`, of one node."""
    return leave(nodes, Autostart({before.name: before} if before else {}), after, keep=keep or before is None)


def _was_on(before: Autostart, node: str, service: str) -> bool:
    found = before.nodes[node].service(service)
    return found is not None and found.enabled is True


def _install(node: Node, seen: NodeSeen) -> Iterator[Change]:
    generated = units(node.site, node.name, seen.account) if seen.account else ()
    files = seen.files if isinstance(seen.files, dict) else {}
    differing = [unit for unit in generated if str(unit.path) in files and files[str(unit.path)] != unit.text]
    if generated and not (isinstance(seen.environment, Private) and seen.environment.only_of(str(seen.account))):
        yield _environment(node, seen)
    stopped = set()
    for unit in differing:
        service = seen.service(unit.service)
        if node.wish.supervisor == "launchd" and service and _loaded(service):
            stopped.add(unit.service)
            title, undo = f"Unload {unit.service}, whose file changes", Service("start", unit.service)
            yield change(node, title, Service("stop", unit.service), undo=undo, interrupts=True)
        yield from _write(node, unit, files[str(unit.path)])
    if seen.reload is True and not differing:
        yield change(node, "Have systemd read its files", Reload(), undo=Reload())
    for one in seen.services:
        yield from _enable(node, seen, one, one.name in stopped)


def _environment(node: Node, seen: NodeSeen) -> Change:
    path, account = str(Home(node.site, node.name, str(seen.account)).environment), str(seen.account)
    there = isinstance(seen.environment, Private)
    title = "Let nobody else read the environment file" if there else "Make the environment file, names only"
    action = Secrets(path, environment(node.site, node.name), account)
    return change(node, title, action, undo=action if there else Delete(path))  # a file that was open stays closed


def _write(node: Node, unit: Unit, there: str | None) -> Iterator[Change]:
    path = str(unit.path)
    foreign = there is not None and HEADER not in there
    if foreign:
        yield change(node, f"Keep the {unit.path.name} that was there", PutAside(path), undo=Delete(path + BEFORE))
    undo = Remove(path) if foreign or there is None else Write(path, there)
    yield change(node, f"{'Install' if there is None else 'Replace'} {unit.path.name}", Write(path, unit.text), undo=undo)


def _enable(node: Node, seen: NodeSeen, one: ServiceSeen, was_stopped: bool) -> Iterator[Change]:
    fenced = one.name == "postgresql" and bool(seen.fenced)
    if not one.wished or fenced:
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
    services = {unit.service for unit in units(node.site, node.name, str(seen.account)) if str(unit.path) in ours}
    for one in seen.services:
        if one.name not in services:
            continue
        if one.enabled is True and node.wish.supervisor == "systemd":
            undo = Service("enable", one.name)
            yield change(node, f"Let {one.name} no longer start by itself", Service("disable", one.name), undo=undo)
        if _loaded(one):
            undo = Service("start", one.name)
            yield change(node, f"Stop {one.name}", Service("stop", one.name), undo=undo, interrupts=True)
    for path in ours:
        yield change(node, f"Remove {Path(path).name}", Remove(path), undo=Write(path, texts[path]))
    if seen.reload is True and not ours:
        yield change(node, "Have systemd read its files", Reload(), undo=Reload())
    if isinstance(seen.environment, Private):
        path = seen.environment.path
        yield change(node, "Remove the environment file with its secrets", Delete(path), destroys=True)


def _then_reload(node: Node) -> str:
    return "; systemctl daemon-reload" if node.wish.supervisor == "systemd" else ""


def _reload(node: Node) -> None:
    if node.wish.supervisor == "systemd":
        _root(node, ["systemctl", "daemon-reload"])


def _typed(node: Node, line: str) -> str:
    return f"sudo -n {line}" if node.wish.sudo else line


def _root(node: Node, words: list[str], stdin: str | None = None) -> None:
    command = [*(["sudo", "-n"] if node.wish.sudo else []), *words]
    node.shell.run(command, stdin=stdin, timeout_s=node.site.deadlines.command_s).checked()
