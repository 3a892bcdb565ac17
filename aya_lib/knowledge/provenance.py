"""Which model made the vectors: recorded beside them, and verified against them where it was not."""

from __future__ import annotations

from dataclasses import dataclass

from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

from aya_lib.embedding.client import Client, Served
from aya_lib.errors import AyaError
from aya_lib.node.node import Node
from aya_lib.node.sql import Connection, rows, statement

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
        if recorded.vectors:
            _made_by(connection, client, served)
        record(connection, served.model, served.fingerprint, served.dimension)


def record(connection: Connection, model: str, fingerprint: str, dimension: int) -> None:
    """Write down the model of the vectors; a record that is there stays."""
    value = Jsonb({"model": model, "fingerprint": fingerprint, "dimension": dimension})
    connection.execute(statement(__package__, "record_model"), {"value": value})


def _made_by(connection: Connection, client: Client, served: Served) -> None:
    """:class:`WrongModel` unless some chunks, embedded again, give the vectors that are there."""
    register_vector(connection)
    query = "SELECT id, chunk_text FROM chunks WHERE embedding IS NOT NULL AND length(chunk_text) < 600 ORDER BY id LIMIT %s"
    sample = connection.execute(query, (SAMPLE,)).fetchall()
    vectors = client.vectors([str(text) for _, text in sample]) if sample else ()
    for (number, _), vector in zip(sample, vectors, strict=True):
        row = connection.execute("SELECT 1 - (embedding <=> %s) FROM chunks WHERE id = %s", (Vector(vector), number)).fetchone()
        if row is None or float(str(row[0])) < SAME:
            raise WrongModel(
                f"chunk {number}, embedded again by {served.model}, gives another vector than the one that is stored",
                hint="The chunks were embedded by another model: name it as embedding.model in site.yaml",
            )
