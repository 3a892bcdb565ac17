"""What starts by itself on a node: unit files, whether they are enabled, what runs, and who may read the secrets' file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from aya_lib.cluster import replication, roles, server, services, state
from aya_lib.cluster.overview import badge
from aya_lib.cluster.replication import Receiver
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.services import Health
from aya_lib.errors import ParameterError
from aya_lib.node import shell
from aya_lib.node.node import Node, Nodes
from aya_lib.node.process import Processes
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.operations.autostart.units import Home, units
from aya_lib.show import Badge, Shown, Table


@dataclass(frozen=True)
class Private:
    """Owner and mode (as ``ls`` shows it) of the environment file. What is in it is never read."""

    path: str
    mode: str
    owner: str

    def only_of(self, account: str) -> bool:
        return self.mode == "-rw-------" and self.owner == account


@dataclass(frozen=True)
class ServiceSeen:
    """One service. ``expected``: whether it is to start by itself here. ``answer``: what it said when it was asked."""

    name: str
    expected: bool
    enabled: bool | Missing | None
    process: ServiceState | Missing
    listener: Listener | Missing | None
    answer: str | Missing | None


@dataclass(frozen=True)
class NodeSeen:
    """One node. ``files``: of its units, the text, or None where there is no such file. ``fenced``: why PostgreSQL must not
    start. ``keeper``: of a lab's node. ``reload``: systemd has not read the newest files."""

    name: str
    account: str | None
    services: tuple[ServiceSeen, ...]
    files: Mapping[str, str | None] | Missing
    environment: Private | Missing | None
    fenced: str | Missing
    keeper: ServiceState | None = None
    reload: bool | Missing = False

    def service(self, name: str) -> ServiceSeen | None:
        return next((service for service in self.services if service.name == name), None)


@dataclass(frozen=True)
class Kept:
    """A service that is enabled and runs: its process, and what it answered."""

    node: str
    service: str
    pid: int
    since: datetime | None
    answer: str


@dataclass(frozen=True, repr=False)
class Autostart(Shown):
    """What was seen of some of the site's ``nodes``, by name. ``action``: what is asked for, install or uninstall."""

    nodes: Nodes
    seen: Mapping[str, NodeSeen]
    action: str = "install"

    def kept(self, wanted: bool = True, service: str = "") -> tuple[Kept, ...]:
        """What can be shown to return: enabled, running, answering; one ``service`` or all. None of them unless ``wanted``."""
        return tuple(
            Kept(node.name, it.name, it.process.pid, it.process.since, it.answer)
            for node in self.seen.values()
            for it in node.services
            if wanted and service in ("", it.name) and it.enabled is True and isinstance(it.answer, str)
            if isinstance(it.process, ServiceState) and it.process.status == "running" and it.process.pid
        )

    def table(self) -> Table:
        rows = tuple((node.name, it.name, *_row(it)) for node in self.seen.values() for it in node.services)
        columns = ("node", "service", "starts by itself", "process", "answers")
        return Table("What starts by itself", columns, rows)


def look(nodes: Nodes, node: str = "", action: str = "install") -> Autostart:
    """All nodes, or one, all at once. :class:`ParameterError` when there is no such node or action."""
    if node and node not in nodes:
        raise ParameterError(f"unknown node '{node}'", hint=f"Allowed are {', '.join(nodes)}, and '' for all")
    if action not in ("install", "uninstall"):
        raise ParameterError(f"action: found '{action}', allowed are install and uninstall")
    return _look(nodes, [node] if node else [*nodes], action)


def again(found: Autostart) -> Callable[[Nodes], Autostart]:
    """A look at the same nodes, for waiting."""
    return lambda nodes: _look(nodes, [*found.seen], found.action)


def _look(nodes: Nodes, names: Sequence[str], action: str) -> Autostart:
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        return Autostart(nodes, dict(zip(names, pool.map(look_node, map(nodes.__getitem__, names)), strict=True)), action)


def look_node(node: Node) -> NodeSeen:
    account = seen(node.name, f"owner of {node.data_directory}", lambda: node.account)
    known = account if isinstance(account, str) else None
    keeps = node.supervisor
    return NodeSeen(
        node.name,
        known,
        tuple(_service(node, service) for service in keeps.units),
        _files(node, known),
        look_private(node, known) if known and not isinstance(keeps, Processes) else None,
        seen(node.name, "fence", lambda: _fenced(node)),
        keeps.keep.keeper() if isinstance(keeps, Processes) else None,
        seen(node.name, "systemctl show", lambda: _needs_reload(node)) if node.config.supervisor == "systemd" else False,
    )


def expected(node: Node, service: str) -> bool:
    """Whether the service is to start by itself on the node as it is now."""
    if service != "embedding" or node.config.embedding is None or node.config.embedding.runs == "always":
        return True
    found = server.look(node)
    return not found.in_recovery if isinstance(found, server.Cluster) else roles.agreed(node.site) == node.name


def look_private(node: Node, account: str) -> Private | Missing | None:
    """The environment file; None: there is none."""
    path = Home(node.site, node.name, account).environment

    def read() -> Private | None:
        if not shell.exists(node.shell, path):
            return None
        return parse_ls(str(path), node.shell.run(["ls", "-ld", "--", str(path)]).checked().stdout)

    return seen(node.name, f"ls {path}", read)


def parse_ls(path: str, text: str) -> Private:
    """A line of ``ls -l``. SELinux and access lists add a sign after the mode: such a file may be open to more."""
    words = text.split()
    return Private(path, words[0].removesuffix("."), words[2])


def _service(node: Node, name: str) -> ServiceSeen:
    keeps = node.supervisor
    enabled = seen(node.name, f"whether {name} is enabled", lambda: keeps.enabled(name))
    process = services.look_process(node, name)
    port = {"postgresql": node.config.postgresql.port, "embedding": node.config.embedding.port if node.config.embedding else None}
    holder = services.look_listener(node, number) if (number := port.get(name)) else None
    runs = isinstance(process, ServiceState) and process.status == "running"
    return ServiceSeen(name, expected(node, name), enabled, process, holder, _answer(node, name) if runs else None)


def _answer(node: Node, name: str) -> str | Missing | None:
    """primary, or standby and what it receives; healthy; None for what cannot be asked."""
    if name == "embedding" and node.embedding_url:
        health = services.look_health(node, node.embedding_url)
        return health.status if isinstance(health, Health) else health
    if name != "postgresql":
        return "runs" if name == "sync" else None
    cluster = server.look(node)
    if not isinstance(cluster, Cluster) or not cluster.in_recovery:
        return cluster.role if isinstance(cluster, Cluster) else cluster
    receiver = replication.look_receiver(node)
    return f"standby, {receiver.status or 'receives nothing'}" if isinstance(receiver, Receiver) else receiver


def _files(node: Node, account: str | None) -> Mapping[str, str | None] | Missing:
    paths = [unit.path for unit in units(node.site, node.name, account)]
    return seen(node.name, "unit files", lambda: {str(path): shell.read(node.shell, path) for path in paths})


def _fenced(node: Node) -> str:
    fence = state.read(node.site).fenced.get(node.name)
    if fence:
        return f"fenced {fence}"
    there = shell.exists(node.shell, node.data_directory / state.MARK, account=node.account)
    return f"{state.MARK} is in its data directory" if there else ""


def _needs_reload(node: Node) -> bool:
    words = ["systemctl", "show", "--property=NeedDaemonReload", *node.supervisor.units.values()]
    return bool(re.search("=yes$", node.shell.run(words).checked().stdout, re.MULTILINE))


def _row(service: ServiceSeen) -> tuple[Badge | str, Badge | str, str]:
    answer = service.answer if isinstance(service.answer, str) else "" if service.answer is None else badge(service.answer).word
    return _enabled(service), _process(service.process), answer


def _process(process: ServiceState | Missing) -> Badge | str:
    if not isinstance(process, ServiceState):
        return Badge("unknown")
    return f"{process.status}, PID {process.pid}" if process.pid else process.status


def _enabled(service: ServiceSeen) -> Badge | str:
    if isinstance(service.enabled, Unseen):
        return Badge("unknown")
    if service.enabled is True:
        return Badge("passed", "yes")
    return "no" if service.enabled is False else "not installed"
