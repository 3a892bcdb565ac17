"""The synchronisation tried for real: marked documents go both ways, one is written while the daemon leaves the primary alone.

They are deleted at the end, also when the trial fails; what a killed one left is deleted by the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from aya_lib.air import sync_now
from aya_lib.air.link import laptop
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster import roles
from aya_lib.cluster.canary import writing
from aya_lib.embedding.client import Client
from aya_lib.errors import AyaError
from aya_lib.knowledge.search import Searcher
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, statement, value
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table
from aya_lib.site import Site

SOURCE = "aya: trial of the synchronisation"
POLL_S = 0.01
HELD_S = 0.5  # a daemon that does not stay away would have carried it by then
PAUSE_MIN = 2.0  # ends by itself when the trial is killed
TEXT = "The harbour master counts the herring boats before the fog comes in. Trial {}."
QUESTION = "Who counts the fishing vessels in the mist?"
WAYS = {
    "pull": "committed on the primary, to be read on the laptop",
    "push": "written on the laptop, to be read on the primary with its embedding",
    "offline write is found on the laptop": "written offline, to be found on the laptop by its meaning",
    "reconnect": "online again, until both sides have both documents",
    "delete": "deleted on the primary, to be gone on the laptop",
}
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%aya_changes%'"


@dataclass(frozen=True, repr=False)
class Trial(Shown):
    """Milliseconds of each of :data:`WAYS`, None: not within the limit. ``held``: nothing crossed while the daemon was told to
    stay away; ``left``: marked documents that are there afterwards, on either side."""

    laptop: str
    primary: str
    limit_s: float
    ms: Mapping[str, float | None]
    held: bool
    left: int

    def table(self) -> Table:
        rows = tuple((WAYS[name], _ms(milliseconds)) for name, milliseconds in self.ms.items())
        return Table(f"{self.laptop} beside {self.primary}: one document each way", ("", "observed"), rows)


@writing("three marked documents, on the primary and on the laptop, deleted at the end")
def trial(nodes: Nodes, limit_s: float = 30) -> Trial | Missing:
    """Pull, push, offline write, reconnection and delete, each timed, at most ``limit_s`` each; the daemon must run."""
    name = laptop(nodes.site)
    return seen(name, "try the synchronisation", lambda: _try(nodes, name, limit_s))


def synchronises(found: Trial | Missing) -> list[Check]:
    """Each way within its limit, nothing crossed while offline, nothing left."""
    limit = f"within {found.limit_s:g} s" if isinstance(found, Trial) else "in time"

    def way(name: str) -> Check:
        hint = "See: aya air status"
        return evaluate(name, limit, found, lambda trial: passed_if(trial.ms[name] is not None, _ms(trial.ms[name]), hint))

    def held(trial: Trial) -> Judged:
        return passed_if(trial.held, "nothing crossed" if trial.held else "it crossed")

    def left(trial: Trial) -> Judged:
        return passed_if(trial.left == 0, f"{trial.left} marked documents")

    pull, push, offline, *others = map(way, WAYS)
    crossed = evaluate("offline", "nothing crosses", found, held)
    return [pull, push, offline, crossed, *others, evaluate("nothing is left of the trial", "0 marked documents", found, left)]


@dataclass(frozen=True)
class _Sides:
    """Both sessions, and the marked documents."""

    here: Connection
    there: Connection
    limit_s: float

    def write(self, side: Connection, number: int) -> None:
        query = "INSERT INTO documents (content, source, category) VALUES (%s, %s, 'trial')"
        side.execute(query, (TEXT.format(number), SOURCE))

    def timed(self, holds: Callable[[], bool]) -> float | None:
        """Milliseconds until it holds; None: not within the limit."""
        started = time.monotonic()
        while not holds():
            if time.monotonic() - started > self.limit_s:
                return None
            time.sleep(POLL_S)
        return (time.monotonic() - started) * 1000

    def count(self, side: Connection, number: int | None = None, *, embedded: bool = False) -> int:
        """Marked documents, or of one number; ``embedded``: only with an embedding."""
        values = {"source": SOURCE, "content": None if number is None else TEXT.format(number), "embedded": embedded}
        return int(str(value(side, statement(__package__, "marked"), values)))

    def clear(self) -> None:
        """On the primary, and here what it never had; the daemon carries the rest."""
        self.there.execute("DELETE FROM documents WHERE source = %s", (SOURCE,))
        self.here.execute("DELETE FROM documents WHERE source = %s AND id < 0", (SOURCE,))


def _try(nodes: Nodes, name: str, limit_s: float) -> Trial:
    primary, budget_s = roles.primary(nodes), 8 * limit_s
    embeds, ms = nodes[name].config.embedding is not None, dict[str, float | None]()
    with (
        nodes[name].session(write=True, deadline_s=budget_s) as here,
        primary.session(write=True, deadline_s=budget_s) as there,
    ):
        sides = _Sides(here, there, limit_s)
        sides.clear()
        with ExitStack() as at_the_end:
            at_the_end.callback(sides.clear)
            sides.write(there, 1)
            ms["pull"] = sides.timed(lambda: sides.count(here, 1) == 1)
            sides.write(here, 2)
            ms["push"] = sides.timed(lambda: sides.count(there, 2, embedded=embeds) == 1)
            with _offline(sides, nodes.site):
                sides.write(there, 3)
                sides.write(here, 4)
                ms["offline write is found on the laptop"] = sides.timed(lambda: not embeds or _is_found(nodes, name, here))
                time.sleep(HELD_S)
                held = sides.count(there, 4) == 0 and sides.count(here, 3) == 0
            ms["reconnect"] = sides.timed(lambda: sides.count(there, 4, embedded=embeds) == 1 and sides.count(here, 3) == 1)
            sides.clear()
            ms["delete"] = sides.timed(lambda: sides.count(here) == 0)
        left = sides.count(here) + sides.count(there)
    return Trial(name, primary.name, limit_s, ms, held, left)


@contextmanager
def _offline(sides: _Sides, site: Site) -> Iterator[None]:
    """The daemon leaves the primary alone, as on a train; it is told to come back at the end, and does so by itself in time."""
    sync_now.pause(site, PAUSE_MIN)
    if sides.timed(lambda: value(sides.there, LISTENING) == 0) is None:
        hint = "Is it of this version? See: aya air status"
        raise AyaError(f"{laptop(site)}'s daemon does not leave the primary alone", hint=hint)
    try:
        yield
    finally:
        sync_now.pause(site, 0)


def _is_found(nodes: Nodes, name: str, here: Connection) -> bool:
    """Whether a question in other words finds the document on the laptop, by the laptop's own encoder and index."""
    vector, _ = Client(nodes[name], patience_s=0).query(QUESTION)
    hits = Searcher(here).search(QUESTION, vector, "vector", 3)
    return any(hit.content == TEXT.format(4) for hit in hits)


def _ms(milliseconds: float | None) -> str:
    return "not within the limit" if milliseconds is None else f"{milliseconds:.0f} ms"
