"""What is measured: vectors from the site's own table, a file or a recipe, queries that choose, and queries that only verify.

Held out of the vectors, or taken from a query set; either way the two sets of queries are disjoint, and a held-out query
is not in the corpus. Everything is only read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from aya_lib.errors import UsageError
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows
from aya_lib.vectors import generated, vector_files, wire
from aya_lib.vectors.index import Table, parts
from aya_lib.vectors.metric import Metric, metric
from aya_lib.vectors.vector_files import VectorFile

CHOOSE, VERIFY = 2000, 1500  # queries held out, when the corpus is large enough
HELD_OUT = 0.15  # at most this share of the corpus
LEAST_ROWS = 100  # with fewer, neither a search nor its recall can be measured
BLOCK = 50_000  # rows looked at together
READ_S = 1800  # deadline of reading a table
MOST = 1_000_000  # rows that are read at the most, when nothing else is said
STORED = 16_000  # dimensions that pgvector stores
WORTH = 5_000  # rows from which on a table's own vectors show what an index does
STAND_IN = 12_000  # rows generated in place of a table that has fewer


@dataclass(frozen=True)
class Corpus:
    """``base`` (n, d), ``choose`` (a, d) and ``verify`` (b, d) are float32, prepared for the metric.

    ``name``: where it came from, in words. ``asked``: where the queries came from. ``fingerprint``: of all vectors, metric
    included.
    """

    name: str
    asked: str
    metric: Metric
    base: NDArray[np.float32]
    choose: NDArray[np.float32]
    verify: NDArray[np.float32]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.base)

    @property
    def dimension(self) -> int:
        return int(self.base.shape[1])


@dataclass(frozen=True)
class Source:
    """``corpus``: what is measured. ``given``: the table that the answer's statements name; ``of_table``: whether its own
    vectors are measured."""

    corpus: Corpus
    given: Table
    of_table: bool = False


def corpus(
    name: str,
    vectors: NDArray[np.float32],
    metric: Metric,
    queries: NDArray[np.float32] | None = None,
    *,
    asked: str = "",
    seed: int = 1,
    k: int = 10,
    choose: int = CHOOSE,
    verify: int = VERIFY,
    notes: tuple[str, ...] = (),
) -> Corpus:
    """A corpus from raw vectors (n, d), with its queries drawn by ``seed``.

    :class:`UsageError` for an empty one, too few rows for k, NaN, infinite or (under cosine) zero vectors, and queries of
    another dimension.
    """
    _refuse(name, vectors, metric)
    draw = np.random.default_rng(seed)
    if queries is None:
        taken = draw.permutation(len(vectors))
        wanted = min(choose + verify, int(len(vectors) * HELD_OUT))
        questions, base = vectors[taken[:wanted]], vectors[np.sort(taken[wanted:])]
        asked = f"{len(questions)} rows held out of it"
    else:
        _refuse(asked or "the queries", queries, metric, least=2)
        if queries.shape[1] != vectors.shape[1]:
            raise UsageError(f"{asked or 'the queries'}: {queries.shape[1]} dimensions, {name} has {vectors.shape[1]}")
        questions, base = queries[draw.permutation(len(queries))[: choose + verify]], vectors
    if k >= len(base):
        raise UsageError(f"k = {k}: {name} has {len(base)} rows to search", hint="Take a smaller k, or more rows")
    base, questions = metric.prepare(base), metric.prepare(questions)
    middle = len(questions) * choose // (choose + verify)
    digest = hashlib.blake2b(metric.name.encode(), digest_size=16)
    for array in (base, questions):
        digest.update(repr(array.shape).encode())
        digest.update(array.ravel().data)
    return Corpus(name, asked, metric, base, questions[:middle], questions[middle:], digest.hexdigest(), notes)


def _refuse(name: str, vectors: NDArray[np.float32], metric: Metric, least: int = LEAST_ROWS) -> None:
    if len(vectors) < least:
        raise UsageError(
            f"{name} has {len(vectors)} vectors; at least {least} are needed to measure anything",
            hint="An index pays from some thousand rows on. To see the tool at work: --corpus generated:20000x384",
        )
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        broken = ~np.isfinite(block).all(axis=1)
        if broken.any():
            what = f"vector {start + int(broken.argmax())} has a value that is NaN or infinite"
            raise UsageError(f"{name}: {what}", hint="Correct or leave out that row")
        empty = ~block.any(axis=1)
        if metric.name == "cosine" and empty.any():
            row = start + int(empty.argmax())
            what = "it has no cosine distance, and pgvector leaves it out of the index"
            raise UsageError(
                f"{name}: vector {row} is zero: {what}", hint="Embed that row again or leave it out, or measure with --metric l2"
            )


def open_source(
    node: Node,
    source: str = "",
    queries: str = "",
    metric_name: str = "",
    *,
    table: str = "chunks",
    column: str = "embedding",
    key: str = "id",
    k: int = 10,
    most: int = MOST,
    seed: int = 1,
) -> Source:
    """The corpus called ``source``: empty: ``table`` of the site's database on ``node``; ``generated:ROWSxDIM``; a file;
    or *auto*: the table, and where it has too few rows for an index to matter, generated vectors of its dimension.

    Raises :class:`UsageError` for anything that cannot be measured, in one line.
    """
    notes: tuple[str, ...] = ()
    asked = vector_files.read(Path(queries)) if queries else None
    of_table = source in ("", "auto")
    if of_table:
        with node.session(deadline_s=READ_S) as connection:
            given, count = _given(connection, node, table, column, key)
            if source == "auto" and count < WORTH:
                source, of_table = f"generated:{STAND_IN}x{given.dimension or node.site.embedding.dimension}", False
                notes = (f"{table} has {count:,} vectors, too few for an index to matter; measured instead: {source}",)
            else:
                source = f"{table}.{column} on {node.name}"
                own = _stored(connection, source, given, count, most, seed)
                if count > most:
                    sample = f"a random sample of about {most:,} of {count:,} rows"
                    notes = (f"{sample}: more probes are said than the table needs",)
    if source.startswith("generated"):
        own = VectorFile(generated.generate(generated.parse(source)))
    elif not of_table:
        own = vector_files.read(Path(source), most=most)
    if not 1 <= own.base.shape[1] <= STORED:
        raise UsageError(f"{source}: {own.base.shape[1]} dimensions; pgvector stores at most 16,000")
    wanted = metric(metric_name or own.metric or "cosine")
    questions, words = own.queries, f"the query set of {source}" if own.queries is not None else ""
    if asked:
        questions, words = asked.base if asked.queries is None else asked.queries, queries
    made = corpus(source, own.base, wanted, questions, asked=words, seed=seed, k=k, notes=notes)
    return Source(made, Table(table, column, key, made.dimension, wanted), of_table)


@dataclass(frozen=True)
class _Type:
    type: str
    dimension: int | None


def _given(connection: Connection, node: Node, table: str, column: str, key: str) -> tuple[Table, int]:
    """The table, of dimension 0 where its column's type has none, and how many rows have a vector: counted exactly."""
    names = parts(table)
    quoted = ".".join(f'"{name}"' for name in names)
    types = rows(connection, __package__, "corpus_column", _Type, table=quoted, column=column)
    if not types:
        database = node.site.database.name
        raise UsageError(f"{node.name} has no {table}.{column} in {database}", hint="Name it with --table and --column")
    if types[0].type not in ("vector", "halfvec"):
        raise UsageError(f"{table}.{column} is of type {types[0].type}; allowed are vector and halfvec")
    count = sql.SQL("SELECT count({}) FROM {}").format(sql.Identifier(column), sql.Identifier(*names))
    row = connection.execute(count).fetchone()
    return Table(table, column, key, types[0].dimension or 0, metric("l2")), int(str(row[0])) if row else 0


def _stored(connection: Connection, name: str, table: Table, count: int, most: int, seed: int) -> VectorFile:
    """The vectors of a column by binary COPY; of a larger table a random sample."""
    if count < LEAST_ROWS:
        raise UsageError(
            f"{name} has {count} vectors; at least {LEAST_ROWS} are needed to measure anything",
            hint="Ingest documents first, or see the tool at work: --corpus generated:20000x384",
        )
    return VectorFile(np.concatenate(list(wire.read(connection, table, 100 * most / count, seed))))
