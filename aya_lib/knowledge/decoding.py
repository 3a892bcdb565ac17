"""Bytes become text as browsers do it: by the byte order mark, as declared (WHATWG's labels), as UTF-8, as windows-1252.

A byte that is wrong costs its character and is counted, not the whole text.
"""

from __future__ import annotations

import codecs

from aya_lib.errors import AyaError

# UTF-32's mark begins with that of UTF-16: it is asked for first.
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
INSTEAD = {"gbk": "gb18030", "utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "cp1252", "replacement": "utf-8"}


class Unreadable(AyaError):
    """A file that is no document; the message is the reason, in one line."""


def plain(data: bytes, kind: str) -> tuple[str, tuple[str, ...]]:
    """The text of a file that cannot say how it is encoded, and what was replaced. :class:`Unreadable` unless it is UTF-8."""
    marked = _mark(data)
    if not marked:
        _refuse_binary(data, kind)
        if not _mostly_utf8(data):
            try:
                data.decode()
            except UnicodeDecodeError as error:
                byte = f"byte 0x{data[error.start]:02x} at offset {error.start}"
                raise Unreadable(f"not UTF-8: {byte}; convert it, for example with iconv") from None
    return _replacing(data, marked or "utf-8")


def html(data: bytes) -> tuple[str, tuple[str, ...]]:
    """The text of a page, and what was replaced or assumed."""
    marked = _mark(data)
    if marked:
        return _replacing(data, marked)
    _refuse_binary(data, "html")
    declared = _declared(data)
    if declared not in (None, "utf-8") and not (_single_byte(declared) and not data.isascii() and _is_utf8(data)):
        return _replacing(data, str(declared))
    if declared or _mostly_utf8(data):
        return _replacing(data, "utf-8")
    text, notes = _replacing(data, "cp1252")
    return text, (*notes, "declares no encoding and is not UTF-8: read as windows-1252, as browsers do")


def _mark(data: bytes) -> str | None:
    return next((name for bom, name in BOMS if data.startswith(bom)), None)


def _declared(data: bytes) -> str | None:
    """Python's name of the encoding that a page declares; None when it declares none that browsers know."""
    import webencodings  # type: ignore[import-untyped]
    from bs4.dammit import EncodingDetector

    label = EncodingDetector.find_declared_encoding(data, is_html=True)
    found = webencodings.lookup(label) if label else None
    return INSTEAD.get(found.name, found.codec_info.name) if found else None


def _single_byte(encoding: str | None) -> bool:
    return bool(encoding) and str(encoding).startswith(("cp12", "iso8859", "iso-8859", "latin"))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _mostly_utf8(data: bytes) -> bool:
    """Whether characters of several bytes that are right outnumber the bytes that are wrong."""
    if _is_utf8(data):
        return True
    text = data.decode(errors="ignore")
    right = len(text) - len(text.encode("ascii", "ignore"))
    return right > len(data) - len(text.encode())


def _replacing(data: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    try:
        return data.decode(encoding), ()
    except UnicodeDecodeError:
        text = data.decode(encoding, errors="replace")
    wrong = text.count("\ufffd")
    return text, (f"{wrong} characters are not {encoding.removesuffix('-sig')} and were replaced by \ufffd",)


def _refuse_binary(data: bytes, kind: str) -> None:
    if (offset := data.find(b"\0")) < 0:
        return
    halves = sorted((data[:200:2].count(b"\0"), data[1:200:2].count(b"\0")))
    wide = halves[0] == 0 and 2 * halves[1] > len(data[:200]) * 0.9
    hint = "; UTF-16 without its mark? Convert it with iconv" if wide else ""
    raise Unreadable(f"binary content (NUL byte at offset {offset}), not {kind}{hint}")
