"""Which rows of two sides differ: a sum over each range of ids first, the rows only where the sums differ.

Every row has a hash that is equal where the row is, byte for byte. Both functions read range by range, so that a long answer is
seen to go on.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from psycopg import sql

from aya_lib.air import tables
from aya_lib.air.fit import Columns
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import Connection, statement, stream

RANGE = 1000  # ids in one sum
Row = tuple[str, int]  # relation (d, c) and id
Range = tuple[str, int]  # relation, and the id divided by the range's size
Sums = dict[Range, tuple[int, str]]  # rows, checksum
Hashes = dict[Row, str]  # of a document "version created text rest fresh", of a chunk one hash
Key = TypeVar("Key", bound=Hashable)


def ranges(connection: Connection, size: int = RANGE) -> list[Range]:
    """Every range up to the highest id that there is."""
    query = "SELECT coalesce((SELECT max(id) FROM documents), 0), coalesce((SELECT max(id) FROM chunks), 0)"
    highest = connection.execute(query).fetchone() or (0, 0)
    return [(relation, part) for relation, last in zip("dc", highest, strict=True) for part in range(int(str(last)) // size + 1)]


def sums(
    connection: Connection, columns: Columns, size: int = RANGE, watch: Watch | None = None, of: Collection[Range] | None = None
) -> Sums:
    """Number of rows and checksum of every range (``of``: of these) that has rows with the primary's ids."""
    found = _ranges(connection, "range_sums", columns, ranges(connection, size) if of is None else of, size, watch)
    return {(relation, part): (count, checksum) for relation, part, count, checksum in found}


def hashes(
    connection: Connection, columns: Columns, of: Collection[Range], size: int = RANGE, watch: Watch | None = None
) -> Hashes:
    """The hash of every row in these ranges."""
    return {(relation, number): row for relation, number, row in _ranges(connection, "range_rows", columns, of, size, watch)}


def _ranges(
    connection: Connection, name: str, columns: Columns, of: Collection[Range], size: int, watch: Watch | None
) -> list[tuple[Any, ...]]:
    query = sql.SQL(statement(__package__, name)).format(size=sql.Literal(size), rows=hashed(columns))
    return stream(connection, query, watch, relations=[relation for relation, _ in of], parts=[part for _, part in of])


def differing(ours: Mapping[Key, object], theirs: Mapping[Key, object]) -> set[Key]:
    """Ranges whose sums, or rows whose hashes, are not the same on both sides."""
    return {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}


def made(fingerprint: str | None) -> str | None:
    """When a document was made, from its hash; None: there is none."""
    return fingerprint.split(" ")[1] if fingerprint else None


def hashed(columns: Columns) -> sql.Composed:
    """The query of relation, id and hash of all rows, over the columns that travel, by name."""

    def listed(names: Iterable[str], *but: str) -> sql.Composed:
        return tables.listed(sorted(set(names) - {*but}))

    fresh = {name.partition(".")[2] for name in columns.fresh if name.startswith("documents.")}
    parts = {
        "document": listed(columns.fit.documents, "id", "version", "created_at", "content", *fresh),
        "fresh": listed(fresh),
        "chunk": listed(columns.fit.chunks, "id", "embedding"),
    }
    return sql.SQL(statement(__package__, "fingerprints")).format(**parts)
