"""The pages of an IVFFlat index (pgvector 0.5 to 0.8, on-disk version 1), read as data. Nothing here asks a server.

Block 0 is the metapage. From block 1 on stand the list pages: for each list its first and its present insert page, and its
centroid. Then, at the build, each list's rows, list after list, on pages of their own; rows that come later fill the last
page of their list, then go to new pages at the end of the file. So the layout tells how large the index was when it was built.

Layout: ``src/ivfflat.h`` of pgvector; page header and line pointers: ``bufpage.h`` and ``itemid.h`` of PostgreSQL. Numbers
are little-endian, as on every machine that pgvector is packaged for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aya_lib.errors import AyaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["vector", "halfvec", "bit"]
PAGE = 8192  # PostgreSQL's usual block size
MAGIC, VERSION, PAGE_ID = 0x14FF1A7, 1, 0xFF84
HEADER, POINTER, SPECIAL = 24, 4, 8  # bytes of a page's header, of a line pointer, of IvfflatPageOpaqueData
NONE = 0xFFFF_FFFF  # InvalidBlockNumber
HEAD = 1  # the first list page
ROUNDS = 60  # of the estimate; it settles in a few, and slowly only where few rows were added


class UnreadablePages(AyaError):
    """These pages are not those of an IVFFlat index, or not of a version that is known."""


class NotWritten(UnreadablePages):
    """The pages are on disk only as zeros, or half-done: the server still holds them in memory alone."""


@dataclass(frozen=True)
class Meta:
    """What the metapage says."""

    dimensions: int
    lists: int


@dataclass(frozen=True)
class Layout:
    """``centers`` (lists, d) as float32 (bits as 0 and 1); ``start_pages`` and ``insert_pages`` (lists,), block numbers."""

    lists: int
    dimensions: int
    centers: NDArray[np.float32]
    start_pages: NDArray[np.int64]
    insert_pages: NDArray[np.int64]


@dataclass(frozen=True)
class Ends:
    """Of each list's last page of the build: ``rows`` on it, and ``next``, the block that follows in its list (-1: none).

    Both (lists,); rows are -1 where the page was not yet on disk.
    """

    rows: NDArray[np.int64]
    next: NDArray[np.int64]


@dataclass(frozen=True)
class Origin:
    """``rows`` when the index was built (an estimate), and the share of its pages that were added since."""

    rows: int
    pages_added_share: float


def meta(page: bytes) -> Meta:
    """The metapage (block 0)."""
    _require(page, 0)
    magic, version, dimensions, lists = struct.unpack_from("<IIHH", page, HEADER)
    if magic != MAGIC:
        raise UnreadablePages(f"block 0 has magic number {magic:#x}, an IVFFlat index has {MAGIC:#x}")
    if version != VERSION:
        raise UnreadablePages(f"the index has on-disk version {version}; version {VERSION} (pgvector 0.5 to 0.8) is known here")
    if not dimensions or not lists:
        raise UnreadablePages(f"the metapage says {dimensions} dimensions and {lists} lists")
    return Meta(dimensions, lists)


def list_pages(of: Meta, kind: Kind = "vector", page: int = PAGE) -> int:
    """How many pages the lists take, from block 1 on."""
    return -(-of.lists // _items_a_page(8 + _value_bytes(of.dimensions, kind), page))


def rows_a_page(dimensions: int, kind: Kind = "vector", page: int = PAGE) -> int:
    """How many rows of the index fit on a page: an 8-byte tuple header, then the value, with a 1-byte header when it is short."""
    value = _value_bytes(dimensions, kind)
    return _items_a_page(8 + (value - 3 if value - 3 <= 127 else value), page)


def parse(pages: Sequence[bytes], kind: Kind = "vector") -> Layout:
    """Metapage and list pages (blocks 0, 1, 2 ...; more do no harm) as a :class:`Layout`.

    Raises :class:`NotWritten` for pages of zeros or half-done lists, :class:`UnreadablePages` for anything else that is not
    an IVFFlat index of this kind of value.
    """
    import numpy as np

    if not pages:
        raise NotWritten("the file of the index is empty")
    of = meta(pages[0])
    items: list[bytes] = []
    block = HEAD
    while block != NONE and len(items) < of.lists:
        if not HEAD <= block < len(pages):
            raise UnreadablePages(f"list pages go on at block {block}, {len(pages)} blocks were read")
        items += _items(pages[block], block)
        block, before = _next(pages[block]), block
        if block <= before:
            raise UnreadablePages(f"list page {before} leads back to block {block}")
    if len(items) != of.lists:
        raise UnreadablePages(f"{len(items)} lists stand on the list pages, the metapage says {of.lists}")
    centers = np.stack([_center(item, of.dimensions, kind) for item in items])
    blocks = np.array([struct.unpack_from("<II", item) for item in items], np.int64)
    if (blocks == NONE).any():
        raise NotWritten(f"{int((blocks == NONE).any(axis=1).sum())} of {of.lists} lists have no pages yet on disk")
    return Layout(of.lists, of.dimensions, centers, blocks[:, 0], blocks[:, 1])


def last_pages(layout: Layout, end: int) -> NDArray[np.int64]:
    """The last page that the build gave each list, shape (lists,). ``end``: the block after the build's last one."""
    import numpy as np

    return np.append(layout.start_pages[1:], end) - 1


def ends(headers: Sequence[bytes], tails: Sequence[bytes]) -> Ends:
    """The first 24 and the last 8 bytes of pages; those not on disk (zeros, or too short) have -1 rows and no next page."""
    import numpy as np

    rows, following = np.full(len(headers), -1, np.int64), np.full(len(headers), -1, np.int64)
    for number, (header, tail) in enumerate(zip(headers, tails, strict=True)):
        if len(header) < HEADER or len(tail) < SPECIAL or not any(header):
            continue
        rows[number] = (struct.unpack_from("<H", header, 12)[0] - HEADER) // POINTER
        block, _, page_id = struct.unpack("<IHH", tail)
        if page_id != PAGE_ID:
            raise UnreadablePages(f"a page of list {number} has page id {page_id:#x}, an IVFFlat index has {PAGE_ID:#x}")
        following[number] = -1 if block == NONE else block
    return Ends(rows, following)


def build_end(found: Ends, total_pages: int) -> int:
    """The block after the last one of the build: where the first page stands that a list got later.

    ``found``: of every list but the last, whose own later pages look as if they were built.
    """
    later = found.next[found.next >= 0]
    return int(later.min()) if len(later) else total_pages


def origin(layout: Layout, found: Ends, end: int, total_pages: int, rows_now: int, a_page: int) -> Origin | None:
    """How large the index was when it was built; None with one list only, whose layout does not tell.

    An index built on fewer rows than lists has one page a list, and pgvector invented the centroids that were missing: then
    the others count its rows. Else each list's pages of the build are full but for the last one. What stands on that one
    today came in part later; how much is estimated from how many lists outgrew it, with additions in proportion to the
    lists' sizes (Poisson), any fill of the last page at the build being equally likely.
    """
    import numpy as np

    if layout.lists < 2:
        return None
    added = (total_pages - end) / max(1, total_pages)
    pages = np.diff(np.append(layout.start_pages, end))
    made_up = int(invented(layout.centers).sum())
    if made_up and (pages == 1).all():
        return Origin(layout.lists - made_up, added)
    fewest = (pages > 1).astype(np.int64)
    rows = np.where(found.rows < 0, (a_page + fewest) // 2, np.minimum(found.rows, a_page))
    standing = a_page * (pages - 1) + rows
    came = np.zeros(layout.lists)
    for _ in range(ROUNDS):
        built = float((standing - came).sum())
        share = max(0.0, rows_now - built) / max(1.0, built)
        expected = share * np.maximum(standing - came, 0.5)
        before, came = came, _came_later(expected, rows, fewest, found.next >= 0, a_page)
        if abs(float((came - before).sum())) < 0.2:
            break
    return Origin(max(0, round(float((standing - came).sum()))), added)


def invented(centers: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which centroids pgvector made up for want of rows, shape (lists,): every value drawn evenly from 0 to 1.

    Such a centroid has no negative value, a spread of 0.577 of its mean, and no value far above twice its mean; told from 16
    dimensions on, within five standard errors.
    """
    import numpy as np

    dimensions = centers.shape[1]
    if dimensions < 16:
        return np.zeros(len(centers), np.bool_)
    mean = np.maximum(centers.mean(axis=1), 1e-30)
    spread = np.abs(centers.std(axis=1) / mean - 3**-0.5) < 5 * 0.42 / np.sqrt(dimensions)
    highest = centers.max(axis=1) / mean < 2 * (1 + 5 * 3**-0.5 / np.sqrt(dimensions))
    return np.asarray((centers >= 0).all(axis=1) & spread & highest)


def _came_later(
    expected: NDArray[np.float64], rows: NDArray[np.int64], fewest: NDArray[np.int64], outgrown: NDArray[np.bool_], a_page: int
) -> NDArray[np.float64]:
    """How many rows of each list's last page of the build are expected to have come later."""
    import numpy as np
    from scipy.special import pdtr, pdtrc

    expected = np.clip(expected, 1e-12, 200)  # beyond it, every gap is filled anyway
    most = (rows - fewest).astype(float)
    few = np.where(most > 0, expected * pdtr(np.maximum(most - 1, 0), expected) / pdtr(np.maximum(most, 0), expected), 0)
    gaps = np.arange(a_page + 1.0)
    weights = pdtrc(gaps[None, :], expected[:, None]) * (gaps[None, :] <= (a_page - fewest)[:, None])
    many = (weights * gaps).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-300)
    return np.where(outgrown, many, few)


def _require(page: bytes, block: int) -> None:
    if len(page) < HEADER + SPECIAL or not any(page):
        raise NotWritten(f"block {block} is not on disk yet")
    page_id = struct.unpack_from("<H", page, len(page) - 2)[0]
    if page_id != PAGE_ID:
        raise UnreadablePages(f"block {block} has page id {page_id:#x}, an IVFFlat index has {PAGE_ID:#x}")


def _next(page: bytes) -> int:
    return int(struct.unpack_from("<I", page, len(page) - SPECIAL)[0])


def _items(page: bytes, block: int) -> list[bytes]:
    """What the line pointers of a page point to."""
    _require(page, block)
    lower = struct.unpack_from("<H", page, 12)[0]
    if not HEADER <= lower <= len(page):
        raise UnreadablePages(f"the line pointers of block {block} end at byte {lower}")
    found = []
    for (pointer,) in struct.iter_unpack("<I", page[HEADER : HEADER + (lower - HEADER) // POINTER * POINTER]):
        offset, length = pointer & 0x7FFF, pointer >> 17
        if offset + length > len(page) or length < 8:
            raise UnreadablePages(f"a line pointer of block {block} points to bytes {offset} to {offset + length}")
        found.append(page[offset : offset + length])
    return found


def _center(item: bytes, dimensions: int, kind: Kind) -> NDArray[np.float32]:
    """The centroid behind the two block numbers of a list."""
    import numpy as np

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


def _items_a_page(size: int, page: int) -> int:
    aligned = -(-size // 8) * 8
    return max(1, (page - HEADER - SPECIAL) // (aligned + POINTER))
