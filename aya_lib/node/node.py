"""A node: a host with its supervisor and SQL. Building one opens no connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

from aya_lib import settings
from aya_lib.node import sql
from aya_lib.node.host import Host
from aya_lib.node.launchd import Launchd
from aya_lib.node.process import Processes
from aya_lib.node.supervisor import Supervisor
from aya_lib.node.systemd import Systemd
from aya_lib.site import Site


@dataclass(frozen=True)
class Node(Host):
    @cached_property
    def supervisor(self) -> Supervisor:
        config, units = self.config, {"postgresql": self.config.postgresql.unit}
        units |= {"embedding": config.embedding.unit} if config.embedding else {}
        units |= {"sync": config.sync.unit} if config.role == "laptop" else {}
        units |= {"wal": self.site.backup.unit} if self.site.backup and self.site.backup.node == self.name else {}
        if config.supervisor == "launchd":
            return Launchd(self.shell, units | {"status": "aya.status"}, sudo=config.sudo)
        if config.supervisor == "systemd":
            return Systemd(self.shell, units | {"status": "aya.status.timer"}, sudo=config.sudo)
        return Processes(self, units)

    def session(
        self, *, database: str | None = None, role: str | None = None, write: bool = False, deadline_s: float | None = None
    ) -> AbstractContextManager[sql.Connection]:
        """A SQL session; see :func:`aya_lib.node.sql.session`."""
        return sql.session(self, database=database, role=role, write=write, deadline_s=deadline_s)


class Nodes(Mapping[str, Node]):
    """The site's nodes by name, in the site's order, as configured: who is what now is for the servers to say."""

    def __init__(self, site: Site, nodes: Mapping[str, Node]) -> None:
        self.site = site
        self._nodes = dict(nodes)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"the nodes {', '.join(self)} of site {self.site.name}"

    @property
    def pair(self) -> tuple[Node, Node]:
        """The two nodes that replicate, as configured: primary, standby."""
        return self[self.site.primary], self[self.site.standby]

    @property
    def primary(self) -> Node:
        """The node that the site asks for to be the primary. Which one is: :func:`aya_lib.cluster.roles.primary`."""
        return self[self.site.primary]

    @property
    def laptop(self) -> Node | None:
        """The site's laptop; None when it has none."""
        return next((node for node in self.values() if node.config.role == "laptop"), None)


def open_nodes(site: Site) -> Nodes:
    """The site's nodes. The one that this machine is (``AYA_NODE``) is reached without ssh."""
    nodes = {name: Node(name, config, site) for name, config in site.nodes.items()}
    return Nodes(site, {name: on_the_spot(node) if name == settings.here() else node for name, node in nodes.items()})


def on_the_spot(node: Node) -> Node:
    """The same node, reached as this machine."""
    return replace(node, config=node.config.model_copy(update={"ssh": None, "tunnel": False}))
