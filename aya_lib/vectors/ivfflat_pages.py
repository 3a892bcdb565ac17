"""The centroids of a live IVFFlat index (pgvector 0.5 to 0.8, on-disk version 1), read from its own pages. No search is run,
nothing is written; works on a standby too.

Block 0 is the metapage. From block 1 on stand the list pages: for each list its first and its present insert page, and its
centroid. Layout: ``src/ivfflat.h`` of pgvector; page header and line pointers: ``bufpage.h`` and ``itemid.h`` of PostgreSQL.
Numbers are little-endian, as on every machine that pgvector is packaged for.

Two ways: the extension pageinspect, where it is installed, gives pages as the server has them in memory. Otherwise
PostgreSQL's own ``pg_read_binary_file`` gives them as they are on disk, which a page reaches at the next checkpoint.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection, rows, statement

Kind = Literal["vector", "halfvec", "bit"]
PAGE = 8192  # PostgreSQL's usual block size
MAGIC, VERSION, PAGE_ID = 0x14FF1A7, 1, 0xFF84
HEADER, POINTER, SPECIAL = 24, 4, 8  # bytes of a page's header, of a line pointer, of IvfflatPageOpaqueData
NONE = 0xFFFF_FFFF  # InvalidBlockNumber
HEAD = 1  # the first list page
UNWRITTEN = "CHECKPOINT, or wait for the next one, or CREATE EXTENSION pageinspect"
UNLOGGED = "Unlogged, it reaches the disk when the server stops: CREATE EXTENSION pageinspect"
PRIVILEGE = "Connect as a superuser, or grant pg_read_server_files and EXECUTE ON FUNCTION pg_read_binary_file"


class UnreadablePages(AyaError):
    """These pages are not those of an IVFFlat index, or not of a version that is known, or may not be read."""


class NotWritten(UnreadablePages):
    """The pages are on disk only as zeros, or half-done: the server still holds them in memory alone."""


def read(connection: Connection, index: str) -> NDArray[np.float32]:
    """The centroids (lists, d) of an index, as float32 (bits as 0 and 1); named as SQL has it (``public.idx_chunks_embedding``).

    :class:`UnreadablePages` where privileges are missing or it is no IVFFlat index; :class:`NotWritten` where pages are not
    yet on disk and pageinspect is not installed.
    """
    found = rows(connection, __package__, "ivfflat_relation", _Relation, index=index)
    if not found or found[0].method != "ivfflat":
        raise UnreadablePages(f"{index} is no IVFFlat index" if found else f"there is no index {index}")
    (relation,) = found
    try:
        size, first = relation.block_size, _pages(connection, index, relation, 1)
        if not first:
            raise NotWritten("its file is empty")
        count = HEAD + list_pages(*meta(first[0]), relation.kind, size)
        return parse(_pages(connection, index, relation, min(relation.pages, count)), relation.kind)
    except NotWritten as error:
        hint = UNLOGGED if relation.unlogged else UNWRITTEN
        raise NotWritten(f"the server has not written {index} to disk: {error}", hint=hint) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise UnreadablePages(str(error.diag.message_primary), hint=PRIVILEGE) from None
    except (psycopg.errors.UndefinedFile, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
        raise UnreadablePages(f"{index} was replaced or dropped while it was read", hint="Look again") from None


@dataclass(frozen=True)
class _Relation:
    pageinspect: str | None
    method: str
    kind: Kind
    unlogged: bool
    block_size: int
    pages: int


def _pages(connection: Connection, index: str, relation: _Relation, count: int) -> list[bytes]:
    """The first pages, in PostgreSQL's binary form: text would double them."""
    name = "ivfflat_pages_buffers" if relation.pageinspect else "ivfflat_pages_file"
    query = sql.SQL(statement(__package__, name)).format(schema=sql.Identifier(relation.pageinspect or "public"))
    values = {"index": index, "pages": count, "bytes": count * relation.block_size}
    found = connection.cursor(binary=True).execute(query, values).fetchall()
    whole = b"".join(cast(bytes, page) or b"" for (page,) in found)
    return [whole[start : start + relation.block_size] for start in range(0, len(whole), relation.block_size)]


# Pages as data: nothing below asks a server.


def meta(page: bytes) -> tuple[int, int]:
    """Dimensions and lists, from the metapage (block 0)."""
    _require(page, 0)
    magic, version, dimensions, lists = struct.unpack_from("<IIHH", page, HEADER)
    if magic != MAGIC:
        raise UnreadablePages(f"block 0 has magic number {magic:#x}, an IVFFlat index has {MAGIC:#x}")
    if version != VERSION:
        raise UnreadablePages(f"the index has on-disk version {version}; version {VERSION} (pgvector 0.5 to 0.8) is known here")
    if not dimensions or not lists:
        raise UnreadablePages(f"the metapage says {dimensions} dimensions and {lists} lists")
    return dimensions, lists


def list_pages(dimensions: int, lists: int, kind: Kind = "vector", page: int = PAGE) -> int:
    """How many pages the lists take, from block 1 on."""
    aligned = -(-(8 + _value_bytes(dimensions, kind)) // 8) * 8
    return -(-lists // max(1, (page - HEADER - SPECIAL) // (aligned + POINTER)))


def parse(pages: Sequence[bytes], kind: Kind = "vector") -> NDArray[np.float32]:
    """The centroids of metapage and list pages (blocks 0, 1, 2 ...; more do no harm).

    Raises :class:`NotWritten` for pages of zeros or half-done lists, :class:`UnreadablePages` for anything else that is not
    an IVFFlat index of this kind of value.
    """
    dimensions, lists = meta(pages[0] if pages else b"")
    items: list[bytes] = []
    block = HEAD
    while block != NONE and len(items) < lists:
        if not HEAD <= block < len(pages):
            raise UnreadablePages(f"list pages go on at block {block}, {len(pages)} blocks were read")
        items += _items(pages[block], block)
        before, block = block, int(struct.unpack_from("<I", pages[block], len(pages[block]) - SPECIAL)[0])
        if block <= before:
            raise UnreadablePages(f"list page {before} leads back to block {block}")
    if len(items) != lists:
        raise UnreadablePages(f"{len(items)} lists stand on the list pages, the metapage says {lists}")
    blocks = np.array([struct.unpack_from("<II", item) for item in items], np.int64)
    if (blocks == NONE).any():
        raise NotWritten(f"{int((blocks == NONE).any(axis=1).sum())} of {lists} lists have no pages yet on disk")
    return np.stack([_center(item, dimensions, kind) for item in items])


def _require(page: bytes, block: int) -> None:
    if len(page) < HEADER + SPECIAL or not any(page):
        raise NotWritten(f"block {block} is not on disk yet")
    page_id = struct.unpack_from("<H", page, len(page) - 2)[0]
    if page_id != PAGE_ID:
        raise UnreadablePages(f"block {block} has page id {page_id:#x}, an IVFFlat index has {PAGE_ID:#x}")


def _items(page: bytes, block: int) -> list[bytes]:
    """What the line pointers of a page point to."""
    _require(page, block)
    lower = struct.unpack_from("<H", page, 12)[0]
    if not HEADER <= lower <= len(page):
        raise UnreadablePages(f"the line pointers of block {block} end at byte {lower}")
    items = []
    for (pointer,) in struct.iter_unpack("<I", page[HEADER : HEADER + (lower - HEADER) // POINTER * POINTER]):
        offset, length = pointer & 0x7FFF, pointer >> 17
        if offset + length > len(page) or length < 8:
            raise UnreadablePages(f"a line pointer of block {block} points to bytes {offset} to {offset + length}")
        items.append(page[offset : offset + length])
    return items


def _center(item: bytes, dimensions: int, kind: Kind) -> NDArray[np.float32]:
    """The centroid behind the two block numbers of a list."""
    size = _value_bytes(dimensions, kind)
    value = item[8 : 8 + size]
    if len(value) < size or struct.unpack_from("<I", value)[0] >> 2 != size:
        raise UnreadablePages(f"a centroid is no {kind}({dimensions}): it has {len(item) - 8} bytes, {size} are expected")
    if kind == "bit":
        return np.unpackbits(np.frombuffer(value[8:], np.uint8))[:dimensions].astype(np.float32)
    return np.frombuffer(value[8:], "<f4" if kind == "vector" else "<f2").astype(np.float32)


def _value_bytes(dimensions: int, kind: Kind) -> int:
    """Bytes of a value with its headers (8 in all)."""
    return 8 + {"vector": 4 * dimensions, "halfvec": 2 * dimensions, "bit": -(-dimensions // 8)}[kind]
