"""Documents and their chunks into the database: whole documents in one transaction, rows by binary COPY."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from aya_lib.cluster import state
from aya_lib.embedding.encoder import Vectors
from aya_lib.errors import AyaError, Locked, SqlFailed, Unreachable
from aya_lib.knowledge.chunking import Chunk
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows, statement

BATCH_S = 120  # deadline of one transaction
# Classes of SQLSTATE by which a server refuses a document: data, constraints, limits, a trigger's own, an error within.
OF_ONE = ("22", "23", "54", "P0", "XX")
LOCK = 0x617961_696E67  # advisory lock of whoever ingests: "aya" "ing"


@dataclass(frozen=True)
class Known:
    """A document that the database has, by the file it came from. ``lost``: what could not be read of it."""

    id: int
    uri: str
    hash: str | None
    category: str | None
    title: str | None
    lost: list[str]


@dataclass(frozen=True)
class Prepared:
    """A document ready to be written. ``id`` None: it is new. ``category`` None: as it is, or 'general'."""

    uri: str
    source: str
    hash: str
    content: str
    metadata: dict[str, Any]
    category: str | None
    chunks: tuple[Chunk, ...]
    id: int | None = None

    @property
    def embedded(self) -> list[Chunk]:
        """The chunks that get a vector."""
        return embedded(self.chunks)


@dataclass(frozen=True)
class Moved:
    """A document whose file is elsewhere now."""

    id: int
    uri: str
    source: str
    path: str


class Store:
    """The knowledge base on the node that accepts writes. Every batch has a session of its own, with a deadline."""

    def __init__(self, node: Node) -> None:
        self.node, self._since = node, state.stamp()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A batch's session. Whoever gave the node up meanwhile is named: it may live, and take writes that will be lost."""
        self._not_given_up()
        try:
            with self.node.session(write=True, deadline_s=BATCH_S) as connection:
                yield connection
        except (Unreachable, SqlFailed):
            self._not_given_up()
            raise

    def _not_given_up(self) -> None:
        if why := state.given_up(self.node.site, self._since):
            raise Unreachable(self.node.name, "write", why, hint="Wait until the failover has ended")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the database's ingest lock; it falls with the session, however this process ends. :class:`Locked`."""
        with self.node.session(write=True, deadline_s=7 * 86400) as connection:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
            if not (row and row[0]):
                raise Locked(f"another ingest is writing to {self.node.name}", hint="Wait until it has ended")
            yield

    def known(self) -> list[Known]:
        """Every document that came from somewhere."""
        with self.node.session(deadline_s=BATCH_S) as connection:
            return rows(connection, __package__, "known", Known)

    def write(self, documents: Sequence[Prepared], vectors: Vectors) -> None:
        """All of these documents with their chunks, or none. ``vectors``: one for each embedded chunk, in order, float32."""
        with self._writing() as connection, connection.transaction():
            write(connection, documents, vectors)

    def move(self, moved: Sequence[Moved]) -> None:
        """Write down where the files of documents are now."""
        with self._writing() as connection, connection.cursor() as cursor:
            cursor.executemany(statement(__package__, "move_document"), [vars(one) for one in moved])

    def remove(self, ids: Sequence[int]) -> None:
        """Delete documents; their chunks go with them."""
        with self._writing() as connection:
            connection.execute("DELETE FROM documents WHERE id = ANY (%s)", (list(ids),))


def write(connection: Connection, documents: Sequence[Prepared], vectors: Vectors) -> None:
    """As :meth:`Store.write`, in the caller's transaction."""
    if (wanted := sum(len(one.embedded) for one in documents)) != len(vectors):
        raise AyaError(f"{len(vectors)} vectors for {wanted} chunks")
    ids = _new_ids(connection, sum(one.id is None for one in documents))
    placed = [(one, next(ids) if one.id is None else one.id) for one in documents]
    _replace(connection, [one for one in documents if one.id is not None])
    _copy_documents(connection, [(one, number) for one, number in placed if one.id is None])
    copy_chunks(connection, ((number, one.metadata.get("title"), one.chunks) for one, number in placed), vectors)


def _new_ids(connection: Connection, count: int) -> Iterator[int]:
    query = "SELECT nextval(pg_get_serial_sequence('documents', 'id'))::int FROM generate_series(1, %s)"
    return iter([int(str(row[0])) for row in connection.execute(query, (count,)).fetchall()] if count else [])


def _replace(connection: Connection, documents: Sequence[Prepared]) -> None:
    if not documents:
        return
    query = statement(__package__, "replace_document")
    with connection.cursor() as cursor:
        cursor.executemany(query, [{**vars(one), "metadata": Jsonb(one.metadata)} for one in documents])
        if cursor.rowcount != len(documents):
            raise SqlFailed("the database", "a document vanished while its file was read", hint="Run the same again")
    connection.execute("DELETE FROM chunks WHERE document_id = ANY (%s)", ([one.id for one in documents],))


def _copy_documents(connection: Connection, documents: Sequence[tuple[Prepared, int]]) -> None:
    columns = "id, content, metadata, category, source, source_uri, content_hash"
    with connection.cursor() as cursor, cursor.copy(f"COPY documents ({columns}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "jsonb", "varchar", "varchar", "text", "text"])
        for one, number in documents:
            copy.write_row((number, one.content, Jsonb(one.metadata), one.category or "general", one.source, one.uri, one.hash))


def embedded(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those that get a vector: the model can read them."""
    return [chunk for chunk in chunks if not chunk.unread]


Titled = tuple[int, str | None, Sequence[Chunk]]  # a document's number, title and chunks


def copy_chunks(connection: Connection, documents: Iterable[Titled], vectors: Iterable[Vectors]) -> None:
    """The chunks of documents; ``vectors``: one for each embedded chunk, in order, float32."""
    register_vector(connection)
    columns = "document_id, chunk_text, embedding, chunk_index, metadata"
    following = iter(vectors)
    with connection.cursor() as cursor, cursor.copy(f"COPY chunks ({columns}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text", "vector", "int4", "jsonb"])
        for number, title, chunks in documents:
            for chunk in chunks:
                metadata = {"title": title, "headings": list(chunk.headings), "tokens": chunk.tokens}
                metadata |= {} if chunk.page is None else {"page": chunk.page}
                metadata |= {"no_vector": chunk.unread} if chunk.unread else {}
                vector = None if chunk.unread else Vector(next(following))
                copy.write_row((number, chunk.text, vector, chunk.index, Jsonb(metadata, _dumps)))


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def of_one(error: Exception) -> bool:
    """Whether an error is about a document, and not about everything that is to be written."""
    if isinstance(error, SqlFailed):
        return error.sqlstate is None or error.sqlstate.startswith(OF_ONE)
    return isinstance(error, ValueError | OverflowError) or type(error) is AyaError
