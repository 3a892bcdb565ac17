"""A few operational documents for the lab's knowledge base, with embeddings from the lab's own service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from aya_lib import files, schema
from aya_lib.embedding.files import open_files
from aya_lib.errors import Unreachable
from aya_lib.knowledge import provenance
from aya_lib.node import http
from aya_lib.node.node import Node
from aya_lib.site import Site, default_directory


@dataclass(frozen=True)
class Document:
    """A Markdown document and its chunks, one a paragraph."""

    source: str
    content: str

    @property
    def title(self) -> str:
        return self.content.splitlines()[0].lstrip("# ")

    @property
    def chunks(self) -> list[str]:
        return [part.strip() for part in self.content.split("\n\n")[1:] if part.strip()]


def shipped() -> Iterator[Document]:
    """The documents that come with the lab, in the order of their names."""
    folder = resources.files(__package__) / "documents"
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name.endswith(".md"):
            yield Document(entry.name, entry.read_text(encoding="utf-8"))


def missing(node: Node) -> bool:
    """Whether the node's knowledge base is still empty."""
    with node.session() as connection:
        row = connection.execute("SELECT EXISTS (SELECT FROM documents)").fetchone()
    return row is not None and not row[0]


def load(node: Node, vectors: dict[str, list[float]]) -> None:
    """Load the documents into an empty knowledge base in one transaction, and build its vector index."""
    from pgvector import Vector
    from pgvector.psycopg import register_vector

    with node.session(write=True) as connection, connection.transaction():
        register_vector(connection)
        for document in shipped():
            row = connection.execute(
                "INSERT INTO documents (content, metadata, category, source) VALUES (%s, %s, 'operations', %s) RETURNING id",
                (document.content, json.dumps({"title": document.title}), document.source),
            ).fetchone()
            for index, chunk in enumerate(document.chunks):
                connection.execute(
                    "INSERT INTO chunks (document_id, chunk_text, embedding, chunk_index, metadata) VALUES (%s, %s, %s, %s, %s)",
                    (row[0] if row else None, chunk, Vector(vectors[chunk]), index, json.dumps({"title": document.title})),
                )
        schema.create_index(connection)
        files = open_files(node.site.embedding)
        provenance.record(connection, files.name, files.fingerprint, node.site.embedding.dimension)


def vectors(site: Site, url: str | None) -> dict[str, list[float]] | None:
    """Chunk -> vector, from the machine's cache or from the service at ``url``; None when neither has them.

    The cache is keyed by the model's files and the text: another model, or another text, is embedded anew.
    """
    chunks = [chunk for document in shipped() for chunk in document.chunks]
    passages = [provenance.Passage(chunk, document.title) for document in shipped() for chunk in document.chunks]
    texts = [provenance.titled(one, one.above) for one in passages]
    cache = _cache(site, texts)
    if cache.exists():
        found: list[list[float]] = json.loads(cache.read_text())
    elif url is None:
        return None
    else:
        body = {"texts": texts}
        status, said = http.ask(site.primary, "POST", f"{url}/embed/batch", timeout_s=60, body=body)
        if status != 200:
            raise Unreachable(site.primary, f"POST {url}/embed/batch", f"status {status}: {said.get('detail')}")
        found = said["embeddings"]
        files.write(cache, json.dumps(found))
    return dict(zip(chunks, found, strict=True))


def _cache(site: Site, texts: list[str]) -> Path:
    key = json.dumps([site.embedding.model, dict(site.embedding.sha256), texts])
    return default_directory("x").parent / "vectors" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
