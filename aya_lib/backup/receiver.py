"""``aya serve wal``: the keeper's receiver of WAL. It runs pg_receivewal against the keeper's own server, on a slot there.

A standby sends what it receives, so nobody else writes into this archive, and a promotion of the keeper's server is followed on
its new timeline. While that server is down, or has removed what comes next, the primary is asked instead. Files that no server
of this history will go on from (a timeline's end after a rewind, what lies before a gap) are moved into folders below ``wal``:
they stay part of the archive, and pg_receivewal, which goes on after the last file that it sees, does not see them.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aya_lib.backup.archive import Begin, begin, next_position
from aya_lib.backup.look import section
from aya_lib.cluster import server
from aya_lib.cluster.lsn import lsn
from aya_lib.cluster.replication import source_conninfo
from aya_lib.cluster.server import Cluster
from aya_lib.cluster.wal import position
from aya_lib.errors import AyaError, Locked, UsageError
from aya_lib.node.node import Node, Nodes, on_the_spot, open_nodes
from aya_lib.node.process import receiver_file
from aya_lib.node.shell import WRITE, read
from aya_lib.node.sql import rows, statement
from aya_lib.plan.actions import CreateSlot
from aya_lib.site import Site

BEAT_S = 2.0  # between two looks at how far WAL is safe
PAUSE_S = (1.0, 60.0)  # before another attempt: the first and the longest, doubling
STEADY_S = 30.0  # a pg_receivewal that ran for so long starts with a clean sheet
PATIENCE = 10  # times rpo_s: so long the other node is waited for, which may still have what is lacking; the slot holds new WAL
NAME = "aya_backup"  # application_name of its connection
# It ends with its standard input, as does pg_receivewal then: whoever started it may be killed.
TIED = """
exec 3<&0
"$@" 3<&- </dev/null & child=$!
{ cat <&3 >/dev/null; kill -INT $child; } >/dev/null 2>&1 & watcher=$!
exec 3<&-
wait $child; status=$?; kill $watcher 2>/dev/null; exit $status
"""

log = logging.getLogger("aya.wal")


@dataclass(frozen=True)
class Progress:
    """``flushed``: how far pg_receivewal has written to disk; ``sent``: how far the history is known to go (on a standby as its
    primary last said), None while that is not known; both LSNs as bytes. ``timeline``: of the server that sends."""

    flushed: int | None
    sent: int | None
    timeline: int


@dataclass
class Receiver:
    """``safe_at``: when last all that was known to be written was on the keeper's disk. ``gaps``: what was never received."""

    nodes: Nodes
    keeper: Node
    where: Path
    slot: str
    stop: threading.Event
    state: dict[str, Any] = field(default_factory=dict)
    pause_s: float = PAUSE_S[0]
    _lacking: float | None = None  # since when nobody could be asked for what comes next (monotonic)

    def run(self) -> None:
        self._say("waiting", "it begins")
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                reason = self._receive()
            except (AyaError, OSError, ValueError) as error:
                reason = " ".join(str(error).split())
            if self.stop.is_set():
                break
            self._say("waiting", reason or "pg_receivewal ended")
            self.pause_s = PAUSE_S[0] if time.monotonic() - began > STEADY_S else self.pause_s
            self.stop.wait(self.pause_s)
            self.pause_s = min(PAUSE_S[1], self.pause_s * 2)
        self._say("gone", "ended in order")

    def _receive(self) -> str:
        """Receive until it ends; why it did."""
        source, until = self._source()
        own = source is self.keeper
        words = ["-D", str(self.where / "wal"), "-d", source_conninfo(self.keeper, source, NAME), "-w", "-n", "--synchronous"]
        words += ["-S", self.slot] if own else ["--endpos", until] if until else []
        command = self.keeper.command("pg_receivewal", *words)
        process = self.keeper.shell.start(["sh", "-c", TIED, "sh", *command], account=self.keeper.account)
        self.state["source"] = source.name
        try:
            return self._watch(process, source, back=not own and not until)
        finally:
            _end(process)

    def _watch(self, process: subprocess.Popen[str], source: Node, *, back: bool) -> str:
        """Until it ends; with ``back`` until the keeper's own server answers."""
        pending: Progress | None = None
        asked_at = datetime.now(UTC)
        while process.poll() is None and not self.stop.is_set():
            try:
                found, now = progress(source), datetime.now(UTC)
                if pending and pending.sent is not None and (found.flushed or 0) >= pending.sent:
                    self.state["safe_at"] = asked_at.isoformat()
                if found.flushed is not None:
                    self.state.update(timeline=found.timeline, flushed=lsn(found.flushed))
                    self._say("receiving", "")
                    self.pause_s = PAUSE_S[0]
                pending, asked_at = found, now
                if back and isinstance(server.look(self.keeper), Cluster):
                    return f"{self.keeper.name} answers again"
            except AyaError as error:
                self._say("waiting", " ".join(str(error).split()))
            self.stop.wait(BEAT_S if self.state.get("state") == "receiving" else 0.2)
        return "" if self.stop.is_set() or process.stderr is None else _last(process)

    def _source(self) -> tuple[Node, str]:
        """Whom to receive from, and up to which LSN: the keeper's own server; the primary while that one cannot serve."""
        known = json.loads(read(self.keeper.shell, self.where / "repository.json", account=self.keeper.account) or "{}")
        if not known:
            raise AyaError(f"{self.keeper.name}: {self.where} is no repository", hint="Run backup: it makes one")
        there = {name: server.look(self.nodes[name]) for name in self.nodes.site.pair}
        own = there[self.keeper.name]
        if isinstance(own, Cluster) and own.system_identifier != str(known["system_identifier"]):
            raise AyaError(f"{own.node} is another cluster than the repository {self.where} is of", hint="Name another folder")
        if isinstance(own, Cluster):
            CreateSlot(self.slot).run(self.keeper)
            oldest = self._settle(self.keeper, own)
            if oldest is None:
                self._lacking = None
                return self.keeper, ""
        (other,) = (name for name in there if name != self.keeper.name)
        leader = there[other]
        ours = isinstance(leader, Cluster) and leader.system_identifier == str(known["system_identifier"])
        if isinstance(leader, Cluster) and ours and not leader.in_recovery and self._settle(self.nodes[other], leader) is None:
            return self.nodes[other], oldest if isinstance(own, Cluster) and oldest else ""
        if isinstance(own, Cluster):
            self._lacking = self._lacking or time.monotonic()
            if not ours and time.monotonic() - self._lacking < PATIENCE * section(self.keeper.site).rpo_s:
                raise AyaError(f"{own.node} has removed the WAL that comes next, and {other} cannot be asked for it: {leader}")
            self._leave(own)
            return self.keeper, ""
        raise AyaError(f"no server to receive from: {own}", hint="Run restore")

    def _settle(self, source: Node, cluster: Cluster) -> str | None:
        """Have the files so that pg_receivewal can go on from ``source``: None; else the LSN of the oldest WAL it still has."""
        oldest = oldest_wal(source)
        step = begin(self.files(), cluster.timeline, cluster.history, oldest.segment_bytes)
        self._move(step, f"timeline-end-{cluster.timeline:08X}")
        start = next_position(self.files(), oldest.segment_bytes)
        first = oldest.start()
        return None if start is None or start >= first else lsn(first)

    def _leave(self, own: Cluster) -> None:
        """Nobody has what comes next: a gap. What there is goes aside, and the archive begins anew behind it."""
        names = self.files()
        last = names[-1]
        self._move(Begin(tuple(names), None), f"before-gap-{last[:24]}")
        gap = f"after {last[:24]}, up to {own.lsn}: no server had it any more ({datetime.now(UTC):%Y-%m-%d %H:%M:%SZ})"
        self.state.setdefault("gaps", []).append(gap)
        log.error("a gap in the archive: %s", gap)

    def files(self) -> list[str]:
        """Names of segments in the folder itself, whole and ``.partial``, in order."""
        account, folder = self.keeper.account, str(self.where / "wal")
        listed = self.keeper.shell.run(
            ["sh", "-c", 'mkdir -p -m 0700 "$1" && ls -1 "$1"', "sh", folder], account=account
        ).checked()
        return sorted(name for name in listed.stdout.split() if len(name.removesuffix(".partial")) == 24)

    def _move(self, step: Begin, folder: str) -> None:
        wal, account = self.where / "wal", self.keeper.account
        if step.aside:
            target = wal / folder
            log.warning("%d files of WAL move to %s", len(step.aside), target)
            script = 'd="$1"; shift; mkdir -p -m 0700 "$d" && mv -- "$@" "$d/"'
            paths = [str(wal / name) for name in step.aside]
            self.keeper.shell.run(["sh", "-c", script, "sh", str(target), *paths], account=account).checked()
        if step.again:
            move = ["mv", "--", str(wal / step.again), str(wal / f"{step.again}.partial")]
            self.keeper.shell.run(move, account=account).checked()

    def _say(self, state: str, reason: str) -> None:
        if (state, reason) != (self.state.get("state"), self.state.get("reason")):
            log.log(logging.INFO if state == "receiving" else logging.WARNING, "%s %s", state, reason)
        self.state.update(state=state, reason=reason, pid=os.getpid(), at=datetime.now(UTC).isoformat())
        words = ["sh", "-c", WRITE, "sh", str(receiver_file(self.keeper.site)), "600"]
        try:
            self.keeper.shell.run(words, stdin=json.dumps(self.state), account=self.keeper.account).checked()
        except AyaError as error:
            log.error("its state cannot be written: %s", " ".join(str(error).split()))


def serve(site: Site, node: str) -> None:
    """Run until SIGTERM or SIGINT. :class:`UsageError` for a node that is not the keeper, :class:`Locked` beside another one."""
    if site.backup is None or site.backup.node != node:
        keeper = f"it is {site.backup.node}" if site.backup else "site.yaml has no backup section"
        raise UsageError(f"{node} is not the keeper of {site.name}'s backups: {keeper}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    there = open_nodes(site)
    here = on_the_spot(there[node])
    nodes = Nodes(site, {**there, node: here})
    stop = threading.Event()
    receiver = Receiver(nodes, here, site.path(site.backup.directory), site.backup.slot, stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    receiver.files()
    with alone(receiver.where / "wal"):
        before = read(here.shell, receiver_file(site), account=here.account)
        receiver.state = _kept(before)
        log.info("started, PID %d", os.getpid())
        receiver.run()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only receiver into a folder: flock(2) on the folder itself, which the kernel gives back when the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Locked(f"another process receives WAL into {folder}", hint="See: aya backup list") from None
    finally:
        os.close(descriptor)


def _kept(text: str | None) -> dict[str, Any]:
    """What outlives a restart: gaps, and how far WAL was safe."""
    try:
        state = json.loads(text or "{}")
        return {key: state[key] for key in ("gaps", "safe_at", "flushed", "timeline") if key in state}
    except (ValueError, TypeError):
        return {}


@dataclass(frozen=True)
class Oldest:
    """``oldest``: name of the oldest segment that a server still has."""

    segment_bytes: int
    oldest: str

    def start(self) -> int:
        """Where it begins (bytes)."""
        return position(self.oldest, self.segment_bytes)


def oldest_wal(source: Node) -> Oldest:
    with source.session(database="postgres") as connection:
        return rows(connection, "aya_lib.cluster", "archive", Oldest)[0]


def progress(source: Node) -> Progress:
    """How far the receiver is, as the server that sends to it sees it."""
    with source.session(database="postgres") as connection:
        values = {"name": NAME, "silent_s": source.site.replication.silent_after_s}
        row = connection.execute(statement(__package__, "progress"), values).fetchone()
    assert row is not None
    flushed, sent, timeline = row
    far = [None if one is None else int(str(one)) for one in (flushed, sent)]
    return Progress(far[0], far[1], int(str(timeline)))


def _last(process: subprocess.Popen[str]) -> str:
    lines = (process.stderr.read() if process.stderr else "").strip().splitlines()
    return lines[-1].partition("pg_receivewal: ")[2] or lines[-1] if lines else ""


def _end(process: subprocess.Popen[str]) -> None:
    """Let it finish what it writes; it ends with its standard input."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
