"""What a standby would bring along, and what could keep it, were it the primary in a moment: facts, judged in
:mod:`aya_lib.cluster.judge.standby`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from aya_lib.cluster import machine, replication, wal
from aya_lib.cluster.overview import NodeSeen
from aya_lib.cluster.server import SIZES, Cluster, look_control
from aya_lib.errors import DeadlinePassed
from aya_lib.node.node import Node, Nodes
from aya_lib.node.refusal import PASSWORD
from aya_lib.node.sql import Refused, rows
from aya_lib.node.unseen import Down, Missing, looking

ANSWER_S, LATE_S = 5.0, 1.0  # a restore_command is called several times in a promotion; most give their no in milliseconds
DOING = {
    "RestoreCommand": "its restore_command runs and has not ended",
    "RecoveryEndCommand": "its recovery_end_command runs and has not ended",
    "RecoveryPause": "its replay is paused",
    "RecoveryApplyDelay": "it waits for recovery_min_apply_delay",
}


@dataclass(frozen=True)
class Recovery:
    """A server's recovery. ``backlog_bytes``: received and not replayed, None where nothing was received. ``waits_for``: the
    wait event of its startup process; ``held_by``: the session that keeps it waiting. ``targets``: settings at which it would
    stop before the end of the WAL. ``read_only``: its configuration makes every transaction so, also when it is a primary.
    ``sizes``: see :data:`SIZES`."""

    node: str
    recovering: bool
    replayed_lsn: str = "0/0"
    backlog_bytes: int | None = 0
    pause: str = "not paused"
    waits_for: str = ""
    held_by: str = ""
    delay_s: float = 0.0
    restore_command: str = ""
    end_command: str = ""
    targets: Sequence[str] = ()
    read_only: bool = False
    sizes: Mapping[str, int] | None = None

    def __str__(self) -> str:
        doing = f"held up by {self.held_by}" if self.held_by else DOING.get(self.waits_for, "it replays")
        return f"{self.node} has replayed up to {self.replayed_lsn}: {doing}"


@dataclass(frozen=True)
class Answer:
    """What a restore_command gave when it was asked for a file that a promotion asks for: *quick* (also a no), *late* (after
    :data:`LATE_S`), *slow* (no answer within :data:`ANSWER_S`), or *broken*: a status that ends the recovery. (PostgreSQL:
    RestoreArchivedFile.)"""

    word: Literal["quick", "late", "slow", "broken"]
    said: str


@dataclass(frozen=True)
class Login:
    """A session of the application's role. ``refused``: why the server took none."""

    node: str
    role: str
    refused: str = ""


@dataclass(frozen=True)
class Ready:
    """A standby beside its primary. ``leader``: the primary's own side of it; ``needs``: what its WAL asks for, see
    :data:`SIZES`; ``answer``: None where there is no restore_command; ``free``: bytes on the disk of each folder; ``logins``:
    on the standby and, when it takes sessions, the primary; ``receives``: whether each lets the other in for replication."""

    standby: str
    primary: str
    recovery: Recovery | Missing
    leader: Recovery | Missing
    needs: Mapping[str, int] | Missing
    answer: Answer | Missing | None
    free: Mapping[str, int | Missing]
    logins: Mapping[str, Login | Missing]
    receives: Mapping[str, replication.Login | Missing] = field(default_factory=dict)


def look(nodes: Nodes, primary: NodeSeen, standby: NodeSeen) -> Ready:
    """Everything about a standby that would be missed only once it is the primary."""
    node, leads = nodes[standby.name], nodes[primary.name] if primary.writable else None
    folders, asked = (node.data_directory, wal.folder(node)), [node, *([leads] if leads else [])]
    with ThreadPoolExecutor(4) as pool:
        side = pool.submit(look_recovery, leads) if leads else None
        rooms = pool.map(partial(machine.free_bytes, node), folders)
        logins = pool.map(look_login, asked)
        entries = pool.map(replication.look_login, asked, asked[::-1]) if leads else ()
        recovery = look_recovery(node)
        command = recovery.restore_command if isinstance(recovery, Recovery) and recovery.recovering else ""
        timeline = standby.cluster.timeline if isinstance(standby.cluster, Cluster) else 1
        answer = look_answer(node, command, timeline) if command else None
        leader = side.result() if side else Down(primary.name, "it takes no sessions")
        free = dict(zip(map(str, folders), rooms, strict=True))
        known = dict(zip((one.name for one in asked), logins, strict=True))
        lets_in = {one.name: entry for one, entry in zip(asked, entries, strict=False)}
    # Without the primary the standby's own control file says it: what it has replayed asked for as much.
    needs = leader.sizes if isinstance(leader, Recovery) and leader.sizes else look_sizes(node)
    return Ready(node.name, primary.name, recovery, leader, needs, answer, free, known, lets_in)


@looking("its recovery")
def look_recovery(node: Node) -> Recovery:
    with node.session(database="postgres") as connection:
        return rows(connection, __package__, "recovery", Recovery, node=node.name, sizes=list(SIZES))[0]


@looking("pg_controldata")
def look_sizes(node: Node) -> Mapping[str, int]:
    """What the WAL of a node asks of whoever replays it, server running or not."""
    control = look_control(node)
    return {name: int(control[line]) for name, line in SIZES.items()}


@looking("its restore_command")
def look_answer(node: Node, command: str, timeline: int) -> Answer:
    """Ask a restore_command for the next timeline's history, as a promotion does, into a folder that is removed again."""
    wanted = f"{timeline + 1:08X}.history"
    replaced = {"%p": '"$0/file"', "%f": wanted, "%r": "0" * 24}
    for mark, text in replaced.items():
        command = command.replace(mark, text)
    script = f"cd {shlex.quote(str(node.data_directory))} && {command.replace('%%', '%')}"
    outer = 'd=$(mktemp -d) && sh -c "$1" "$d"; s=$?; rm -rf "$d"; exit $s'
    try:
        output = node.shell.run(["sh", "-c", outer, "sh", script], account=node.account, timeout_s=ANSWER_S)
    except DeadlinePassed:
        return Answer("slow", f"no answer within {ANSWER_S:g} s")
    words = f"status {output.status} {' '.join(output.stderr.split())[-120:]}".strip()
    if output.status <= 125 and output.seconds > LATE_S:
        return Answer("late", f"only after {output.seconds:.1f} s: {words}")
    return Answer("broken" if output.status > 125 else "quick", words)


@looking("a session of {node.site.database.application_role}")
def look_login(node: Node) -> Login:
    """Log in as the application does, from this machine, with the password that is known here."""
    role = node.site.database.application_role
    try:
        with node.session(role=role) as connection:
            connection.execute("SELECT")
            return Login(node.name, role)
    except Refused as error:
        if error.sqlstate == PASSWORD:
            raise  # it is known here, or not: that says nothing about the application
        return Login(node.name, role, error.reason)
