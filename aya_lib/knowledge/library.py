"""Which document a file is: the one that came from its path, or one with its content whose file is gone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from aya_lib.knowledge.discover import SourceFile, Sources, named, path_of, real
from aya_lib.knowledge.store import Known, Moved, Store


class Library:
    """The documents that are there, while files are compared with them. What becomes of moved and emptied ones is written by
    :meth:`settle`."""

    def __init__(self, documents: Sequence[Known], sources: Sources) -> None:
        self.known = {one.uri: one for one in documents}
        here = set(sources.uris)
        self.elsewhere: dict[str, list[Known]] = {}
        for one in documents:
            if one.hash and one.uri not in here:
                self.elsewhere.setdefault(one.hash.partition(":")[0], []).append(one)
        self._moved: list[Moved] = []
        self._emptied: list[int] = []

    def of(self, file: SourceFile, content: str) -> Known | None:
        """The document of a file whose content has this hash: its own, else one that the file was moved from."""
        if file.uri in self.known:
            return self.known[file.uri]
        alike = self.elsewhere.get(content, [])
        for one in alike:
            if _left(path_of(one.uri), file.path):
                alike.remove(one)
                del self.known[one.uri]
                return one
        return None

    def same_title(self, known: Known, file: SourceFile) -> bool:
        """Whether the document need not be read again for its title, which may be the file's name."""
        before = path_of(known.uri)
        return before is None or before.stem == file.path.stem or known.title != named(before.stem)

    def moved(self, known: Known, file: SourceFile) -> bool:
        if known.uri == file.uri:
            return False
        self._moved.append(Moved(known.id, file.uri, file.source, named(file.path)))
        return True

    def emptied(self, file: SourceFile) -> bool:
        """Whether there was a document of a file in which there is no text any more."""
        known = self.known.pop(file.uri, None)
        self._emptied += [known.id] if known else []
        return known is not None

    def settle(self, store: Store) -> None:
        """Write down what moved, and remove what was emptied."""
        if self._moved:
            store.move(self._moved)
        if self._emptied:
            store.remove(self._emptied)


def _left(old: Path | None, new: Path) -> bool:
    """Whether the old path is gone, or is another spelling of the new one."""
    return old is not None and (not os.path.lexists(old) or real(old) == new)
