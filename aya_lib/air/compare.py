"""The laptop beside the primary, row by row and while both are written: sums of ranges first, rows only where these differ.

The laptop is read first, in one snapshot together with its cursor, then the primary in a later one. What changed on the primary
since the cursor is named by its log, and what waits on the laptop by its queue: the rest must be equal to the byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from aya_lib.air.first import Index, vector_indexes
from aya_lib.air.link import ALIKE, Laptop, laptop, state
from aya_lib.air.position import Snapshot, survives
from aya_lib.air.reconcile import hashes
from aya_lib.cluster import roles, server
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows, statement
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table

DEADLINE_S = 1800.0
SHOWN = 50
TABLES = {"d": "documents", "c": "chunks"}
Row = tuple[str, int]  # relation, id
Hashes = dict[Row, tuple[str | None, str | None]]  # of rows that differ: there, here
Ranges = dict[tuple[str, int], tuple[int, str]]  # (relation, range) -> rows, checksum


@dataclass(frozen=True)
class Difference:
    """A row that is not as on the primary, although nothing is on its way. ``there``, ``here``: versions of a document, else
    whether the chunk is there; None: no such row."""

    relation: str
    id: int
    there: str | None
    here: str | None

    def __str__(self) -> str:
        name = f"{'document' if self.relation == 'd' else 'chunk'} {self.id}"
        if self.here is None:
            return f"{name} is missing"
        if self.there is None:
            return f"{name} is only here"
        return f"{name} differs ({self.there} there, {self.here} here)" if self.relation == "d" else f"{name} differs"


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """``counts``: of each table, rows there and here. ``pending``: rows that changed on the primary and were not pulled yet;
    ``queued``: mutations that were not pushed yet. ``inexact``: why rows on their way cannot be told from rows that differ."""

    laptop: str
    primary: str
    counts: dict[str, tuple[int, int]]
    ranges: int
    ranges_differing: int
    differences: tuple[Difference, ...]
    pending: int
    queued: int
    inexact: str
    indexes_missing: tuple[Index, ...]
    seconds: float

    def table(self) -> Table:
        lines = [(name, f"{there:,}", f"{here:,}") for name, (there, here) in self.counts.items()]
        lines += [
            ("changed there, not pulled yet", str(self.pending), ""),
            ("written here, not pushed yet", "", str(self.queued)),
        ]
        lines += [(str(one), one.there or "no such row", one.here or "no such row") for one in self.differences[:SHOWN]]
        more = len(self.differences) - SHOWN
        notes = (f"and {more} more that differ",) if more > 0 else ()
        parts = f"{self.ranges} ranges compared, {self.ranges_differing} with differing sums"
        return Table(f"{self.laptop} beside {self.primary}: {parts}", ("", self.primary, self.laptop), tuple(lines), notes)


@dataclass(frozen=True)
class _Waiting:
    queued: list[int]
    mutations: int
    documents: list[int]
    chunks: list[int]


def look(nodes: Nodes, rows_each_range: int = 1000) -> Comparison | Missing:
    """Compare. Nothing is locked or written. :class:`aya_lib.air.link.Apart` when the laptop is not set up."""
    name = laptop(nodes.site)
    return seen(name, "compare with the primary", lambda: _compared(nodes, name, rows_each_range))


def _compared(nodes: Nodes, name: str, size: int) -> Comparison:
    started = time.monotonic()
    primary = roles.primary(nodes)
    with _snapshot(nodes[name]) as here:
        known = state(here)
        waiting = rows(here, __package__, "compare_waiting", _Waiting)[0]
        ours = _sums(here, size)
        with _snapshot(primary) as there:
            theirs = _sums(there, size)
            pending, inexact = _pending(primary.name, there, known)
            differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
            found = _rows(here, there, differing, size)
            on_the_way = pending | {("d", one) for one in waiting.documents} | {("c", one) for one in waiting.chunks}
            differences = _really(here, there, found, on_the_way, set(waiting.queued) | {n for r, n in on_the_way if r == "d"})
            indexes = _indexes(here, there)
    counts = {table: (_count(theirs, relation), _count(ours, relation)) for relation, table in TABLES.items()}
    took, parts = time.monotonic() - started, len(ours.keys() | theirs.keys())
    return Comparison(
        name, primary.name, counts, parts, len(differing), differences, len(pending), waiting.mutations, inexact, indexes, took
    )


@contextmanager
def _snapshot(node: Node) -> Iterator[Connection]:
    """A session that sees one moment."""
    with node.session(deadline_s=DEADLINE_S) as connection:
        connection.execute(ALIKE)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection
        connection.execute("ROLLBACK")


def _sums(connection: Connection, size: int) -> Ranges:
    query = sql.SQL(statement(__package__, "compare_sums")).format(size=sql.Literal(size), rows=hashes(connection))
    found = connection.execute(query).fetchall()
    return {(str(relation), int(str(part))): (int(str(count)), str(checksum)) for relation, part, count, checksum in found}


def _count(sums: Ranges, relation: str) -> int:
    return sum(count for (kind, _), (count, _) in sums.items() if kind == relation)


def _pending(primary: str, there: Connection, known: Laptop) -> tuple[set[Row], str]:
    """Rows that the primary's log names since the laptop's cursor; and why it cannot tell, when it cannot."""
    row = there.execute(statement(__package__, "log_state")).fetchone()
    assert row
    log, pruned, cursor = int(str(row[1])), int(str(row[2])), known.cursor
    if cursor is None:
        return set(), "the next round compares everything anyway: nothing was pulled since that was decided"
    if known.position is None or not survives(known.position, server.read(primary, there)):
        return set(), f"{primary} lacks what was seen: it was failed over or put back, and the next round compares everything"
    if known.log != log or cursor.xmin < pruned:
        return set(), "the log does not reach back so far: the next round compares everything"
    return _named(there, cursor)


def _named(there: Connection, cursor: Snapshot) -> tuple[set[Row], str]:
    found = there.execute(statement(__package__, "log_new"), {"old": str(cursor)}).fetchall()
    if any(relation == "*" for _, relation, _ in found):
        return set(), "a table was truncated: the next round compares everything"
    return {(str(relation), int(str(number))) for _, relation, number in found}, ""


def _rows(
    here: Connection, there: Connection, ranges: list[tuple[str, int]], size: int
) -> dict[Row, tuple[str | None, str | None]]:
    """The rows of these ranges whose hashes differ: there, here."""
    found: Hashes = {}
    for relation, part in ranges:
        theirs, ours = (_hashes(side, relation, part, size) for side in (there, here))
        for number in theirs.keys() | ours.keys():
            if theirs.get(number) != ours.get(number):
                found[relation, number] = (theirs.get(number), ours.get(number))
    return found


def _hashes(side: Connection, relation: str, part: int, size: int) -> dict[int, str]:
    values = {"relation": sql.Literal(relation), "first": sql.Literal(part * size), "last": sql.Literal(part * size + size - 1)}
    query = sql.SQL(statement(__package__, "compare_rows")).format(rows=hashes(side), **values)
    return {int(str(number)): str(hashed) for _, number, hashed in side.execute(query).fetchall()}


def _really(
    here: Connection,
    there: Connection,
    found: Hashes,
    on_the_way: set[Row],
    documents: set[int],
) -> tuple[Difference, ...]:
    """Without rows that are on their way, and chunks of documents that are."""
    chunks = [number for relation, number in found if relation == "c"]
    owners: dict[int, set[int]] = {}
    for side in (here, there):
        query = "SELECT id, document_id FROM chunks WHERE id = ANY (%s)"
        for number, document in side.execute(query, (chunks,)).fetchall():
            owners.setdefault(int(str(number)), set()).add(int(str(document)))
    differences = []
    for (relation, number), (theirs, ours) in sorted(found.items(), reverse=True):
        owned = {number} if relation == "d" else owners.get(number, set())
        if (relation, number) not in on_the_way and not owned & documents:
            differences.append(Difference(relation, number, _version(relation, theirs), _version(relation, ours)))
    return tuple(differences)


def _version(relation: str, hashed: str | None) -> str | None:
    if hashed is None:
        return None
    return f"version {hashed.split(' ')[0]}" if relation == "d" else "there"


def _indexes(here: Connection, there: Connection) -> tuple[Index, ...]:
    """Vector indexes of the primary that the laptop has not, or not valid."""
    ours, theirs = ({one.name: one for one in vector_indexes(side)} for side in (here, there))
    return tuple(one for name, one in sorted(theirs.items()) if name not in ours)
