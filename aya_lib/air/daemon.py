"""The sync daemon: a round at once when either side says that something changed, every minute otherwise, and again after a
growing pause while the primary cannot be reached. One instance a site; it ends after the round it is in."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

import psycopg
from filelock import FileLock, Timeout
from psycopg import sql

from aya_lib.air import status
from aya_lib.air.chunk_writer import ChunkWriter
from aya_lib.air.link import DAY_S, STEP_S, Ends, laptop, open_ends, within
from aya_lib.air.patrol import Patrol
from aya_lib.air.sync_round import Round, run_round
from aya_lib.cluster import roles
from aya_lib.errors import AyaError, Locked
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.process import daemon_file
from aya_lib.node.sql import Connection, value
from aya_lib.site import Site

POLL_S = 60.0
ASKED = "asked"  # said on the laptop's channel: a person wants a round
WAITING_S = 5.0  # until an encoder is asked again for chunks that are lacking
PAUSE_S = (1.0, 60.0)  # while offline: the first and the longest pause, doubling, each times 0.5 to 1 at random
TIDY_S = 3600.0
KEEP = "90 days"  # of the log for a laptop that is away; later it compares everything
BEAT_S = 1.0  # between two signs of life in one round
LOG_BYTES, LOGS = 1_000_000, 5

log = logging.getLogger("aya.sync")


@contextmanager
def alone(site: Site) -> Iterator[None]:
    """Be the only one who synchronises this site; :class:`Locked` when somebody is."""
    path = daemon_file(site).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Locked(f"another process synchronises {site.name} already", hint="See: aya air status") from None
    try:
        yield
    finally:
        lock.release()


@dataclass
class Ears:
    """Sessions that hear what either side says. A broken one is closed, and opened anew when its turn comes. ``asked``: a person
    wants a round."""

    open: dict[str, tuple[ExitStack, Connection, Node]] = field(default_factory=dict)
    asked: bool = False

    def listen(self, key: str, node: Node, channel: str) -> None:
        if key in self.open:
            return
        with ExitStack() as stack:
            connection = stack.enter_context(node.session(write=True, deadline_s=7 * DAY_S))
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            self.open[key] = (stack.pop_all(), connection, node)

    def close(self, key: str) -> None:
        if key in self.open:
            stack, _, _ = self.open.pop(key)
            try:
                stack.close()
            except AyaError as error:
                log.debug("closing %s: %s", key, error)

    def node(self, key: str) -> Node | None:
        return self.open[key][2] if key in self.open else None

    def wait(self, seconds: float, wake: int) -> None:
        """Until somebody speaks, a connection breaks, a signal comes, or the time is over."""
        files = {connection.fileno(): key for key, (_, connection, _) in self.open.items()}
        ready, _, _ = select.select([*files, wake], [], [], max(0.0, seconds))
        for file in ready:
            if file == wake:
                os.read(wake, 100)
                continue
            try:
                for said in self.open[files[file]][1].notifies(timeout=0):
                    self.asked |= said.payload == ASKED
            except psycopg.Error:
                self.close(files[file])


@dataclass
class Daemon:
    """``writer``: makes chunks for what plain SQL wrote here."""

    nodes: Nodes
    name: str
    writer: ChunkWriter
    state: status.DaemonState
    ears: Ears = field(default_factory=Ears)
    stopping: bool = False
    pause_s: float = PAUSE_S[0]
    tidied: float = 0.0
    patrol: Patrol = field(default_factory=Patrol)
    steps: int = 0

    @property
    def site(self) -> Site:
        return self.nodes[self.name].site

    def run(self, wake: int) -> None:
        while not self.stopping:
            self.ears.wait(self.once(), wake)

    def once(self) -> float:
        """One round; how long to wait for the next when nobody speaks."""
        try:
            self.ears.listen("here", self.nodes[self.name], "aya_queue")
            rest = self._chunks()
            if pause := self._paused():
                return min(rest, pause)
            node = self.ears.node("there") or roles.primary(self.nodes)
            self.ears.listen("there", node, "aya_changes")
            done = self._round(node)
        except (AyaError, psycopg.Error, OSError) as error:
            return self._offline(error)
        self.pause_s = PAUSE_S[0]
        self._report(node, done)
        return rest

    def at(self, step: str) -> None:
        """A sign of life: what a long round is at."""
        self.steps += 1
        self.state.doing = f"{step}, step {self.steps} of this round"
        if time.monotonic() - self.state.beat > BEAT_S:
            self.state.write(daemon_file(self.site))

    def _chunks(self) -> float:
        """Chunks for what was written here, offline too: it is found by a search here at once. How long until more are made."""
        self.at("chunks")
        self.state.waiting = ""
        try:
            with self.nodes[self.name].session(write=True, deadline_s=600) as here:
                return 0.0 if self.writer.write(here) else POLL_S
        except AyaError as error:  # what is complete is pushed all the same
            self.state.waiting = str(error)
            return WAITING_S

    def _paused(self) -> float:
        """Seconds for which the primary is to be left alone; 0: it is not."""
        with self.nodes[self.name].session() as here:
            query = "SELECT paused_until::text, extract(epoch FROM paused_until - clock_timestamp()) FROM aya_sync.laptop"
            until, left = here.execute(query).fetchone() or (None, None)
        seconds = max(0.0, float(str(left or 0)))
        self.state.paused_until = str(until) if seconds else None
        if seconds:
            self.ears.close("there")
            self.state.online = False
            self._at_rest()
        return seconds

    def _round(self, node: Node) -> Round:
        with open_ends(self.nodes, self.name, node) as ends:
            done = run_round(ends, at=self.at)
            if (self.ears.asked or self.patrol.due(ends)) and (mended := self.patrol.go(ends, self.at)):
                log.warning("fetched, for no trigger noted it: %s", mended)
                self.state.mended = f"{status.now()}: {mended}"
            if time.monotonic() - self.tidied > TIDY_S or not self.tidied:
                while self._prune(ends):
                    self.at("prune")
                query = "DELETE FROM write_queue WHERE synced AND created_at < now() - %s::interval"
                ends.here.execute(query, (KEEP,))
                self.tidied = time.monotonic()
        return done

    def _prune(self, ends: Ends) -> int:
        """A part of what every laptop has; how many rows, 0 in the end."""
        with within(ends.there, STEP_S):
            return int(value(ends.there, "SELECT aya_sync.prune(%s::interval)", (KEEP,)))

    def _at_rest(self) -> None:
        self.state.doing, self.steps = "", 0
        self.state.write(daemon_file(self.site))

    def _offline(self, error: Exception) -> float:
        self.ears.close("there")
        reason = " ".join(str(error).split())
        if self.state.online or reason != self.state.last_error:
            log.warning("not synchronised: %s", reason)
        self.state.failed(reason)
        self._at_rest()
        pause, self.pause_s = self.pause_s, min(PAUSE_S[1], self.pause_s * 2)
        return pause * (0.5 + random.random() / 2)

    def _report(self, node: Node, done: Round) -> None:
        for number, reason in done.pushed.dead:
            log.error("mutation %d is refused: %s", number, reason)
        for compared in done.compared:
            log.warning("compared with %s: %s", node.name, compared)
        moved = (done.pushed.applied, done.pushed.conflicts, done.pulled.rows)
        if any(moved) or not self.state.online:
            log.info("%s: pushed %d, conflicts %d, pulled %d rows", node.name, *moved)
        for notice in {*done.notices, *self.patrol.notices} - {*self.state.notices}:
            log.warning("%s", notice)
        self.ears.asked = False
        self.state.notices = [*done.notices, *self.patrol.notices]
        self.state.succeeded(node.name)
        self._at_rest()


def serve(site: Site) -> None:
    """Run until SIGTERM or SIGINT. :class:`Locked` when a daemon runs already."""
    nodes = open_nodes(site)
    name = laptop(site)
    with alone(site):
        _log(site.root / "log" / "air-sync.log")
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        daemon = Daemon(nodes, name, ChunkWriter(nodes, name), status.DaemonState(pid=os.getpid(), started=status.now()))

        def stop(number: int, frame: object) -> None:
            daemon.stopping = True

        signal.set_wakeup_fd(writing)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        log.info("started, PID %d", os.getpid())
        daemon_file(site).parent.mkdir(parents=True, exist_ok=True)
        daemon.state.write(daemon_file(site))
        try:
            daemon.run(reading)
        finally:
            signal.set_wakeup_fd(-1)
            log.info("ended")
            daemon_file(site).unlink(missing_ok=True)


def _log(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOGS)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.raiseExceptions = False  # a full disk ends no round
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
