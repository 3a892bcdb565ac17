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
BYTES = np.random.default_rng(1).integers(0, 256, (ROWS, DIMENSION))


def records(path: Path, rows: Any) -> Path:
    path.write_bytes(b"".join(struct.pack(f"<i{len(row)}f", len(row), *row) for row in rows))
    return path


def npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def hdf5(path: Path, distance: object = None, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file.create_dataset(name, data=data)
        if distance is not None:
            file.attrs["distance"] = distance
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=300)
    return path


def lists(array: Any, kind: pa.DataType, fixed: bool = False) -> pa.Array:
    values = pa.array(np.asarray(array).ravel(), kind)
    if fixed:
        return pa.FixedSizeListArray.from_arrays(values, DIMENSION)
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, DIMENSION, dtype=np.int32), values)


GOOD: dict[str, tuple[Callable[[Path], Path], NDArray[Any]]] = {
    "fvecs": (lambda home: records(home / "a.fvecs", FLOATS), FLOATS),
    "a suffix in capitals": (lambda home: records(home / "a.FVECS", FLOATS), FLOATS),
    "npy": (lambda home: npy(home / "a.npy", FLOATS), FLOATS),
    "npy float64, by columns": (lambda home: npy(home / "a.npy", np.asfortranarray(FLOATS.astype("f8"))), FLOATS),
    "npy float16, big endian": (lambda home: npy(home / "a.npy", FLOATS.astype(">f2")), FLOATS.astype("f2")),
    "npy int64": (lambda home: npy(home / "a.npy", BYTES), BYTES),
    "hdf5": (lambda home: hdf5(home / "a.hdf5", train=FLOATS), FLOATS),
    "h5 float64": (lambda home: hdf5(home / "a.h5", train=FLOATS.astype("f8"), neighbors=BYTES), FLOATS),
    "hdf5, the only dataset of two dimensions": (lambda home: hdf5(home / "a.hdf5", **{"x/y": FLOATS, "z": [1]}), FLOATS),
    "parquet": (lambda home: parquet(home / "a.parquet", id=range(ROWS), v=lists(FLOATS, pa.float32())), FLOATS),
    "parquet float64": (lambda home: parquet(home / "a.parquet", v=lists(FLOATS, pa.float64())), FLOATS),
    "parquet float16, fixed": (
        lambda home: parquet(home / "a.parquet", v=lists(FLOATS.astype("f2"), pa.float16(), True)),
        FLOATS.astype("f2"),
    ),
    "parquet float32, fixed": (lambda home: parquet(home / "a.parquet", v=lists(FLOATS, pa.float32(), True)), FLOATS),
    "parquet uint8": (lambda home: parquet(home / "a.parquet", v=lists(BYTES, pa.uint8())), BYTES),
    "parquet large list": (
        lambda home: parquet(home / "a.parquet", v=lists(BYTES, pa.int64()).cast(pa.large_list(pa.int64()))),
        BYTES,
    ),
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
    write, expected = GOOD[kind]
    found = read(write(tmp_path), most=most)
    assert found.base.dtype == np.float32
    assert found.base.flags.c_contiguous
    assert np.array_equal(found.base, expected[:most].astype(np.float32))
    assert (found.queries, found.metric) == (None, None)


@pytest.mark.parametrize(
    ("distance", "metric"),
    [("angular", "cosine"), (np.bytes_("euclidean"), "l2"), ("ip", "ip"), ("dot", "ip"), ("Cosine", "cosine")],
)
def test_hdf5_of_ann_benchmarks_has_queries_and_a_metric(distance: object, metric: str, tmp_path: Path) -> None:
    found = read(hdf5(tmp_path / "a.hdf5", distance, train=FLOATS, test=FLOATS[:7] + 1), most=3)
    assert found.metric == metric
    assert found.queries is not None
    assert np.array_equal(found.queries, FLOATS[:7] + 1)
    assert np.array_equal(found.base, FLOATS[:3])


def test_rows_behind_the_ones_that_are_asked_for_are_not_looked_at(tmp_path: Path) -> None:
    bad = [[1.0, 2.0], [3.0, 4.0], None, [float("inf"), 0.0]]
    assert read(parquet(tmp_path / "a.parquet", v=bad), most=2).base.tolist() == [[1, 2], [3, 4]]
    assert read(npy(tmp_path / "a.npy", [[1, 2], [np.inf, 0]]), most=1).base.tolist() == [[1, 2]]
    assert read(records(tmp_path / "a.fvecs", [[1], [1, 2, 3], [1]]), most=1).base.tolist() == [[1]]


def test_not_a_number_is_left_to_those_who_use_the_vectors(tmp_path: Path) -> None:
    found = read(npy(tmp_path / "a.npy", [[1, np.nan], [np.nan, np.nan]])).base
    assert np.isnan(found).tolist() == [[False, True], [True, True]]


def text(path: Path, content: bytes = b"these are no vectors") -> Path:
    path.write_bytes(content)
    return path


def cut(path: Path, by: int) -> Path:
    os.truncate(path, path.stat().st_size - by)
    return path


def pickled(path: Path) -> Path:
    np.save(path, np.array([[1], [2, 3]], dtype=object), allow_pickle=True)
    return path


def zipped(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, FLOATS)
    return path


def ragged(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("train", (2,), dtype=h5py.vlen_dtype(np.float32))
    return path


def twice(path: Path) -> Path:
    vectors = lists(FLOATS, pa.float32())
    pq.write_table(pa.Table.from_arrays([vectors, vectors], names=["v", "v"]), path)
    return path


def overstated(path: Path) -> Path:
    """Three rows, in a file whose footer says ten (the number of rows is field 3, a zigzag varint behind the schema)."""
    content = parquet(path, v=[[1.0], [2.0], [3.0]]).read_bytes()
    at = content.index(b"\x16\x06", content.index(b"schema"))
    path.write_bytes(content[:at] + b"\x16\x14" + content[at + 2 :])
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda home: home / "a.npy", "no file"),
    "a name that is too long": (lambda home: home / f"{'a' * 300}.npy", "cannot be read: File name too long"),
    "a directory": (lambda home: directory(home / "a.npy"), "is a directory"),
    "an unknown suffix": (
        lambda home: text(home / "a.csv"),
        "ends in '.csv'; allowed are .hdf5, .h5, .fvecs, .npy, .parquet",
    ),
    "no suffix": (lambda home: text(home / "a"), "ends in ''; allowed are"),
    "fvecs, empty": (lambda home: text(home / "a.fvecs", b""), "is empty"),
    "fvecs, 3 bytes": (lambda home: text(home / "a.fvecs", b"abc"), "was cut off within its first record"),
    "fvecs, no such file": (lambda home: text(home / "a.fvecs"), "bytes are no multiple of"),
    "fvecs, cut off": (lambda home: cut(records(home / "a.fvecs", FLOATS), 1), "(dimension 5): it was cut off, or"),
    "fvecs, a negative dimension": (lambda home: text(home / "a.fvecs", b"\xff" * 24), "first record has dimension -1"),
    "fvecs of differing rows": (lambda home: records(home / "a.fvecs", [[1], [1, 2, 3], [1]]), "row 1 has dimension 3, the"),
    "npy, empty file": (lambda home: text(home / "a.npy", b""), "is no .npy file that can be read"),
    "npy, no such file": (lambda home: text(home / "a.npy"), "is no .npy file that can be read"),
    "npy, cut off": (lambda home: cut(npy(home / "a.npy", FLOATS), 1), "is no .npy file that can be read"),
    "npy, a zip": (lambda home: zipped(home / "a.npy"), "is no .npy file that can be read"),
    "npy of objects": (lambda home: pickled(home / "a.npy"), "Python objects in dtype"),
    "npy of no rows": (lambda home: npy(home / "a.npy", FLOATS[:0]), "is empty: it has the shape (0, 5)"),
    "npy of no values": (lambda home: npy(home / "a.npy", FLOATS[:, :0]), "is empty: it has the shape (700, 0)"),
    "npy, 1-d": (lambda home: npy(home / "a.npy", FLOATS[0]), "has the shape (5,); allowed is (rows, dimension)"),
    "npy, 3-d": (lambda home: npy(home / "a.npy", FLOATS[None]), "has the shape (1, 700, 5)"),
    "npy, a number": (lambda home: npy(home / "a.npy", 3.0), "has the shape ()"),
    "npy of words": (lambda home: npy(home / "a.npy", [["a"]]), "of type <U1; allowed are floats and integers"),
    "npy of complex numbers": (lambda home: npy(home / "a.npy", [[1j]]), "of type complex128"),
    "npy, over float32": (
        lambda home: npy(home / "a.npy", [[1.0], [1e39]]),
        "row 1 (of rows 0 and above) has a value that is infinite",
    ),
    "npy, infinite": (lambda home: npy(home / "a.npy", [[-np.inf]]), "row 0 (of rows 0 and above) has a value that is infinite"),
    "npy, infinite far behind": (
        lambda home: npy(home / "a.npy", np.where(np.arange(300) == 250, np.inf, 1)[:, None]),
        "row 250 (of rows 0 and above)",
    ),
    "hdf5, no such file": (lambda home: text(home / "a.hdf5"), "is no HDF5 file that can be read"),
    "hdf5, cut off": (lambda home: cut(hdf5(home / "a.hdf5", train=FLOATS), 999), "is no HDF5 file that can be read"),
    "hdf5 without train": (
        lambda home: hdf5(home / "a.hdf5", base=FLOATS, more=FLOATS[:1], ids=[1]),
        "no dataset 'train'; there are: 'base' (700, 5), 'ids' (1,), 'more' (1, 5). Vectors are read from 'train'",
    ),
    "hdf5 of nothing": (lambda home: hdf5(home / "a.hdf5"), "no dataset 'train'; there are: none"),
    "hdf5, train a group": (lambda home: hdf5(home / "a.hdf5", **{"train/x": [1]}), "there are: 'train/x' (1,)"),
    "hdf5, 1-d": (lambda home: hdf5(home / "a.hdf5", train=FLOATS[0]), "dataset 'train' has the shape (5,)"),
    "hdf5, no shape": (lambda home: hdf5(home / "a.hdf5", train=h5py.Empty("f4")), "dataset 'train' has the shape ()"),
    "hdf5 of differing rows": (
        lambda home: ragged(home / "a.hdf5"),
        "of type object; allowed are floats and integers, all rows of one",
    ),
    "hdf5 of truth values": (lambda home: hdf5(home / "a.hdf5", train=FLOATS > 0), "of type bool"),
    "hdf5, empty queries": (lambda home: hdf5(home / "a.hdf5", train=FLOATS, test=FLOATS[:0]), "dataset 'test' is empty"),
    "hdf5, infinite queries": (lambda home: hdf5(home / "a.hdf5", train=FLOATS, test=[[1e39]]), "dataset 'test': row 0"),
    "hdf5, other queries": (
        lambda home: hdf5(home / "a.hdf5", train=FLOATS, test=[[1]]),
        "'train' has 5 dimensions and 'test' 1",
    ),
    "hdf5, other distance": (
        lambda home: hdf5(home / "a.hdf5", "hamming", train=FLOATS),
        "its distance is 'hamming'; allowed are angular, cosine, euclidean,",
    ),
    "parquet, empty file": (lambda home: text(home / "a.parquet", b""), "is no Parquet file that can be read"),
    "parquet, no such file": (lambda home: text(home / "a.parquet"), "is no Parquet file that can be read"),
    "parquet, cut off": (
        lambda home: cut(parquet(home / "a.parquet", v=lists(FLOATS, pa.float32())), 1),
        "is no Parquet file that can be read",
    ),
    "parquet of no rows": (lambda home: parquet(home / "a.parquet", v=pa.array([], pa.list_(pa.float32()))), "it has no rows"),
    "parquet of no values": (lambda home: parquet(home / "a.parquet", v=pa.array([[]], pa.list_(pa.float32()))), "no values"),
    "parquet without vectors": (
        lambda home: parquet(home / "a.parquet", a=["x"], b=[1.0], c=[["x"]]),
        "no column of vectors (lists of numbers): 'a' string, 'b' double, 'c' list<element: string>",
    ),
    "parquet, two columns": (
        lambda home: parquet(home / "a.parquet", v=[[1.0]], id=[1], w=[[1]]),
        "several columns of vectors (lists of numbers): 'v', 'w'. Write a file in which there is one",
    ),
    "parquet, one name twice": (lambda home: twice(home / "a.parquet"), "several columns of vectors"),
    "parquet of differing rows": (lambda home: parquet(home / "a.parquet", v=[[1, 2], [3]]), "has vectors of 2 and of 1 values"),
    "parquet with nulls": (
        lambda home: parquet(home / "a.parquet", v=[None, [1.0, 2.0], [None, None], [3.0, 4.0], [5.0, None], None]),
        "row 0 has no vector, or a null in it",
    ),
    "parquet with nulls, fixed": (
        lambda home: parquet(home / "a.parquet", v=pa.array([[1, 2], None, [None, 3]], pa.list_(pa.int8(), 2))),
        "row 1 has no vector, or a null in it",
    ),
    "parquet with a null among values": (
        lambda home: parquet(home / "a.parquet", v=[[1.0, 2.0]] * 300 + [[3.0, None]]),
        "row 300 has no vector, or a null in it",
    ),
    "parquet of nulls": (
        lambda home: parquet(home / "a.parquet", v=pa.array([None], pa.list_(pa.int8()))),
        "row 0 has no vector",
    ),
    "parquet of fewer rows than it says": (
        lambda home: overstated(home / "a.parquet"),
        "ends after 3 rows, and the file says that it has 10",
    ),
    "parquet, over float32": (lambda home: parquet(home / "a.parquet", v=[[1.0], [-1e39]]), "column 'v': row 1"),
}


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused_in_one_line_that_says_why(kind: str, tmp_path: Path) -> None:
    write, said = BAD[kind]
    path = write(tmp_path)
    with pytest.raises(UsageError) as refused:
        read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", FLOATS)
    path.chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read(path)


def test_less_than_one_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the first 0 rows; allowed is 1 and above"):
        read(npy(tmp_path / "a.npy", FLOATS), most=0)


def test_a_file_larger_than_the_free_memory_is_refused_and_its_first_rows_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train", (10**9, 1000), dtype="f4", chunks=(10, 1000))
    with pytest.raises(UsageError, match=r"dataset 'train': 1000000000 vectors of 1000 dimensions take 4000\.0 GB of memory"):
        read(tmp_path / "a.h5")
    assert read(tmp_path / "a.h5", most=2).base.shape == (2, 1000)
