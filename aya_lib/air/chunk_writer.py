"""Chunks and embeddings for what was written here by plain SQL, so that it can be searched here at once and pushed whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from aya_lib.embedding.client import encoder
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.knowledge import provenance
from aya_lib.knowledge.chunking import Chunk, Chunker
from aya_lib.knowledge.reading import Page, Reading
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, rows, value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Lacking:
    """A document whose text was written without chunks."""

    id: int
    content: str


@dataclass
class ChunkWriter:
    """Makes chunks on the laptop. ``nodes``: where an encoder may be, the laptop's own before others."""

    nodes: Nodes
    laptop: str

    def write(self, here: Connection) -> int:
        """Chunks for every document that lacks them; how many documents. :class:`AyaError` when no encoder is healthy: the
        documents then wait, and others are pushed."""
        lacking = rows(here, __package__, "lacking_chunks", Lacking)
        if not lacking:
            return 0
        client, served = encoder(self.nodes, near=self.laptop, patience_s=0)
        recorded = provenance.read(here)
        if recorded:
            provenance.refuse(recorded, served)
        for document in lacking:
            chunks = self.chunker.chunks(Reading("", "text", (Page(None, document.content),)))
            put(here, document, chunks, client.vectors([chunk.text for chunk in chunks]))
        return len(lacking)

    @cached_property
    def chunker(self) -> Chunker:
        site = self.nodes[self.laptop].site
        return Chunker(Tokenizer(open_files(site.embedding)), site.knowledge.chunk_tokens)


def put(here: Connection, document: Lacking, chunks: list[Chunk], vectors: NDArray[np.float32]) -> bool:
    """Write the chunks of a document in place of those it has; False when it was changed meanwhile and has to be cut anew."""
    with here.transaction():
        here.execute("SET LOCAL aya.applying = 'on'")
        if value(here, "SELECT content FROM documents WHERE id = %s FOR UPDATE", (document.id,)) != document.content:
            return False
        here.execute("DELETE FROM chunks WHERE document_id = %s", (document.id,))
        here.cursor().executemany(
            "INSERT INTO chunks (document_id, chunk_text, embedding, chunk_index, metadata) VALUES (%s, %s, %s, %s, %s)",
            [
                (document.id, chunk.text, str(vector.tolist()), chunk.index, Jsonb({"tokens": chunk.tokens}))
                for chunk, vector in zip(chunks, vectors, strict=True)
            ],
        )
        query = "UPDATE write_queue SET needs_chunks = false, chunks_changed = true WHERE document_id = %s AND NOT synced"
        here.execute(query, (document.id,))
    return True
