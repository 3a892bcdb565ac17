"""Vectors read from a file: HDF5 in the layout of ann-benchmarks, .fvecs, .npy and Parquet.

Whatever the file holds (floats of 2 to 8 bytes, integers) becomes float32, in blocks, so that the file is never in memory
a second time. What cannot be read, or would not be what it says, is a :class:`UsageError` of one line.
"""

from __future__ import annotations

import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aya_lib.errors import UsageError
from aya_lib.vectors.generated import empty

BLOCK = 2**24  # bytes that are converted at a time
PARQUET_ROWS = 2048  # rows that are read at a time from Parquet, and
PARQUET_BUFFER = 2**20  # bytes of its file
# The attribute "distance" of ann-benchmarks' files, and of those made after them. Hamming and Jaccard are of bits and of sets.
METRICS = {"angular": "cosine", "cosine": "cosine", "euclidean": "l2", "l2": "l2", "ip": "ip", "dot": "ip", "inner_product": "ip"}


@dataclass(frozen=True)
class VectorFile:
    """What a file says by itself: vectors (n, d), queries (q, d) if it has any, and its metric: cosine, l2 or ip."""

    base: NDArray[np.float32]
    queries: NDArray[np.float32] | None = None
    metric: str | None = None


def read(path: Path, *, most: int | None = None) -> VectorFile:
    """The vectors of a file, by its suffix; of a long one only the first ``most`` rows (queries are read whole). Raises
    :class:`UsageError`."""
    readers = {".hdf5": _hdf5, ".h5": _hdf5, ".fvecs": _fvecs, ".npy": _npy, ".parquet": _parquet}
    suffix = path.suffix.lower()
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a directory; vectors are read from one file")
        if not path.is_file():
            raise UsageError(f"no file {path}")
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if suffix not in readers:
        raise UsageError(f"{path}: its name ends in '{path.suffix}'; allowed are {', '.join(readers)}")
    if most is not None and most < 1:
        raise UsageError(f"{path}: the first {most} rows; allowed is 1 and above")
    return readers[suffix](path, most)


def _hdf5(path: Path, most: int | None) -> VectorFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            datasets: dict[str, Any] = {}
            file.visititems(lambda name, item: datasets.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            name = _base_name(path, datasets)
            metric = _metric(path, file.attrs.get("distance"))
            base = _taken(datasets[name], most, f"{path}: dataset '{name}'")
            tested = name == "train" and "test" in datasets
            queries = _taken(datasets["test"], None, f"{path}: dataset 'test'") if tested else None
    except UsageError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no HDF5 file that can be read: {error}") from None
    if queries is not None and queries.shape[1] != base.shape[1]:
        raise UsageError(f"{path}: 'train' has {base.shape[1]} dimensions and 'test' {queries.shape[1]}; they must be equal")
    return VectorFile(base, queries, metric)


def _base_name(path: Path, datasets: dict[str, Any]) -> str:
    """``train``, or the only dataset of two dimensions."""
    flat = ["train"] if "train" in datasets else [name for name, rows in datasets.items() if len(rows.shape or ()) == 2]
    if len(flat) == 1:
        return flat[0]
    there = ", ".join(f"'{name}' {dataset.shape}" for name, dataset in sorted(datasets.items())) or "none"
    raise UsageError(f"{path}: no dataset 'train'; there are: {there}", hint="Vectors are read from 'train', queries from 'test'")


def _metric(path: Path, distance: object) -> str | None:
    if distance is None:
        return None
    word = distance.decode(errors="replace") if isinstance(distance, bytes) else str(distance)
    if word.lower() not in METRICS:
        raise UsageError(f"{path}: its distance is '{word}'; allowed are {', '.join(METRICS)}")
    return METRICS[word.lower()]


def _fvecs(path: Path, most: int | None) -> VectorFile:
    """Records of an int32, which is the dimension, and so many float32; all little endian."""
    size = path.stat().st_size
    if size < 4:
        raise UsageError(f"{path} is empty" if size == 0 else f"{path} was cut off within its first record")
    dimension = int(np.fromfile(path, "<i4", count=1)[0])
    record = 4 + 4 * dimension
    if dimension < 1:
        raise UsageError(f"{path} is no .fvecs file: its first record has dimension {dimension}")
    if size % record:
        what = f"the size of its first record (dimension {dimension}): it was cut off, or its records differ"
        raise UsageError(f"{path}: {size} bytes are no multiple of {record}, {what}")
    raw = np.memmap(path, np.dtype([("dimension", "<i4"), ("values", "<f4", (dimension,))]), mode="r")
    different = np.flatnonzero(raw["dimension"][:most] != dimension)
    if len(different):
        other = raw["dimension"][different[0]]
        raise UsageError(f"{path}: row {different[0]} has dimension {other}, the first {dimension}; all rows must have the same")
    return VectorFile(_taken(raw["values"], most, str(path)))


def _npy(path: Path, most: int | None) -> VectorFile:
    try:
        raw = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError, EOFError, tokenize.TokenError) as error:
        raise UsageError(f"{path} is no .npy file that can be read: {error}") from None
    return VectorFile(_taken(raw, most, str(path)))


def _taken(source: Any, most: int | None, what: str) -> NDArray[np.float32]:
    """The first rows of an array, or of a dataset of HDF5, as float32."""
    shape: tuple[int, ...] = source.shape or ()
    if source.dtype.kind not in "fiu":
        raise UsageError(f"{what} holds values of type {source.dtype}; allowed are floats and integers, all rows of one length")
    if len(shape) != 2:
        raise UsageError(f"{what} has the shape {shape}; allowed is (rows, dimension)")
    if 0 in shape:
        raise UsageError(f"{what} is empty: it has the shape {shape}")
    rows, dimension = min(most or shape[0], shape[0]), shape[1]
    vectors = empty(rows, dimension, what)
    step = max(1, BLOCK // (dimension * source.dtype.itemsize))
    for start in range(0, rows, step):
        _put(vectors, start, source[start : min(start + step, rows)], what)
    return vectors


def _put(vectors: NDArray[np.float32], start: int, block: NDArray[Any], what: str) -> None:
    """Cast rows into their place; :class:`UsageError` where one is infinite then."""
    place = vectors[start : start + len(block)]
    with np.errstate(over="ignore"):
        place[...] = block
    infinite = np.flatnonzero(np.isinf(place).any(axis=1))
    if len(infinite):
        row = start + int(infinite[0])
        raise UsageError(f"{what}: row {row} (of rows 0 and above) has a value that is infinite, or beyond float32's 3.4e38")


def _parquet(path: Path, most: int | None) -> VectorFile:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER, pre_buffer=False) as file:
            name = _column(path, file.schema_arrow)
            what, there = f"{path}: column '{name}'", file.metadata.num_rows
            if there == 0:
                raise UsageError(f"{path} is empty: it has no rows")
            rows, start, dimension = min(most or there, there), 0, 0
            for batch in file.iter_batches(PARQUET_ROWS, columns=[name]):
                block = _block(batch.column(0)[: rows - start], start, dimension, what)
                if start == 0:
                    dimension = block.shape[1]
                    vectors = empty(rows, dimension, what)
                _put(vectors, start, block, what)
                start += len(block)
                if start >= rows:
                    return VectorFile(vectors)
            raise UsageError(f"{what} ends after {start} rows, and the file says that it has {there}")
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no Parquet file that can be read: {error}") from None


def _column(path: Path, schema: Any) -> str:
    """The only column of vectors."""
    vectors = [field.name for field in schema if _is_vector(field.type)]
    if not vectors:
        there = ", ".join(f"'{field.name}' {field.type}" for field in schema)
        raise UsageError(f"{path}: no column of vectors (lists of numbers): {there}")
    if len(vectors) > 1:
        names = ", ".join(f"'{name}'" for name in vectors)
        hint = "Write a file in which there is one"
        raise UsageError(f"{path}: several columns of vectors (lists of numbers): {names}", hint=hint)
    return str(vectors[0])


def _is_vector(kind: Any) -> bool:
    from pyarrow import types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))


def _block(lists: Any, start: int, dimension: int, what: str) -> NDArray[Any]:
    """An array of lists as rows of this dimension (0: of the first one's); ``start``: the number of the first row."""
    values, lengths = lists.flatten(), lists.value_lengths().to_pylist()
    if lists.null_count or values.null_count:
        first = next(row for row, vector in enumerate(lists.to_pylist()) if vector is None or None in vector)
        raise UsageError(f"{what}: row {start + first} has no vector, or a null in it; every row needs one")
    dimension = dimension or lengths[0]
    if dimension == 0:
        raise UsageError(f"{what} is empty: its first vector has no values")
    if others := set(lengths) - {dimension}:
        raise UsageError(f"{what} has vectors of {dimension} and of {min(others)} values; all rows must have the same")
    return np.asarray(values.to_numpy(zero_copy_only=False).reshape(len(lists), dimension))
