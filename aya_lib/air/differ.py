"""Which rows of two sides differ: a sum over each range of ids first, the rows only where the sums differ.

Every row has a hash that is equal where the row is, byte for byte. Both functions read range by range, so that a long answer is
seen to go on.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from psycopg import sql

from aya_lib.air import tables
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import Connection, statement, stream

RANGE = 1000  # ids in one sum
Row = tuple[str, int]  # relation (d, c) and id
Range = tuple[str, int]  # relation, and the id divided by the range's size
Sums = dict[Range, tuple[int, str]]  # rows, checksum
Hashes = dict[Row, str]  # of a document "version created text rest", of a chunk one hash
Key = TypeVar("Key", bound=Hashable)


def sums(connection: Connection, size: int = RANGE, watch: Watch | None = None) -> Sums:
    """Number of rows and checksum of every range that has rows with the primary's ids."""
    query = sql.SQL(statement(__package__, "range_sums")).format(size=sql.Literal(size), rows=hashed(connection))
    return {(relation, part): (count, checksum) for relation, part, count, checksum in stream(connection, query, watch)}


def hashes(connection: Connection, ranges: Collection[Range], size: int = RANGE, watch: Watch | None = None) -> Hashes:
    """The hash of every row in these ranges."""
    query = sql.SQL(statement(__package__, "range_rows")).format(size=sql.Literal(size), rows=hashed(connection))
    parts = {"relations": [relation for relation, _ in ranges], "parts": [part for _, part in ranges]}
    return {(relation, number): row for relation, number, row in stream(connection, query, watch, **parts)}


def differing(ours: Mapping[Key, object], theirs: Mapping[Key, object]) -> set[Key]:
    """Ranges whose sums, or rows whose hashes, are not the same on both sides."""
    return {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}


def made(fingerprint: str | None) -> str | None:
    """When a document was made, from its hash; None: there is none."""
    return fingerprint.split(" ")[1] if fingerprint else None


def hashed(connection: Connection) -> sql.Composed:
    """The query of relation, id and hash of all rows, over the columns that travel, by name."""

    def listed(table: str, *but: str) -> sql.Composed:
        return tables.listed(sorted(set(tables.travelling(tables.columns(connection, table))) - set(but)))

    parts = {
        "document": listed("documents", "id", "version", "created_at", "content"),
        "chunk": listed("chunks", "id", "embedding"),
    }
    return sql.SQL(statement(__package__, "fingerprints")).format(**parts)
