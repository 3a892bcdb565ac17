"""The deeds of a rebuild. Each touches the running system for a moment only, can be done twice, and cleans up after itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from psycopg import sql

from aya_lib.errors import AyaError, ChangeFailed, DeadlinePassed
from aya_lib.knowledge import search
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection
from aya_lib.vectors.index import Index
from aya_lib.vectors.online import gate, stored, touch
from aya_lib.vectors.online.gate import Progress, Room
from aya_lib.vectors.online.stored import Settings
from aya_lib.vectors.online.touch import Place, drop, patiently, shown

FLUSH_S = 1.0  # a backend reports its scans once a second at most (PostgreSQL: pgstat.c, PGSTAT_MIN_INTERVAL)
QUIET_S = 60.0  # an index that is still scanned after so long is in somebody's use


@dataclass(frozen=True)
class Settle:
    """Write settings for those who search; with ``read`` also wait until every searcher has read them."""

    settings: Settings
    read: bool = False

    def command(self, node: Node) -> str:
        waiting = ["-- and wait until every searcher has read it"] if self.read else []
        return ";\n".join([*self.settings.lines(), *waiting])

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection:
            stored.write(connection, self.settings)
        if self.read:
            stored.until_read(node)


@dataclass(frozen=True)
class Alter:
    """Give an index other options, which hold when it is next built.

    Takes a lock for a moment: an exclusive one in a session that has pgvector loaded, else one that hinders no search.
    """

    place: Place
    name: str
    index: Index

    def command(self, node: Node) -> str:
        return self._query().as_string()

    def run(self, node: Node) -> None:
        patiently(node, self.place, self.name, lambda connection: connection.execute(self._query()))

    def _query(self) -> sql.Composed:
        options = [sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value)) for key, value in self.index.options]
        return sql.SQL("ALTER INDEX {} SET ({})").format(self.place.index(self.name), sql.SQL(", ").join(options))


@dataclass(frozen=True)
class Reindex:
    """Build the index anew under its name. ``interim``: settings that every searcher has read before the new one is used."""

    place: Place
    name: str
    room: Room
    interim: Settings | None = None
    options: Index | None = None  # given to it first, where they may be others
    progress: Progress | None = None

    def command(self, node: Node) -> str:
        first = [Alter(self.place, self.name, self.options).command(node)] if self.options else []
        held = ["-- held before the new index becomes valid, until every searcher has read:"] if self.interim else []
        return "\n".join([*first, self._query(), *held, *(self.interim.lines() if self.interim else [])])

    def run(self, node: Node) -> None:
        if self.options:
            Alter(self.place, self.name, self.options).run(node)
        before = touch.filenode(node, self.place, self.name)
        try:
            with shown(self.progress) as progress:
                hold = partial(Settle(self.interim, read=True).run, node) if self.interim else None
                gate.build(node, self._query(), self.place.relation, self.room, progress, hold)
        except AyaError:
            swapped = False
            with suppress(AyaError):
                swapped = touch.filenode(node, self.place, self.name) != before
                touch.sweep(node, self.place)
            if not swapped:  # else the new index is live, and only the old one's removal broke off
                raise

    def _query(self) -> str:
        return sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(self.place.index(self.name)).as_string()


@dataclass(frozen=True)
class Create:
    """Build an index beside the one that is live."""

    place: Place
    name: str
    index: Index
    room: Room
    progress: Progress | None = None

    def command(self, node: Node) -> str:
        return self.index.create(self.place.table, self.name, concurrently=True).as_string()

    def run(self, node: Node) -> None:
        touch.sweep(node, self.place)  # what is there now under the name is whole
        with node.session() as connection:
            if touch.exists(connection, self.place, self.name):
                return
        try:
            with shown(self.progress) as progress:
                gate.build(node, self.command(node), self.place.relation, self.room, progress)
        except AyaError:
            with suppress(AyaError):
                touch.sweep(node, self.place)
            raise


@dataclass(frozen=True)
class Rename:
    """Rename indexes and write settings, in one transaction. ``pairs``: from, to. What is done already is left out."""

    place: Place
    pairs: tuple[tuple[str, str], ...]
    settings: Settings

    def command(self, node: Node) -> str:
        renames = [self._query(old, new).as_string() for old, new in self.pairs]
        return ";\n".join(["BEGIN", *renames, *self.settings.lines(), "COMMIT"])

    def run(self, node: Node) -> None:
        def act(connection: Connection) -> None:
            with connection.transaction():
                if touch.exists(connection, self.place, self.pairs[-1][0]):
                    for old, new in self.pairs:
                        connection.execute(self._query(old, new))
                stored.write(connection, self.settings)

        patiently(node, self.place, self.pairs[0][0], act)

    def _query(self, old: str, new: str) -> sql.Composed:
        return sql.SQL("ALTER INDEX {} RENAME TO {}").format(self.place.index(old), sql.Identifier(new))


@dataclass(frozen=True)
class Drop:
    """Drop an index beside the running system; with ``quiet`` only when nobody has scanned it for a while.

    A search that asks for another indexed type than the new index has would read the whole table from then on. Searchers of
    this library have turned to the new one within :data:`search.FRESH_S`; others are only seen by their scans.
    """

    place: Place
    name: str
    quiet: bool = False

    def command(self, node: Node) -> str:
        waiting = f"  -- when it was not scanned for {2 * search.FRESH_S + FLUSH_S:g} s" if self.quiet else ""
        return sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(self.place.index(self.name)).as_string() + waiting

    def run(self, node: Node) -> None:
        if self.quiet:
            stored.until_read(node)
            self._until_quiet(node)
        drop(node, self.place, self.name)

    def _until_quiet(self, node: Node) -> None:
        query = "SELECT pg_stat_get_numscans(to_regclass(%s))"
        scans: object = None
        risen_at = time.monotonic()
        with node.session(deadline_s=QUIET_S + node.site.deadlines.statement_s) as connection:

            def look() -> float:
                """Seconds since the count rose."""
                nonlocal scans, risen_at
                found, now = connection.execute(query, (self.place.index(self.name).as_string(),)).fetchone(), time.monotonic()
                if found != scans:
                    scans, risen_at = found, now
                return now - risen_at

            try:
                wait.until(
                    look,
                    lambda quiet_s: quiet_s >= 2 * search.FRESH_S + FLUSH_S,
                    node=node.name,
                    what=f"nobody scans {self.name}",
                    deadline_s=QUIET_S,
                    poll_s=0.1,
                )
            except DeadlinePassed:
                hint = "Somebody asks for the type of the old index: let that application search as the plan's statement does"
                raise ChangeFailed(f"{node.name}: {self.name} is still scanned after {QUIET_S:g} s", hint=hint) from None


@dataclass(frozen=True)
class Proof:
    """How the live index is measured (its recall, from 0 to 1), and the least that is accepted."""

    measure: Callable[[Node], float]
    minimum: float


@dataclass(frozen=True)
class Prove:
    """Measure the recall of the live index; :class:`ChangeFailed` when it is below the minimum. ``built``: to be recorded."""

    proof: Proof
    index: Index
    built: int | None = None  # rows, when it was built just now

    def command(self, node: Node) -> str:
        return f"-- recall of the live index >= {self.proof.minimum:g}"

    def run(self, node: Node) -> None:
        recall = self.proof.measure(node)
        if not recall >= self.proof.minimum:
            hint = "Wish for more probes (or a larger ef_search), or for other options"
            raise ChangeFailed(
                f"{node.name}: recall of {self.index} is {recall:.3f}, wanted is at least {self.proof.minimum:g}", hint=hint
            )
        if self.built is not None:
            Settle(Settings({"built": built(self.index, self.built, recall)})).run(node)


@dataclass(frozen=True)
class Finish:
    """Take away the note of the rebuild; without a proof also record what was built."""

    index: Index | None = None
    rows: int = 0

    def command(self, node: Node) -> str:
        return next(Settings(drop=("rebuilding",)).lines())

    def run(self, node: Node) -> None:
        put = {"built": built(self.index, self.rows, None)} if self.index else {}
        Settle(Settings(put, ("rebuilding",))).run(node)


@dataclass(frozen=True)
class Standing:
    """What an earlier run did before it broke off: nothing is left to do, but it can be undone."""

    did: str

    def command(self, node: Node) -> str:
        return "-- stands already: " + self.did.split("\n")[0]

    def run(self, node: Node) -> None:
        return


def built(index: Index, count: int, recall: float | None) -> dict[str, Any]:
    """What is recorded of a build."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"index": str(index), "rows": count, "at": at, "recall": None if recall is None else round(recall, 4)}
