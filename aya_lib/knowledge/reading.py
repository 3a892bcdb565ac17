"""A file becomes text: plain text, Markdown, HTML (as Markdown), PDF (page by page)."""

from __future__ import annotations

import codecs
import re
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from aya_lib.errors import AyaError

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
# Parts of a page that are not its text; the classes are those of DocBook's pages, PostgreSQL's among them.
ASIDE = ["script", "style", "nav", "noscript", "template", "header", "footer", "aside", "form"]
ASIDE_CSS = "[role=navigation], .navheader, .navfooter"
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
PDFIUM = threading.Lock()  # the library is not made for two threads at once


class Unreadable(AyaError):
    """A file that is no document; the message is the reason, in one line."""


@dataclass(frozen=True)
class Page:
    """Text, and the number of the page it stands on where there are pages."""

    number: int | None
    text: str


@dataclass(frozen=True)
class Reading:
    """A document's text. ``title``: its first heading, what its head says, or the file's name."""

    title: str
    kind: Kind
    pages: tuple[Page, ...]

    @property
    def content(self) -> str:
        return "\n\n".join(page.text for page in self.pages)


def read(path: Path, data: bytes) -> Reading:
    """The text of a file whose content is ``data``. Raises :class:`Unreadable`."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise Unreadable(f"not a kind of file that is read: '{path.suffix}', allowed are {', '.join(SUFFIXES)}")
    title, pages = _pdf(data) if kind == "pdf" else _html(data) if kind == "html" else _plain(data, kind)
    kept = tuple(Page(page.number, text) for page in pages if (text := _clean(page.text)))
    if not kept:
        scan = f"no text on its {len(pages)} pages: a scan? Run OCR over it first"
        raise Unreadable(scan if kind == "pdf" else "empty: there is no text in it")
    return Reading(_title(title or _heading(kept[0].text, kind) or path.stem), kind, kept)


def _plain(data: bytes, kind: Kind) -> tuple[str, list[Page]]:
    text = _decoded(data, kind)
    title, text = _front_matter(text) if kind == "markdown" else ("", text)
    return title, [Page(None, text)]


def _decoded(data: bytes, kind: Kind) -> str:
    encoding = next((name for bom, name in BOMS if data.startswith(bom)), "utf-8")
    if encoding != "utf-16" and (offset := data.find(b"\0")) >= 0:
        raise Unreadable(f"binary content (NUL byte at offset {offset}), not {kind}")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise Unreadable(f"not UTF-8: {byte}; convert it, for example with iconv") from None


def _front_matter(text: str) -> tuple[str, str]:
    """The title that a YAML head gives, and the text without it; what is not valid YAML is text."""
    head = re.match(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", text, re.DOTALL)
    if not head:
        return "", text
    try:
        found = yaml.safe_load(head[1])
    except yaml.YAMLError:
        return "", text
    return (str(found.get("title") or ""), text[head.end() :]) if isinstance(found, dict) else ("", text)


def _html(data: bytes) -> tuple[str, list[Page]]:
    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
    from markdownify import MarkdownConverter

    if (offset := data.find(b"\0")) >= 0 and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable(f"binary content (NUL byte at offset {offset}), not html")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        page = BeautifulSoup(_html_decoded(data), "lxml")
    title = page.title.get_text(" ", strip=True) if page.title else ""
    for part in [*page(ASIDE), *page.select(ASIDE_CSS)]:
        part.decompose()
    body = page.find("main") or page.find("article") or page.body or page
    for part in body("a"):
        part.unwrap()
    for part in body("img"):
        part.decompose()
    converter = MarkdownConverter(heading_style="ATX", escape_underscores=False, escape_asterisks=False, escape_misc=False)
    return title, [Page(None, str(converter.convert_soup(body)))]


def _html_decoded(data: bytes) -> str:
    """By its byte order mark, as it declares itself, as UTF-8, or as browsers take what says nothing."""
    from bs4.dammit import EncodingDetector

    marked = next((name for bom, name in BOMS if data.startswith(bom)), None)
    for encoding in (marked, EncodingDetector.find_declared_encoding(data, is_html=True), "utf-8"):
        try:
            return data.decode(encoding or "utf-8")
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("windows-1252", errors="replace")


def _pdf(data: bytes) -> tuple[str, list[Page]]:
    import pypdfium2

    with PDFIUM:
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            said = str(error)
            encrypted = "assword" in said or "ecurity" in said
            raise Unreadable("encrypted: remove its password first" if encrypted else f"not a readable PDF: {said}") from None
        try:
            title = str(document.get_metadata_value("Title") or "")
            return title, [Page(number, _page_text(document, number - 1)) for number in range(1, len(document) + 1)]
        except pypdfium2.PdfiumError as error:
            raise Unreadable(f"not a readable PDF: {error}") from None
        finally:
            document.close()


def _page_text(document: object, index: int) -> str:
    page = document[index]  # type: ignore[index]
    text = page.get_textpage()
    try:
        return str(text.get_text_bounded())
    finally:
        text.close()
        page.close()


def _clean(text: str) -> str:
    """One kind of newline, and nothing that PostgreSQL's text cannot hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    text = re.sub("[\0\f\u00ad\ufeff\ufffe\uffff\ud800-\udfff]", "", text)
    return re.sub(r"\n[ \t]*(\n[ \t]*){2,}", "\n\n", text).strip("\n ")


def _heading(text: str, kind: Kind) -> str:
    if kind not in ("markdown", "html"):
        return ""
    found = re.search(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", text, re.MULTILINE)
    return found[1] if found else ""


def _title(text: str) -> str:
    return " ".join(text.split())[:300]
