"""The laptop beside the primary, row by row and while both are written.

The laptop is read first, in one snapshot together with its cursor, then the primary in a later one. What changed on the primary
since the cursor is named by its log, and what waits on the laptop by its queue: the rest must be equal to the byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aya_lib.air import differ, pull
from aya_lib.air.differ import Range, Row, Sums
from aya_lib.air.fit import TABLES, Columns
from aya_lib.air.link import Laptop, Log
from aya_lib.air.position import survives
from aya_lib.cluster import server
from aya_lib.node.sql import Connection, rows


@dataclass(frozen=True)
class Difference:
    """A row that is not as on the primary, although nothing is on its way. ``there``, ``here``: versions of a document, else
    whether the chunk is there; None: no such row."""

    relation: str
    id: int
    there: str | None
    here: str | None

    @property
    def row(self) -> Row:
        return self.relation, self.id

    def __str__(self) -> str:
        name = f"{'document' if self.relation == 'd' else 'chunk'} {self.id}"
        if self.here is None:
            return f"{name} is missing"
        if self.there is None:
            return f"{name} is only here"
        return f"{name} differs ({self.there} there, {self.here} here)" if self.relation == "d" else f"{name} differs"


@dataclass(frozen=True)
class Compared:
    """``counts``: of each table, rows there and here. ``pending``: rows that changed on the primary and were not pulled yet;
    ``queued``: mutations that were not pushed yet. ``inexact``: why rows on their way cannot be told from rows that differ."""

    counts: dict[str, tuple[int, int]]
    ranges: int
    ranges_differing: int
    differences: tuple[Difference, ...]
    pending: int
    queued: int
    inexact: str


@dataclass(frozen=True)
class Waiting:
    """What may differ here: ``queued`` documents are to be pushed, the others to be fetched again; ``mutations``: all of them."""

    queued: list[int]
    mutations: int
    documents: list[int]
    chunks: list[int]


@contextmanager
def moment(connection: Connection) -> Iterator[Connection]:
    """One moment of a side, for as long as the block lasts."""
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield connection
    finally:
        if not connection.closed:
            connection.execute("ROLLBACK")


def compare(
    here: Connection,
    there: Connection,
    primary: str,
    known: Laptop,
    columns: Columns,
    size: int = differ.RANGE,
    of: Collection[Range] | None = None,
) -> Compared:
    """All ranges, or some. ``here`` is in a :func:`moment` in which ``known`` was read; one of the primary is opened after it."""
    waiting = rows(here, __package__, "compare_waiting", Waiting)[0]
    ours = differ.sums(here, columns, size, of=of)
    with moment(there):
        theirs = differ.sums(there, columns, size, of=of)
        pending, inexact = _pending(primary, there, known)
        ranges = differ.differing(ours, theirs)
        hashes_here, hashes_there = (differ.hashes(side, columns, ranges, size) for side in (here, there))
        differing = differ.differing(hashes_here, hashes_there) - pending
        differing -= {("d", number) for number in waiting.documents} | {("c", number) for number in waiting.chunks}
        moving = {number for relation, number in pending if relation == "d"} | {*waiting.queued, *waiting.documents}
        remaining = sorted(differing - _of_documents(here, there, differing, moving), reverse=True)
    return Compared(
        counts={table: (_count(theirs, relation), _count(ours, relation)) for relation, table in TABLES.items()},
        ranges=len(ours.keys() | theirs.keys()),
        ranges_differing=len(ranges),
        differences=tuple(Difference(*row, _version(row, hashes_there), _version(row, hashes_here)) for row in remaining),
        pending=len(pending),
        queued=waiting.mutations,
        inexact=inexact,
    )


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
