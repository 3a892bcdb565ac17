"""Vectors read from a file: HDF5 in the layout of ann-benchmarks, .fvecs, .bvecs, .ivecs, .npy and Parquet.

Whatever the file holds (floats of 2 to 8 bytes, integers) becomes float32, in blocks, so that the file is never in memory
a second time. What cannot be read, or would not be what it says, is a :class:`UsageError` of one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aya_lib.errors import UsageError
from aya_lib.vectors.corpus.generate import empty

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


class Rows(Protocol):
    """What numpy's arrays and HDF5's datasets have in common: ``source[start:stop]`` gives rows."""

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice, /) -> Any: ...


def read(path: Path, *, column: str | None = None, most: int | None = None) -> VectorFile:
    """The vectors of a file, by its suffix; of a long one only the first ``most`` rows (queries are read whole).

    ``column``: which one to read, of a Parquet file with several columns of vectors. Raises :class:`UsageError`.
    """
    readers: dict[str, Callable[[], VectorFile]] = {
        ".hdf5": lambda: _hdf5(path, most),
        ".h5": lambda: _hdf5(path, most),
        ".fvecs": lambda: _records(path, "<f4", most),
        ".bvecs": lambda: _records(path, "u1", most),
        ".ivecs": lambda: _records(path, "<i4", most),
        ".npy": lambda: _npy(path, most),
        ".parquet": lambda: _parquet(path, column, most),
    }
    suffix = path.suffix.lower()
    _readable(path)
    if suffix not in readers:
        raise UsageError(f"{path}: its name ends in '{path.suffix}'; allowed are {', '.join(readers)}")
    if column is not None and suffix != ".parquet":
        raise UsageError(f"{path}: column '{column}': only a Parquet file has columns")
    if most is not None and most < 1:
        raise UsageError(f"{path}: the first {most} rows; allowed is 1 and above")
    return readers[suffix]()


def _readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a directory; vectors are read from one file")
        if not path.is_file():
            raise UsageError(f"no file {path}")
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _hdf5(path: Path, most: int | None) -> VectorFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found: dict[str, Rows] = {}
            file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            name = _base_name(path, found)
            metric = _metric(path, file.attrs.get("distance"))
            base = _taken(found[name], most, f"{path}: dataset '{name}'")
            queries = _taken(found["test"], None, f"{path}: dataset 'test'") if name == "train" and "test" in found else None
    except UsageError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no HDF5 file that can be read: {error}") from None
    if queries is not None and queries.shape[1] != base.shape[1]:
        raise UsageError(f"{path}: 'train' has {base.shape[1]} dimensions and 'test' {queries.shape[1]}; they must be equal")
    return VectorFile(base, queries, metric)


def _base_name(path: Path, found: dict[str, Rows]) -> str:
    """``train``, or the only dataset of two dimensions."""
    if "train" in found:
        return "train"
    flat = [name for name, dataset in found.items() if len(dataset.shape or ()) == 2]
    if len(flat) == 1:
        return flat[0]
    there = ", ".join(f"'{name}' {dataset.shape}" for name, dataset in sorted(found.items())) or "none"
    raise UsageError(f"{path}: no dataset 'train'; there are: {there}", hint="Vectors are read from 'train', queries from 'test'")


def _metric(path: Path, said: object) -> str | None:
    if said is None:
        return None
    word = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    if word.lower() not in METRICS:
        raise UsageError(f"{path}: its distance is '{word}'; allowed are {', '.join(METRICS)}")
    return METRICS[word.lower()]


def _records(path: Path, kind: str, most: int | None) -> VectorFile:
    """Records of an int32, which is the dimension, and so many values; all little endian."""
    import numpy as np

    size = path.stat().st_size
    if size < 4:
        raise UsageError(f"{path} is empty" if size == 0 else f"{path} was cut off within its first record")
    dimension = int(np.fromfile(path, "<i4", count=1)[0])
    record = 4 + dimension * np.dtype(kind).itemsize
    if dimension < 1:
        raise UsageError(f"{path} is no {path.suffix} file: its first record has dimension {dimension}")
    if size % record:
        raise UsageError(
            f"{path}: {size} bytes are no multiple of {record}, the size of its first record (dimension {dimension}):"
            " it was cut off, or its records differ"
        )
    raw = np.memmap(path, np.dtype([("dimension", "<i4"), ("values", kind, (dimension,))]), mode="r")
    different = np.flatnonzero(raw["dimension"][:most] != dimension)
    if len(different):
        row = int(different[0])
        raise UsageError(
            f"{path}: row {row} has dimension {raw['dimension'][row]}, the first {dimension}; all rows must have the same"
        )
    return VectorFile(_taken(raw["values"], most, str(path)))


def _npy(path: Path, most: int | None) -> VectorFile:
    import tokenize

    import numpy as np

    try:
        raw = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, SyntaxError, EOFError, tokenize.TokenError) as error:
        raise UsageError(f"{path} is no .npy file that can be read: {error}") from None
    return VectorFile(_taken(raw, most, str(path)))


def _taken(source: Rows, most: int | None, what: str) -> NDArray[np.float32]:
    """The first rows of an array as float32."""
    shape = source.shape or ()
    if source.dtype.kind not in "fiu":
        raise UsageError(f"{what} holds values of type {source.dtype}; allowed are floats and integers, all rows of one length")
    if len(shape) != 2:
        raise UsageError(f"{what} has the shape {shape}; allowed is (rows, dimension)")
    if 0 in shape:
        raise UsageError(f"{what} is empty: it has the shape {shape}")
    rows, dimension = min(most or shape[0], shape[0]), shape[1]
    made = empty(rows, dimension, what)
    step = max(1, BLOCK // (dimension * source.dtype.itemsize))
    for start in range(0, rows, step):
        _put(made, start, source[start : min(start + step, rows)], what)
    return made


def _put(made: NDArray[np.float32], start: int, block: NDArray[Any], what: str) -> None:
    """Cast rows into their place; :class:`UsageError` where one is infinite then."""
    import numpy as np

    place = made[start : start + len(block)]
    with np.errstate(over="ignore"):
        place[...] = block
    infinite = np.flatnonzero(np.isinf(place).any(axis=1))
    if len(infinite):
        row = start + int(infinite[0])
        raise UsageError(f"{what}: row {row} (of rows 0 and above) has a value that is infinite, or beyond float32's 3.4e38")


def _parquet(path: Path, column: str | None, most: int | None) -> VectorFile:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, buffer_size=PARQUET_BUFFER, pre_buffer=False) as file:
            name = _column(path, file.schema_arrow, column)
            rows = min(most or file.metadata.num_rows, file.metadata.num_rows)
            if rows == 0:
                raise UsageError(f"{path} is empty: it has no rows")
            batches = file.iter_batches(PARQUET_ROWS, columns=[name])
            return VectorFile(_gathered((batch.column(0) for batch in batches), rows, f"{path}: column '{name}'"))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no Parquet file that can be read: {error}") from None


def _column(path: Path, schema: Any, column: str | None) -> str:
    """The column that is asked for, or the only one of vectors."""
    vectors = [field.name for field in schema if _is_vector(field.type)]
    there = ", ".join(f"'{name}'" for name in vectors) or "none"
    if column is not None and schema.names.count(column) != 1:
        raise UsageError(f"{path}: no column '{column}'; columns of vectors are: {there}")
    if column is not None and column not in vectors:
        kind = schema.field(column).type
        raise UsageError(f"{path}: column '{column}' is of type {kind}, not lists of numbers; columns of vectors are: {there}")
    if column is None and len(vectors) != 1:
        what = "several columns" if vectors else "no column"
        names = there if vectors else ", ".join(f"'{field.name}' {field.type}" for field in schema)
        raise UsageError(f"{path}: {what} of vectors (lists of numbers): {names}", hint="Name the column" if vectors else "")
    return column or vectors[0]


def _is_vector(kind: Any) -> bool:
    from pyarrow import types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))


def _gathered(arrays: Iterator[Any], rows: int, what: str) -> NDArray[np.float32]:
    """The first rows of arrays of lists as float32. Where there are nulls, it counts all of them before it complains."""
    import pyarrow.compute

    made, start, nulls = None, 0, 0
    for array in arrays:
        lists = array[: rows - start]
        values, lengths = lists.flatten(), pyarrow.compute.list_value_length(lists).drop_null().to_numpy()
        missing = lists.null_count or values.null_count
        nulls += lists.null_count + _with_nulls(lists) if missing else 0
        if made is None and len(lengths):
            if lengths[0] == 0:
                raise UsageError(f"{what} is empty: its first vector has no values")
            made = empty(rows, int(lengths[0]), what)
        if made is not None and (lengths != made.shape[1]).any():
            other = int(lengths[lengths != made.shape[1]][0])
            raise UsageError(f"{what} has vectors of {made.shape[1]} and of {other} values; all rows must have the same")
        if made is not None and not nulls:
            _put(made, start, values.to_numpy(zero_copy_only=False).reshape(len(lists), -1), what)
        start += len(lists)
        if start >= rows:
            break
    if made is None or nulls:
        raise UsageError(f"{what}: {nulls} of {rows} rows have no vector, or a null in it; every row needs one")
    if start < rows:
        raise UsageError(f"{what} ends after {start} rows, and the file says that it has {rows}")
    return made


def _with_nulls(lists: Any) -> int:
    """How many of the lists have a null among their values."""
    import pyarrow.compute

    lists = lists.drop_null()
    parents, values = pyarrow.compute.list_parent_indices(lists), pyarrow.compute.list_flatten(lists)
    return len(parents.filter(values.is_null()).unique())
