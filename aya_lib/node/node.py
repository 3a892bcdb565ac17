"""A node: its wish, a shell on it, its supervisor, and SQL. Building one opens no connection."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from aya_lib import settings
from aya_lib.node import sql
from aya_lib.node.shell import Local, Output, Shell, unprivileged
from aya_lib.node.supervisor import Supervisor
from aya_lib.site import NodeWish, Site


@dataclass(frozen=True)
class Node:
    name: str
    wish: NodeWish
    site: Site

    @cached_property
    def shell(self) -> Shell:
        if self.wish.ssh is None:
            return Local(self.name)
        from aya_lib.node.ssh import Ssh

        return Ssh(self.name, self.wish.ssh, sudo=self.wish.sudo)

    @cached_property
    def supervisor(self) -> Supervisor:
        units = {"postgresql": self.wish.postgresql.unit}
        if self.wish.embedding:
            units["embedding"] = self.wish.embedding.unit
        if self.wish.role == "laptop":
            units["sync"] = self.wish.sync.unit
        if self.wish.supervisor != "process":
            units["status"] = "aya.status.timer" if self.wish.supervisor == "systemd" else "aya.status"
        if self.wish.supervisor == "launchd":
            from aya_lib.node.launchd import Launchd

            return Launchd(self.shell, units, sudo=self.wish.sudo)
        if self.wish.supervisor == "systemd":
            from aya_lib.node.systemd import Systemd

            return Systemd(self.shell, units, sudo=self.wish.sudo)
        from aya_lib.node.process import Processes

        return Processes(self, units)

    @property
    def data_directory(self) -> Path:
        return self.site.path(self.wish.postgresql.data_directory)

    @property
    def account(self) -> str | None:
        """The OS account that owns the cluster; None: the one the shell gives."""
        if self.wish.postgresql.account or self.wish.ssh:
            return self.wish.postgresql.account
        try:
            return pwd.getpwuid(os.stat(self.data_directory).st_uid).pw_name
        except FileNotFoundError:
            return unprivileged()

    @property
    def embedding_url(self) -> str | None:
        """Base URL of the node's embedding service; None when the site wishes none here."""
        return f"http://{self.wish.embedding.host}:{self.wish.embedding.port}" if self.wish.embedding else None

    @property
    def embedding_socket(self) -> Path | None:
        """:meth:`tunnel_socket` to the node's embedding service."""
        return self.tunnel_socket(self.wish.embedding.port) if self.wish.embedding else None

    def tunnel_socket(self, port: int) -> Path | None:
        """The socket here through which a tunnelled node's own loopback port is reached; None: it is reached by its address."""
        from aya_lib.node.ssh import Ssh

        return self.shell.forward(port) if self.wish.tunnel and isinstance(self.shell, Ssh) else None

    def session(
        self,
        *,
        database: str | None = None,
        role: str | None = None,
        write: bool = False,
        deadline_s: float | None = None,
    ) -> AbstractContextManager[sql.Connection]:
        """A SQL session; see :func:`aya_lib.node.sql.session`."""
        return sql.session(self, database=database, role=role, write=write, deadline_s=deadline_s)

    def command(self, program: str, *arguments: str) -> list[str]:
        """The argument list that runs one of PostgreSQL's programs of this node."""
        wish = self.wish.postgresql
        library = [f"LD_LIBRARY_PATH={self.site.path(wish.library_directory)}"] if wish.library_directory else []
        return [*(["env", *library] if library else []), str(self.site.path(wish.bin_directory) / program), *arguments]

    def postgresql(self, program: str, *arguments: str, timeout_s: float | None = None, stdin: str | None = None) -> Output:
        """Run one of PostgreSQL's programs on the node, as the cluster's owner."""
        timeout_s = timeout_s or self.site.deadlines.command_s
        return self.shell.run(self.command(program, *arguments), timeout_s=timeout_s, stdin=stdin, account=self.account)


class Nodes(Mapping[str, Node]):
    """The site's nodes by name, in the site's order, as the site wishes them: who is what now is for the servers to say."""

    def __init__(self, site: Site, nodes: Mapping[str, Node]) -> None:
        self.site = site
        self._nodes = dict(nodes)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def pair(self) -> tuple[Node, Node]:
        """The two nodes that replicate, as wished: primary, standby."""
        return self[self.site.primary], self[self.site.standby]

    @property
    def primary(self) -> Node:
        """The node that the site wishes to be the primary. Which one is: :func:`aya_lib.cluster.roles.primary`."""
        return self[self.site.primary]

    @property
    def laptop(self) -> Node | None:
        """The site's laptop; None when it has none."""
        return next((node for node in self.values() if node.wish.role == "laptop"), None)


def open_nodes(site: Site) -> Nodes:
    """The site's nodes. The one that this machine is (``AYA_NODE``) is reached without ssh."""
    nodes = {name: Node(name, wish, site) for name, wish in site.nodes.items()}
    return Nodes(site, {name: on_the_spot(node) if name == settings.here() else node for name, node in nodes.items()})


def on_the_spot(node: Node) -> Node:
    """The same node, reached as this machine."""
    return replace(node, wish=node.wish.model_copy(update={"ssh": None, "tunnel": False}))
