"""Vectors in PostgreSQL's binary formats, made and read as whole arrays: one row costs no Python."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aya_lib.errors import AyaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
ROWS = 4096  # sent together


def parameter(vector: NDArray[np.float32]) -> bytes:
    """A vector as a binary parameter: dimension, an unused word, then float32 (pgvector's vector_recv)."""
    return struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()


def copy_in(vectors: NDArray[np.float32]) -> Iterator[bytes]:
    """The stream of COPY ... (id int4, embedding vector) FROM STDIN (FORMAT binary); ids are positions, from 0."""
    import numpy as np

    count, dimension = vectors.shape
    layout = _layout(dimension)
    yield SIGNATURE
    for start in range(0, count, ROWS):
        block = vectors[start : start + ROWS]
        rows = np.zeros(len(block), layout)
        rows["fields"], rows["id_size"], rows["size"], rows["dimension"] = 2, 4, 4 + 4 * dimension, dimension
        rows["id"] = np.arange(start, start + len(block))
        rows["values"] = block
        yield rows.tobytes()
    yield TRAILER


def copy_out(data: bytes | bytearray, dimension: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What COPY (SELECT id::int8, embedding ...) TO STDOUT (FORMAT binary) gave: ids (n,) and vectors (n, d).

    :class:`AyaError` when the rows are not all of this dimension.
    """
    import numpy as np

    layout = _layout(dimension, ">i8")
    body = memoryview(data)[len(SIGNATURE) : -len(TRAILER)]
    rows = np.frombuffer(body[: len(body) // layout.itemsize * layout.itemsize], layout)
    whole = len(body) % layout.itemsize == 0 and bool((rows["fields"] == 2).all() and (rows["dimension"] == dimension).all())
    if bytes(data[: len(SIGNATURE)]) != SIGNATURE or not whole:
        raise AyaError(f"the vectors read from the table are not all of {dimension} dimensions")
    return rows["id"].astype(np.int64), np.ascontiguousarray(rows["values"], dtype=np.float32)


def _layout(dimension: int, key: str = ">i4") -> np.dtype[np.void]:
    import numpy as np

    return np.dtype(
        [
            ("fields", ">i2"),
            ("id_size", ">i4"),
            ("id", key),
            ("size", ">i4"),
            ("dimension", ">i2"),
            ("unused", ">i2"),
            ("values", ">f4", (dimension,)),
        ]
    )


def keys(result_rows: list[bytes | None]) -> list[int]:
    """Binary int4 or int8 values."""
    return [int.from_bytes(value, "big", signed=True) for value in result_rows if value is not None]


# Where the dimension of the first row's vector stands in a stream of (int8, vector).
FIRST_DIMENSION = len(SIGNATURE) + 2 + 4 + 8 + 4
