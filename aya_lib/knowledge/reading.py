"""A file becomes text: plain text, Markdown, HTML (as Markdown), PDF (page by page)."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from aya_lib.knowledge import decoding, html, markdown, pdf
from aya_lib.knowledge.decoding import Unreadable

Kind = Literal["text", "markdown", "html", "pdf"]
SUFFIXES: Mapping[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
# Escape sequences of terminals (ECMA-48), and characters that are no text in any script.
ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\)?)")
NO_TEXT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\ufeff\ufffe\uffff\ud800-\udfff]")
LIGATURES = re.compile("[\ufb00-\ufb06]|(?<=[A-Za-z])\u200b(?=[A-Za-z])")  # and a place where a word may be broken


class Empty(Unreadable):
    """A file that holds no text any more."""


@dataclass(frozen=True)
class Page:
    """Text, and the number of the page it stands on where there are pages."""

    number: int | None
    text: str


@dataclass(frozen=True)
class Reading:
    """A document's text. ``title``: what its head says, its first heading, or the file's name.

    ``notes``: what was replaced; ``lost``: text that is there and could not be read; ``furniture``: words of navigation that
    were left out.
    """

    title: str
    kind: Kind
    pages: tuple[Page, ...]
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    furniture: int = 0

    @property
    def content(self) -> str:
        return "\n\n".join(page.text for page in self.pages)


def read(path: Path, data: bytes) -> Reading:
    """The text of a file whose content is ``data``. Raises :class:`Unreadable`, :class:`Empty`."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise Unreadable(f"not a kind of file that is read: '{path.suffix}', allowed are {', '.join(SUFFIXES)}")
    found = _pdf(data) if kind == "pdf" else _html(data) if kind == "html" else _plain(data, kind)
    kept = tuple(Page(page.number, text) for page in found.pages if (text := _clean(page.text)))
    if not kept:
        raise Empty("empty: there is no text in it")
    title = _title(found.title) or _heading(kept[0].text, kind) or _title(path.stem)
    return replace(found, title=title, pages=kept)


def file_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes, as it was at one moment. Raises :class:`Unreadable`."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unreadable("not a regular file")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise Unreadable("not a regular file")
            if before.st_size > most:
                size = f"{before.st_size / 1e6:.1f} MB"
                raise Unreadable(f"{size}, at most {most / 1e6:g} MB (knowledge.max_file_mb in site.yaml)")
            data = file.read(most + 1)
            after = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise Unreadable("it changed while it was read: load it again when it is whole")
    return data


def _plain(data: bytes, kind: Kind) -> Reading:
    text, notes = decoding.plain(data, kind)
    if kind == "text":
        return Reading("", kind, (Page(None, text),), notes)
    title, text = markdown.front_matter(text)
    text, embedded = markdown.without_embedded(markdown.QUOTED.sub(r"\1", text))
    return Reading(title, kind, (Page(None, text),), (*notes, *embedded))


def _html(data: bytes) -> Reading:
    title, text, notes, furniture = html.page(data)
    return Reading(title, "html", (Page(None, text),), notes, (), furniture)


def _pdf(data: bytes) -> Reading:
    title, pages, lost = pdf.pages(data)
    return Reading(title, "pdf", tuple(Page(number, text) for number, text in pages), (), lost)


def _clean(text: str) -> str:
    """One kind of newline, composed characters, and nothing that is no text: escape codes, what PostgreSQL cannot hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    text = NO_TEXT.sub("", ESCAPES.sub("", text))
    text = unicodedata.normalize("NFC", LIGATURES.sub(_letters, text))
    return re.sub(r"\n[ \t]*(\n[ \t]*){2,}", "\n\n", text).strip("\n ")


def _letters(found: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", found[0]).replace("\u200b", "")


def _heading(text: str, kind: Kind) -> str:
    if kind not in ("markdown", "html"):
        return ""
    head = markdown.HEAD.match(text)  # one that is not valid is text, and no heading
    after = head.end() if head else 0
    return next((words for offset, _, words in markdown.headings(text) if words and offset >= after), "")


def _title(text: str) -> str:
    return " ".join(_clean(text.replace("\0", " ")).split())[:300]
