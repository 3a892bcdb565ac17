"""The actions of a rebuild. Each touches the running system for a moment only, can be done twice, and cleans up after itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from psycopg import sql

from aya_lib.errors import AyaError, ChangeFailed, DeadlinePassed
from aya_lib.knowledge import search
from aya_lib.node import wait
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, value
from aya_lib.vectors.index import Index
from aya_lib.vectors.rebuild import hold, settings
from aya_lib.vectors.rebuild.hold import Place, Resources, patiently
from aya_lib.vectors.rebuild.settings import Settings

FLUSH_S = 1.0  # a backend reports its scans once a second at most (PostgreSQL: pgstat.c, PGSTAT_MIN_INTERVAL)
QUIET_S = 60.0  # an index that is still scanned after so long is in somebody's use


@dataclass(frozen=True)
class Made:
    """An index that was built just now on ``rows`` rows and is searched with ``value``."""

    place: Place
    name: str
    index: Index
    value: int
    rows: int

    def record(self, node: Node, recall: float | None = None, k: int = 0) -> dict[str, Any]:
        """What is stored of it. Its file node tells later whether it is still this one."""
        file = filenode(node, self.place, self.name)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        own = {"index": str(self.index), "filenode": file, "rows": self.rows, "at": at}
        return {"built": own | {"recall": None if recall is None else round(recall, 4), "k": k, "value": self.value}}


@dataclass(frozen=True)
class Settle:
    """Write settings for those who search; with ``read`` also wait until every searcher has read them. ``made``: an index to
    record too."""

    settings: Settings
    read: bool = False
    made: Made | None = None

    def command(self, node: Node) -> str:
        waiting = ["-- and wait until every searcher has read it"] if self.read else []
        return ";\n".join([*self.settings.lines(), *waiting])

    def run(self, node: Node) -> None:
        record = self.made.record(node) if self.made else {}
        with node.session(write=True) as connection:
            settings.write(connection, replace(self.settings, put={**self.settings.put, **record}))
        if self.read:
            settings.until_read(node)


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
    resources: Resources
    interim: Settings | None = None
    options: Index | None = None  # given to it first, where they may be others

    def command(self, node: Node) -> str:
        first = [Alter(self.place, self.name, self.options).command(node)] if self.options else []
        held = ["-- held before the new index becomes valid, until every searcher has read:"] if self.interim else []
        return "\n".join([*first, self._query(), *held, *(self.interim.lines() if self.interim else [])])

    def run(self, node: Node) -> None:
        if self.options:
            Alter(self.place, self.name, self.options).run(node)
        before = filenode(node, self.place, self.name)
        let_know = partial(Settle(self.interim, read=True).run, node) if self.interim else None
        try:
            hold.build(node, self._query(), self.place.relation, self.resources, let_know)
        except AyaError:
            swapped = False
            with suppress(AyaError):
                swapped = filenode(node, self.place, self.name) != before
                hold.sweep(node, self.place)
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
    resources: Resources

    def command(self, node: Node) -> str:
        return self.index.create(self.place.table, self.name, concurrently=True).as_string()

    def run(self, node: Node) -> None:
        hold.sweep(node, self.place)  # what is there now under the name is whole
        if filenode(node, self.place, self.name):
            return
        try:
            hold.build(node, self.command(node), self.place.relation, self.resources)
        except AyaError:
            with suppress(AyaError):
                hold.sweep(node, self.place)
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
                if self.place.filenode(connection, self.pairs[-1][0]):
                    for old, new in self.pairs:
                        connection.execute(self._query(old, new))
                settings.write(connection, self.settings)

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
        waiting = f"  -- when it was not scanned for {self._quiet_s():g} s" if self.quiet else ""
        return sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(self.place.index(self.name)).as_string() + waiting

    def run(self, node: Node) -> None:
        if self.quiet:
            settings.until_read(node)
            self._until_quiet(node)
        hold.drop(node, self.place, self.name)

    def _quiet_s(self) -> float:
        return 2 * search.FRESH_S + FLUSH_S

    def _until_quiet(self, node: Node) -> None:
        query, name = "SELECT pg_stat_get_numscans(to_regclass(%s))", (self.place.index(self.name).as_string(),)
        last_count: int | None = None
        risen_at = time.monotonic()
        with node.session(deadline_s=QUIET_S + node.site.deadlines.statement_s) as connection:

            def quiet_s() -> float:
                nonlocal last_count, risen_at
                count, now = value(connection, query, name), time.monotonic()
                if count != last_count:
                    last_count, risen_at = count, now
                return now - risen_at

            try:
                wait.until(
                    quiet_s,
                    lambda seconds: seconds >= self._quiet_s(),
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
    """How the live index is measured (its recall@``k``, from 0 to 1), and the least that is accepted."""

    measure: Callable[[Node], float]
    minimum: float
    k: int = 10


@dataclass(frozen=True)
class Prove:
    """Measure the recall of the live index; :class:`ChangeFailed` when it is below the minimum. ``made``: to be recorded."""

    proof: Proof
    index: Index
    made: Made | None = None

    def command(self, node: Node) -> str:
        return f"-- recall of the live index >= {self.proof.minimum:g}"

    def run(self, node: Node) -> None:
        recall = self.proof.measure(node)
        if not recall >= self.proof.minimum:
            hint = "Ask for more probes (or a larger ef_search), or for other options"
            raise ChangeFailed(
                f"{node.name}: recall of {self.index} is {recall:.3f}, wanted is at least {self.proof.minimum:g}", hint=hint
            )
        if self.made:
            Settle(Settings(self.made.record(node, recall, self.proof.k))).run(node)


@dataclass(frozen=True)
class AlreadyDone:
    """What an earlier run did before it broke off: nothing is left to do, but its place in the plan keeps the way back."""

    did: str

    def command(self, node: Node) -> str:
        return "-- stands already: " + self.did.split("\n")[0]

    def run(self, node: Node) -> None:
        return


def filenode(node: Node, place: Place, name: str) -> int | None:
    """As :meth:`Place.filenode`, over a session of its own."""
    with node.session() as connection:
        return place.filenode(connection, name)
