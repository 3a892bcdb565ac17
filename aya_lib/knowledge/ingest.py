"""Files into the knowledge base: found, read, cut into chunks, embedded, written. Killed anywhere, run again, it goes on.

While the encoder works on one batch, the next is read and cut and the one before is written, so that the encoder waits
for nobody.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aya_lib.cluster import roles
from aya_lib.embedding.client import Client, encoder
from aya_lib.embedding.encoder import Vectors
from aya_lib.embedding.files import ModelFiles, open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError, SqlFailed, Unreachable, UsageError
from aya_lib.knowledge import provenance
from aya_lib.knowledge.chunking import Chunk
from aya_lib.knowledge.decoding import Unreadable
from aya_lib.knowledge.discover import SourceFile, Sources, discover, named
from aya_lib.knowledge.library import Library
from aya_lib.knowledge.reader import Reader
from aya_lib.knowledge.reading import SUFFIXES, Empty, Reading, file_bytes
from aya_lib.knowledge.report import Failed, Report, Tally
from aya_lib.knowledge.store import Known, Prepared, Store, of_one
from aya_lib.node.node import Nodes
from aya_lib.schema import knowledge as schema
from aya_lib.site import Site

GROUP = 128  # chunks that are embedded and written together at most, when documents are small
IN_FLIGHT = 2  # groups at the encoder: one in the network, one that waits for it
RECIPE = "2"  # another way to read or to cut makes every file a changed one

CATEGORY_CHARACTERS = 50  # of the column documents.category

Progress = Callable[[int, int, int], None]  # files done, files in all, chunks written


@dataclass(frozen=True)
class Recipe:
    """All that decides which chunks a file gives."""

    files: ModelFiles
    chunk_tokens: int
    max_bytes: int

    @property
    def name(self) -> str:
        parts = f"{RECIPE} {self.files.fingerprint} {self.chunk_tokens}"
        return hashlib.sha256(parts.encode()).hexdigest()[:8]


def ingest(
    nodes: Nodes,
    paths: Sequence[str | Path],
    *,
    category: str | None = None,
    prune: bool = False,
    patience_s: float = 20,
    progress: Progress = lambda done, total, chunks: None,
) -> Report:
    """Bring the knowledge base to what the files say. ``category``: of the documents; None: as they are, 'general' at first.

    A file that moved is the same document. ``prune``: also delete the documents of files that are gone from the given folders.
    ``patience_s``: how long an encoder that went away is waited for. Raises :class:`UsageError` for a path that is not there,
    :class:`Locked`, :class:`WrongModel`, and :class:`Unreachable` when database or encoder go away and stay away; what was
    written until then is whole and stays.
    """
    started, sources = time.monotonic(), discover(paths)
    _is_category(category)
    site = nodes.site
    node = roles.primary(nodes)
    _has_schema(node.name, schema.look(node))
    client, served = encoder(nodes, near=node.name, patience_s=patience_s)
    provenance.settle(node, client, served)
    recipe = _recipe(site, served.fingerprint)
    store, tally = Store(node), Tally()
    with store.alone():
        tally.failed += [Failed(named(name), reason) for name, reason in sources.unreadable]
        run = _Run(store, client, recipe, category, Library(store.known(), sources), tally, progress, len(sources.files))
        try:
            run.all(sources.files)
        except (Unreachable, SqlFailed) as error:
            done = tally.added + tally.changed
            hint = f"{done} documents were written and are whole. Run the same again: it goes on from there. {error.hint}"
            if isinstance(error, SqlFailed):
                raise SqlFailed(error.node, error.reason, sqlstate=error.sqlstate, hint=hint) from None
            raise Unreachable(error.node, error.tried, error.reason, hint=hint) from None
        finally:
            run.reader.close()
        run.library.settle(store)
        if prune:
            tally.removed += _prune(store, sources, run.library.known, tally)
        tally.failed += _without_documents(sources, {one.path for one in tally.failed})
    return Report(site.name, node.name, tally, round(time.monotonic() - started, 3), run.encoder_s)


@dataclass
class _Run:
    """One pass over the files."""

    store: Store
    client: Client
    recipe: Recipe
    category: str | None
    library: Library
    tally: Tally
    progress: Progress
    total: int
    seen: int = 0
    encoder_s: float = 0.0

    def __post_init__(self) -> None:
        self.tokenizer = Tokenizer(self.recipe.files)
        self.reader = Reader(self.recipe.files, self.recipe.chunk_tokens)

    def all(self, files: Sequence[SourceFile]) -> None:
        groups = self.groups(files)
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as encoding:
            coming: deque[tuple[list[Prepared], Future[Vectors]]] = deque()
            following: Future[list[Prepared] | None] | None = reading.submit(next, groups, None)
            try:
                while True:
                    while following is not None and len(coming) < IN_FLIGHT:
                        group = following.result()
                        following = reading.submit(next, groups, None) if group is not None else None
                        if group:
                            coming.append((group, encoding.submit(self.encode, group)))
                    if not coming:
                        return
                    group, vectors = coming.popleft()
                    self.finish(group, vectors.result)
            finally:
                for _, waiting in coming:
                    waiting.cancel()
                self.reader.close()

    def groups(self, files: Sequence[SourceFile]) -> Iterator[list[Prepared]]:
        """New and changed documents in groups of about as many chunks as the encoder takes at once, so that even a slow one has
        something written soon; an empty group says that files were passed."""
        group: list[Prepared] = []
        for file in files:
            prepared = self.prepared(file)
            self.seen += 1
            if prepared:
                group.append(prepared)
            if sum(len(one.chunks) for one in group) >= min(GROUP, self.client.pace.size):
                yield group
                group = []
        yield group

    def prepared(self, file: SourceFile) -> Prepared | None:
        """The document of a file; None when it is unchanged, moved or cannot be read, which is told."""
        try:
            return self._prepared(file)
        except Empty as error:
            gone = self.library.emptied(file)
            self.tally.removed += gone
            self._told(self.tally.failed, file, f"{error}; its document was removed" if gone else str(error))
        except Unreadable as error:
            self._told(self.tally.failed, file, str(error))
        except AyaError:
            raise
        except Exception as error:  # whatever is odd about one file is that file's failure
            self._told(self.tally.failed, file, f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return None

    def _prepared(self, file: SourceFile) -> Prepared | None:
        data = file_bytes(file.path, self.recipe.max_bytes)
        content = hashlib.sha256(data).hexdigest()
        digest = f"{content}:{self.recipe.name}"
        known = self.library.of(file, content)
        if known and known.hash == digest and self.category in (None, known.category) and self.library.same_title(known, file):
            self.tally.moved += self.library.moved(known, file)
            self.tally.unchanged += known.uri == file.uri
            for lost in known.lost:
                self._told(self.tally.partly, file, lost)
            return None
        document = self.reader.document(file.path, data)
        reading, chunks = document.reading, document.chunks
        if not chunks:
            raise Empty("no text in it that could be searched")
        self._notes(file, reading, chunks)
        metadata: dict[str, Any] = {"title": reading.title, "kind": reading.kind, "path": named(file.path), "bytes": len(data)}
        metadata |= {"lost": list(reading.lost)} if reading.lost else {}
        number = known.id if known else None
        return Prepared(file.uri, file.source, digest, reading.content, metadata, self.category, chunks, number)

    def _notes(self, file: SourceFile, reading: Reading, chunks: Sequence[Chunk]) -> None:
        self.tally.navigation_words += reading.furniture
        for lost in reading.lost:
            self._told(self.tally.partly, file, lost)
        unread = [chunk.unread for chunk in chunks if chunk.unread]
        without = [f"{len(unread)} of {len(chunks)} chunks are found by words only: {unread[0]}"] if unread else []
        for note in (*reading.notes, *without):
            self._told(self.tally.noted, file, note)

    def _told(self, where: list[Failed], file: SourceFile, reason: str) -> None:
        where.append(Failed(named(file.path), reason))

    def encode(self, group: list[Prepared]) -> Vectors:
        started = time.monotonic()
        try:
            return self.client.vectors(provenance.passages(self.tokenizer, titled(group)))
        finally:
            self.encoder_s += time.monotonic() - started

    def finish(self, group: list[Prepared], vectors: Callable[[], Vectors]) -> None:
        """Write a group. When a document of it is refused, by encoder or database, each is tried by itself, and named."""
        try:
            self.store.write(group, vectors())
        except Exception as error:
            if not of_one(error):
                raise
            if len(group) > 1:
                for one in group:
                    self.finish([one], partial(self.encode, [one]))
            else:
                reason = error.reason if isinstance(error, SqlFailed) else str(error)
                self.tally.failed.append(Failed(group[0].metadata["path"], f"refused: {' '.join(reason.split())}"))
            return
        for one in group:
            self.tally.chunks += len(one.chunks)
            if one.id is None:
                self.tally.added += 1
            else:
                self.tally.changed += 1
        self.progress(self.seen, self.total, self.tally.chunks)


def titled(group: Sequence[Prepared]) -> list[provenance.Passage]:
    """The chunks of documents as they are embedded."""
    return [provenance.Passage(chunk.text, one.metadata.get("title"), chunk.headings) for one in group for chunk in one.embedded]


def _is_category(category: str | None) -> None:
    if category is None:
        return
    if len(category) > CATEGORY_CHARACTERS:
        said = f"the category has {len(category)} characters, at most {CATEGORY_CHARACTERS}"
        raise UsageError(said, hint="Nothing was changed")
    if not category.strip() or named(category) != category:
        raise UsageError(f"'{named(category)}' is no category: letters, digits and signs only", hint="Nothing was changed")


def _without_documents(sources: Sources, told: set[str]) -> list[Failed]:
    """Folders in which there is nothing to load, and of which nothing was told: a wrong path, more likely than not."""
    files = [file.path for file in sources.files]
    empty = [folder for folder in sources.folders if not any(path.is_relative_to(folder) for path in files)]
    return [Failed(named(path), f"no documents in it ({' '.join(SUFFIXES)})") for path in empty if named(path) not in told]


@contextmanager
def bar(**options: Any) -> Iterator[Progress]:
    """A progress bar (tqdm's options) that goes when the ingest has ended."""
    with tqdm(unit=" files", leave=False, **options) as shown:

        def progress(done: int, total: int, chunks: int) -> None:
            shown.total = total
            shown.set_postfix_str(f"{chunks} chunks", refresh=False)
            shown.update(done - shown.n)

        yield progress


def _recipe(site: Site, fingerprint: str) -> Recipe:
    """How this site cuts. The tokenizer here must be that of the service, else a chunk could be too long for it."""
    files = open_files(site.embedding)
    if files.fingerprint != fingerprint:
        raise provenance.WrongModel(
            f"the site names {files.name} (fingerprint {files.fingerprint}), the service runs another model ({fingerprint})",
            hint="Restart the embedding service",
        )
    config = site.knowledge
    return Recipe(files, min(config.chunk_tokens, files.max_tokens), int(config.max_file_mb * 1_000_000))


def _has_schema(node: str, state: object) -> None:
    if not isinstance(state, schema.SchemaState):
        raise AyaError(f"{node}: the schema could not be read: {state}", hint="Run restore")
    if missing := state.missing():
        raise AyaError(f"{node}: the knowledge base's schema lacks {', '.join(missing)}", hint="Run: aya run ingest")


def _prune(store: Store, sources: Sources, known: dict[str, Known], tally: Tally) -> int:
    """Delete the documents below the folders whose files are gone; a folder that looks lost is left alone and told."""
    there = {one.uri for one in sources.files}
    removed = 0
    for folder in sources.folders:
        prefix = folder.as_uri().rstrip("/") + "/"
        below = [one for uri, one in known.items() if uri.startswith(prefix)]
        gone = [one.id for one in below if one.uri not in there]
        if gone and any(name.startswith(str(folder)) for name, _ in sources.unreadable):
            tally.failed.append(Failed(named(folder), "not pruned: a folder in it could not be read"))
        elif gone and not any(uri.startswith(prefix) for uri in there):
            reason = f"not pruned: it holds no documents at all, {len(gone)} came from it. Is a disk not mounted?"
            tally.failed.append(Failed(named(folder), f"{reason} Else: aya documents delete {named(folder)}"))
        elif gone:
            store.remove(gone)
            removed += len(gone)
    return removed
