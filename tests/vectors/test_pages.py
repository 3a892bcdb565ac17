"""IVFFlat's pages: centroids parsed from real indexes, and what is no IVFFlat index refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aya_lib.errors import AyaError
from aya_lib.node.node import open_nodes
from aya_lib.node.sql import Connection
from aya_lib.site import Site
from aya_lib.vectors import ivf_model, ivfflat_pages, wire
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.ivfflat_pages import NotWritten, UnreadablePages

ROWS = generate(parse("generated:12000x384:7"))
KINDS = {  # what is indexed, its operator class, and the distance that a search asks for
    "vector": ("embedding", "vector_cosine_ops", "<=> %s::vector"),
    "halfvec": ("(embedding::halfvec(384))", "halfvec_cosine_ops", "<=> %s::halfvec(384)"),
    "bit": ("(binary_quantize(embedding)::bit(384))", "bit_hamming_ops", "<~> %s::bit(384)"),
    "l2": ("embedding", "vector_l2_ops", "<-> %s::vector"),
}


@pytest.fixture(scope="module")
def connection(bare: Site) -> Iterator[Connection]:
    with open_nodes(bare)["ALPHA"].session(write=True, deadline_s=1800) as found:
        found.execute("SET client_min_messages = error")
        found.execute("SET maintenance_work_mem = '256MB'")
        yield found


def execute(connection: Connection, *statements: str) -> None:
    for text in statements:
        connection.execute(text.encode())


def add(connection: Connection, vectors: NDArray[np.float32]) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY rows FROM STDIN (FORMAT binary)") as copy:
        for block in wire.copy_in(vectors):
            copy.write(block)


def build(connection: Connection, vectors: NDArray[np.float32], lists: int, kind: str = "vector") -> None:
    """A table of these rows with an index on it."""
    what = " ".join(KINDS[kind][:2])
    execute(connection, "DROP TABLE IF EXISTS rows; CREATE TABLE rows (id int4, embedding vector(384))")
    add(connection, vectors)
    execute(connection, f"CREATE INDEX index ON rows USING ivfflat ({what}) WITH (lists = {lists})")


def read(connection: Connection) -> NDArray[np.float32]:
    execute(connection, "CHECKPOINT")
    return ivfflat_pages.read(connection, "index")


def blocks(connection: Connection, count: int) -> list[bytes]:
    execute(connection, "CHECKPOINT")
    row = connection.execute("SELECT pg_read_binary_file(pg_relation_filepath('index'), 0, %s)", (8192 * count,)).fetchone()
    whole = row[0] if row else b""
    assert isinstance(whole, bytes)
    return [whole[start : start + 8192] for start in range(0, len(whole), 8192)]


@pytest.fixture(scope="module")
def some(connection: Connection) -> list[bytes]:
    """Metapage, the list pages and some pages of rows of an index of 30 lists on vector(384)."""
    build(connection, ROWS[:500], 30)
    return blocks(connection, 12)


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_centroids_put_every_row_into_the_list_that_postgresql_put_it_into(kind: str, connection: Connection) -> None:
    """A search for a centroid with one probe gives all rows of its list."""
    build(connection, ROWS[:4000], 70, kind)
    centers = read(connection)
    assert centers.shape == (70, 384)
    what, _, order = KINDS[kind]
    query = f"SELECT id FROM rows ORDER BY {what} {order} LIMIT 4000"
    execute(connection, "SET enable_seqscan = off", "SET ivfflat.probes = 1")
    expected = np.full(4000, -1)
    for number, center in enumerate(centers):
        text = "".join(str(int(bit)) for bit in center) if kind == "bit" else str(center.tolist())
        for (row,) in connection.execute(query.encode(), (text,)).fetchall():
            expected[int(str(row))] = number
    execute(connection, "RESET enable_seqscan", "RESET ivfflat.probes")
    base = ROWS[:4000]
    if kind == "bit":
        base, centers = np.where(base > 0, 1, -1).astype(np.float32), 2 * centers - 1
    assigned = ivf_model.nearest(base, centers, spherical=kind != "l2")
    between = 4 if kind == "halfvec" else 0  # halves are rounded: a row may lie between two
    assert (assigned != expected).sum() <= between


@pytest.mark.parametrize("unlogged", [False, True])
def test_only_pageinspect_shows_what_the_disk_does_not_have(unlogged: bool, connection: Connection) -> None:
    build(connection, ROWS[:1000], 20)
    if unlogged:
        execute(connection, "ALTER TABLE rows SET UNLOGGED; CHECKPOINT")
    with pytest.raises(NotWritten) as unwritten:
        ivfflat_pages.read(connection, "index")
    assert unwritten.value.hint == (ivfflat_pages.UNLOGGED if unlogged else ivfflat_pages.UNWRITTEN)
    execute(connection, "CREATE EXTENSION pageinspect")
    try:
        early = ivfflat_pages.read(connection, "index")
        late = read(connection)
    finally:
        execute(connection, "DROP EXTENSION pageinspect")
    assert early.shape == (20, 384)
    assert np.array_equal(early, late)
    if not unlogged:
        assert np.array_equal(early, ivfflat_pages.read(connection, "index"))


def test_other_indexes_and_missing_privileges_are_named(connection: Connection) -> None:
    build(connection, ROWS[:100], 5)
    execute(connection, "CREATE INDEX plain ON rows (id)")
    for name, said in (("plain", "no IVFFlat index"), ("nothing", "there is no index")):
        with pytest.raises(UnreadablePages, match=said):
            ivfflat_pages.read(connection, name)
    execute(connection, "SET ROLE aya_user")
    try:
        with pytest.raises(UnreadablePages) as refused:
            ivfflat_pages.read(connection, "index")
    finally:
        execute(connection, "RESET ROLE")
    assert "pg_read_server_files" in refused.value.hint


def changed(page: bytes, offset: int, new: bytes) -> bytes:
    return page[:offset] + new + page[offset + len(new) :]


def test_pages_of_zeros_are_not_written_yet(some: list[bytes]) -> None:
    for broken in ([], [b""], [bytes(8192)], [some[0], bytes(8192), *some[2:]]):
        with pytest.raises(NotWritten):
            ivfflat_pages.parse(broken)
    first = struct.unpack_from("<I", some[1], 24)[0] & 0x7FFF
    with pytest.raises(NotWritten, match="1 of 30 lists have no pages yet"):
        ivfflat_pages.parse([some[0], changed(some[1], first, b"\xff" * 4), *some[2:]])


def test_what_is_no_ivfflat_index_is_refused_with_its_reason(some: list[bytes], bare: Site) -> None:
    noise = np.random.default_rng(1).bytes(8192)
    pointer = struct.unpack_from("<I", some[1], 24)[0]
    cases = {
        "page id": [noise, *some[1:]],
        "magic number 0xdeadbeef": [changed(some[0], 24, struct.pack("<I", 0xDEADBEEF)), *some[1:]],
        "on-disk version 2": [changed(some[0], 28, struct.pack("<I", 2)), *some[1:]],
        "0 dimensions": [changed(some[0], 32, struct.pack("<H", 0)), *some[1:]],
        "30 lists stand on the list pages, the metapage says 60": [changed(some[0], 34, struct.pack("<H", 60)), *some[1:]],
        "go on at block 2": some[:2],
        "leads back to block 1": [some[0], changed(some[1], 8184, struct.pack("<I", 1)), *some[2:]],
        "go on at block 77": [some[0], changed(some[1], 8184, struct.pack("<I", 77)), *some[2:]],
        "line pointers of block 1 end": [some[0], changed(some[1], 12, struct.pack("<H", 9000)), *some[2:]],
        "a line pointer of block 1": [some[0], changed(some[1], 24, struct.pack("<I", pointer | 0x7FFF)), *some[2:]],
        "no halfvec": some,
    }
    for reason, broken in cases.items():
        with pytest.raises(UnreadablePages, match=reason):
            ivfflat_pages.parse(broken, "halfvec" if "halfvec" in reason else "vector")
    control = next(Path(bare.root).rglob("pg_control")).read_bytes()[:8192]
    with pytest.raises(AyaError):
        ivfflat_pages.parse([control])


def test_any_bytes_at_all_give_an_error_of_ours_or_a_layout(some: list[bytes]) -> None:
    """Single bytes of real pages changed at random."""
    draw = np.random.default_rng(2)
    for _ in range(400):
        block = int(draw.integers(0, 4))
        offset = int(draw.integers(0, 40)) if draw.random() < 0.7 else int(draw.integers(0, 8192))
        broken = [*some]
        broken[block] = changed(broken[block], offset, draw.bytes(1))
        try:
            centers = ivfflat_pages.parse(broken)
        except UnreadablePages:
            continue
        assert centers.ndim == 2
        assert len(centers) > 0
