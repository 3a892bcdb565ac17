"""The text of a PDF, page by page; what cannot be read of it is told, and the rest is kept."""

from __future__ import annotations

from typing import Any

from aya_lib.knowledge.decoding import Unreadable


def pages(data: bytes) -> tuple[str, list[tuple[int, str]], tuple[str, ...]]:
    """The title, the text of each page by its number, and what was lost: pages that are broken, or are pictures. One at a time:
    the library is not made for two threads.

    Raises :class:`Unreadable` when there is no page that could be read.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        said = str(error)
        encrypted = "assword" in said or "ecurity" in said
        raise Unreadable("encrypted: remove its password first" if encrypted else f"not a readable PDF: {said}") from None
    try:
        document.init_forms()
        return _read(document, pypdfium2.PdfiumError)
    finally:
        document.close()


def _read(document: Any, broken: type[Exception]) -> tuple[str, list[tuple[int, str]], tuple[str, ...]]:
    found: list[tuple[int, str]] = []
    silent: list[int] = []
    bad: list[int] = []
    for number in range(1, len(document) + 1):
        try:
            text, drawn = _page(document, number - 1)
        except broken:
            bad.append(number)
            continue
        found.append((number, text))
        if drawn and not text.strip():
            silent.append(number)
    if not any(text.strip() for _, text in found):
        if bad:
            raise Unreadable(f"not a readable PDF: {len(bad)} of its {len(document)} pages cannot be loaded")
        raise Unreadable(f"no text on its {len(document)} pages: a scan? Run OCR over it first")
    lost = [f"{_of(bad, document)} cannot be loaded"] if bad else []
    lost += (
        [f"{_of(silent, document)} {'has' if len(silent) == 1 else 'have'} no text: a scan? Run OCR over it"] if silent else []
    )
    return _title(document), found, tuple(lost)


def _of(numbers: list[int], document: Any) -> str:
    named = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    return f"{len(numbers)} of {len(document)} pages ({named})"


def _page(document: Any, index: int) -> tuple[str, bool]:
    """A page's text, and whether there is anything on it. The mark of a hyphen at a line's end goes: the word is one."""
    from pypdfium2 import raw

    page = document[index]
    if raw.FPDFPage_Flatten(page.raw, raw.FLAT_NORMALDISPLAY) == raw.FLATTEN_SUCCESS:  # what was filled into forms, and notes
        page.close()
        page = document[index]
    try:
        text = page.get_textpage()
        try:
            words = str(text.get_text_bounded())
        finally:
            text.close()
        drawn = bool(words.strip()) or any(True for _ in page.get_objects(max_depth=2))
        return words.replace("\x02\r\n", "").replace("\x02", "").replace("\ufffe", ""), drawn
    finally:
        page.close()


def _title(document: Any) -> str:
    try:
        return str(document.get_metadata_value("Title") or "")
    except UnicodeError:  # its text is no UTF-16
        return ""
