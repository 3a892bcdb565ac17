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
from pathlib import Path

import psutil

from aya_lib.errors import AyaError, UsageError
from aya_lib.lab import clusters
from aya_lib.node import wait
from aya_lib.node.node import Node, open_nodes
from aya_lib.site import Site

SECONDS = 15  # within which a fault must be seen to be there
DEAF = (
    "import socket,sys,time\n"
    "s=socket.create_server(('127.0.0.1',int(sys.argv[1])))\n"
    "held=[]\n"
    "while True: held.append(s.accept())\n"
)


def inject(site: Site, fault: str) -> str:
    """Inject the fault and say in a sentence what is broken now. :class:`UsageError` names the faults there are."""
    if fault not in FAULTS:
        raise UsageError(f"unknown fault '{fault}'", hint=f"There are {', '.join(FAULTS)}")
    site.require_made()
    nodes = open_nodes(site)
    return FAULTS[fault](nodes[site.primary], nodes[site.standby])


def embedding_down(alpha: Node, beta: Node) -> str:
    """ALPHA's embedding service is stopped."""
    alpha.supervisor.stop("embedding")
    return "ALPHA's embedding service is stopped."


def stale_pid(alpha: Node, beta: Node) -> str:
    """ALPHA's embedding service was killed, and its PID file is still there."""
    if alpha.supervisor.state("embedding").status not in ("running", "stale"):
        alpha.supervisor.start("embedding")
    pid = alpha.supervisor.state("embedding").pid
    if pid:
        _kill(pid)
    _until(alpha, "the PID file is stale", lambda: alpha.supervisor.state("embedding").status == "stale")
    return f"ALPHA's embedding service is dead, its PID file still names {pid or 'a process that is gone'}."


def port_taken(alpha: Node, beta: Node) -> str:
    """ALPHA's embedding service is stopped, and another program listens on its port."""
    alpha.supervisor.stop("embedding")
    port = alpha.wish.embedding.port if alpha.wish.embedding else 0
    if alpha.listener(port) is None:
        _spawn(alpha, [sys.executable, "-m", "http.server", str(port), "--bind", alpha.wish.host])
    _until(alpha, f"another program listens on {port}", lambda: alpha.listener(port) is not None)
    return f"A foreign HTTP server listens on port {port}."


def alpha_down(alpha: Node, beta: Node) -> str:
    """ALPHA's PostgreSQL was killed (SIGKILL), as by a power cut."""
    pid = alpha.supervisor.state("postgresql").pid
    if pid:
        children = psutil.Process(pid).children(recursive=True)
        _kill(pid)
        psutil.wait_procs(children, SECONDS)
    _until(alpha, "it is down", lambda: alpha.supervisor.state("postgresql").status in ("stopped", "stale"))
    return "ALPHA's PostgreSQL was killed; its postmaster.pid is still there."


def beta_down(alpha: Node, beta: Node) -> str:
    """BETA's PostgreSQL is stopped."""
    beta.supervisor.stop("postgresql")
    return "BETA's PostgreSQL is stopped."


def slot_dropped(alpha: Node, beta: Node) -> str:
    """The standby's replication slot is dropped on ALPHA."""
    name = alpha.site.replication.slot
    with alpha.session(database="postgres", write=True) as connection:
        statement = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active"
        drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"

        def dropped() -> bool:
            connection.execute(statement, (name,))
            connection.execute(drop, (name,))
            return not connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (name,)).fetchone()

        _until(alpha, f"the slot {name} is dropped", dropped)
    return f"The slot {name} is dropped."


def replication_paused(alpha: Node, beta: Node) -> str:
    """BETA receives, and does not replay (pg_wal_replay_pause)."""
    with beta.session(database="postgres", write=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
    _until(beta, "replay is paused", lambda: _value(beta, "SELECT pg_get_wal_replay_pause_state()") == "paused")
    return "BETA's replay is paused."


def standby_signal_missing(alpha: Node, beta: Node) -> str:
    """BETA is stopped and lost its standby.signal: started now, it would be a second primary."""
    beta.supervisor.stop("postgresql")
    (beta.data_directory / "standby.signal").unlink(missing_ok=True)
    return "BETA is stopped, its standby.signal is gone."


def wal_lost(alpha: Node, beta: Node) -> str:
    """BETA is stopped, and ALPHA has recycled WAL that it still needs: the slot is lost."""
    beta.supervisor.stop("postgresql")
    name = alpha.site.replication.slot
    state = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"

    def lost() -> bool:
        with alpha.session(database="postgres", write=True, deadline_s=60) as connection:
            for _ in range(4):
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("SELECT pg_logical_emit_message(false, 'aya lab', 'fills a segment', true)")
            connection.execute("CHECKPOINT")
        return _value(alpha, state, name) == "lost"

    wait.until(lost, bool, node=alpha.name, what=f"the slot {name} is lost", deadline_s=60, poll_s=0.01)
    return f"BETA is stopped, the slot {name} is lost."


def peer_deaf(alpha: Node, beta: Node) -> str:
    """BETA's PostgreSQL is stopped, and a program on its port accepts connections and never answers."""
    beta.supervisor.stop("postgresql")
    port = beta.wish.postgresql.port
    if beta.listener(port) is None:
        _spawn(beta, [sys.executable, "-c", DEAF, str(port)])
    _until(beta, f"a deaf program listens on {port}", lambda: beta.listener(port) is not None)
    return f"A program on BETA's port {port} accepts and never answers."


def frozen(alpha: Node, beta: Node) -> str:
    """BETA's PostgreSQL is stopped by SIGSTOP, all its processes: it accepts connections and never answers."""
    if beta.supervisor.state("postgresql").status != "frozen":
        process = psutil.Process(_pid(beta))
        for member in [process, *process.children(recursive=True)]:
            member.suspend()
    _until(beta, "it is frozen", lambda: beta.supervisor.state("postgresql").status == "frozen")
    return "BETA's PostgreSQL is frozen. kill -CONT its processes to let it go on, or: aya lab down."


def walreceiver_silent(alpha: Node, beta: Node) -> str:
    """BETA's walreceiver is stopped by SIGSTOP while ALPHA writes on: `streaming` is said, nothing arrives."""
    for child in psutil.Process(_pid(beta)).children():
        if "walreceiver" in " ".join(child.cmdline()):
            child.suspend()
    with alpha.session(write=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'aya lab', repeat('x', 1000000), true)")
    limit = (
        f"SELECT clock_timestamp() - reply_time > interval '{alpha.site.replication.silent_after_s} s' FROM pg_stat_replication"
    )
    _until(alpha, "the standby has been silent for long enough", lambda: _value(alpha, limit) is True)
    return "BETA's walreceiver is silent; ALPHA still says streaming."


def two_primaries(alpha: Node, beta: Node) -> str:
    """BETA was promoted while ALPHA lives: both accept writes."""
    _promote(beta)
    return "ALPHA and BETA both accept writes."


def diverged(alpha: Node, beta: Node) -> str:
    """BETA was promoted; ALPHA, with rows that BETA never got, was started as its standby without rewind or clone."""
    slot = alpha.site.replication.slot
    if _value(beta, "SELECT pg_is_in_recovery()") is True:
        beta.supervisor.stop("postgresql")
        _write(alpha, "on the old timeline", 3)
        alpha.supervisor.stop("postgresql")
        beta.supervisor.start("postgresql")
        _promote(beta)
        with beta.session(database="postgres", write=True) as connection:
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (slot,))
        _write(beta, "on the new timeline", 2)
        clusters.follow(alpha, beta, alpha.data_directory)
        signal_file = alpha.data_directory / "standby.signal"
        signal_file.touch()
        shutil.chown(signal_file, str(alpha.account))
        alpha.supervisor.start("postgresql")
    _until(beta, "ALPHA is in recovery beside BETA", lambda: _value(alpha, "SELECT pg_is_in_recovery()") is True)
    return "BETA is the primary; ALPHA runs as its standby with rows that BETA never had."


FAULTS: dict[str, Callable[[Node, Node], str]] = {
    "embedding-down": embedding_down,
    "stale-pid": stale_pid,
    "port-taken": port_taken,
    "alpha-down": alpha_down,
    "beta-down": beta_down,
    "slot-dropped": slot_dropped,
    "replication-paused": replication_paused,
    "standby-signal-missing": standby_signal_missing,
    "wal-lost": wal_lost,
    "peer-deaf": peer_deaf,
    "frozen": frozen,
    "walreceiver-silent": walreceiver_silent,
    "two-primaries": two_primaries,
    "diverged": diverged,
}


def _promote(node: Node) -> None:
    with node.session(database="postgres", write=True) as connection:
        recovering = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        if recovering and recovering[0]:
            connection.execute("SELECT pg_promote(true, 15)")
    _until(node, "it is promoted", lambda: _value(node, "SELECT pg_is_in_recovery()") is False)


def _write(node: Node, text: str, count: int) -> None:
    with node.session(write=True) as connection:
        connection.execute(
            "INSERT INTO documents (content, source) SELECT %s || ' ' || n, 'lab fault' FROM generate_series(1, %s) AS n",
            (text, count),
        )


def _value(node: Node, statement: str, *values: str) -> object:
    with node.session(database="postgres") as connection:
        row = connection.execute(statement.encode(), values or None).fetchone()
    return row[0] if row else None


def _pid(node: Node) -> int:
    pid = node.supervisor.state("postgresql").pid
    if pid is None:
        raise AyaError(f"{node.name}'s PostgreSQL does not run, so this fault cannot be injected", hint="aya lab up")
    return pid


def _kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.send_signal(signal.SIGKILL)
    psutil.wait_procs([process], SECONDS)


def _spawn(node: Node, command: list[str]) -> None:
    """A program that plays a part in a fault; marked in its environment, so that the lab's ``down`` ends it."""
    environment = {**os.environ, "AYA_LAB_FAULT": str(node.site.root)}
    with Path(os.devnull).open("w") as null:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=null, stderr=null, start_new_session=True, cwd="/", env=environment
        )
    process.returncode = 0  # it is meant to outlive us


def _until(node: Node, what: str, holds: Callable[[], bool]) -> None:
    wait.until(holds, bool, node=node.name, what=what, deadline_s=SECONDS, poll_s=0.05)


__all__ = ["FAULTS", "inject"]
