"""Faults to inject into a lab: each is real, and is verified to be there before its function returns.

``restore`` mends embedding-down, stale-pid, beta-down, alpha-down, slot-dropped, replication-paused, and port-taken when
it is told to; a frozen or silent process goes on after ``kill -CONT``; the others need ``aya lab reset``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import LiteralString

import psutil

from aya_lib.errors import AyaError, UsageError
from aya_lib.lab import clusters
from aya_lib.node import sql, wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.node.pidfile import ended
from aya_lib.plan.actions import CreateSlot
from aya_lib.site import Site

SECONDS = 15  # within which a fault must be seen to be there
DEAF = (
    "import socket,sys,time\n"
    "s=socket.create_server(('127.0.0.1',int(sys.argv[1])))\n"
    "held=[]\n"
    "while True: held.append(s.accept())\n"
)
RECOVERS = "SELECT pg_is_in_recovery()"
TERMINATE = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active"
DROP = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
SILENT = "SELECT bool_and(clock_timestamp() - reply_time > make_interval(secs => %s)) FROM pg_stat_replication"
WRITE = "INSERT INTO documents (content, source) SELECT %s || ' ' || n, 'lab fault' FROM generate_series(1, %s) AS n"

Fault = Callable[[Node, Node], None]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    """List it by its name; the first line of its docstring says what is broken then."""
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def sentence(name: str) -> str:
    return (FAULTS[name].__doc__ or "").splitlines()[0]


def inject(site: Site, name: str) -> str:
    """Inject the fault and say in a sentence what is broken now. :class:`UsageError` names the faults there are."""
    if name not in FAULTS:
        raise UsageError(f"unknown fault '{name}'", hint=f"There are {', '.join(FAULTS)}")
    site.require_made()
    FAULTS[name](*open_nodes(site).pair)
    return sentence(name)


@fault
def embedding_down(alpha: Node, beta: Node) -> None:
    """ALPHA's embedding service is stopped."""
    alpha.supervisor.stop("embedding")


@fault
def stale_pid(alpha: Node, beta: Node) -> None:
    """ALPHA's embedding service was killed, and its PID file is still there."""
    if alpha.supervisor.state("embedding").status not in ("running", "stale"):
        alpha.supervisor.start("embedding")
    pid = alpha.supervisor.state("embedding").pid
    if pid:
        _kill(pid)
    _until_status(alpha, "embedding", "stale")


@fault
def port_taken(alpha: Node, beta: Node) -> None:
    """ALPHA's embedding service is stopped, and another program listens on its port."""
    alpha.supervisor.stop("embedding")
    port = alpha.config.embedding.port if alpha.config.embedding else 0
    _listens(alpha, port, "-m", "http.server", str(port), "--bind", alpha.config.host)


@fault
def alpha_down(alpha: Node, beta: Node) -> None:
    """ALPHA's PostgreSQL was killed (SIGKILL), as by a power cut; its postmaster.pid is still there."""
    pid = alpha.supervisor.state("postgresql").pid
    if pid:
        children = psutil.Process(pid).children(recursive=True)
        _kill(pid)
        ended(children, SECONDS)
    _until_status(alpha, "postgresql", "stopped", "stale")


@fault
def beta_down(alpha: Node, beta: Node) -> None:
    """BETA's PostgreSQL is stopped."""
    beta.supervisor.stop("postgresql")


@fault
def slot_dropped(alpha: Node, beta: Node) -> None:
    """The standby's replication slot is dropped on ALPHA."""
    name = alpha.site.replication.slot
    with alpha.session(database="postgres", write=True) as connection:

        def dropped() -> bool:
            connection.execute(TERMINATE, (name,))
            connection.execute(DROP, (name,))
            return not connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (name,)).fetchone()

        _until(alpha, f"the slot {name} is dropped", dropped)


@fault
def replication_paused(alpha: Node, beta: Node) -> None:
    """BETA receives, and does not replay (pg_wal_replay_pause)."""
    with beta.session(database="postgres", write=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
    _until(beta, "replay is paused", lambda: _value(beta, "SELECT pg_get_wal_replay_pause_state()") == "paused")


@fault
def standby_signal_missing(alpha: Node, beta: Node) -> None:
    """BETA is stopped and lost its standby.signal: started now, it would be a second primary."""
    beta.supervisor.stop("postgresql")
    (beta.data_directory / "standby.signal").unlink(missing_ok=True)


@fault
def wal_lost(alpha: Node, beta: Node) -> None:
    """BETA is stopped, and ALPHA has recycled WAL that it still needs: the slot is lost."""
    beta.supervisor.stop("postgresql")
    name = alpha.site.replication.slot

    def lost() -> bool:
        with alpha.session(database="postgres", write=True, deadline_s=60) as connection:
            for _ in range(4):
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("SELECT pg_logical_emit_message(false, 'aya lab', 'fills a segment', true)")
            connection.execute("CHECKPOINT")
        return _value(alpha, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", name) == "lost"

    wait.until(lost, bool, node=alpha.name, what=f"the slot {name} is lost", deadline_s=60, poll_s=0.01)


@fault
def peer_deaf(alpha: Node, beta: Node) -> None:
    """BETA's PostgreSQL is stopped, and a program on its port accepts connections and never answers."""
    beta.supervisor.stop("postgresql")
    port = beta.config.postgresql.port
    _listens(beta, port, "-c", DEAF, str(port))


@fault
def frozen(alpha: Node, beta: Node) -> None:
    """BETA's PostgreSQL is stopped by SIGSTOP, all its processes: it accepts and never answers (kill -CONT lets it go on)."""
    if beta.supervisor.state("postgresql").status != "frozen":
        process = _server(beta)
        for member in [process, *process.children(recursive=True)]:
            member.suspend()
    _until_status(beta, "postgresql", "frozen")


@fault
def walreceiver_silent(alpha: Node, beta: Node) -> None:
    """BETA's walreceiver is stopped by SIGSTOP while ALPHA writes on: `streaming` is said, nothing arrives."""
    for child in _server(beta).children():
        if "walreceiver" in " ".join(child.cmdline()):
            child.suspend()
    with alpha.session(write=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'aya lab', repeat('x', 1000000), true)")
    allowed = alpha.site.replication.silent_after_s
    _until(alpha, "the standby has been silent for long enough", lambda: _value(alpha, SILENT, allowed) is True)


@fault
def two_primaries(alpha: Node, beta: Node) -> None:
    """BETA was promoted while ALPHA lives: both accept writes."""
    _promote(beta)


@fault
def diverged(alpha: Node, beta: Node) -> None:
    """BETA was promoted; ALPHA, with rows that BETA never got, was started as its standby without rewind or clone."""
    if _value(beta, RECOVERS) is True:
        beta.supervisor.stop("postgresql")
        _write(alpha, "on the old timeline", 3)
        alpha.supervisor.stop("postgresql")
        beta.supervisor.start("postgresql")
        _promote(beta)
        CreateSlot(alpha.site.replication.slot).run(beta)
        _write(beta, "on the new timeline", 2)
        clusters.follow(alpha, beta, alpha.data_directory)
        signal_file = alpha.data_directory / "standby.signal"
        signal_file.touch()
        shutil.chown(signal_file, str(alpha.account))
        alpha.supervisor.start("postgresql")
    _until(beta, "ALPHA is in recovery beside BETA", lambda: _value(alpha, RECOVERS) is True)


def _promote(node: Node) -> None:
    if _value(node, RECOVERS) is True:
        with node.session(database="postgres", write=True) as connection:
            connection.execute("SELECT pg_promote(true, 15)")
    _until(node, "it is promoted", lambda: _value(node, RECOVERS) is False)


def _write(node: Node, text: str, count: int) -> None:
    with node.session(write=True) as connection:
        connection.execute(WRITE, (text, count))


def _value(node: Node, query: LiteralString, *values: object) -> object:
    with node.session(database="postgres") as connection:
        return sql.value(connection, query, values or None)


def _server(node: Node) -> psutil.Process:
    pid = node.supervisor.state("postgresql").pid
    if pid is None:
        raise AyaError(f"{node.name}'s PostgreSQL does not run, so this fault cannot be injected", hint="aya lab up")
    return psutil.Process(pid)


def _kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    ended([process], SECONDS)


def _listens(node: Node, port: int, *words: str) -> None:
    """A Python program that listens on a port; marked in its environment, so that the lab's ``down`` ends it."""
    if node.listener(port) is None:
        environment = {**os.environ, "AYA_LAB_FAULT": str(node.site.root)}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, *words], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, cwd="/", env=environment
        )
        process.returncode = 0  # it is meant to outlive us
    _until(node, f"another program listens on {port}", lambda: node.listener(port) is not None)


def _until_status(node: Node, service: str, *wanted: str) -> None:
    _until(node, f"{service} is {' or '.join(wanted)}", lambda: node.supervisor.state(service).status in wanted)


def _until(node: Node, what: str, holds: Callable[[], bool]) -> None:
    wait.until(holds, bool, node=node.name, what=what, deadline_s=SECONDS, poll_s=0.05)
