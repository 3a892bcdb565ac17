"""Vectors in PostgreSQL's binary formats, made and read as whole blocks: one row costs no Python. The only reader of COPY."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection
from aya_lib.vectors.index import Table

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
ROWS = 4096  # sent, or parsed, together


def parameter(vector: NDArray[np.float32]) -> bytes:
    """A vector as a binary parameter: dimension, an unused word, then float32 (pgvector's vector_recv)."""
    return struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()


def copy_in(vectors: NDArray[np.float32]) -> Iterator[bytes]:
    """The stream of COPY ... (id int4, embedding vector) FROM STDIN (FORMAT binary); ids are positions, from 0."""
    count, dimension = vectors.shape
    layout = np.dtype([("fields", ">i2"), ("id_size", ">i4"), ("id", ">i4"), *_vector(dimension)])
    yield SIGNATURE
    for start in range(0, count, ROWS):
        block = vectors[start : start + ROWS]
        rows = np.zeros(len(block), layout)
        rows["fields"], rows["id_size"], rows["size"], rows["dimension"] = 2, 4, 4 + 4 * dimension, dimension
        rows["id"] = np.arange(start, start + len(block))
        rows["values"] = block
        yield rows.tobytes()
    yield TRAILER


def read(connection: Connection, table: Table, percent: float = 100.0, seed: int = 1) -> Iterator[NDArray[np.float32]]:
    """The vectors of a table, in blocks of some thousand rows (n, d); NULLs are left out. ``percent``: of a random sample.

    A table of dimension 0 tells its dimension by its first row. :class:`AyaError` when the rows are not all of one.
    """
    sample = sql.SQL("TABLESAMPLE BERNOULLI ({}) REPEATABLE ({})").format(sql.Literal(round(percent, 6)), sql.Literal(seed))
    select = sql.SQL("SELECT {column}::vector FROM {table} {sample} WHERE {column} IS NOT NULL").format(
        column=sql.Identifier(table.column), table=table.identifier, sample=sample if percent < 100 else sql.SQL("")
    )
    return copy_out(connection, select, table.dimension)


def copy_out(connection: Connection, select: sql.Composable, dimension: int = 0) -> Iterator[NDArray[np.float32]]:
    """The vectors that a SELECT of one vector column gives, as :func:`read`; the server sends a row a message."""
    with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(select)) as copy:
        messages = (bytes(message).removeprefix(SIGNATURE) for message in copy)
        rows = (row for row in messages if row and row != TRAILER)
        while together := b"".join(islice(rows, ROWS)):
            yield _parse(together, dimension)


def _parse(rows: bytes, dimension: int) -> NDArray[np.float32]:
    """Vectors (n, d) of binary rows of one vector each; of the first row's dimension where it is 0."""
    dimension = dimension or int.from_bytes(rows[6:8], "big")
    layout = np.dtype([("fields", ">i2"), *_vector(dimension)])
    found = np.frombuffer(rows[: len(rows) // layout.itemsize * layout.itemsize], layout)
    if len(rows) % layout.itemsize or (found["fields"] != 1).any() or (found["dimension"] != dimension).any():
        raise AyaError(f"the vectors read from the table are not all of {dimension} dimensions")
    return np.ascontiguousarray(found["values"], dtype=np.float32)


def vector(value: bytes) -> NDArray[np.float32]:
    """A vector as a binary result has it (pgvector's vector_send)."""
    return np.frombuffer(value, ">f4", offset=4).astype(np.float32)


def _vector(dimension: int) -> list[tuple[str, str] | tuple[str, str, tuple[int]]]:
    return [("size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", ">f4", (dimension,))]
