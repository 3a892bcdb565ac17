"""The centroids of a live IVFFlat index, read from its pages. No search is run, nothing is written; works on a standby too.

Two ways: the extension pageinspect, where it is installed, gives pages as the server has them in memory. Otherwise
PostgreSQL's own ``pg_read_binary_file`` gives them as they are on disk, which a page reaches at the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import psycopg
from psycopg import sql

from aya_lib.errors import AyaError
from aya_lib.node.sql import Connection, rows, statement
from aya_lib.node.unseen import Unseen
from aya_lib.vectors.health import pages
from aya_lib.vectors.health.pages import Ends, Kind, Layout, NotWritten, Origin, UnreadablePages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from aya_lib.vectors.metric import Metric

Way = Literal["pageinspect", "files"]
UNWRITTEN = "CHECKPOINT, or wait for the next one, or CREATE EXTENSION pageinspect"
UNLOGGED = "Unlogged, it reaches the disk when the server stops: CREATE EXTENSION pageinspect"
PRIVILEGE = "Connect as a superuser, or grant pg_read_server_files and EXECUTE ON FUNCTION pg_read_binary_file"


@dataclass(frozen=True)
class Centroids:
    """An index as its pages say. ``ends``: of each list's last page of the build; ``build_end``: the block after the last of
    them; ``pages``: all there are now; ``kind``: the type that is indexed."""

    layout: Layout
    kind: Kind
    ends: Ends
    build_end: int
    pages: int
    way: Way

    def origin(self, rows_now: int) -> Origin | None:
        """How large the index was when it was built, given its rows now."""
        a_page = pages.rows_a_page(self.layout.dimensions, self.kind)
        return pages.origin(self.layout, self.ends, self.build_end, self.pages, rows_now, a_page)


@dataclass(frozen=True)
class _Ways:
    schema: str | None
    method: str
    kind: Kind
    unlogged: bool
    block_size: int
    pages: int


def look(connection: Connection, node: str, index: str) -> Centroids | Unseen:
    """The centroids of an index, named as SQL has it (``public.idx_chunks_embedding``).

    :class:`Unseen` where privileges are missing, where pages are not yet on disk and pageinspect is not installed, and where
    it is no IVFFlat index.
    """
    try:
        return read(connection, index)
    except AyaError as error:
        return Unseen(node, f"read the pages of {index}", str(error))


def read(connection: Connection, index: str) -> Centroids:
    """As :func:`look`; :class:`AyaError` where they could not be read."""
    found = rows(connection, __package__, "checkup_ways", _Ways, index=index)
    if not found or found[0].method != "ivfflat":
        raise UnreadablePages(f"{index} is no IVFFlat index" if found else f"there is no index {index}")
    try:
        return _Reader(connection, index, found[0]).read()
    except NotWritten as error:
        hint = UNLOGGED if found[0].unlogged else UNWRITTEN
        raise NotWritten(f"the server has not written {index} to disk: {error}", hint=hint) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise UnreadablePages(str(error.diag.message_primary), hint=PRIVILEGE) from None
    except (psycopg.errors.UndefinedFile, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedObject):
        raise UnreadablePages(f"{index} was replaced or dropped while it was read", hint="Look again") from None


def built(connection: Connection, index: str, metric: Metric) -> NDArray[np.float32]:
    """Centroids (lists, d) of an index, prepared for the metric; :class:`AyaError` where they could not be read."""
    return metric.prepare(read(connection, index).layout.centers)


class _Reader:
    """One index over one connection."""

    def __init__(self, connection: Connection, index: str, ways: _Ways) -> None:
        self._connection, self._index, self._ways = connection, index, ways

    def read(self) -> Centroids:
        size, total, kind = self._ways.block_size, self._ways.pages, self._ways.kind
        first = self._first(1)
        if not first:
            raise NotWritten("its file is empty")
        of = pages.meta(first[0])
        layout = pages.parse(self._first(min(total, pages.HEAD + pages.list_pages(of, kind, size))), kind)
        known = self._ends(pages.last_pages(layout, total)[:-1])
        end = max(pages.build_end(known, total), int(layout.start_pages[-1]) + 1)
        way: Way = "pageinspect" if self._ways.schema else "files"
        return Centroids(layout, kind, self._ends(pages.last_pages(layout, end)), end, total, way)

    def _first(self, count: int) -> list[bytes]:
        size = self._ways.block_size
        if self._ways.schema:
            return [page for (page,) in self._ask("checkup_first_pages_buffers", pages=count)]
        whole = self._ask("checkup_first_pages_file", bytes=count * size)[0][0] or b""
        return [whole[start : start + size] for start in range(0, len(whole), size)]

    def _ends(self, blocks: NDArray[np.int64]) -> Ends:
        """The ends of these pages; a page that is not on disk yet counts as unknown."""
        name = "checkup_ends_buffers" if self._ways.schema else "checkup_ends_file"
        found = self._ask(name, blocks=[int(block) for block in blocks])
        return pages.ends([header or b"" for header, _ in found], [tail or b"" for _, tail in found])

    def _ask(self, name: str, **values: object) -> Sequence[tuple[bytes, ...]]:
        """Rows of bytes, in PostgreSQL's binary form: text would double them."""
        query = sql.SQL(statement(__package__, name)).format(schema=sql.Identifier(self._ways.schema or "public"))
        found = self._connection.cursor(binary=True).execute(query, {"index": self._index, **values}).fetchall()
        return cast("Sequence[tuple[bytes, ...]]", found)
