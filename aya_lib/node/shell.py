"""A shell on a node: run a program, get its output, within a deadline. Local here; SSH in :mod:`aya_lib.node.ssh`."""

from __future__ import annotations

import functools
import getpass
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aya_lib.errors import CommandFailed, DeadlinePassed, MissingProgram

SETPRIV = ("setpriv", "--clear-groups")
REFUSED = "setpriv: failed to execute"
# The one way to write a file on a node, whole or not at all: standard input into $1, with mode $2.
WRITE = 'umask 077; cat > "$1.new" && chmod "$2" "$1.new" && mv -f "$1.new" "$1"'


@dataclass(frozen=True)
class Output:
    """What a program answered. ``seconds`` is wall time."""

    node: str
    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    seconds: float = 0.0

    def checked(self, hint: str = "") -> Output:
        """Itself when the status is 0; raises :class:`CommandFailed` otherwise."""
        if self.status != 0:
            raise CommandFailed(self.node, self.argv, self.status, self.stderr or self.stdout, hint=hint)
        return self


class Shell(Protocol):
    """Runs programs on one node. Messages are in English whatever the locale is (``LC_ALL=C``)."""

    @property
    def node(self) -> str: ...

    def run(self, argv: Sequence[str], *, timeout_s: float = 10, stdin: str | None = None, account: str | None = None) -> Output:
        """Run a program, as ``account`` when given; its status is in the output and is not judged here.

        Raises :class:`DeadlinePassed` (the program is killed), :class:`Unreachable` (no shell on the node) and
        :class:`MissingProgram`.
        """

    def start(self, argv: Sequence[str], *, account: str | None = None) -> subprocess.Popen[str]:
        """Start a program that is talked to through its pipes, and that ends, by itself, when its standard input does."""


@dataclass(frozen=True)
class Local:
    """This machine. Another account is entered directly by root, through ``sudo -n`` by anybody else."""

    node: str

    def run(self, argv: Sequence[str], *, timeout_s: float = 10, stdin: str | None = None, account: str | None = None) -> Output:
        started = time.monotonic()
        process = self.start(argv, account=account, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise DeadlinePassed(self.node, " ".join(argv), f"no answer within {timeout_s:g} s") from None
        finally:
            _end(process)
        if process.returncode in (126, 127) and stderr.startswith(REFUSED):
            if process.returncode == 127:
                raise MissingProgram(f"{self.node}: no program {argv[0]}", hint="Check bin_directory in site.yaml")
            raise CommandFailed(self.node, argv, 126, stderr)
        return Output(self.node, tuple(argv), process.returncode, stdout, stderr, time.monotonic() - started)

    def start(self, argv: Sequence[str], *, account: str | None = None, stdin: int = subprocess.PIPE) -> subprocess.Popen[str]:
        command, identity = _entered(argv, account)
        try:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C"},
                cwd="/",
                start_new_session=True,
                **identity,
            )
        except FileNotFoundError:
            raise MissingProgram(f"{self.node}: no program {command[0]}", hint="Check bin_directory in site.yaml") from None
        except PermissionError as error:
            raise CommandFailed(self.node, command, 126, str(error)) from None


def _entered(argv: Sequence[str], account: str | None) -> tuple[list[str], dict[str, Any]]:
    """The command that runs as ``account``, and what :mod:`subprocess` needs for it. Root's way is setpriv where there is one:
    with an account to enter Python copies its own address space for each program, which took 12 ms and not 2."""
    if account is None or account == getpass.getuser():
        return [*argv], {}
    if os.geteuid() != 0:
        return ["sudo", "-n", "-u", account, "--", *argv], {}
    if not _setpriv_works():
        return [*argv], become(account)
    entry = pwd.getpwnam(account)
    return [*SETPRIV, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--", *argv], {}


@functools.cache
def _setpriv_works() -> bool:
    """Whether it is here and is that of util-linux: BusyBox has another one, which knows none of the options."""
    try:
        return subprocess.run([*SETPRIV, "--reuid=0", "--regid=0", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


def become(account: str | None) -> dict[str, Any]:
    """Arguments for :mod:`subprocess` by which root starts a program as ``account``."""
    entry = pwd.getpwnam(account or unprivileged())
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def unprivileged() -> str:
    """The account that PostgreSQL runs under when we are root (it refuses root): ``postgres`` or ``nobody``."""
    if os.geteuid() != 0:
        return getpass.getuser()
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def read(shell: Shell, path: Path, *, account: str | None = None, timeout_s: float = 10) -> str | None:
    """Text of a file on the node, None when there is no such file; raises when it cannot be known."""
    output = shell.run(["cat", "--", str(path)], account=account, timeout_s=timeout_s)
    if output.status != 0 and "No such file or directory" in output.stderr:
        return None
    return output.checked().stdout


def exists(shell: Shell, path: Path, *, account: str | None = None, timeout_s: float = 10) -> bool:
    """Whether a file or folder is there; raises when it cannot be known (a folder that may not be entered)."""
    output = shell.run(["ls", "-d", "--", str(path)], account=account, timeout_s=timeout_s)
    if output.status != 0 and "No such file or directory" in output.stderr:
        return False
    output.checked()
    return True


def _end(process: subprocess.Popen[str]) -> None:
    """Leave nothing behind of a program that was not waited for to its end."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
