"""Where the vectors come from: the site's own table, a file, or a recipe. Read only, whatever it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from aya_lib.errors import UsageError
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows
from aya_lib.vectors import wire
from aya_lib.vectors.corpus.corpus import LEAST_ROWS, Corpus, corpus
from aya_lib.vectors.index import Table, parts
from aya_lib.vectors.metric import metric

READ_S = 1800  # deadline of reading a table
MOST = 1_000_000  # rows that are read at the most, when nothing else is said
STORED = 16_000  # dimensions that pgvector stores
WORTH = 5_000  # rows from which on a table's own vectors show what an index does
STAND_IN = 12_000  # rows generated in place of a table that has fewer


@dataclass(frozen=True)
class Source:
    """``corpus``: what is measured. ``given``: the table that the answer's statements name."""

    corpus: Corpus
    given: Table


@dataclass(frozen=True)
class _Column:
    type: str
    dimension: int | None
    rows: int


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
    from aya_lib.vectors.corpus import generate

    notes: tuple[str, ...] = ()
    asked = _questions(queries) if queries else None
    if source in ("", "auto"):
        found = look(node, table, column)
        if source == "auto" and found.rows < WORTH:
            made = f"generated:{STAND_IN}x{found.dimension or node.site.embedding.dimension}"
            notes = (f"{table} has {found.rows:,} vectors, too few for an index to matter; measured instead: {made}",)
            return _of(node, made, asked, queries, metric_name, table, column, key, k, most, seed, notes)
        vectors, notes = read(node, table, column, most, seed)
        wished = metric(metric_name or "cosine")
        made_of = corpus(f"{table}.{column} on {node.name}", vectors, wished, asked, asked=queries, seed=seed, k=k, notes=notes)
        return Source(made_of, Table(table, column, key, made_of.dimension, wished))
    if source.startswith("generated"):
        generate.parse(source)
    return _of(node, source, asked, queries, metric_name, table, column, key, k, most, seed, notes)


def _questions(path: str) -> NDArray[np.float32]:
    """A query set: the queries of a file that has some, else all its vectors."""
    from aya_lib.vectors.corpus import files

    found = files.read(Path(path))
    return found.base if found.queries is None else found.queries


def look(node: Node, table: str, column: str) -> _Column:
    """The vector column and its rows, NULLs left out (counted exactly). :class:`UsageError` when there is no such column."""
    with node.session(deadline_s=READ_S) as connection:
        return _column(connection, node, table, column)


def read(node: Node, table: str, column: str, most: int = MOST, seed: int = 1) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """The vectors of a column, shape (n, d), by binary COPY in a read-only session; of a larger table a random sample."""
    with node.session(deadline_s=READ_S) as connection:
        found = _column(connection, node, table, column)
        if found.rows < LEAST_ROWS:
            raise UsageError(
                f"{table}.{column} on {node.name} has {found.rows} vectors; at least {LEAST_ROWS} are needed to measure anything",
                hint="Ingest documents first, or see the tool at work: --corpus generated:20000x384",
            )
        notes, percent = [], 100.0
        if found.rows > most:
            percent = 100 * most / found.rows
            notes.append(f"a random sample of about {most:,} of {found.rows:,} rows: more probes are said than the table needs")
        blocks = list(wire.read(connection, Table(table, column, "ctid", found.dimension or 0, metric("l2")), percent, seed))
    return np.concatenate(blocks), tuple(notes)


def _column(connection: Connection, node: Node, table: str, column: str) -> _Column:
    names = parts(table)
    found = rows(connection, __package__, "columns", _Column, table=".".join(f'"{name}"' for name in names), column=column)
    if not found:
        database = node.site.database.name
        raise UsageError(f"{node.name} has no {table}.{column} in {database}", hint="Name it with --table and --column")
    if found[0].type not in ("vector", "halfvec"):
        raise UsageError(f"{table}.{column} is of type {found[0].type}; allowed are vector and halfvec")
    count = sql.SQL("SELECT count({}) FROM {}").format(sql.Identifier(column), sql.Identifier(*names))
    row = connection.execute(count).fetchone()
    return _Column(found[0].type, found[0].dimension, int(str(row[0])) if row else 0)


def _of(
    node: Node,
    source: str,
    asked: NDArray[np.float32] | None,
    queries: str,
    metric_name: str,
    table: str,
    column: str,
    key: str,
    k: int,
    most: int,
    seed: int,
    notes: tuple[str, ...],
) -> Source:
    """A corpus from a file or a recipe; queries of the file itself are taken where none are given."""
    from aya_lib.vectors.corpus import files, generate

    if source.startswith("generated"):
        own = files.VectorFile(generate.generate(generate.parse(source)), None, None)
    else:
        own = files.read(Path(source), most=most)
    questions = own.queries if asked is None else asked
    wished = metric(metric_name or own.metric or "cosine")
    said = queries or (f"the query set of {source}" if own.queries is not None else "")
    dimension = own.base.shape[1]
    if not 1 <= dimension <= STORED:
        raise UsageError(f"{source}: {dimension} dimensions; pgvector stores at most 16,000")
    made = corpus(source, own.base, wished, questions, asked=said, seed=seed, k=k, notes=notes)
    return Source(made, Table(table, column, key, made.dimension, wished))
