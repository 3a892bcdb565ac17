"""Which model made the vectors, and of what text: recorded beside them, and verified against them where it was not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from aya_lib.embedding.client import Client, Served, encoder
from aya_lib.embedding.encoder import Vectors
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import Connection, rows, statement, value

TEXT = "titled 1"  # what is embedded of a chunk: see passages()
LINE = 300  # characters: a longer title or heading is none
FIRST = -(2**31) - 1  # below every id
BATCH_S = 120
AT_ONCE = 128  # chunks that are embedded again in one transaction
SAMPLE = 5
SAME = 0.99  # cosine: the same model gives 1 up to rounding, two models about 0


class WrongModel(AyaError):
    """The vectors there and the encoder at hand are of different models."""


@dataclass(frozen=True)
class Recorded:
    """What the database says. ``vectors``: whether there are any."""

    model: str | None
    fingerprint: str | None
    dimension: int
    vectors: bool
    text: str | None = None  # None: of the chunk's text alone

    @property
    def of_before(self) -> bool:
        """Whether there are vectors of another text than is embedded now: compatible, and found less well."""
        return self.vectors and self.fingerprint is not None and self.text != TEXT


@dataclass(frozen=True)
class Passage:
    """A chunk as it is embedded: with the title of its document and the headings above it, outermost first."""

    text: str
    title: str | None = None
    headings: Sequence[str] = ()

    @property
    def above(self) -> list[str]:
        """Title and headings that the text does not begin with, each once."""
        first = self.text.partition("\n")[0]
        lines = dict.fromkeys(line.strip() for line in [self.title or "", *self.headings])
        return [line for line in lines if line and len(line) <= LINE and line not in first]


def passages(tokenizer: Tokenizer, chunks: Iterable[Passage]) -> list[str]:
    """The text to be embedded of each chunk: below its title and headings, as many as the model still reads with the whole
    of the text, the innermost before the others."""
    return [_fitting(tokenizer, chunk) for chunk in chunks]


def _fitting(tokenizer: Tokenizer, chunk: Passage) -> str:
    lines = len(chunk.above)
    texts = (titled(chunk, chunk.above[start:]) for start in range(lines))
    return next((text for text in texts if len(tokenizer.ids([text])[0]) <= tokenizer.max_tokens), chunk.text)


def titled(chunk: Passage, above: Sequence[str]) -> str:
    """The text below these lines."""
    return f"{' > '.join(above)}\n\n{chunk.text}" if above else chunk.text


def read(connection: Connection) -> Recorded:
    return rows(connection, __package__, "embedding_model", Recorded)[0]


def refuse(recorded: Recorded, served: Served) -> None:
    """:class:`WrongModel` when these vectors and this encoder do not belong together; not recorded passes."""
    here = f"the embedding service on {served.node} runs {served.model}"
    if recorded.dimension != served.dimension:
        raise WrongModel(
            f"{here} with {served.dimension} dimensions, the column chunks.embedding has {recorded.dimension}",
            hint="Correct embedding.model and embedding.dimension in site.yaml and start the service again",
        )
    if recorded.fingerprint and recorded.fingerprint != served.fingerprint:
        raise WrongModel(
            f"{here} (fingerprint {served.fingerprint}), the chunks were embedded with {recorded.model}"
            f" (fingerprint {recorded.fingerprint})",
            hint=f"Start the service with {recorded.model} (embedding.model in site.yaml), or empty documents and the row"
            " 'embedding' of aya_settings and ingest everything again",
        )


def settle(node: Node, client: Client, served: Served) -> None:
    """Refuse another model; record this one where none is recorded, after it has made some of the vectors again."""
    with node.session(write=True) as connection:
        recorded = read(connection)
        refuse(recorded, served)
        if recorded.fingerprint:
            return
        text = _made_by(node, connection, client, served) if recorded.vectors else TEXT
        record(connection, served.model, served.fingerprint, served.dimension, text)


def record(connection: Connection, model: str, fingerprint: str, dimension: int, text: str | None = TEXT) -> None:
    """Write down the model of the vectors and what of a chunk it was given; a record that is there stays."""
    value = Jsonb({"model": model, "fingerprint": fingerprint, "dimension": dimension, **({"text": text} if text else {})})
    connection.execute(statement(__package__, "record_model"), {"value": value})


def _made_by(node: Node, connection: Connection, client: Client, served: Served) -> str | None:
    """Of which text the vectors are; :class:`WrongModel` unless some chunks, embedded again, give the vectors that are there."""
    register_vector(connection)
    sample = rows(connection, __package__, "embedded", Embedded, after=FIRST, longest=600, most=SAMPLE)
    tokenizer = Tokenizer(open_files(node.site.embedding))
    kinds: dict[str | None, list[str]] = {TEXT: passages(tokenizer, [one.passage for one in sample])}
    kinds[None] = [one.chunk_text for one in sample]
    for kind, texts in kinds.items():
        vectors = client.vectors(texts) if sample else ()
        other = [one.id for one, vector in zip(sample, vectors, strict=True) if _cosine(connection, one.id, vector) < SAME]
        if not other:
            return kind
    raise WrongModel(
        f"chunk {other[0]}, embedded again by {served.model}, gives another vector than the one that is stored",
        hint="The chunks were embedded by another model: name it as embedding.model in site.yaml",
    )


def _cosine(connection: Connection, number: int, vector: Vectors) -> float:
    row = connection.execute("SELECT 1 - (embedding <=> %s) FROM chunks WHERE id = %s", (Vector(vector), number)).fetchone()
    return float(str(row[0])) if row else SAME  # deleted meanwhile


@dataclass(frozen=True)
class Embedded:
    """A chunk that has a vector."""

    id: int
    chunk_text: str
    title: str | None
    headings: list[str]

    @property
    def passage(self) -> Passage:
        return Passage(self.chunk_text, self.title, self.headings)


@dataclass(frozen=True)
class EmbedAgain:
    """Embed the chunks again, as :func:`passages` says, while they are searched. It goes on where it was killed."""

    nodes: Nodes

    def command(self, node: Node) -> str:
        return "UPDATE chunks SET embedding = ...  -- of title, headings and text, 128 rows a transaction"

    def run(self, node: Node) -> None:
        client, served = encoder(self.nodes, near=node.name)
        tokenizer = Tokenizer(open_files(node.site.embedding))
        with node.session() as connection:
            refuse(read(connection), served)
        while self._batch(node, client, tokenizer):
            pass

    def _batch(self, node: Node, client: Client, tokenizer: Tokenizer) -> bool:
        with node.session(deadline_s=BATCH_S) as connection:
            after = value(
                connection, "SELECT coalesce((value ->> 'again')::bigint, %s) FROM aya_settings WHERE key = 'embedding'", (FIRST,)
            )
            chunks = rows(connection, __package__, "embedded", Embedded, after=after, longest=None, most=AT_ONCE)
        vectors = client.vectors(passages(tokenizer, [one.passage for one in chunks]))
        now = {"again": chunks[-1].id} if chunks else {"text": TEXT}
        with node.session(write=True, deadline_s=BATCH_S) as connection, connection.transaction():
            register_vector(connection)
            update = "UPDATE chunks SET embedding = %s WHERE id = %s AND chunk_text = %s"
            values = [(Vector(vector), one.id, one.chunk_text) for one, vector in zip(chunks, vectors, strict=True)]
            connection.cursor().executemany(update, values)
            connection.execute("UPDATE aya_settings SET value = value - 'again' || %s WHERE key = 'embedding'", (Jsonb(now),))
        return bool(chunks)
