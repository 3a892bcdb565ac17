"""Files become text: what is kept, what is left out, and what is refused with its reason."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from aya_lib.knowledge.reading import Unreadable, read


def pdf(*pages: str, title: str | None = None) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}), PdfPages(out, metadata={"Title": title} if title else None) as book:
        for text in pages:
            figure = Figure(figsize=(5, 3))
            figure.text(0.05, 0.5, text)
            book.savefig(figure)
    return out.getvalue()


def test_markdown_keeps_its_text_and_gives_its_first_heading_as_title() -> None:
    found = read(Path("a.md"), b"\xef\xbb\xbfintro\r\n\r\n# The *Lag*\r\n\r\ntext\xc2\xa0here\r\n")
    assert (found.title, found.kind, found.content) == ("The Lag", "markdown", "intro\n\n# The *Lag*\n\ntext here")


def test_front_matter_gives_the_title_and_is_not_text() -> None:
    found = read(Path("a.md"), b"---\ntitle: From the head\ntags: [a]\n---\n# Other\n")
    assert (found.title, found.content) == ("From the head", "# Other")
    assert read(Path("a.md"), b"---\na: [\n---\nx").content == "---\na: [\n---\nx"


def test_text_without_a_heading_is_called_as_its_file() -> None:
    assert read(Path("notes.txt"), "äöü".encode("utf-16")).title == "notes"


def test_html_loses_its_furniture_and_keeps_headings_code_and_tables() -> None:
    page = (
        b"<html><head><meta charset=latin-1><title>T\xe9st</title><style>p{}</style></head><body><nav>menu</nav>"
        b"<div class=navheader>Prev Next</div><script>alert(1)</script><main><h2>Slots</h2><p>A <a href=x>link</a> to WAL.</p>"
        b"<pre>SELECT 1;</pre><table><tr><th>a</th></tr><tr><td>b</td></tr></table></main>"
        b"<footer><a href=/>foot</a></footer></body></html>"
    )
    found = read(Path("a.html"), page)
    assert found.title == "T\xe9st"
    assert "## Slots\n\nA link to WAL." in found.content
    assert "```\nSELECT 1;\n```" in found.content
    assert "| b |" in found.content
    assert not any(word in found.content for word in ("menu", "Prev", "alert", "foot", "http"))
    assert found.furniture == 4


def test_every_page_of_the_manual_is_read(manual: Path) -> None:
    for path in manual.iterdir():
        found = read(path, path.read_bytes())
        assert len(found.content) > 100, path
        assert "navheader" not in found.content
        assert found.title


def test_a_pdf_gives_its_pages_with_their_numbers() -> None:
    found = read(Path("a.pdf"), pdf("The first page", "Second: WAL", title="A manual"))
    assert found.title == "A manual"
    assert [(page.number, page.text) for page in found.pages] == [(1, "The first page"), (2, "Second: WAL")]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.md", b"", "empty: there is no text in it"),
        ("a.txt", b" \n\n ", "empty: there is no text in it"),
        ("a.md", b"%PDF-1.4\0\0", r"binary content \(NUL byte at offset 8\), not markdown"),
        ("a.md", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"binary content \(NUL byte at offset 8\), not markdown"),
        ("a.html", b"<p>\0</p>", r"binary content \(NUL byte at offset 3\), not html"),
        ("a.txt", b"caf\xe9", r"not UTF-8: byte 0xe9 at offset 3; convert it, for example with iconv"),
        ("a.docx", b"x", r"not a kind of file that is read: '\.docx', allowed are \.txt, .*\.pdf"),
        ("a.pdf", b"no pdf at all", "not a readable PDF"),
        ("a.pdf", pdf(""), "no text on its 1 pages: a scan"),
    ],
)
def test_what_is_no_document_is_refused_with_its_reason(name: str, data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(Path(name), data)
