"""Search: by meaning (vectors), by words (full text), or both fused by their scores.

One statement a search, and one before it that asks how rare the words are. Filters never cost results: index scans go on until
enough rows passed the filter, and where fewer came than were asked for, the rows are read without the index once more.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, LiteralString

from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from aya_lib.embedding.encoder import Vectors
from aya_lib.errors import UsageError
from aya_lib.knowledge import words
from aya_lib.node.sql import Connection, rows, statement

Mode = Literal["vector", "text", "hybrid"]
MODES: tuple[Mode, ...] = ("vector", "text", "hybrid")
MOST = 1000  # results of one search
DEPTH = 50  # candidates of each list that are fused, at least; and four times the limit
WORDS = 0.4  # share of words in a fused score, chosen on three sets of questions and held on two others (benchmarks/search.py)
FRESH_S = 2.0  # a search begins with what was decided at most so long ago: who rebuilds the index counts on it
DEFAULT_EF_SEARCH = 2 * DEPTH

Kind = Literal["vector", "halfvec", "bit"]  # what an index holds
PLAIN: tuple[Kind, int] = ("vector", 0)
ORDER: dict[Kind, LiteralString] = {
    "vector": "c.embedding <=> %(vector)s",
    "halfvec": "c.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension})",
    "bit": "binary_quantize(c.embedding)::bit({dimension}) <~> binary_quantize(%(vector)s)::bit({dimension})",
}

CONDITIONS = {
    "category": " AND d.category = %(category)s",
    "metadata": " AND (d.metadata @> %(metadata)s OR c.metadata @> %(metadata)s)",
    "since": " AND d.created_at >= %(since)s",
    "until": " AND d.created_at < %(until)s",
}


@dataclass(frozen=True)
class Filters:
    """What a result must be: of a category, with these metadata (contained), of a document created since, and before."""

    category: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None

    def given(self) -> dict[str, Any]:
        """What is asked for, as the statement takes it. :class:`UsageError`: what the database could not compare."""
        conditions: dict[str, Any] = {name: value for name, value in vars(self).items() if value}
        if self.metadata:
            text = _json(dict(self.metadata))
            conditions["metadata"] = Jsonb(None, lambda _: text)
        _storable("category", self.category or "")
        return conditions


def _json(metadata: object) -> str:
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"the metadata to filter by are no JSON: {error}") from None
    return _storable("the metadata to filter by", text)


def _storable(what: str, text: str) -> str:
    if "\0" in text or "\\u0000" in text or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise UsageError(f"{what}: a NUL or half of a surrogate pair is in no document")
    return text


@dataclass(frozen=True)
class Hit:
    """A chunk that was found. ``similarity``: cosine, 1 is equal; ``score``: what it was ordered by; ranks from 1."""

    chunk_id: int
    document_id: int
    content: str
    similarity: float | None
    vector_rank: int | None
    text_rank: int | None
    score: float
    category: str | None
    source: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Tuning:
    """What the vector index is, and how it is searched. The first that there is decides, for each knob: the caller's own SET
    in this session; a setting of the role or the database; what the site's tuning chose; the server's configuration; and
    else sqrt(lists), as pgvector's README advises, and an ef_search of twice the fused candidates.
    """

    method: str | None
    kind: Kind | None
    dimension: int | None
    lists: int | None
    own_probes: int | None
    own_ef_search: int | None
    role_probes: int | None
    role_ef_search: int | None
    chosen_probes: int | None
    chosen_ef_search: int | None
    configured_probes: int | None
    configured_ef_search: int | None
    words: str | None = None  # how the words of the chunks are made

    @property
    def probes(self) -> int:
        decided = self.own_probes or self.role_probes or self.chosen_probes or self.configured_probes
        return decided or default_probes(self.lists or 1)

    @property
    def ef_search(self) -> int:
        decided = self.own_ef_search or self.role_ef_search or self.chosen_ef_search or self.configured_ef_search
        return decided or DEFAULT_EF_SEARCH

    @property
    def form(self) -> tuple[Kind, int]:
        """The type that is indexed and its dimension: a search in another form would not use the index."""
        return (self.kind, self.dimension) if self.kind and self.dimension else PLAIN

    def settings(self) -> dict[str, str]:
        """Session settings, each with its mark. What the caller set in the session is left as it is."""
        ours = {} if self.own_probes else {"ivfflat.probes": self.probes}
        ours |= {} if self.own_ef_search else {"hnsw.ef_search": self.ef_search}
        return {key: str(value) for name, value in ours.items() for key in (name, f"aya.{name.replace('.', '_')}")}


class Searcher:
    """Searches on one connection, whose session it sets up. It follows a rebuilt index and changed settings by itself,
    within ``FRESH_S``."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        register_vector(connection)
        connection.execute("SELECT '[1]'::vector")  # loads pgvector, so that its settings are known
        self._set({"hnsw.iterative_scan": "strict_order", "ivfflat.iterative_scan": "relaxed_order", "jit": "off"})
        self._tune()
        self.lexemes: list[words.Lexeme] = []

    def search(
        self, query: str, vector: Vectors | None, mode: Mode = "hybrid", limit: int = 10, filters: Filters | None = None
    ) -> list[Hit]:
        """The best ``limit`` chunks, best first. ``vector``: of the query, shape (dimension,); text search can do without.
        ``self.lexemes``: the words that were looked for. Raises :class:`UsageError`."""
        if mode not in MODES:
            raise UsageError(f"mode '{mode}': allowed are {', '.join(MODES)}")
        if not 1 <= limit <= MOST:
            raise UsageError(f"limit {limit}: allowed is 1 to {MOST}")
        if vector is None and mode != "text":
            raise UsageError(f"mode '{mode}' takes the question's vector")
        given = (filters or Filters()).given()
        asked = words.parse(words.clean(query) if mode != "vector" else "")
        if time.monotonic() - self._tuned_at > FRESH_S:
            self._tune()
        self.lexemes = words.lexemes(self.connection, asked) if mode != "vector" else []
        if mode != "vector" and not self.lexemes and (mode == "text" or asked.phrases):
            return []
        mode = mode if self.lexemes else "vector"
        depth = limit if mode != "hybrid" else max(DEPTH, 4 * limit)
        values = {"vector": None if vector is None else Vector(vector), "limit": limit, "depth": depth, **given}
        values |= {"scaled": DEPTH, "words": WORDS}
        values["candidates"] = max(4 * depth, self.tuning.ef_search)
        if mode != "vector":
            values |= words.values(self.connection, asked, self.lexemes)
        required = values.get("required") is not None
        with self.connection.cursor(row_factory=class_row(Hit)) as cursor:
            hits = cursor.execute(composed(mode, tuple(given), *self.tuning.form, required), values).fetchall()
            if mode == "text" or len(hits) >= limit or sum(hit.vector_rank is not None for hit in hits) >= min(limit, depth):
                return hits
            return self._exact(composed(mode, tuple(given), required=required), values)

    def _exact(self, query: sql.Composed, values: dict[str, Any]) -> list[Hit]:
        """Once more without the vector index: nothing that exists is left out."""
        with self.connection.transaction(), self.connection.cursor(row_factory=class_row(Hit)) as cursor:
            cursor.execute("SET LOCAL enable_indexscan = off")
            return cursor.execute(query, values).fetchall()

    def _tune(self) -> None:
        """Read what the index is and how it is to be searched, and set the session accordingly."""
        read_at = time.monotonic()  # before it is read: what is decided later is seen FRESH_S from here
        self.tuning = rows(self.connection, __package__, "tuning", Tuning)[0]
        self._set(self.tuning.settings())
        self._tuned_at = read_at

    def _set(self, settings: Mapping[str, str]) -> None:
        query = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)"
        self.connection.execute(query, (list(settings), list(settings.values())))


@lru_cache(maxsize=64)
def composed(
    mode: Mode, filters: tuple[str, ...], kind: Kind = "vector", dimension: int = 0, required: bool = False
) -> sql.Composed:
    """The statement of a mode with exactly the conditions that are asked for, so that the planner can do without the rest.

    ``kind`` and ``dimension``: of what the index holds; the nearest are asked for in exactly that form. ``required``: phrases
    that must stand there, or words that must not.
    """
    parts = {
        "join": sql.SQL("JOIN documents d ON d.id = c.document_id" if filters else ""),
        "filters": sql.SQL("").join(sql.SQL(CONDITIONS[name]) for name in filters),
        "required": sql.SQL("AND c.chunk_terms @@ %(required)s::tsquery" if required else ""),
        "order": sql.SQL(ORDER[kind]).format(dimension=sql.Literal(dimension)),
    }
    nearest = "nearest_bit" if kind == "bit" else "nearest"
    inner = {
        name: sql.SQL(statement(__package__, file)).format(**parts)
        for name, file in (("nearest", nearest), ("matching", "matching"))
    }
    return sql.SQL(statement(__package__, mode)).format(**inner)


def default_probes(lists: int) -> int:
    """Probes of an index for which nobody decided any."""
    return max(1, math.ceil(math.sqrt(lists)))
