"""IVFFlat's pages: parsed from real indexes, and how many rows an index was built on told from its layout."""

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
from aya_lib.node.unseen import Unseen
from aya_lib.site import Site
from aya_lib.vectors import twins, wire
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.health import centroids, pages
from aya_lib.vectors.health.centroids import Centroids
from aya_lib.vectors.health.pages import Kind, NotWritten, UnreadablePages

ROWS = generate(parse("generated:12000x384:7"))
KINDS = {
    "vector": "embedding vector_cosine_ops",
    "halfvec": "(embedding::halfvec(384)) halfvec_cosine_ops",
    "bit": "(binary_quantize(embedding)::bit(384)) bit_hamming_ops",
    "l2": "embedding vector_l2_ops",
}


@pytest.fixture(scope="module")
def connection(bare: Site) -> Iterator[Connection]:
    with open_nodes(bare)["ALPHA"].session(write=True, deadline_s=300) as found:
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


def build(connection: Connection, vectors: NDArray[np.float32], lists: int, what: str = KINDS["vector"]) -> None:
    """A table of these rows with an index on it."""
    execute(connection, "DROP TABLE IF EXISTS rows; CREATE TABLE rows (id int4, embedding vector(384))")
    add(connection, vectors)
    execute(connection, f"CREATE INDEX index ON rows USING ivfflat ({what}) WITH (lists = {lists})")


def read(connection: Connection) -> Centroids:
    execute(connection, "CHECKPOINT")
    return centroids.read(connection, "index")


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
    """Told by the lists' sizes: rows on full pages, and on each list's last one."""
    build(connection, ROWS[:4000], 70, KINDS[kind])
    found = read(connection)
    layout = found.layout
    assert (layout.lists, layout.dimensions, layout.centers.shape) == (70, 384, (70, 384))
    between = np.diff(np.append(layout.start_pages, found.build_end))
    sizes = pages.rows_a_page(384, found.kind) * (between - 1) + found.ends.rows
    base, centers = ROWS[:4000], layout.centers
    if kind == "bit":
        base, centers = np.sign(base), 2 * centers - 1
        base[base == 0] = -1
    assigned = twins.nearest(base.astype(np.float32), centers, spherical=kind != "l2")
    expected = np.bincount(assigned, minlength=70)
    assert sizes.sum() == 4000
    assert np.abs(sizes - expected).sum() <= (4 if kind == "halfvec" else 0)  # halves are rounded: a row may lie between
    origin = found.origin(4000)
    assert origin
    assert (origin.rows, origin.pages_added_share) == (4000, 0.0)


@pytest.mark.parametrize(
    ("built", "added", "lists"),
    [(5000, 0, 100), (5000, 60, 100), (5000, 700, 100), (5000, 5000, 100), (2000, 8000, 50), (3000, 1000, 300)],
)
def test_how_many_rows_an_index_was_built_on_is_told_within_5_percent(
    built: int, added: int, lists: int, connection: Connection
) -> None:
    build(connection, ROWS[:built], lists)
    add(connection, ROWS[built : built + added])
    origin = read(connection).origin(built + added)
    assert origin
    assert origin.rows == pytest.approx(built, rel=0.05)
    if added == 0:
        assert origin.pages_added_share == 0
    if added >= 700:
        assert origin.pages_added_share == pytest.approx(added / (built + added), abs=0.15)


@pytest.mark.parametrize("built", [0, 30])
def test_an_index_built_on_hardly_any_rows_is_told_by_its_invented_centroids(built: int, connection: Connection) -> None:
    build(connection, ROWS[:built], 100)
    add(connection, ROWS[built:3000])
    found = read(connection)
    origin = found.origin(3000)
    assert origin
    assert origin.rows == built
    assert origin.pages_added_share > 0.8
    assert int(pages.invented(found.layout.centers).sum()) == 100 - built


def test_real_centroids_are_not_taken_for_invented_ones() -> None:
    assert not pages.invented(ROWS[:2000]).any()
    positive = np.abs(ROWS[:2000])  # as a histogram is
    assert not pages.invented(positive).any()


def test_one_list_tells_nothing_about_the_build(connection: Connection) -> None:
    build(connection, ROWS[:200], 1)
    assert read(connection).origin(200) is None


def test_pageinspect_shows_what_the_disk_does_not_have_yet(connection: Connection) -> None:
    build(connection, ROWS[:1000], 20)
    unseen = centroids.look(connection, "ALPHA", "index")
    assert isinstance(unseen, Unseen)
    assert "CHECKPOINT" in str(unseen)
    assert "CREATE EXTENSION pageinspect" in str(unseen)
    execute(connection, "CREATE EXTENSION pageinspect")
    try:
        early = centroids.read(connection, "index")
        late = read(connection)
    finally:
        execute(connection, "DROP EXTENSION pageinspect")
    by_file = centroids.read(connection, "index")
    assert (early.way, late.way, by_file.way) == ("pageinspect", "pageinspect", "files")
    for one in (late, by_file):
        assert np.array_equal(early.layout.centers, one.layout.centers)
        assert np.array_equal(early.ends.rows, one.ends.rows)


def test_an_unlogged_index_is_only_seen_by_pageinspect(connection: Connection) -> None:
    build(connection, ROWS[:1000], 20)
    execute(connection, "ALTER TABLE rows SET UNLOGGED; CHECKPOINT")
    unseen = centroids.look(connection, "ALPHA", "index")
    assert isinstance(unseen, Unseen)
    assert "Unlogged" in str(unseen)


def test_other_indexes_and_missing_privileges_are_named(connection: Connection) -> None:
    build(connection, ROWS[:100], 5)
    execute(connection, "CREATE INDEX plain ON rows (id)")
    assert "no IVFFlat index" in str(centroids.look(connection, "ALPHA", "plain"))
    assert "there is no index" in str(centroids.look(connection, "ALPHA", "nothing"))
    try:
        execute(connection, "SET ROLE aya_user")
        told = centroids.look(connection, "ALPHA", "index")
    finally:
        execute(connection, "RESET ROLE")
    assert isinstance(told, Unseen)
    assert "pg_read_server_files" in str(told)


def changed(page: bytes, offset: int, new: bytes) -> bytes:
    return page[:offset] + new + page[offset + len(new) :]


def test_pages_of_zeros_are_not_written_yet(some: list[bytes]) -> None:
    for broken in ([], [b""], [bytes(8192)], [some[0], bytes(8192), *some[2:]]):
        with pytest.raises(NotWritten):
            pages.parse(broken)
    first = struct.unpack_from("<I", some[1], 24)[0] & 0x7FFF
    with pytest.raises(NotWritten, match="1 of 30 lists have no pages yet"):
        pages.parse([some[0], changed(some[1], first, b"\xff" * 4), *some[2:]])


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
        "go on at block 77": [some[0], changed(some[1], 8184, struct.pack("<I", 77)), *some[2:]],
        "line pointers of block 1 end": [some[0], changed(some[1], 12, struct.pack("<H", 9000)), *some[2:]],
        "a line pointer of block 1": [some[0], changed(some[1], 24, struct.pack("<I", pointer | 0x7FFF)), *some[2:]],
        "no halfvec": some,
    }
    for reason, broken in cases.items():
        with pytest.raises(UnreadablePages, match=reason):
            pages.parse(broken, "halfvec" if "halfvec" in reason else "vector")
    control = next(Path(bare.root).rglob("pg_control")).read_bytes()[:8192]
    with pytest.raises(AyaError):
        pages.parse([control])


def test_any_bytes_at_all_give_an_error_of_ours_or_a_layout(some: list[bytes]) -> None:
    """Single bytes of real pages changed at random."""
    draw = np.random.default_rng(2)
    for _ in range(400):
        block = int(draw.integers(0, 4))
        offset = int(draw.integers(0, 40)) if draw.random() < 0.7 else int(draw.integers(0, 8192))
        broken = [*some]
        broken[block] = changed(broken[block], offset, draw.bytes(1))
        try:
            layout = pages.parse(broken)
        except UnreadablePages:
            continue
        assert layout.centers.shape == (layout.lists, layout.dimensions)


def test_a_list_page_that_leads_back_to_itself_ends(some: list[bytes]) -> None:
    with pytest.raises(UnreadablePages):
        pages.parse([some[0], changed(some[1], 8184, struct.pack("<I", 1)), *some[2:]], "vector")


@pytest.mark.parametrize(
    ("kind", "dimension"),
    [
        ("vector", 3),
        ("vector", 29),
        ("vector", 32),
        ("vector", 768),
        ("vector", 1536),
        ("halfvec", 3),
        ("bit", 72),
        ("bit", 1024),
    ],
)
def test_the_number_of_rows_a_page_is_that_of_pgvector(kind: Kind, dimension: int, connection: Connection) -> None:
    """Also where values get a short header."""
    made = {
        "vector": "array_agg(random())::vector({0})",
        "halfvec": "array_agg(random())::halfvec({0})",
        "bit": "string_agg((random() > 0.5)::int::text, '')::bit({0})",
    }[kind]
    query = f"CREATE TABLE few AS SELECT {made} AS v FROM generate_series(1, {{0}}), generate_series(1, 1000) AS r GROUP BY r"
    execute(connection, "DROP TABLE IF EXISTS few")
    execute(connection, query.format(dimension))
    ops = "bit_hamming_ops" if kind == "bit" else f"{kind}_l2_ops"
    execute(connection, f"CREATE INDEX index_few ON few USING ivfflat (v {ops}) WITH (lists = 1)", "CHECKPOINT")
    row = connection.execute("SELECT pg_read_binary_file(pg_relation_filepath('index_few'), 2 * 8192, 8192)").fetchone()
    page = row[0] if row else b""
    assert isinstance(page, bytes)
    assert pages.ends([page[:24]], [page[-8:]]).rows[0] == pages.rows_a_page(dimension, kind)
