"""A shell on another machine through the OpenSSH client: the user's own configuration, agent and known_hosts.

Nothing is ever asked (``BatchMode``), an unknown host key is never accepted, and one connection serves many commands. When
a deadline kills the local ssh, the program it started on the node may go on there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aya_lib import site
from aya_lib.errors import DeadlinePassed, MissingProgram, Unreachable
from aya_lib.node.shell import Local, Output

CONNECT_S = 5
PERSIST_S = 60  # an unused shared connection ends itself after this
OWN_FAILURE = 255  # ssh's own status; a program's 255 comes with the marker that the remote shell printed first
REACHED = "aya-reached"

# What ssh prints -> what it means, and what to do.
REASONS = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "its host key is not the one in known_hosts",
        "Compare it on the node (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) before you drop the old: ssh-keygen -R {}",
    ),
    (
        r"Host key verification failed|No \S+ host key is known",
        "its host key is not in known_hosts",
        "Get it with ssh-keyscan -t ed25519 {}, compare its fingerprint on the node itself, then add it to ~/.ssh/known_hosts",
    ),
    (r"Permission denied", "it refused every key", "Put your public key into authorized_keys there, or start ssh-agent: ssh-add"),
    (r"Connection refused", "connection refused: no sshd listens there", "Is Remote Login on, and the port right?"),
    (r"Could not resolve hostname", "the name cannot be resolved", "Check ssh.host in site.yaml, and ~/.ssh/config"),
    (r"No route to host|Network is unreachable", "no route to it", "Is the network or Tailscale up?"),
)


@dataclass(frozen=True)
class Ssh:
    """A :class:`aya_lib.node.shell.Shell` over ssh. With ``sudo``, another account is entered by ``sudo -n``."""

    node: str
    target: site.Ssh
    sudo: bool = False

    def run(self, argv: Sequence[str], *, timeout_s: float = 10, stdin: str | None = None, account: str | None = None) -> Output:
        remote = f"echo {REACHED} >&2; {self._remote(argv, account)}"
        output = Local(self.node).run([*self.command, "--", self.target.host, remote], timeout_s=timeout_s, stdin=stdin)
        reached, marker, stderr = output.stderr.rpartition(f"{REACHED}\n")
        if output.status == OWN_FAILURE and not (reached or REACHED in output.stderr):
            raise self._failure(output.stderr)
        if output.status == 127:
            raise MissingProgram(f"{self.node}: no program {argv[0]}", hint="Check bin_directory in site.yaml, or install it")
        return Output(self.node, tuple(argv), output.status, output.stdout, stderr if marker else output.stderr, output.seconds)

    def start(self, argv: Sequence[str], *, account: str | None = None) -> subprocess.Popen[str]:
        """Over a connection of its own: the shared one may be closed meanwhile."""
        ssh, *options = self.command
        return Local(self.node).start([ssh, "-S", "none", *options, "--", self.target.host, self._remote(argv, account)])

    def _remote(self, argv: Sequence[str], account: str | None) -> str:
        words = ["env", "LC_ALL=C", *argv]
        if account is not None and account != self.target.user:
            words = ["sudo", "-n", "-u", account, "--", *words]
        return shlex.join(words)

    @cached_property
    def command(self) -> list[str]:
        """ssh and its options."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": str(CONNECT_S),
            "ServerAliveCountMax": "2",
            "ControlMaster": "auto",
            "ControlPath": str(_sockets() / f"%C-{self._configuration}"),
            "ControlPersist": str(PERSIST_S),
            "StreamLocalBindUnlink": "yes",  # a socket whose connection is gone does not stand in the way
        }
        words = ["ssh", *(["-F", str(self.target.config)] if self.target.config else [])]
        words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        words += ["-p", str(self.target.port)] if self.target.port else []
        return words + (["-l", self.target.user] if self.target.user else [])

    @property
    def _configuration(self) -> str:
        """Another configuration is another connection, also to the same host: it may trust other keys."""
        return _short(str(self.target.config))

    @property
    def _destination(self) -> str:
        return _short(f"{self.target.config} {self.target.user} {self.target.host} {self.target.port}")

    def forward(self, port: int) -> Path:
        """A Unix socket here behind which the node's own loopback ``port`` is, named as libpq looks for it: ``.s.PGSQL.<port>``.

        It belongs to the shared connection, whose end takes it away; asked for twice it is the same. Only this account may
        enter it. :class:`Unreachable` as :meth:`run`.
        """
        path = _sockets() / self._destination / f".s.PGSQL.{port}"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        words = [*self.command, "-O", "forward", "-L", f"{path}:127.0.0.1:{port}", "--", self.target.host]
        if Local(self.node).run(words).status != 0:  # no connection that could be shared yet
            self.run(["true"], timeout_s=2 * CONNECT_S)
            output = Local(self.node).run(words)
            if output.status != 0:
                raise self._failure(output.stderr)
        return path

    def spawn(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Start a program on the node that outlives us, in a session of its own; its PID there."""
        words = [*(f"{name}={value}" for name, value in environment.items()), *command]
        script = 'log=$1; shift; cd /; setsid nohup env "$@" </dev/null >>"$log" 2>&1 & echo $!'
        return int(self.run(["sh", "-c", script, "sh", str(log), *words]).checked().stdout)

    def close(self) -> None:
        """End the shared connection, if there is one, and take its sockets away."""
        Local(self.node).run([*self.command, "-O", "exit", "--", self.target.host])
        shutil.rmtree(_sockets() / self._destination, ignore_errors=True)

    def _failure(self, stderr: str) -> Unreachable:
        tried = f"ssh {self.target.host}"
        if re.search(r"timed out|Timeout", stderr):
            return DeadlinePassed(self.node, tried, f"no answer within {CONNECT_S} s", hint="Is it on, and the network up?")
        for pattern, reason, hint in REASONS:
            if re.search(pattern, stderr):
                return Unreachable(self.node, tried, reason, hint=hint.format(self.target.host))
        last = [line for line in stderr.splitlines() if line.strip()]
        return Unreachable(self.node, tried, last[-1] if last else "ssh ended without a word")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _sockets() -> Path:
    """A folder of one's own for the shared connections' sockets, short enough for a socket's path (104 bytes on macOS)."""
    path = Path(tempfile.gettempdir() if len(tempfile.gettempdir()) < 40 else "/tmp") / f"aya-ssh-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise Unreachable("this machine", f"use {path}", "it belongs to somebody else or is open to others")
    return path
