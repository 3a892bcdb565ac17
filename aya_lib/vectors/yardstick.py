"""Rows of a live table as a measure for indexes: their true neighbours, and the recall curve of any centroids over them.

Some hundred rows stand for queries. Their neighbours are exact, over the whole table, which is streamed where it does not
fit into memory; only what decides nothing about recall, k-means and the sizes of lists, is then taken from a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from aya_lib.node.sql import Connection, statement
from aya_lib.vectors import truth, twins, wire
from aya_lib.vectors.index import SAMPLES_A_LIST, SAMPLES_LEAST, Table
from aya_lib.vectors.metric import Metric
from aya_lib.vectors.twins import Curve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VALUES = 80_000_000  # values of float32 that are held at most: 100,000 rows of 768 dimensions, 320 MB
MESSAGES = 4096  # rows that are parsed together
QUERIES = 300  # rows whose neighbours are looked for
SIZED = 20_000  # rows that are assigned to the lists of a twin, to know its lists' sizes
K_MEANS = 1.5e11  # multiplications and additions that the k-means of a twin may take: about 2 s on two cores
FEWEST_A_LIST = 12  # rows a list that k-means is given at least
SAME = 1e-5  # a row that is so near to a query in every value is the query itself


@dataclass(frozen=True)
class Yardstick:
    """``base`` (n, d): rows of the table in random order, prepared for the metric, all or a sample; ``rows``: of the whole table,
    with a vector that is indexed. ``queries`` (q, d), some of them; ``near`` (q, k, d) their nearest others in the whole table,
    and ``distances`` (q, k), ascending; all empty where there are fewer than k + 2 rows."""

    metric: Metric
    base: NDArray[np.float32]
    rows: int
    without_direction: int  # zero vectors, which an index by cosine leaves out
    queries: NDArray[np.float32]
    near: NDArray[np.float32]
    distances: NDArray[np.float64]

    @property
    def sampled(self) -> bool:
        return self.rows > len(self.base)

    def curve(self, centres: NDArray[np.float32]) -> Curve:
        """The curve of a live index's centroids (lists, d), in rows of the whole table.

        An index of halves rounds what it holds; on 4,000 rows that moved none into another list.
        """
        return self._curve(centres, self.base)

    def twin(self, lists: int) -> Curve:
        """The curve that a fresh index of so many lists would have, its k-means given as large a sample as pgvector takes, or
        smaller where that would take long."""
        dimension = self.base.shape[1]
        each = 2 * lists * ((twins.ROUNDS - 1) * min(twins.SEEN, dimension) + dimension)
        allowed = max(FEWEST_A_LIST * lists, math.floor(K_MEANS / each))
        size = min(allowed, max(SAMPLES_A_LIST * lists, SAMPLES_LEAST))
        return self._curve(twins.centroids(self.base[:size], lists, self.metric), self.base[:SIZED])

    def _curve(self, centres: NDArray[np.float32], sized: NDArray[np.float32]) -> Curve:
        """``sized``: random rows, whose lists tell the sizes of all."""
        import numpy as np

        spherical, (queries, k, dimension) = self.metric.name != "l2", self.near.shape
        counted = np.bincount(twins.nearest(sized, centres, spherical=spherical), minlength=len(centres))
        lists_of = twins.nearest(self.near.reshape(-1, dimension), centres, spherical=spherical).reshape(queries, k)
        sizes = np.rint(counted * (self.rows / len(sized))).astype(np.int64)
        return twins.ranked(self.queries, lists_of, centres, self.metric, sizes)


def read(connection: Connection, table: Table, rows: int, k: int, most: int = VALUES) -> Yardstick:
    """Rows of the table (``rows`` in all, with a vector), at most ``most`` values held at once. :class:`AyaError` when their
    dimensions differ."""
    import numpy as np

    metric, wanted = table.metric, max(1, most // table.dimension)
    sampled = rows > wanted
    blocks = list(_blocks(connection, table, rows, 100 * wanted / rows if sampled else 100))
    counted = sum(map(len, blocks))
    base = np.concatenate([_indexed(block, metric) for block in blocks] or [np.empty((0, table.dimension), np.float32)])
    del blocks
    np.random.default_rng(1).shuffle(base)
    total = round(rows * len(base) / max(1, counted)) if sampled else len(base)
    enough = len(base) >= k + 2
    queries = base[-QUERIES:] if enough else base[:0]
    every = (_indexed(block, metric) for block in _blocks(connection, table, rows)) if sampled else [base]
    near, distances = neighbours(every if enough else (), queries, metric, k)
    return Yardstick(metric, base, total, counted - len(base), queries, near, distances)


def neighbours(
    blocks: Iterable[NDArray[np.float32]], queries: NDArray[np.float32], metric: Metric, k: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The k nearest rows to each query but for itself, and their distances, over blocks of rows that are not kept."""
    import numpy as np

    near, distances = np.empty((len(queries), 0, queries.shape[1]), np.float32), np.empty((len(queries), 0))
    for block in blocks:
        nearest = truth.exact(block, queries, metric, min(k + 1, len(block)))
        near = np.concatenate([near, block[nearest.rows]], axis=1)
        distances = np.concatenate([distances, nearest.distances], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, : k + 1]
        near, distances = np.take_along_axis(near, order[:, :, None], axis=1), np.take_along_axis(distances, order, axis=1)
    itself = np.abs(near - queries[:, None]).max(axis=2, initial=0) < SAME
    kept = np.ones(itself.shape, np.bool_)
    np.put_along_axis(kept, np.where(itself.any(axis=1), itself.argmax(axis=1), k)[:, None], False, axis=1)
    return near[kept].reshape(len(queries), -1, queries.shape[1]), distances[kept].reshape(len(queries), -1)


def _indexed(block: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Prepared for the metric, without what an index by it leaves out."""
    return metric.prepare(block[block.any(axis=1)] if metric.name == "cosine" else block)


def _blocks(connection: Connection, table: Table, rows: int, percent: float = 100) -> Iterator[NDArray[np.float32]]:
    """The stream of a binary COPY, parsed by some thousand rows; the server sends a row a message."""
    sample = sql.SQL("TABLESAMPLE BERNOULLI ({}) REPEATABLE (1)").format(sql.Literal(round(percent, 6)))
    query = sql.SQL(statement(__package__, "yardstick_rows")).format(
        column=sql.Identifier(table.column),
        table=table.identifier,
        sample=sample if percent < 100 else sql.SQL(""),
        most=sql.Literal(max(rows, 1)),  # rows that come meanwhile do not count
    )
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        parts: list[bytes] = [wire.SIGNATURE]
        for number, message in enumerate(copy):
            data = bytes(message)
            parts.append(data[len(wire.SIGNATURE) :] if number == 0 else data)
            if parts[-1] == wire.TRAILER:
                continue
            if len(parts) > MESSAGES:
                yield wire.copy_out(b"".join([*parts, wire.TRAILER]), table.dimension)[1]
                parts = [wire.SIGNATURE]
        whole = b"".join(parts)
        if len(whole) > len(wire.SIGNATURE) + len(wire.TRAILER):
            yield wire.copy_out(whole, table.dimension)[1]
