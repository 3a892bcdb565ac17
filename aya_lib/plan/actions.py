"""Actions that every operation uses. A class of an operation's own is for what waits for something or decides something."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aya_lib.cluster import state
from aya_lib.cluster.state import Fence
from aya_lib.errors import UsageError
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.shell import WRITE
from aya_lib.node.supervisor import ServiceAction, ServiceState
from aya_lib.plan.started import until_it_answers

CHECKPOINT_S = 600.0  # a checkpoint writes out what is dirty of shared_buffers
SLACK_S = 2.0  # a start time is computed from the machine's uptime: two looks at one process differ by up to a second
AGAIN = "Run it again: it looks anew, and plans for what is there now"
CREATE_SLOT = (
    "SELECT pg_create_physical_replication_slot(%s, true)"
    " WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s)"
)


@dataclass(frozen=True)
class Nothing:
    """The undo of a step that changed nothing."""

    def command(self, node: Node) -> str:
        return "nothing"

    def run(self, node: Node) -> None:
        return


@dataclass(frozen=True)
class Call:
    """A function of a node that does it. ``shown``: what a person would type; two with the same are one act."""

    shown: str
    do: Callable[[Node], object] = field(compare=False)

    def command(self, node: Node) -> str:
        return self.shown

    def run(self, node: Node) -> None:
        self.do(node)


@dataclass(frozen=True)
class Service:
    """Start, stop, restart, enable or disable a service through the node's supervisor. One that was started answers, then."""

    action: ServiceAction
    service: str

    def command(self, node: Node) -> str:
        return node.supervisor.describe(self.action, self.service)

    def run(self, node: Node) -> None:
        getattr(node.supervisor, self.action)(self.service)
        if self.action in ("start", "restart"):
            until_it_answers(node, self.service)


@dataclass(frozen=True)
class Sql:
    """A statement with its values; run as the owner, in a session that may write. ``database`` None: the site's."""

    statement: str
    values: tuple[str, ...] = ()
    database: str | None = "postgres"
    deadline_s: float | None = None

    def command(self, node: Node) -> str:
        shown = self.statement
        for value in self.values:
            shown = shown.replace("%s", "'" + value.replace("'", "''") + "'", 1)
        return shown

    def run(self, node: Node) -> None:
        with node.session(database=self.database, write=True, deadline_s=self.deadline_s) as connection:
            connection.execute(self.statement.encode(), self.values or None)


@dataclass(frozen=True)
class Setting:
    """ALTER SYSTEM and a reload; ``value`` None resets it. Never waits for a standby."""

    name: str
    value: str | None

    def command(self, node: Node) -> str:
        return f"{self._statement}; SELECT pg_reload_conf()"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True) as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute(self._statement.encode())
            before = connection.execute("SELECT pg_conf_load_time()").fetchone()
            connection.execute("SELECT pg_reload_conf()")
            wait.until(
                lambda: connection.execute("SELECT pg_conf_load_time()").fetchone(),
                lambda now: now != before,
                node=node.name,
                what=f"{self.name} is read from its files",
                deadline_s=node.site.deadlines.command_s,
            )

    @property
    def _statement(self) -> str:
        if self.value is None:
            return f"ALTER SYSTEM RESET {self.name}"
        return f"ALTER SYSTEM SET {self.name} = '{self.value.replace(chr(39), chr(39) * 2)}'"


@dataclass(frozen=True)
class CreateSlot:
    """A physical slot that holds WAL at once; harmless when it is there.

    It holds from the last checkpoint on (PostgreSQL: ReplicationSlotReserveWal), so a standby that is to go on where it was
    finds its WAL. ``checkpoint``: make one before, for a copy that begins now: after a promotion the last one can lie so far
    back that the slot would be lost at the next. Never for a standby that lags: a checkpoint recycles what it still needs.
    """

    name: str
    checkpoint: bool = False

    def command(self, node: Node) -> str:
        return f"{'CHECKPOINT; ' if self.checkpoint else ''}SELECT pg_create_physical_replication_slot('{self.name}', true)"

    def run(self, node: Node) -> None:
        deadline_s = CHECKPOINT_S if self.checkpoint else None
        with node.session(database="postgres", write=True, deadline_s=deadline_s) as connection:
            if self.checkpoint:
                connection.execute("SET statement_timeout = 0")
                connection.execute("CHECKPOINT")
            connection.execute(CREATE_SLOT, (self.name, self.name))


def drop_slot(name: str) -> Sql:
    """Drop a slot that nobody uses; harmless when it is not there."""
    return Sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (name,))


@dataclass(frozen=True)
class SetState:
    """Write down what runbooks agreed on: fields of the site's state (:mod:`aya_lib.cluster.state`), who is fenced from now on
    (``fence``) or no longer (``lift``, a node's name), and an ``entry`` for the failover log."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    fence: Fence | None = None
    lift: str = ""
    entry: Mapping[str, Any] | None = None

    def command(self, node: Node) -> str:
        words = [f"{name} = {_short(value)}" for name, value in self.changes.items()]
        words += [f"{self.fence.node} is fenced ({self.fence.way})"] if self.fence else []
        words += [f"{self.lift} is not fenced"] if self.lift else []
        into = [f"{state.path(node.site).name}: {', '.join(words)}"] if words else []
        return "; ".join([*into, *([f"a line in {state.log_path(node.site).name}"] if self.entry else [])])

    def run(self, node: Node) -> None:
        if self.changes:
            state.change(node.site, **self.changes)
        if self.fence:
            state.fence(node.site, self.fence)
        if self.lift:
            state.unfence(node.site, self.lift)
        if self.entry:
            state.log(node.site, self.entry)


@dataclass(frozen=True)
class Script:
    """A program on the node: an argument list, or a text for ``sh`` in which $1, $2, ... are ``words``.

    Run as the cluster's owner; ``root``: as root instead, through sudo where the site says so. ``shown``: what a person would
    type, where that is shorter. Fails with :class:`CommandFailed`, whose hint is ``hint``.
    """

    script: str | tuple[str, ...]
    words: tuple[str, ...] = ()
    stdin: str | None = None
    root: bool = False
    timeout_s: float | None = None
    shown: str = ""
    hint: str = ""

    def command(self, node: Node) -> str:
        text = self.script if isinstance(self.script, str) else shlex.join(self.script)
        return _as_root(node, self.root) + (self.shown or text)

    def run(self, node: Node) -> None:
        argv = ["sh", "-c", self.script, "sh", *self.words] if isinstance(self.script, str) else self.script
        _run(node, argv, self.root, self.stdin, self.timeout_s, self.hint)


@dataclass(frozen=True)
class WriteFile:
    """Write a file, whole or not at all. ``root``: as root, not as the cluster's owner. ``then``: a program to run after it."""

    path: str | Path
    text: str
    mode: str = "0644"
    root: bool = False
    then: tuple[str, ...] = ()

    def command(self, node: Node) -> str:
        return _as_root(node, self.root) + f"write {self.path}" + (f"; {shlex.join(self.then)}" if self.then else "")

    def run(self, node: Node) -> None:
        _run(node, ["sh", "-c", WRITE, "sh", str(self.path), self.mode], self.root, self.text)
        if self.then:
            _run(node, self.then, self.root)


def remove_file(path: str | Path) -> Script:
    """Remove a file of the cluster's owner; harmless when it is not there."""
    return Script(("rm", "-f", "--", str(path)), shown=f"rm -f {path}")


@dataclass(frozen=True)
class Kill:
    """SIGKILL to a service's process, only while it is the one that was seen (PID and start), and wait until it is gone.

    For a server that does not answer: thawed by an orderly stop, it would acknowledge what nobody else has. ``children``: those
    first. ``root``: as root, not as the cluster's owner. :class:`UsageError` when the service is another process by now.
    """

    service: str
    pid: int
    since: datetime | None
    children: bool = True
    root: bool = False

    def command(self, node: Node) -> str:
        return _as_root(node, self.root) + f"kill -KILL {self.pid}{' and its children' if self.children else ''}"

    def run(self, node: Node) -> None:
        now = node.supervisor.state(self.service)
        if now.pid is None or now.status not in ("running", "frozen"):
            return
        if not self._is(now):
            began = f"PID {now.pid}{f', since {now.since:%H:%M:%S} UTC' if now.since else ''}"
            raise UsageError(f"{node.name}: {self.service} is {began} now, not the PID {self.pid} that was seen", hint=AGAIN)
        script = ('pkill -KILL -P "$1"; ' if self.children else "") + 'kill -KILL "$1"'
        _run(node, ["sh", "-c", script, "sh", str(self.pid)], self.root, checked=False)
        wait.until(
            lambda: node.supervisor.state(self.service),
            lambda state: not (self._is(state) and state.status in ("running", "frozen")),
            node=node.name,
            what=f"{self.service} with PID {self.pid} is gone",
            deadline_s=node.site.deadlines.command_s,
        )

    def _is(self, now: ServiceState) -> bool:
        known = now.since is not None and self.since is not None
        same = abs((now.since - self.since).total_seconds()) <= SLACK_S if known else True  # type: ignore[operator]
        return now.pid == self.pid and same


@dataclass(frozen=True)
class Terminate:
    """Ask a foreign process to end (SIGTERM), only while it is the one that was seen, by PID and command; wait for its port."""

    pid: int
    seen: str
    port: int

    def command(self, node: Node) -> str:
        return f"kill -TERM {self.pid}"

    def run(self, node: Node) -> None:
        holder = node.listener(self.port)
        if holder is None:
            return
        if (holder.pid, holder.command) != (self.pid, self.seen):
            told = f"held by PID {holder.pid} now ({holder.command}), not by {self.pid} ({self.seen})"
            raise UsageError(f"{node.name}: port {self.port} is {told}", hint=AGAIN)
        node.shell.run(["kill", "-TERM", str(self.pid)]).checked()
        wait.until(
            lambda: node.listener(self.port),
            lambda listener: listener is None,
            node=node.name,
            what=f"PID {self.pid} gives port {self.port} back",
            deadline_s=node.site.deadlines.command_s,
        )


def _run(
    node: Node,
    argv: Sequence[str],
    root: bool,
    stdin: str | None = None,
    timeout_s: float | None = None,
    hint: str = "",
    *,
    checked: bool = True,
) -> None:
    """Run a program as the cluster's owner, or as root."""
    sudo = ["sudo", "-n"] if root and node.config.sudo else []
    timeout_s = timeout_s or node.site.deadlines.command_s
    output = node.shell.run([*sudo, *argv], stdin=stdin, account=None if root else node.account, timeout_s=timeout_s)
    if checked:
        output.checked(hint)


def _as_root(node: Node, root: bool) -> str:
    return "sudo -n " if root and node.config.sudo else ""


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(value.get(key, "")) for key in ("kind", "old", "new")).strip() or "..."
    return "none" if value is None else str(value)
