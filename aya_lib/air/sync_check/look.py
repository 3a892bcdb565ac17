"""The laptop beside the primary, row by row and while both are written.

The laptop is read first, in one snapshot together with its cursor, then the primary in a later one. What changed on the primary
since the cursor is named by its log, and what waits on the laptop by its queue: the rest must be equal to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aya_lib.air import differ, pull
from aya_lib.air.differ import RANGE, Row, Sums
from aya_lib.air.initial_copy import Index, vector_indexes
from aya_lib.air.link import ALIKE, Laptop, Log, laptop, state
from aya_lib.air.position import survives
from aya_lib.air.tables import TABLES
from aya_lib.cluster import roles, server
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows
from aya_lib.node.unseen import Missing, seen
from aya_lib.show import Shown, Table

DEADLINE_S = 1800.0
SHOWN = 50


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

    nodes: Nodes
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

    def table(self) -> Table:
        lines = [(name, f"{there:,}", f"{here:,}") for name, (there, here) in self.counts.items()]
        lines += [
            ("changed there, not pulled yet", str(self.pending), ""),
            ("written here, not pushed yet", "", str(self.queued)),
        ]
        lines += [(str(row), row.there or "no such row", row.here or "no such row") for row in self.differences[:SHOWN]]
        more = len(self.differences) - SHOWN
        notes = (f"and {more} more that differ",) if more > 0 else ()
        parts = f"{self.ranges} ranges compared, {self.ranges_differing} with differing sums"
        return Table(f"{self.laptop} beside {self.primary}: {parts}", ("", self.primary, self.laptop), tuple(lines), notes)


@dataclass(frozen=True)
class Waiting:
    """What may differ here: ``queued`` documents are to be pushed, the others to be fetched again; ``mutations``: all of them."""

    queued: list[int]
    mutations: int
    documents: list[int]
    chunks: list[int]


def look(nodes: Nodes, rows_each_range: int = RANGE) -> Comparison | Missing:
    """Compare. Nothing is locked or written. :class:`aya_lib.air.link.Apart` when the laptop is not set up."""
    name = laptop(nodes.site)
    return seen(name, "compare with the primary", lambda: _compare(nodes, name, rows_each_range))


def _compare(nodes: Nodes, name: str, size: int) -> Comparison:
    primary = roles.primary(nodes)
    with _snapshot(nodes[name]) as here:
        known = state(here)
        waiting = rows(here, __package__, "waiting", Waiting)[0]
        ours = differ.sums(here, size)
        with _snapshot(primary) as there:
            theirs = differ.sums(there, size)
            pending, inexact = _pending(primary.name, there, known)
            ranges = differ.differing(ours, theirs)
            hashes_here, hashes_there = (differ.hashes(side, ranges, size) for side in (here, there))
            differing = differ.differing(hashes_here, hashes_there) - pending
            differing -= {("d", number) for number in waiting.documents} | {("c", number) for number in waiting.chunks}
            moving = {number for relation, number in pending if relation == "d"} | {*waiting.queued, *waiting.documents}
            remaining = sorted(differing - _of_documents(here, there, differing, moving), reverse=True)
            existing = {index.name for index in vector_indexes(here)}  # that are valid
            missing = [index for index in vector_indexes(there) if index.name not in existing]
    return Comparison(
        nodes,
        name,
        primary.name,
        counts={table: (_count(theirs, relation), _count(ours, relation)) for relation, table in TABLES.items()},
        ranges=len(ours.keys() | theirs.keys()),
        ranges_differing=len(ranges),
        differences=tuple(Difference(*row, _version(row, hashes_there), _version(row, hashes_here)) for row in remaining),
        pending=len(pending),
        queued=waiting.mutations,
        inexact=inexact,
        indexes_missing=tuple(sorted(missing, key=lambda index: index.name)),
    )


@contextmanager
def _snapshot(node: Node) -> Iterator[Connection]:
    """A session that sees one moment."""
    with node.session(deadline_s=DEADLINE_S) as connection:
        connection.execute(ALIKE)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection
        connection.execute("ROLLBACK")


def _count(sums: Sums, relation: str) -> int:
    return sum(count for (kind, _), (count, _) in sums.items() if kind == relation)


def _pending(primary: str, there: Connection, known: Laptop) -> tuple[set[Row], str]:
    """Rows that the primary's log names since the laptop's cursor; and why it cannot tell, when it cannot."""
    if known.cursor is None:
        return set(), "the next round compares everything anyway: nothing was pulled since that was decided"
    if known.position is None or not survives(known.position, server.read(primary, there)):
        return set(), f"{primary} lacks what was seen: it was failed over or put back, and the next round compares everything"
    if not Log.read(there).reaches(known):
        return set(), "the log does not reach back so far: the next round compares everything"
    changes = pull.new_in_log(there, known.cursor)
    if any(relation == "*" for _, relation, _ in changes):
        return set(), "a table was truncated: the next round compares everything"
    return {(relation, number) for _, relation, number in changes}, ""


def _of_documents(here: Connection, there: Connection, differing: set[Row], documents: set[int]) -> set[Row]:
    """The rows that are one of these documents, or a chunk that either side has under one."""
    chunks = [number for relation, number in differing if relation == "c"]
    query = "SELECT id, document_id FROM chunks WHERE id = ANY (%s)"
    owners = [owner for side in (here, there) for owner in side.execute(query, (chunks,)).fetchall()]
    return {("d", number) for number in documents} | {("c", int(str(chunk))) for chunk, owner in owners if owner in documents}


def _version(row: Row, hashes: differ.Hashes) -> str | None:
    if row not in hashes:
        return None
    return f"version {hashes[row].split(' ')[0]}" if row[0] == "d" else "there"
