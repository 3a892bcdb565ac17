"""What starts by itself on a node: unit files, whether they are enabled, what runs, and who may read the secrets' file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aya_lib.cluster import replication, server, services
from aya_lib.cluster import state as standing
from aya_lib.cluster.replication import Receiver
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.services import Health
from aya_lib.errors import UsageError
from aya_lib.node import shell
from aya_lib.node.node import Node, Nodes
from aya_lib.node.process import Processes
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.units import Home, Unit, units
from aya_lib.node.unseen import Down, Missing, Starting, Unseen, seen
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
    """One service. ``wished``: whether it is to start by itself here. ``answer``: what it said when it was asked."""

    name: str
    wished: bool
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
        return next((one for one in self.services if one.name == name), None)


@dataclass(frozen=True)
class Kept:
    """A service that is enabled and runs: its process, and what it answered."""

    node: str
    service: str
    pid: int
    answer: str


@dataclass(frozen=True, repr=False)
class Autostart(Shown):
    nodes: Mapping[str, NodeSeen]

    def kept(self, wanted: bool = True) -> tuple[Kept, ...]:
        """What can be shown to return: enabled, running, answering. None of them unless ``wanted``."""
        return tuple(
            Kept(node.name, one.name, one.process.pid, one.answer)
            for node in self.nodes.values()
            for one in node.services
            if wanted and one.enabled is True and isinstance(one.answer, str)
            if isinstance(one.process, ServiceState) and one.process.status == "running" and one.process.pid
        )

    def table(self) -> Table:
        rows = tuple((node.name, one.name, *_row(one)) for node in self.nodes.values() for one in node.services)
        columns = ("node", "service", "starts by itself", "process", "answers")
        return Table("What starts by itself", columns, rows)


def look(nodes: Nodes, node: str = "") -> Autostart:
    """All nodes, or one, all at once. :class:`UsageError` when there is no such node."""
    if node and node not in nodes:
        raise UsageError(f"unknown node '{node}'", hint=f"Allowed are {', '.join(nodes)}, and '' for all")
    chosen = {name: one for name, one in nodes.items() if node in ("", name)}
    with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool:
        return Autostart(dict(zip(chosen, pool.map(look_node, chosen.values()), strict=True)))


def only(seen: NodeSeen | None, service: str, wanted: bool = True) -> tuple[Kept, ...]:
    """:meth:`Autostart.kept`, of one service of one node."""
    found = Autostart({seen.name: seen}).kept(wanted) if seen else ()
    return tuple(one for one in found if one.service == service)


def at(node: str) -> Callable[[Nodes], Autostart]:
    """:func:`look` at one node, for waiting."""
    return lambda nodes: look(nodes, node)


def look_node(node: Node) -> NodeSeen:
    account = seen(node.name, f"owner of {node.data_directory}", lambda: node.account)
    known = account if isinstance(account, str) else None
    keeps = node.supervisor
    return NodeSeen(
        node.name,
        known,
        tuple(_service(node, service) for service in keeps.units),
        _files(node, wished_units(node, known)),
        look_private(node, known) if known and not isinstance(keeps, Processes) else None,
        seen(node.name, "fence", lambda: _fenced(node)),
        keeps.keep.keeper() if isinstance(keeps, Processes) else None,
        seen(node.name, "systemctl show", lambda: _needs_reload(node)) if node.wish.supervisor == "systemd" else False,
    )


def wished_units(node: Node, account: str | None) -> tuple[Unit, ...]:
    """The files that the node's services should have; none while the account is not known."""
    return units(node.site, node.name, account) if account else ()


def wished(node: Node, service: str) -> bool:
    """Whether the service is to start by itself on the node as it is now."""
    if service != "embedding" or node.wish.embedding is None or node.wish.embedding.runs == "always":
        return True
    return (standing.read(node.site).primary or node.site.primary) == node.name


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
    port = {"postgresql": node.wish.postgresql.port, "embedding": node.wish.embedding.port if node.wish.embedding else None}
    holder = services.look_listener(node, number) if (number := port.get(name)) else None
    runs = isinstance(process, ServiceState) and process.status == "running"
    return ServiceSeen(name, wished(node, name), enabled, process, holder, _answer(node, name) if runs else None)


def _answer(node: Node, name: str) -> str | Missing | None:
    """primary, or standby and what it receives; healthy; None for what cannot be asked."""
    if name == "embedding" and node.embedding_url:
        health = services.look_health(node, node.embedding_url)
        return health.status if isinstance(health, Health) else health
    if name != "postgresql":
        return "runs" if name == "sync" else None
    found = server.look(node)
    if not isinstance(found, Cluster) or not found.in_recovery:
        return found.role if isinstance(found, Cluster) else found
    receiver = replication.look_receiver(node)
    return f"standby, {receiver.status or 'receives nothing'}" if isinstance(receiver, Receiver) else receiver


def _files(node: Node, wanted: tuple[Unit, ...]) -> Mapping[str, str | None] | Missing:
    return seen(node.name, "unit files", lambda: {str(unit.path): shell.read(node.shell, unit.path) for unit in wanted})


def _fenced(node: Node) -> str:
    mark = standing.read(node.site).fenced.get(node.name)
    if mark:
        return f"fenced {mark.since} by {mark.by or 'nobody named'} ({mark.way}): {mark.why}"
    text = shell.read(node.shell, node.data_directory / standing.MARK, account=node.account)
    return "" if text is None else f"{standing.MARK} is in its data directory"


def _needs_reload(node: Node) -> bool:
    words = ["systemctl", "show", "--property=NeedDaemonReload", *node.supervisor.units.values()]
    return bool(re.search("=yes$", node.shell.run(words).checked().stdout, re.MULTILINE))


def _row(one: ServiceSeen) -> tuple[Badge | str, Badge | str, str]:
    answer = "" if one.answer is None else one.answer if isinstance(one.answer, str) else _word(one.answer)
    return _enabled(one), _process(one.process), answer


def _process(state: ServiceState | Missing) -> Badge | str:
    if not isinstance(state, ServiceState):
        return Badge("unknown")
    return f"{state.status}, PID {state.pid}" if state.pid else state.status


def _enabled(one: ServiceSeen) -> Badge | str:
    if isinstance(one.enabled, Unseen):
        return Badge("unknown")
    if one.enabled is True:
        return Badge("passed", "yes")
    return "no" if one.enabled is False else "not installed"


def _word(missing: Missing) -> str:
    return {Down: "down", Starting: "starting"}.get(type(missing), "unknown")
