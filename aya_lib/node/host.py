"""The machine below a node: its part of the site, a shell on it, its addresses, and PostgreSQL's programs there."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aya_lib.node.listeners import local_listener, remote_listener
from aya_lib.node.shell import Local, Output, Shell, unprivileged
from aya_lib.node.ssh import Ssh
from aya_lib.node.supervisor import Listener
from aya_lib.site import NodeWish, Site


@dataclass(frozen=True)
class Host:
    """Building one opens no connection."""

    name: str
    wish: NodeWish
    site: Site

    @cached_property
    def shell(self) -> Shell:
        return Ssh(self.name, self.wish.ssh, sudo=self.wish.sudo) if self.wish.ssh else Local(self.name)

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
        """Base URL of the node's embedding service; None when the site has none here."""
        return f"http://{self.wish.embedding.host}:{self.wish.embedding.port}" if self.wish.embedding else None

    @property
    def embedding_socket(self) -> Path | None:
        """:meth:`tunnel_socket` to the node's embedding service."""
        return self.tunnel_socket(self.wish.embedding.port) if self.wish.embedding else None

    def tunnel_socket(self, port: int) -> Path | None:
        """The socket here through which a tunnelled node's own loopback port is reached; None: it is reached by its address."""
        return self.shell.forward(port) if self.wish.tunnel and isinstance(self.shell, Ssh) else None

    def listener(self, port: int) -> Listener | None:
        """Who listens on the TCP port of this node; None: nobody."""
        return remote_listener(self.shell, port) if self.wish.ssh else local_listener(self.shell, port)

    def command(self, program: str, *arguments: str) -> list[str]:
        """The argument list that runs one of PostgreSQL's programs of this node."""
        wish = self.wish.postgresql
        library = [f"LD_LIBRARY_PATH={self.site.path(wish.library_directory)}"] if wish.library_directory else []
        return [*(["env", *library] if library else []), str(self.site.path(wish.bin_directory) / program), *arguments]

    def postgresql(self, program: str, *arguments: str, timeout_s: float | None = None, stdin: str | None = None) -> Output:
        """Run one of PostgreSQL's programs on the node, as the cluster's owner."""
        timeout_s = timeout_s or self.site.deadlines.command_s
        return self.shell.run(self.command(program, *arguments), timeout_s=timeout_s, stdin=stdin, account=self.account)
