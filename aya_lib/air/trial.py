"""The synchronisation tried for real: marked documents go both ways, one is written while the daemon leaves the primary alone.

They are deleted at the end, also when the trial fails; what a killed one left is deleted by the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aya_lib.air.link import laptop
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster import roles
from aya_lib.cluster.canary import writing
from aya_lib.errors import AyaError
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table
from aya_lib.site import Site

SOURCE = "aya: trial of the synchronisation"
POLL_S = 0.01
PAUSE = "120 seconds"  # ends by itself when the trial is killed
TEXT = "The harbour master counts the herring boats before the fog comes in. Trial {}."
QUESTION = "Who counts the fishing vessels in the mist?"


@dataclass(frozen=True, repr=False)
class Trial(Shown):
    """Milliseconds of each way, None: not within the limit. ``held``: nothing crossed while the daemon was told to stay away;
    ``left``: marked documents that are there afterwards, on either side."""

    laptop: str
    primary: str
    limit_s: float
    pulled_ms: float | None = None
    pushed_ms: float | None = None
    found_ms: float | None = None
    held: bool = False
    reconnected_ms: float | None = None
    deleted_ms: float | None = None
    left: int = 0
    chunks: bool = True

    def table(self) -> Table:
        rows = [
            ("committed on the primary, to be read on the laptop", _ms(self.pulled_ms)),
            ("written on the laptop, to be read on the primary with its embedding", _ms(self.pushed_ms)),
            ("written offline, to be found on the laptop by its meaning", _ms(self.found_ms)),
            ("online again, until both sides have both documents", _ms(self.reconnected_ms)),
            ("deleted on the primary, to be gone on the laptop", _ms(self.deleted_ms)),
        ]
        return Table(f"{self.laptop} beside {self.primary}: one document each way", ("", "observed"), tuple(rows))


@dataclass
class _Try:
    """Both sessions, and the marked documents."""

    here: Connection
    there: Connection
    limit_s: float
    found: dict[str, float | None] = field(default_factory=dict)

    def write(self, side: Connection, number: int) -> None:
        query = "INSERT INTO documents (content, source, category) VALUES (%s, %s, 'trial')"
        side.execute(query, (TEXT.format(number), SOURCE))

    def timed(self, name: str, holds: Callable[[], bool]) -> None:
        """How long until it holds; None: not within the limit."""
        started = time.monotonic()
        while not holds():
            if time.monotonic() - started > self.limit_s:
                self.found[name] = None
                return
            time.sleep(POLL_S)
        self.found[name] = (time.monotonic() - started) * 1000

    def count(self, side: Connection, number: int | None = None, *, embedded: bool = False) -> int:
        query = "SELECT count(*) FROM documents d WHERE source = %s"
        query += " AND content = %s" if number is not None else ""
        query += " AND EXISTS (SELECT FROM chunks c WHERE c.document_id = d.id AND embedding IS NOT NULL)" if embedded else ""
        values = (SOURCE, *([TEXT.format(number)] if number is not None else []))
        row = side.execute(query.encode(), values).fetchone()
        return int(str(row[0])) if row else 0

    def clear(self) -> None:
        """On the primary, and here what it never had; the daemon carries the rest."""
        self.there.execute("DELETE FROM documents WHERE source = %s", (SOURCE,))
        self.here.execute("DELETE FROM documents WHERE source = %s AND id < 0", (SOURCE,))


@writing("three marked documents, on the primary and on the laptop, deleted at the end")
def trial(nodes: Nodes, limit_s: float = 30) -> Trial | Missing:
    """Pull, push, offline write, reconnection and delete, each timed, at most ``limit_s`` each; the daemon must run."""
    name = laptop(nodes.site)
    return seen(name, "try the synchronisation", lambda: _tried(nodes, name, limit_s))


def _tried(nodes: Nodes, name: str, limit_s: float) -> Trial:
    primary, budget = roles.primary(nodes), 8 * limit_s
    with (
        nodes[name].session(write=True, deadline_s=budget) as here,
        primary.session(write=True, deadline_s=budget) as there,
    ):
        this, embeds = _Try(here, there, limit_s), nodes[name].wish.embedding is not None
        with _cleared(this):
            this.write(there, 1)
            this.timed("pulled_ms", lambda: this.count(here, 1) == 1)
            this.write(here, 2)
            this.timed("pushed_ms", lambda: this.count(there, 2, embedded=embeds) == 1)
            with _offline(this, name):
                this.write(there, 3)
                this.write(here, 4)
                this.timed("found_ms", lambda: not embeds or _found(nodes, name, here))
                time.sleep(0.5)  # a daemon that does not stay away would have carried it by now
                held = this.count(there, 4) == 0 and this.count(here, 3) == 0
            this.timed("reconnected_ms", lambda: this.count(there, 4, embedded=embeds) == 1 and this.count(here, 3) == 1)
            this.clear()
            this.timed("deleted_ms", lambda: this.count(here) == 0)
        left = this.count(here) + this.count(there)
    return Trial(name, primary.name, limit_s, held=held, left=left, chunks=embeds, **this.found)


@contextmanager
def _cleared(this: _Try) -> Iterator[None]:
    this.clear()
    try:
        yield
    finally:
        this.clear()


@contextmanager
def _offline(this: _Try, name: str) -> Iterator[None]:
    """The daemon leaves the primary alone, as on a train; it is told to come back at the end, and does so by itself in time."""
    pause = "UPDATE aya_sync.laptop SET paused_until = clock_timestamp() + %s::interval"
    this.here.execute(pause, (PAUSE,))
    this.here.execute("NOTIFY aya_queue")
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%aya_changes%%'"
    this.timed("away", lambda: this.there.execute(listening).fetchone() == (0,))
    if this.found.pop("away") is None:
        raise AyaError(f"{name}'s daemon does not leave the primary alone", hint="Is it of this version? See: aya air status")
    try:
        yield
    finally:
        this.here.execute("UPDATE aya_sync.laptop SET paused_until = NULL")
        this.here.execute("NOTIFY aya_queue")


def _found(nodes: Nodes, name: str, here: Connection) -> bool:
    """Whether a question in other words finds the document on the laptop, by the laptop's own encoder and index."""
    import numpy as np

    from aya_lib.embedding.client import Client
    from aya_lib.knowledge.search import Searcher

    vector, _ = Client(nodes[name], patience_s=0).query(QUESTION)
    hits = Searcher(here, nodes[name].site.knowledge.language).search(QUESTION, np.asarray(vector), "vector", 3)
    return any(hit.content == TEXT.format(4) for hit in hits)


def checks(site: Site, found: Trial | Missing) -> list[Check]:
    """Each way within its limit, nothing crossed while offline, nothing left."""

    def way(name: str, value: Callable[[Trial], float | None]) -> Check:
        limit = f"within {found.limit_s:g} s" if isinstance(found, Trial) else "in time"
        return evaluate(name, limit, found, lambda one: passed_if(value(one) is not None, _ms(value(one)), "See: aya air status"))

    def left(one: Trial) -> Judged:
        return passed_if(one.left == 0, f"{one.left} marked documents")

    return [
        way("pull", lambda one: one.pulled_ms),
        way("push", lambda one: one.pushed_ms),
        way("offline write is found on the laptop", lambda one: one.found_ms),
        evaluate(
            "offline", "nothing crosses", found, lambda one: passed_if(one.held, "nothing crossed" if one.held else "it crossed")
        ),
        way("reconnect", lambda one: one.reconnected_ms),
        way("delete", lambda one: one.deleted_ms),
        evaluate("nothing is left of the trial", "0 marked documents", found, left),
    ]


def _ms(value: float | None) -> str:
    return "not within the limit" if value is None else f"{value:.0f} ms"
