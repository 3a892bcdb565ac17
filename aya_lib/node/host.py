"""The machine below a node: its part of the site, a shell on it, its addresses, and PostgreSQL's programs there."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from aya_lib.node import session
from aya_lib.node.listeners import local_listener, remote_listener
from aya_lib.node.shell import Local, Output, Shell, unprivileged
from aya_lib.node.ssh import Ssh
from aya_lib.node.supervisor import Listener
from aya_lib.site import NodeConfig, Site

CLIENTS = ("psql", "pg_basebackup", "pg_dump", "pg_dumpall", "pg_rewind")  # PostgreSQL's programs that make a session


@dataclass(frozen=True)
class Host:
    """Building one opens no connection."""

    name: str
    config: NodeConfig
    site: Site

    @cached_property
    def shell(self) -> Shell:
        return Ssh(self.name, self.config.ssh, sudo=self.config.sudo) if self.config.ssh else Local(self.name)

    @property
    def data_directory(self) -> Path:
        return self.site.path(self.config.postgresql.data_directory)

    @property
    def account(self) -> str | None:
        """The OS account that owns the cluster; None: the one the shell gives."""
        if self.config.postgresql.account or self.config.ssh:
            return self.config.postgresql.account
        try:
            return pwd.getpwuid(os.stat(self.data_directory).st_uid).pw_name
        except FileNotFoundError:
            return unprivileged()

    @property
    def embedding_url(self) -> str | None:
        """Base URL of the node's embedding service; None when the site has none here."""
        return f"http://{self.config.embedding.host}:{self.config.embedding.port}" if self.config.embedding else None

    @property
    def embedding_socket(self) -> Path | None:
        """:meth:`tunnel_socket` to the node's embedding service."""
        return self.tunnel_socket(self.config.embedding.port) if self.config.embedding else None

    def tunnel_socket(self, port: int) -> Path | None:
        """The socket here through which a tunnelled node's own loopback port is reached; None: it is reached by its address."""
        return self.shell.forward(port) if self.config.tunnel and isinstance(self.shell, Ssh) else None

    def listener(self, port: int) -> Listener | None:
        """Who listens on the TCP port of this node; None: nobody."""
        return remote_listener(self.shell, port) if self.config.ssh else local_listener(self.shell, port)

    def command(self, program: str, *arguments: str) -> list[str]:
        """The argument list that runs one of PostgreSQL's programs of this node, with sessions as whoever starts it has them."""
        return self._command(program, arguments, [])

    def _command(self, program: str, arguments: tuple[str, ...], own: list[str]) -> list[str]:
        config = self.config.postgresql
        words = [f"LD_LIBRARY_PATH={self.site.path(config.library_directory)}"] if config.library_directory else []
        words += own
        return [*(["env", *words] if words else []), str(self.site.path(config.bin_directory) / program), *arguments]

    def postgresql(self, program: str, *arguments: str, timeout_s: float | None = None, stdin: str | None = None) -> Output:
        """Run one of PostgreSQL's programs on the node, as the cluster's owner; its sessions are read-only and settled."""
        timeout_s = timeout_s or self.site.deadlines.command_s
        command = self._command(program, arguments, session.environment() if program in CLIENTS else [])
        output = self.shell.run(command, timeout_s=timeout_s, stdin=stdin, account=self.account)
        return replace(output, argv=(program, *arguments))  # an error names the program, not its environment

    def script(self, text: str, *words: Path | str, stdin: str | None = None, timeout_s: float = 60) -> str:
        """What a shell script prints that runs on the node as the cluster's account, with ``words`` as $1, $2, ..."""
        argv = ["sh", "-c", text, "sh", *map(str, words)]
        return self.shell.run(argv, stdin=stdin, account=self.account, timeout_s=timeout_s).checked().stdout
