"""Every format comes out as it was written, and whatever is wrong with a file is said in one line."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from aya_lib.errors import UsageError
from aya_lib.vectors import vector_files
from aya_lib.vectors.vector_files import read

ROWS, DIMENSION = 700, 5
FLOATS = np.random.default_rng(1).standard_normal((ROWS, DIMENSION)).astype(np.float32)
Write = Callable[[Path], object]
BYTES = np.random.default_rng(1).integers(0, 256, (ROWS, DIMENSION))


def records(rows: Any) -> Write:
    return lambda path: path.write_bytes(b"".join(struct.pack(f"<i{len(row)}f", len(row), *row) for row in rows))


def npy(array: Any) -> Write:
    return lambda path: np.save(path, array)


def hdf5(distance: object = None, **datasets: Any) -> Write:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, data in datasets.items():
                file.create_dataset(name, data=data)
            if distance is not None:
                file.attrs["distance"] = distance

    return write


def parquet(**columns: Any) -> Write:
    return lambda path: pq.write_table(pa.table(columns), path, row_group_size=300)


def written(path: Path, write: Write) -> Path:
    write(path)
    return path


def lists(array: Any, kind: pa.DataType, fixed: bool = False) -> pa.Array:
    values = pa.array(np.asarray(array).ravel(), kind)
    if fixed:
        return pa.FixedSizeListArray.from_arrays(values, DIMENSION)
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, DIMENSION, dtype=np.int32), values)


GOOD: dict[str, tuple[str, Write, NDArray[Any]]] = {
    "fvecs": (".fvecs", records(FLOATS), FLOATS),
    "a suffix in capitals": (".FVECS", records(FLOATS), FLOATS),
    "npy": (".npy", npy(FLOATS), FLOATS),
    "npy float64, by columns": (".npy", npy(np.asfortranarray(FLOATS.astype("f8"))), FLOATS),
    "npy float16, big endian": (".npy", npy(FLOATS.astype(">f2")), FLOATS.astype("f2")),
    "npy int64": (".npy", npy(BYTES), BYTES),
    "hdf5": (".hdf5", hdf5(train=FLOATS), FLOATS),
    "h5 float64": (".h5", hdf5(train=FLOATS.astype("f8"), neighbors=BYTES), FLOATS),
    "hdf5, the only dataset of two dimensions": (".hdf5", hdf5(**{"x/y": FLOATS, "z": [1]}), FLOATS),
    "parquet": (".parquet", parquet(id=range(ROWS), v=lists(FLOATS, pa.float32())), FLOATS),
    "parquet float64": (".parquet", parquet(v=lists(FLOATS, pa.float64())), FLOATS),
    "parquet float16, fixed": (".parquet", parquet(v=lists(FLOATS.astype("f2"), pa.float16(), True)), FLOATS.astype("f2")),
    "parquet float32, fixed": (".parquet", parquet(v=lists(FLOATS, pa.float32(), True)), FLOATS),
    "parquet uint8": (".parquet", parquet(v=lists(BYTES, pa.uint8())), BYTES),
    "parquet large list": (".parquet", parquet(v=lists(BYTES, pa.int64()).cast(pa.large_list(pa.int64()))), BYTES),
}


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        monkeypatch.setattr(vector_files, "BLOCK", 97 * DIMENSION)
        monkeypatch.setattr(vector_files, "PARQUET_ROWS", 97)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("most", [None, 1, 450, ROWS + 1])
def test_vectors_come_out_as_they_were_written(kind: str, most: int | None, tmp_path: Path) -> None:
    suffix, write, expected = GOOD[kind]
    found = read(written(tmp_path / f"a{suffix}", write), most=most)
    assert found.base.dtype == np.float32
    assert found.base.flags.c_contiguous
    assert np.array_equal(found.base, expected[:most].astype(np.float32))
    assert (found.queries, found.metric) == (None, None)


@pytest.mark.parametrize(
    ("distance", "metric"),
    [("angular", "cosine"), (np.bytes_("euclidean"), "l2"), ("ip", "ip"), ("dot", "ip"), ("Cosine", "cosine")],
)
def test_hdf5_of_ann_benchmarks_has_queries_and_a_metric(distance: object, metric: str, tmp_path: Path) -> None:
    found = read(written(tmp_path / "a.hdf5", hdf5(distance, train=FLOATS, test=FLOATS[:7] + 1)), most=3)
    assert found.metric == metric
    assert found.queries is not None
    assert np.array_equal(found.queries, FLOATS[:7] + 1)
    assert np.array_equal(found.base, FLOATS[:3])


def test_rows_behind_the_ones_that_are_asked_for_are_not_looked_at(tmp_path: Path) -> None:
    bad = [[1.0, 2.0], [3.0, 4.0], None, [float("inf"), 0.0]]
    assert read(written(tmp_path / "a.parquet", parquet(v=bad)), most=2).base.tolist() == [[1, 2], [3, 4]]
    assert read(written(tmp_path / "a.npy", npy([[1, 2], [np.inf, 0]])), most=1).base.tolist() == [[1, 2]]
    assert read(written(tmp_path / "a.fvecs", records([[1], [1, 2, 3], [1]])), most=1).base.tolist() == [[1]]


def test_not_a_number_is_left_to_those_who_use_the_vectors(tmp_path: Path) -> None:
    found = read(written(tmp_path / "a.npy", npy([[1, np.nan], [np.nan, np.nan]]))).base
    assert np.isnan(found).tolist() == [[False, True], [True, True]]


def text(content: bytes = b"these are no vectors") -> Write:
    return lambda path: path.write_bytes(content)


def cut(write: Write, by: int) -> Write:
    return lambda path: os.truncate(path, written(path, write).stat().st_size - by)


def nothing(path: Path) -> None:
    """No file there."""


def zipped(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, FLOATS)


def ragged(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("train", (2,), dtype=h5py.vlen_dtype(np.float32))


def twice(path: Path) -> None:
    vectors = lists(FLOATS, pa.float32())
    pq.write_table(pa.Table.from_arrays([vectors, vectors], names=["v", "v"]), path)


def overstated(path: Path) -> None:
    """Three rows, in a file whose footer says ten (the number of rows is field 3, a zigzag varint behind the schema)."""
    content = written(path, parquet(v=[[1.0], [2.0], [3.0]])).read_bytes()
    at = content.index(b"\x16\x06", content.index(b"schema"))
    path.write_bytes(content[:at] + b"\x16\x14" + content[at + 2 :])


BAD: dict[str, tuple[str, Write, str]] = {
    "missing": (".npy", nothing, "no file"),
    "a name that is too long": ("a" * 300 + ".npy", nothing, "cannot be read: File name too long"),
    "a directory": (".npy", Path.mkdir, "is a directory"),
    "an unknown suffix": (".csv", text(), "ends in '.csv'; allowed are .hdf5, .h5, .fvecs, .npy, .parquet"),
    "no suffix": ("", text(), "ends in ''; allowed are"),
    "fvecs, empty": (".fvecs", text(b""), "is empty"),
    "fvecs, 3 bytes": (".fvecs", text(b"abc"), "was cut off within its first record"),
    "fvecs, no such file": (".fvecs", text(), "bytes are no multiple of"),
    "fvecs, cut off": (".fvecs", cut(records(FLOATS), 1), "(dimension 5): it was cut off, or"),
    "fvecs, a negative dimension": (".fvecs", text(b"\xff" * 24), "first record has dimension -1"),
    "fvecs of differing rows": (".fvecs", records([[1], [1, 2, 3], [1]]), "row 1 has dimension 3, the"),
    "npy, empty file": (".npy", text(b""), "is no .npy file that can be read"),
    "npy, no such file": (".npy", text(), "is no .npy file that can be read"),
    "npy, cut off": (".npy", cut(npy(FLOATS), 1), "is no .npy file that can be read"),
    "npy, a zip": (".npy", zipped, "is no .npy file that can be read"),
    "npy of objects": (".npy", npy(np.array([[1], [2, 3]], dtype=object)), "Python objects in dtype"),
    "npy of no rows": (".npy", npy(FLOATS[:0]), "is empty: it has the shape (0, 5)"),
    "npy of no values": (".npy", npy(FLOATS[:, :0]), "is empty: it has the shape (700, 0)"),
    "npy, 1-d": (".npy", npy(FLOATS[0]), "has the shape (5,); allowed is (rows, dimension)"),
    "npy, 3-d": (".npy", npy(FLOATS[None]), "has the shape (1, 700, 5)"),
    "npy, a number": (".npy", npy(3.0), "has the shape ()"),
    "npy of words": (".npy", npy([["a"]]), "of type <U1; allowed are floats and integers"),
    "npy of complex numbers": (".npy", npy([[1j]]), "of type complex128"),
    "npy, over float32": (".npy", npy([[1.0], [1e39]]), "row 1 (of rows 0 and above) has a value that is infinite"),
    "npy, infinite": (".npy", npy([[-np.inf]]), "row 0 (of rows 0 and above) has a value that is infinite"),
    "npy, infinite far behind": (
        ".npy",
        npy(np.where(np.arange(300) == 250, np.inf, 1)[:, None]),
        "row 250 (of rows 0 and above)",
    ),
    "hdf5, no such file": (".hdf5", text(), "is no HDF5 file that can be read"),
    "hdf5, cut off": (".hdf5", cut(hdf5(train=FLOATS), 999), "is no HDF5 file that can be read"),
    "hdf5 without train": (
        ".hdf5",
        hdf5(base=FLOATS, more=FLOATS[:1], ids=[1]),
        "no dataset 'train'; there are: 'base' (700, 5), 'ids' (1,), 'more' (1, 5). Vectors are read from 'train'",
    ),
    "hdf5 of nothing": (".hdf5", hdf5(), "no dataset 'train'; there are: none"),
    "hdf5, train a group": (".hdf5", hdf5(**{"train/x": [1]}), "there are: 'train/x' (1,)"),
    "hdf5, 1-d": (".hdf5", hdf5(train=FLOATS[0]), "dataset 'train' has the shape (5,)"),
    "hdf5, no shape": (".hdf5", hdf5(train=h5py.Empty("f4")), "dataset 'train' has the shape ()"),
    "hdf5 of differing rows": (".hdf5", ragged, "of type object; allowed are floats and integers, all rows of one"),
    "hdf5 of truth values": (".hdf5", hdf5(train=FLOATS > 0), "of type bool"),
    "hdf5, empty queries": (".hdf5", hdf5(train=FLOATS, test=FLOATS[:0]), "dataset 'test' is empty"),
    "hdf5, infinite queries": (".hdf5", hdf5(train=FLOATS, test=[[1e39]]), "dataset 'test': row 0"),
    "hdf5, other queries": (".hdf5", hdf5(train=FLOATS, test=[[1]]), "'train' has 5 dimensions and 'test' 1"),
    "hdf5, other distance": (
        ".hdf5",
        hdf5("hamming", train=FLOATS),
        "its distance is 'hamming'; allowed are angular, cosine, euclidean,",
    ),
    "parquet, empty file": (".parquet", text(b""), "is no Parquet file that can be read"),
    "parquet, no such file": (".parquet", text(), "is no Parquet file that can be read"),
    "parquet, cut off": (".parquet", cut(parquet(v=lists(FLOATS, pa.float32())), 1), "is no Parquet file that can be read"),
    "parquet of no rows": (".parquet", parquet(v=pa.array([], pa.list_(pa.float32()))), "it has no rows"),
    "parquet of no values": (".parquet", parquet(v=pa.array([[]], pa.list_(pa.float32()))), "no values"),
    "parquet without vectors": (
        ".parquet",
        parquet(a=["x"], b=[1.0], c=[["x"]]),
        "no column of vectors (lists of numbers): 'a' string, 'b' double, 'c' list<element: string>",
    ),
    "parquet, two columns": (
        ".parquet",
        parquet(v=[[1.0]], id=[1], w=[[1]]),
        "several columns of vectors (lists of numbers): 'v', 'w'. Write a file in which there is one",
    ),
    "parquet, one name twice": (".parquet", twice, "several columns of vectors"),
    "parquet of differing rows": (".parquet", parquet(v=[[1, 2], [3]]), "has vectors of 2 and of 1 values"),
    "parquet with nulls": (
        ".parquet",
        parquet(v=[None, [1.0, 2.0], [None, None], [3.0, 4.0], [5.0, None], None]),
        "row 0 has no vector, or a null in it",
    ),
    "parquet with nulls, fixed": (
        ".parquet",
        parquet(v=pa.array([[1, 2], None, [None, 3]], pa.list_(pa.int8(), 2))),
        "row 1 has no vector, or a null in it",
    ),
    "parquet with a null among values": (
        ".parquet",
        parquet(v=[[1.0, 2.0]] * 300 + [[3.0, None]]),
        "row 300 has no vector, or a null in it",
    ),
    "parquet of nulls": (".parquet", parquet(v=pa.array([None], pa.list_(pa.int8()))), "row 0 has no vector"),
    "parquet of fewer rows than it says": (".parquet", overstated, "ends after 3 rows, and the file says that it has 10"),
    "parquet, over float32": (".parquet", parquet(v=[[1.0], [-1e39]]), "column 'v': row 1"),
}


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused_in_one_line_that_says_why(kind: str, tmp_path: Path) -> None:
    suffix, write, said = BAD[kind]
    path = written(tmp_path / f"a{suffix}", write)
    with pytest.raises(UsageError) as refused:
        read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npy", npy(FLOATS))
    path.chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read(path)


def test_less_than_one_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the first 0 rows; allowed is 1 and above"):
        read(written(tmp_path / "a.npy", npy(FLOATS)), most=0)


def test_a_file_larger_than_the_free_memory_is_refused_and_its_first_rows_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train", (10**9, 1000), dtype="f4", chunks=(10, 1000))
    with pytest.raises(UsageError, match=r"dataset 'train': 1000000000 vectors of 1000 dimensions take 4000\.0 GB of memory"):
        read(tmp_path / "a.h5")
    assert read(tmp_path / "a.h5", most=2).base.shape == (2, 1000)
