"""Locks on a node that last as long as this process and its way to the node: one on the machine, one in its server.

They keep a second operator away, from whatever folder, account or machine he works. The machine's is flock(2) on the folder that
holds the data directory, which no clone, rewind or restart takes away; the server's an advisory lock, on a standby too. Who only
loads or measures has a lock of its own, in the servers alone (:data:`CONTENTS`): it ends with the server that it works on, and
nobody who must act waits for it. Nothing is written. Whoever dies gives all back at once; whose connection is cut, after
:data:`LAPSE_S`.
"""

from __future__ import annotations

import select
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from aya_lib.errors import AyaError, CommandFailed
from aya_lib.node.deadline import Watch
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, column, statement, value

BEAT_S = 5.0
ANSWER_S = 15.0  # a server that does not answer a beat for so long counts as lost
LAPSE_S = 60  # the node's machine gives its lock back after so long without a beat; more than a beat of two frozen servers
WEEK_S = 604_800.0
ROLES, CONTENTS = 1, 2  # the advisory locks: of who changes servers and roles, of who loads or measures
BUSY = 75  # the exit status of who finds the lock taken (sysexits.h: EX_TEMPFAIL)

# Perl is on every macOS and nearly every Linux. Without it flock(1), which notices an end, but not a cut connection.
PERL = (
    'use Fcntl ":flock"; $|=1; alarm LAPSE; open(F,"<",$ARGV[1]) or die "$!\\n"; print "ready\\n"; <STDIN> or exit; '
    'flock(F,LOCK_EX|LOCK_NB) or exit BUSY; print "held\\n"; do { alarm LAPSE } while <STDIN>'
)
SCRIPT = """
command -v perl >/dev/null && exec perl -e "$1" aya-lock "$2" "$3"
echo ready; read -r go || exit
exec flock -n -E BUSY "$2" sh -c 'echo held; exec cat >/dev/null' aya-lock "$2" "$3"
"""


class Hold(Protocol):
    """A lock on a node, free until :meth:`take`. ``where`` it is, for people."""

    where: str

    def take(self) -> str | None:
        """Take it: None, or who holds it; an :class:`AyaError` when that cannot be told."""

    def beat(self) -> bool:
        """A sign of life; False: the lock is lost."""

    def release(self) -> None:
        """Give it back. Twice is harmless."""


class Machine:
    """The lock on the node's machine, held by a program there that ends with its standard input. ``who``: one line; ``folder``:
    another one than that which holds the data directory, to lock only what is in it."""

    def __init__(self, node: Node, who: str, folder: Path | None = None) -> None:
        self.where = f"the folder {folder} on {node.name}" if folder else f"the machine of {node.name}"
        self._node, self._who = node, who
        self._folder = str(folder or node.data_directory.parent)
        node.shell.run(["ls", "-d", "--", self._folder], account=node.account).checked()
        script, program = (text.replace("LAPSE", str(LAPSE_S)).replace("BUSY", str(BUSY)) for text in (SCRIPT, PERL))
        words = ["sh", "-c", script, "sh", program, self._folder, who]
        self._process = node.shell.start(words, account=node.account)
        if self._line() != "ready":
            raise self._failure()

    def take(self) -> str | None:
        if self.beat() and self._line() == "held":
            return None
        with suppress(subprocess.TimeoutExpired):
            if self._process.wait(5) == BUSY:
                return self._holder()
        raise self._failure()

    def beat(self) -> bool:
        with suppress(OSError, ValueError):
            assert self._process.stdin
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self._process.poll() is None

    def release(self) -> None:
        with suppress(OSError, ValueError):
            assert self._process.stdin
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _line(self) -> str:
        """The next line of the program; empty when it ended or says nothing in time."""
        stdout, limit_s = self._process.stdout, self._node.site.deadlines.command_s
        assert stdout
        return stdout.readline().strip() if select.select([stdout], [], [], limit_s)[0] else ""

    def _holder(self) -> str:
        """By the arguments of the program that holds it. Our own: two nodes may lie in one folder."""
        named = on_machine(self._node, self._folder)
        return next((who for who in named if who != self._who), self._who if named else "another run")

    def _failure(self) -> CommandFailed:
        self._process.kill()
        _, said = self._process.communicate()
        return CommandFailed(self._node.name, ["flock", self._folder], self._process.returncode, said)


class Server:
    """The advisory lock in the node's server, held by a session of its own that no timeout ends. ``key``: which of the two."""

    def __init__(self, node: Node, who: str, key: int = ROLES) -> None:
        self._key = key
        self.where, self._stack = f"the server of {node.name}", ExitStack()
        self._connection = self._stack.enter_context(node.session(database="postgres", deadline_s=WEEK_S))
        self._watch = Watch(self._connection.fileno(), ANSWER_S)
        self._stack.callback(self._watch.end)
        try:
            self._connection.execute(statement(__package__, "hold"), {"who": who})
        except BaseException:
            self._stack.close()
            raise

    def take(self) -> str | None:
        if value(self._connection, statement(__package__, "hold_take"), {"key": self._key}):
            return None
        return holder(self._connection, self._key) or "another run"

    def changing(self) -> str:
        """Who changes servers and roles; empty when nobody does."""
        return holder(self._connection, ROLES)

    def beat(self) -> bool:
        try:
            self._connection.execute("SELECT 1")
        except Exception:  # the server ended, was restarted, or says nothing: whatever it is, the lock is gone
            return False
        self._watch.renew()
        return True

    def release(self) -> None:
        with suppress(AyaError):
            self._stack.close()


def holder(connection: Connection, key: int) -> str:
    """Who holds a lock in the server of a session of the database ``postgres``; empty when nobody does."""
    return str(next(iter(column(connection, statement(__package__, "hold_holder"), {"key": key})), ""))


def on_machine(node: Node, folder: str = "") -> list[str]:
    """Who holds the lock on a node's machine, or on another folder there, or is about to ask for it."""
    listed = node.shell.run(["ps", "-A", "-ww", "-o", "args="], account=node.account).stdout
    mark = f" aya-lock {folder or node.data_directory.parent} "
    return [line.rpartition(mark)[2].strip() for line in listed.splitlines() if mark in line]
