"""Chunks and embeddings for what was written here by plain SQL, so that it can be searched here at once and pushed whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from aya_lib.embedding.client import Client, encoder
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError, Unreachable
from aya_lib.knowledge import provenance
from aya_lib.knowledge.chunking import Chunk, Chunker
from aya_lib.knowledge.reading import Page, Reading
from aya_lib.knowledge.store import copy_chunks, embedded
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, rows, value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


BUDGET_S = 5.0  # then others are pushed and pulled, and the writer goes on where it was


@dataclass(frozen=True)
class Lacking:
    """A document whose text was written without chunks."""

    id: int
    content: str


@dataclass
class Begun:
    """A document whose chunks are being embedded."""

    document: Lacking
    chunks: list[Chunk]
    vectors: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class ChunkWriter:
    """Makes chunks on the laptop. ``nodes``: where an encoder may be, the laptop's own before others."""

    nodes: Nodes
    laptop: str
    begun: Begun | None = None

    def write(self, here: Connection) -> bool:
        """Chunks for documents that lack them, the smallest first, for :data:`BUDGET_S`; whether some lack them still.
        :class:`AyaError` when no encoder is healthy, or one document's text is refused: it then waits, and others are pushed.
        """
        until = time.monotonic() + BUDGET_S
        client: Client | None = None
        refused: dict[int, AyaError] = {}
        largest = int(self.nodes[self.laptop].site.knowledge.max_file_mb * 1e6)
        while lacking := rows(here, __package__, "lacking_chunks", Lacking, largest=largest, but=list(refused)):
            if client is None:
                client, served = encoder(self.nodes, near=self.laptop, patience_s=0)
                if recorded := provenance.read(here):
                    provenance.refuse(recorded, served)
            for document in lacking:
                try:
                    if not self._make(here, document, client, until):
                        return True
                except Unreachable:
                    raise
                except AyaError as error:
                    refused[document.id] = error
        if refused:
            raise AyaError("; ".join(f"document {number}: {reason}" for number, reason in refused.items()))
        return False

    def _make(self, here: Connection, document: Lacking, client: Client, until: float) -> bool:
        """False when time is over: the vectors made so far are kept for the next call."""
        begun = self._begin(document)
        readable = embedded(begun.chunks)
        while (done := sum(map(len, begun.vectors))) < len(readable):
            if time.monotonic() > until:
                return False
            part = readable[done : done + client.pace.size]  # a request's worth, by the encoder's measured speed
            begun.vectors.append(client.vectors([chunk.text for chunk in part]))
        put(here, begun.document, begun.chunks, [vector for some in begun.vectors for vector in some])
        self.begun = None
        return True

    def _begin(self, document: Lacking) -> Begun:
        """Cut it, unless that was done."""
        if self.begun is None or self.begun.document != document:
            self.begun = Begun(document, self.chunker.chunks(Reading("", "text", (Page(None, document.content),))))
        return self.begun

    @cached_property
    def chunker(self) -> Chunker:
        site = self.nodes[self.laptop].site
        return Chunker(Tokenizer(open_files(site.embedding)), site.knowledge.chunk_tokens)


def put(here: Connection, document: Lacking, chunks: list[Chunk], vectors: Sequence[NDArray[np.float32]]) -> bool:
    """Write the chunks of a document in place of those it has; False when it was changed meanwhile and has to be cut anew."""
    with here.transaction():
        here.execute("SET LOCAL aya.applying = 'on'")
        if value(here, "SELECT content FROM documents WHERE id = %s FOR UPDATE", (document.id,)) != document.content:
            return False
        here.execute("DELETE FROM chunks WHERE document_id = %s", (document.id,))
        copy_chunks(here, [(document.id, None, chunks)], vectors)
        query = "UPDATE write_queue SET needs_chunks = false, chunks_changed = true WHERE document_id = %s AND NOT synced"
        here.execute(query, (document.id,))
    return True
