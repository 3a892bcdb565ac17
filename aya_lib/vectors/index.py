"""A vector index as data: what builds it, what searches it, what it needs. Nothing here asks a server.

Families: ``exact`` (no index), ``ivfflat`` and ``hnsw`` on the column's own type, both also on ``halfvec`` (half the
bytes), and ``hnsw_bit`` (binary quantisation, a bit a dimension, whose candidates are ranked again by the real distance).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from psycopg import sql

from aya_lib.errors import UsageError
from aya_lib.vectors.metric import Metric

Family = Literal["exact", "ivfflat", "ivfflat_halfvec", "hnsw", "hnsw_halfvec", "hnsw_bit"]
FAMILIES: tuple[Family, ...] = get_args(Family)
# pgvector 0.8, README "Indexing": the most dimensions an index takes, by the type that is indexed.
DIMENSIONS = {"vector": 2000, "halfvec": 4000, "bit": 64_000}
LISTS = 32_768  # pgvector's limit of lists
EF_SEARCH = 1000  # pgvector's limit of hnsw.ef_search
SAMPLES_A_LIST = 50  # pgvector's k-means sample, at least 10,000 rows in all (ivfbuild.c)
SAMPLES_LEAST = 10_000


@dataclass(frozen=True)
class Table:
    """What is indexed: ``name`` as it was given (perhaps with a schema), its vector column, and its key."""

    name: str
    column: str
    key: str
    dimension: int
    metric: Metric

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(*parts(self.name))

    @property
    def index_name(self) -> str:
        """The name a new index gets: ``idx_<table>_<column>``, in the table's schema."""
        return f"idx_{parts(self.name)[-1]}_{self.column}"[:63]


@dataclass(frozen=True)
class Index:
    """A way to build: a family and its options (``lists``; ``m`` and ``ef_construction``)."""

    family: Family
    options: tuple[tuple[str, int], ...] = ()

    @property
    def method(self) -> Literal["", "ivfflat", "hnsw"]:
        if self.family == "exact":
            return ""
        return "ivfflat" if self.family.startswith("ivfflat") else "hnsw"

    @property
    def kind(self) -> Literal["vector", "halfvec", "bit"]:
        """The type that is indexed."""
        return "halfvec" if self.family.endswith("halfvec") else "bit" if self.family.endswith("bit") else "vector"

    @property
    def knob(self) -> str:
        """The setting that trades recall for speed; empty for exact search."""
        return {"": "", "ivfflat": "ivfflat.probes", "hnsw": "hnsw.ef_search"}[self.method]

    def option(self, name: str) -> int:
        return dict(self.options)[name]

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.family} {words}".strip()

    def expression(self, table: Table) -> sql.Composable:
        """What is indexed, as it stands in CREATE INDEX; an expression is in parentheses."""
        column = sql.Identifier(table.column)
        return column if self.kind == "vector" else sql.SQL("({})").format(_cast(self.kind, column, table.dimension))

    def operator_class(self, metric: Metric) -> str:
        return "bit_hamming_ops" if self.kind == "bit" else f"{self.kind}_{metric.ops}_ops"

    def create(self, table: Table, name: str, *, concurrently: bool = False) -> sql.Composed:
        """CREATE INDEX; :class:`UsageError` for exact search, which has none."""
        if not self.method:
            raise UsageError("exact search has no index to create")
        return sql.SQL("CREATE INDEX {}{} ON {} USING {} ({} {}) WITH ({})").format(
            sql.SQL("CONCURRENTLY " if concurrently else ""),
            sql.Identifier(name),
            table.identifier,
            sql.SQL(self.method),
            self.expression(table),
            sql.SQL(self.operator_class(table.metric)),
            sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in self.options),
        )

    def search(self, table: Table, k: int, value: int) -> sql.Composed:
        """The k nearest keys to the vector ``$1``, nearest first. ``value``: of the knob; of bits so many are ranked again."""
        names = {
            "key": sql.Identifier(table.key),
            "column": sql.Identifier(table.column),
            "table": table.identifier,
            "operator": sql.SQL(table.metric.operator),
            "given": sql.SQL("$1::vector"),
            "k": sql.Literal(k),
            "wide": sql.Literal(max(k, value)),
        }
        column, given = (_cast(self.kind, names[name], table.dimension) for name in ("column", "given"))
        if self.kind == "bit":
            columns = "{key}, {column}" if table.key != table.column else "{column}"
            near = sql.SQL(f"SELECT {columns} FROM {{table}} ORDER BY {{bits}} <~> {{given_bits}} LIMIT {{wide}}")
            ranked = sql.SQL("SELECT {key} FROM ({near}) AS near ORDER BY {column} {operator} {given} LIMIT {k}")
            return ranked.format(near=near.format(bits=column, given_bits=given, **names), **names)
        text = sql.SQL("SELECT {key} FROM {table} ORDER BY {column} {operator} {given} LIMIT {k}")
        return text.format(**(names | {"column": column, "given": given}))

    def settings(self, value: int) -> dict[str, str]:
        """Settings of the session that searches."""
        return {self.knob: str(value)} if self.knob else {}

    def fits(self, table: Table, rows: int) -> str:
        """Why it cannot be built over this table; empty when it can."""
        limit = DIMENSIONS[self.kind]
        if self.method and table.dimension > limit:
            return f"{table.dimension} dimensions: pgvector indexes at most {limit} of {self.kind}"
        if self.method == "ivfflat" and self.option("lists") > min(rows, LISTS):
            most = f"{rows} rows" if rows < LISTS else f"pgvector's limit of {LISTS}"
            return f"{self.option('lists')} lists are more than {most}"
        return ""

    def build_bytes(self, table: Table, rows: int) -> int:
        """Memory that a build needs (maintenance_work_mem), in bytes.

        IVFFlat: k-means over 50 samples a list with Elkan's bounds, about 200 x lists^2 + 50 x lists x (4d + 8), as
        pgvector adds it up before it starts (ivfkmeans.c). HNSW: the graph, so that it is not built in passes over the
        disk: a vector, its neighbours (m, and 2m on the ground layer) and 200 bytes of its own for each row.
        """
        size = self._value_bytes(table)
        if self.method == "ivfflat":
            lists = self.option("lists")
            samples = max(SAMPLES_A_LIST * lists, SAMPLES_LEAST)  # allocated whole, also where there are fewer rows
            bounds = 4 * lists * min(rows, samples) + 4 * lists * lists
            return bounds + samples * (size + 8) + 3 * lists * (size + 8) + lists * 4 * table.dimension
        if self.method == "hnsw":
            return rows * (size + 3 * self.option("m") * 16 + 200)
        return 0

    def build_seconds(self, table: Table, rows: int) -> float:
        """Seconds that building takes on two cores, roughly (IVFFlat: k-means and assignment; HNSW: a search a row)."""
        if self.method == "ivfflat":
            lists, size = self.option("lists"), table.dimension
            samples = min(rows, max(SAMPLES_A_LIST * lists, SAMPLES_LEAST))
            return 0.3 + rows * size * 4e-8 + 2.7e-10 * size * lists * (rows + samples)
        if self.method == "hnsw":
            kind = {"vector": 1.0, "halfvec": 0.85, "bit": 0.35}[self.kind]
            return 0.3 + rows * 4.3e-4 * float((table.dimension / 768) ** 0.7) * self.option("ef_construction") / 64 * kind
        return 0.0

    def bytes(self, table: Table, rows: int) -> int:
        """About how large the index gets: vectors of the indexed type on pages of 8 kB, with HNSW's neighbours (2m on the
        ground layer, 6 bytes each)."""
        if not self.method:
            return 0
        size = self._value_bytes(table) + (2 * self.option("m") * 6 + 100 if self.method == "hnsw" else 0)
        return 8192 * (rows // max(1, 8100 // (size + 24)) + 1)

    def _value_bytes(self, table: Table) -> int:
        """Of one indexed vector."""
        return {"vector": 4 * table.dimension, "halfvec": 2 * table.dimension, "bit": table.dimension // 8}[self.kind] + 8


def _cast(kind: str, vector: sql.Composable, dimension: int) -> sql.Composable:
    """The vector as the type that is indexed."""
    if kind == "vector":
        return vector
    if kind == "bit":
        return sql.SQL("binary_quantize({})::bit({})").format(vector, sql.Literal(dimension))
    return sql.SQL("{}::{}({})").format(vector, sql.SQL(kind), sql.Literal(dimension))


def ivfflat(lists: int, kind: Literal["vector", "halfvec"] = "vector") -> Index:
    return Index("ivfflat" if kind == "vector" else "ivfflat_halfvec", (("lists", lists),))


def hnsw(m: int = 16, ef_construction: int = 64, kind: Literal["vector", "halfvec", "bit"] = "vector") -> Index:
    family: Mapping[str, Family] = {"vector": "hnsw", "halfvec": "hnsw_halfvec", "bit": "hnsw_bit"}
    return Index(family[kind], (("m", m), ("ef_construction", ef_construction)))


EXACT = Index("exact")


def mb(size: float) -> str:
    """Bytes for a person."""
    return f"{size / 2**20:,.0f} MB" if size < 10 * 2**30 else f"{size / 2**30:,.0f} GB"


def parts(name: str) -> tuple[str, ...]:
    """A table's name, perhaps behind its schema, as identifiers; :class:`UsageError` when it is no plain name."""
    names = re.fullmatch(r"(?:([A-Za-z_][\w$]*)\.)?([A-Za-z_][\w$]*)", name)
    if not names:
        raise UsageError(f"table '{name}': allowed is a name, or schema.name, of letters, digits and _")
    return tuple(part.lower() for part in names.groups() if part)
