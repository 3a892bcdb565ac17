"""Clients of a pair: they write through a string that names both hosts, and remember what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import make_conninfo

from aya_lib.cluster import overview
from aya_lib.node.node import open_nodes
from aya_lib.site import Site

TABLE = "CREATE TABLE IF NOT EXISTS acknowledged (id bigint PRIMARY KEY, writer int)"


@dataclass
class Clients:
    """``acknowledged``: ids whose commit was confirmed. ``both``: moments at which both nodes took a write."""

    site: Site
    writers: int = 4
    acknowledged: list[int] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    first_after: float | None = None
    began: float = 0.0  # the clock's time at which mark() was called
    _stop: threading.Event = field(default_factory=threading.Event)
    _since: float = 0.0

    def address(self, *names: str, **options: str) -> str:
        """A connection string that names both hosts of the pair, or those of ``names``."""
        nodes = [self.site.nodes[name] for name in names or self.site.pair]
        assert self.site.database.passfile
        return make_conninfo(
            host=",".join(node.host for node in nodes),
            port=",".join(str(node.postgresql.port) for node in nodes),
            dbname=self.site.database.name,
            user=self.site.database.owner,
            passfile=str(self.site.path(self.site.database.passfile)),
            connect_timeout="2",
            **options,
        )

    def write(self, number: int) -> None:
        """One writer: an id of its own each time; a commit that failed or is in doubt is not remembered."""
        first, count = (int(time.time()) << 28) + (number << 24), 0  # another range in each round
        while not self._stop.is_set():
            with suppress(psycopg.Error), psycopg.connect(self.address(target_session_attrs="read-write")) as connection:
                connection.autocommit = True
                while not self._stop.is_set():
                    count += 1
                    one = first + count
                    connection.execute("INSERT INTO acknowledged VALUES (%s, %s)", (one, number))
                    self.acknowledged.append(one)
                    if self._since and self.first_after is None:
                        self.first_after = time.monotonic() - self._since
                    time.sleep(0.01)
            time.sleep(0.02)

    def mark(self) -> None:
        """The failover begins: the next acknowledged write is timed from here."""
        self.began, self.first_after, self._since = time.time(), None, time.monotonic()

    def probe(self) -> None:
        """Write to both nodes all along: never may both take it. The one that refused last is asked first."""
        names = list(self.site.pair)
        while not self._stop.is_set():
            refuses = next((name for name in names if not self._takes(name)), None)
            if refuses is None:
                self.both.append(time.monotonic())
            else:
                names.remove(refuses)
                names.insert(0, refuses)
            time.sleep(0.02)

    def _takes(self, name: str) -> bool:
        options = "-c statement_timeout=500 -c synchronous_commit=local"
        try:
            with psycopg.connect(self.address(name, options=options)) as connection:
                connection.execute("CREATE TEMP TABLE probe (n int)")
                return True
        except psycopg.Error:
            return False

    def stored(self, name: str) -> set[int]:
        """The ids that a node has."""
        with open_nodes(self.site)[name].session(deadline_s=60) as connection:
            return {int(str(row[0])) for row in connection.execute("SELECT id FROM acknowledged").fetchall()}


@contextmanager
def clients(site: Site, writers: int = 4, *, probe: bool = True) -> Iterator[Clients]:
    """Writers and a prober at work."""
    nodes = open_nodes(site)
    primary = overview.look(nodes).pair(site)[0].name
    with nodes[primary].session(write=True) as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute(TABLE)
    found = Clients(site, writers)
    threads = [threading.Thread(target=found.write, args=(number + 1,), daemon=True) for number in range(writers)]
    threads += [threading.Thread(target=found.probe, daemon=True)] if probe else []
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found._stop.set()
        for thread in threads:
            thread.join(10)
