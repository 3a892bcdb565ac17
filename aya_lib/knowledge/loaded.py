"""What the knowledge base holds of the files, and whether searching finds it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aya_lib import settings
from aya_lib.cluster import roles
from aya_lib.errors import AyaError
from aya_lib.knowledge import words
from aya_lib.knowledge.ask import ask
from aya_lib.knowledge.decoding import Unreadable
from aya_lib.knowledge.discover import Sources, discover
from aya_lib.knowledge.reading import file_bytes
from aya_lib.node.node import Nodes
from aya_lib.node.sql import Connection, rows
from aya_lib.node.unseen import Missing, Unseen, seen

ASKED = 5  # documents that are searched for
NEAR = 5  # the document must be among so many results


@dataclass(frozen=True)
class Counts:
    chunks: int
    without_vector: int
    without_words: int


@dataclass(frozen=True)
class Loaded:
    """``current``: files whose document has their content; ``found``: of ``asked`` documents that were searched for."""

    counts: Counts
    files: int
    current: int
    asked: int
    found: int


@dataclass(frozen=True)
class _Document:
    id: int
    uri: str
    hash: str
    longest: str  # its longest chunk


def absolute(paths: Sequence[str]) -> list[Path]:
    """Relative paths of a runbook stand below the project's folder, wherever the notebook is run."""
    return [settings.home() / Path(path).expanduser() for path in paths]


def look(nodes: Nodes, paths: Sequence[str]) -> Loaded | Missing:
    """Counts, each file compared with its document, and some documents searched for by one of their own sentences."""
    sources = discover(absolute(paths))
    try:
        return seen("the primary", "look at what was loaded", lambda: _look(nodes, sources))
    except AyaError as error:
        return Unseen("the primary", "search for what was loaded", str(error))


def _look(nodes: Nodes, sources: Sources) -> Loaded:
    with roles.primary(nodes).session(deadline_s=60) as connection:
        counts = rows(connection, __package__, "counts", Counts)[0]
        current = _current(connection, sources, int(nodes.site.knowledge.max_file_mb * 1_000_000))
    asked = current[:: max(1, len(current) // ASKED)][:ASKED]
    found = sum(_finds(nodes, document) for document in asked)
    return Loaded(counts, len(sources.files), len(current), len(asked), found)


def _current(connection: Connection, sources: Sources, most: int) -> list[_Document]:
    """The documents that have their file's content, in the files' order."""
    documents = {document.uri: document for document in rows(connection, __package__, "of_files", _Document, uris=sources.uris)}
    there = [(file, documents[file.uri]) for file in sources.files if file.uri in documents]
    return [document for file, document in there if document.hash.startswith(_digest(file.path, most))]


def _finds(nodes: Nodes, document: _Document) -> bool:
    """Whether asking for the longest sentence of its longest chunk brings a document back."""
    sentence = max(re.split(r"(?<=[.!?])\s+|\n\n", document.longest), key=len)[:400]
    answer = ask(nodes, words.literal(sentence), limit=NEAR)
    if answer.mode != "hybrid":
        raise AyaError("; ".join(answer.notes))
    return document.id in {hit.document_id for hit in answer.hits}


def _digest(path: Path, most: int) -> str:
    try:
        return hashlib.sha256(file_bytes(path, most)).hexdigest()
    except Unreadable:
        return "unreadable"
