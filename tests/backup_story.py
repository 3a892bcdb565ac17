"""A small cluster with a repository: writers at work, backups meanwhile, a promotion in the middle, and what was committed."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tests_support import make

from aya_lib.backup import engine, look, reading
from aya_lib.backup.records import Kind, Position, Repository
from aya_lib.cluster.lsn import number
from aya_lib.errors import AyaError
from aya_lib.lab import binaries, clusters, lab
from aya_lib.node import wait
from aya_lib.node.node import Node, Nodes, open_nodes
from aya_lib.node.sql import value

TABLE = "CREATE TABLE IF NOT EXISTS written (id bigint PRIMARY KEY, filler text)"


@dataclass(frozen=True)
class Point:
    """A moment while writers were at work: ids that were acknowledged before it, and those begun before it was over."""

    lsn: str
    at: datetime
    acknowledged: frozenset[int]
    begun: frozenset[int]


@dataclass
class Story:
    nodes: Nodes
    points: list[Point] = field(default_factory=list)
    commits: list[tuple[int, int, datetime]] = field(default_factory=list)  # LSN, xid, time; in the order of WAL
    xids: dict[int, int] = field(default_factory=dict)  # of each id
    begun: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Node:
        return self.nodes["ALPHA"]

    @property
    def keeper(self) -> Node:
        return self.nodes["BETA"]

    @property
    def into(self) -> Path:
        return look.folder(self.nodes.site) / "scratch"

    def seen(self) -> Repository:
        """The repository as it is; how far WAL is safe is what the receiver told the server."""
        found = look.look_at(self.keeper)
        assert isinstance(found, Repository), found
        return replace(found, flushed=self.flushed)

    flushed: Position | None = None

    def note(self) -> None:
        """A moment, as it is now."""
        acknowledged = frozenset(self.acknowledged)
        with self.source.session(database="postgres") as connection:
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()").fetchone()
        assert row is not None
        assert isinstance(row[1], datetime)
        self.points.append(Point(str(row[0]), row[1], acknowledged, frozenset(self.begun)))

    def write(self, first: int) -> None:
        """One writer: ids of its own, one in a transaction, until it is over."""
        identity = first
        while not self.over.is_set():
            with contextlib.suppress(AyaError), self.source.session(write=True, deadline_s=60) as connection:
                while not self.over.is_set():
                    identity += 2
                    self.begun.add(identity)
                    with connection.transaction():
                        connection.execute("INSERT INTO written VALUES (%s, repeat('x', 500))", (identity,))
                        self.xids[identity] = int(str(value(connection, "SELECT pg_current_xact_id()::text")))
                    self.acknowledged.add(identity)
                    time.sleep(random.uniform(0, 0.01))
            time.sleep(0.02)

    def backup(self, label: str, parent: str | None = None) -> None:
        kind: Kind = "incremental" if parent else "full"
        engine.Make(label, kind, parent, self.source, self.source, dump=False).run(self.keeper)

    def sql(self, statement: str, database: str | None = None) -> None:
        with self.source.session(write=True, database=database, deadline_s=60) as connection:
            connection.execute(statement.encode())

    def ctl(self, *words: str) -> None:
        log = self.source.data_directory.parent / "server.log"
        self.source.postgresql("pg_ctl", *words, "-w", "-s", "-D", str(self.source.data_directory), "-l", str(log), timeout_s=60)

    def received(self) -> None:
        """All WAL that there is now is in the repository."""
        with self.source.session(database="postgres", write=True, deadline_s=60) as connection:
            timeline = int(str(value(connection, "SELECT ('x' || left(pg_walfile_name(pg_switch_wal()), 8))::bit(32)::int")))
            target = str(value(connection, "SELECT pg_current_wal_flush_lsn()::text"))
            flushed = "SELECT max(flush_lsn)::text FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"
            wait.until(
                lambda: str(value(connection, flushed) or "0/0"),
                lambda seen: number(seen) >= number(target),
                node="ALPHA",
                what="WAL is received",
                deadline_s=60,
            )
        self.flushed = Position(timeline, target, datetime.now(UTC))

    def truth(self) -> None:
        """What was committed, in the order of WAL: read out of the whole of it."""
        seen = self.seen()
        assert self.flushed is not None
        for part in reading.parts(seen, seen.backups[0].start, self.flushed):
            output = reading.dump(self.keeper, part, "-r", "Transaction", size=seen.segment_bytes)
            lines = re.findall(r"tx: +(\d+), lsn: (\S+), .*desc: COMMIT (\S+ \S+) UTC", output.stdout)
            self.commits += [(number(lsn), int(xid), datetime.fromisoformat(at).replace(tzinfo=UTC)) for xid, lsn, at in lines]

    def rows(self, lsn: str | None = None, at: datetime | None = None) -> set[int]:
        """The ids whose commits come before an LSN, or before the first commit that is later than a time."""
        logged = {xid for _, xid, _ in self.commits}
        done = {self.xids[identity] for identity in self.acknowledged} - logged  # before the first backup
        for place, xid, moment in self.commits:
            if (lsn is not None and place >= number(lsn)) or (at is not None and moment > at):
                break
            done.add(xid)
        return {identity for identity, xid in self.xids.items() if xid in done}


@contextlib.contextmanager
def told(place: Path, name: str) -> Iterator[Story]:
    """Two backups (full, and an incremental one on it), points before, between and after, on two timelines."""
    site = make(place, name)
    story = Story(open_nodes(site))
    source, keeper = story.source, story.keeper
    lab._folder(site, binaries.prefix())
    receiver: subprocess.Popen[str] | None = None
    clusters.make(source)
    try:
        with (source.data_directory / "lab.conf").open("a") as file:
            file.write("fsync = off\nsummarize_wal = on\nwal_summary_keep_time = '1h'\nlog_min_duration_statement = -1\n")
        story.ctl("start")
        clusters.populate(source, replicated=False)
        spaces = source.data_directory.parent / "space"
        source.shell.run(["mkdir", str(spaces)], account=source.account).checked()
        story.sql(f"CREATE TABLESPACE aside LOCATION '{spaces}'")
        story.sql(TABLE)
        story.sql("CREATE TABLE far (id int) TABLESPACE aside")
        clusters._scratch(keeper)
        clusters._own_passfile(keeper)
        found = engine.look_source(source)
        engine.Begin(found.system_identifier, found.segment_bytes).run(keeper)
        where = clusters._conninfo(source, clusters._own_passfile(keeper), "pg_receivewal")
        words = ["-D", str(look.folder(site) / "wal"), "-d", where, "-w", "--synchronous", "-S", "aya_backup"]
        keeper.postgresql("pg_receivewal", *words, "--create-slot").checked()
        receiver = keeper.shell.start(keeper.command("pg_receivewal", *words), account=keeper.account)
        writers = [threading.Thread(target=story.write, args=(first,)) for first in (0, 1)]
        for writer in writers:
            writer.start()
        story.backup("20260101T000000Z-full")
        _points(story, 6)
        story.sql("INSERT INTO far SELECT generate_series(1, 1000)")
        story.backup("20260102T000000Z-incremental", "20260101T000000Z-full")
        _points(story, 6)
        story.ctl("stop", "-m", "fast")
        source.shell.run(["touch", str(source.data_directory / "standby.signal")], account=source.account).checked()
        story.ctl("start")
        story.ctl("promote")
        _points(story, 8)
        _losses(story)
        story.over.set()
        for writer in writers:
            writer.join()
        story.received()
        story.truth()
        yield story
    finally:
        story.over.set()
        if receiver is not None:
            receiver.kill()
            receiver.communicate()
        lab.delete(site)


def _losses(story: Story) -> None:
    """What somebody will want back: rows deleted, some of them in a subtransaction; a table emptied, and another dropped."""
    story.sql("CREATE TABLE lost (id int, words text); INSERT INTO lost SELECT n, 'x' FROM generate_series(1, 100) n")
    story.sql("BEGIN; DELETE FROM lost WHERE id <= 30; SAVEPOINT s; DELETE FROM lost WHERE id <= 40; RELEASE s; COMMIT")
    story.sql("BEGIN; DELETE FROM lost; ROLLBACK")
    story.sql("UPDATE lost SET id = -id WHERE id <= 45")
    story.sql("TRUNCATE lost")
    story.sql("INSERT INTO lost VALUES (1, 'y')")
    story.sql("CREATE TABLE gone (id int); INSERT INTO gone VALUES (1)")
    story.sql("DROP TABLE gone")


def _points(story: Story, count: int) -> None:
    for _ in range(count):
        time.sleep(random.uniform(0.05, 0.2))
        story.note()
