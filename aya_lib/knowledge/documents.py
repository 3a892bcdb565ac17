"""The documents that are there: listed, shown, deleted; named by number, or by the file or folder they came from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aya_lib.cluster import roles
from aya_lib.errors import ApprovalMissing, UsageError
from aya_lib.knowledge.discover import named, path_of, real
from aya_lib.knowledge.store import Store
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows
from aya_lib.show import Shown, Table

ALL = 1_000_000
START = 300  # characters of the text that a person is shown


@dataclass(frozen=True)
class Document:
    """``unread``: chunks that have no vector and are found by words only; ``text``: its start, or all where it was asked for."""

    id: int
    title: str
    category: str | None
    source: str
    uri: str | None
    kind: str
    characters: int
    chunks: int
    unread: int
    lost: list[str]
    updated_at: datetime | None
    text: str

    @property
    def place(self) -> str:
        path = path_of(self.uri) if self.uri else None
        return named(path) if path else self.uri or self.source


@dataclass(frozen=True, repr=False)
class Documents(Shown):
    """``done``: what was done with them."""

    documents: tuple[Document, ...]
    done: str = ""
    whole: bool = False

    def json(self) -> list[dict[str, Any]]:
        hidden = () if self.whole else ("text",)
        return [{name: value for name, value in asdict(one).items() if name not in hidden} for one in self.documents]

    def table(self) -> Table:
        columns = ("id", "title", "category", "chunks", "from")
        cells = tuple((str(one.id), named(one.title), one.category or "", str(one.chunks), one.place) for one in self.documents)
        return Table(f"{len(self.documents)} document{'s'[: len(self.documents) != 1]}{self.done}", columns, cells)

    def text(self) -> Table:
        """Each document with the start of its text."""
        cells = [
            (name, str(value))
            for one in self.documents
            for name, value in [
                ("document", f"{one.id}: {named(one.title)}"),
                ("from", one.place),
                ("category", one.category or ""),
                ("text", f"{one.kind}, {one.characters:,} characters in {one.chunks} chunks"),
                *[("not in it", lost) for lost in one.lost],
                *([("no vector", f"{one.unread} chunks: found by words only")] if one.unread else []),
                ("begins", " ".join(named(line) for line in one.text[:START].splitlines())),
            ]
        ]
        return Table(self.table().title, ("", ""), tuple(cells))


def find(nodes: Nodes, what: Sequence[str], *, category: str | None = None, limit: int = ALL, whole: bool = False) -> Documents:
    """The documents that ``what`` names: all of them when it names nothing. :class:`UsageError` for a name that names none."""
    return _find(roles.readable(nodes), what, category, limit, whole)


def delete(nodes: Nodes, what: Sequence[str], *, approved_by: str = "", dry_run: bool = False) -> Documents:
    """Delete the documents that ``what`` names, with their chunks. :class:`ApprovalMissing` on a production site."""
    if not what:
        raise UsageError("nothing was named", hint="aya documents list shows what there is")
    if nodes.site.production and not (approved_by.strip() or dry_run):
        raise ApprovalMissing(f"{nodes.site.name} is a production site: deleting needs --approved-by NAME")
    node = roles.primary(nodes)
    if dry_run:
        return Documents(_find(node, what, None, ALL, False).documents, " would be deleted")
    store = Store(node)
    with store.alone():
        found = _find(node, what, None, ALL, False)
        store.remove([one.id for one in found.documents])
    return Documents(found.documents, " deleted")


def _find(node: Node, what: Sequence[str], category: str | None, limit: int, whole: bool) -> Documents:
    places = {word: [] if _is_number(word) else _uris(word) for word in what}
    numbers = {word: int(word) for word in what if _is_number(word)}
    uris = [uri for several in places.values() for uri in several]
    values = {"ids": list(numbers.values()), "uris": uris, "every": not what, "category": category, "most": limit}
    with node.session(deadline_s=60) as connection:
        found = rows(connection, __package__, "documents", Document, **values, start=None if whole else START)
    for word in what:
        if not any(one.id == numbers.get(word) or _below(one.uri, places[word]) for one in found) and len(found) < limit:
            raise UsageError(f"no document came from {named(word)}" if places[word] else f"there is no document {word}")
    return Documents(tuple(found), whole=whole)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) < 2**31


def _uris(word: str) -> list[str]:
    """A path's URIs: as it is spelled, and without links."""
    if word.startswith("file:"):
        return [word.rstrip("/")]
    spelled = Path(os.path.abspath(Path(word).expanduser()))
    return list(dict.fromkeys(path.as_uri().rstrip("/") for path in (spelled, real(word))))


def _below(uri: str | None, places: Sequence[str]) -> bool:
    return uri is not None and any(uri == place or uri.startswith(place + "/") for place in places)
