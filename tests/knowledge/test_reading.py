"""Files become text: what is kept, what is left out, and what is refused with its reason."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from aya_lib.knowledge.decoding import Unreadable
from aya_lib.knowledge.reading import file_bytes, read


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


def pages(*drawn: bytes, missing: int = 0) -> bytes:
    """A PDF by hand: each page draws what is given; of ``missing`` ones there is only the number."""
    kids = [4 + 2 * index for index in range(len(drawn) + missing)]
    objects = {1: b"<</Type/Catalog/Pages 2 0 R>>", 3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"}
    objects[2] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(f'{kid} 0 R' for kid in kids)}]>>".encode()
    for kid, content in zip(kids, drawn, strict=False):
        objects[kid] = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents {kid + 1} 0 R/Resources<</Font<</F 3 0 R>>>>>>".encode()
        )
        objects[kid + 1] = b"<</Length %d>>stream\n%s\nendstream" % (len(content), content)
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % one for one in objects.items())
    return b"%PDF-1.4\n" + body + b"trailer\n<</Root 1 0 R/Size 99>>\nstartxref\n0\n%%EOF\n"


WORDS, PICTURE = b"BT /F 20 Tf 9 99 Td (The ferry sails) Tj ET", b"0 0 200 200 re f"


def test_what_was_filled_into_a_form_is_text() -> None:
    field = b"<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V(boiler broken)/Rect[9 9 200 40]>>"
    form = pages(b"").replace(b"/Parent", b"/Annots[9 0 R]/Parent").replace(b"/Catalog", b"/Catalog/AcroForm<</Fields[9 0 R]>>")
    assert read(Path("a.pdf"), form.replace(b"trailer", b"9 0 obj\n%s\nendobj\ntrailer" % field)).content == "boiler broken"


def test_pages_that_are_pictures_or_broken_are_counted_and_the_others_read() -> None:
    found = read(Path("a.pdf"), pages(WORDS, PICTURE, b"", WORDS, missing=1))
    assert [(page.number, page.text) for page in found.pages] == [(1, "The ferry sails"), (4, "The ferry sails")]
    assert found.lost == (
        "1 of 5 pages (5) cannot be loaded",
        "1 of 5 pages (2) has no text: a scan? Run OCR over it",
    )


@pytest.mark.parametrize(
    ("body", "content"),
    [
        ("<main><article><header><h1>Restore</h1><p>Lead</p></header>x</article></main>", "# Restore\n\nLead\n\nx"),
        ("<article>one</article><div><article>two</article></div>", "one\n\ntwo"),
        ("<main>Run it.<aside>Never twice.</aside></main>", "Run it.\n\nNever twice."),
        ("<p>Plan</p><img alt='the fuse box' src=data:image/png;base64,AAAA>", "Plan\n\nthe fuse box"),
        ("<p>Lead</p><noscript>Prices</noscript>", "Lead\n\nPrices"),
        ("<h1>Install<a class=headerlink href=#i>\xb6</a></h1>", "# Install"),
        ("<svg><title>logo</title></svg><h1>Boiler</h1>", "logo\n\n# Boiler"),
        ("<form><h1>Hours</h1><input value=x></form>", "# Hours"),
        ("<main></main><div>Diesel</div>", "Diesel"),
        ("<header><h1>Top</h1></header><main>text</main><footer>Call 112</footer>", "# Top\n\ntext\n\nCall 112"),
        ("<nav>only a way</nav>", "only a way"),
        ("<nav><p>No way, but words</p></nav>text", "No way, but words\n\ntext"),
        ("<template><template>x</template></template><div alt=x>a</div><button>b</button><label>c</label>", "a\n\nb\n\nc"),
        ("<details><summary>Why?</summary>The fuse</details>", "Why?\n\nThe fuse"),
        ("<table><tr><th colspan=99999999>a</th></tr><tr><td>b</td></tr></table>", "| a |\n| --- |\n| b |"),
    ],
)
def test_no_text_of_a_page_vanishes(body: str, content: str) -> None:
    found = read(Path("a.html"), f"<html><head><meta charset=utf-8></head><body>{body}</body></html>".encode())
    assert re.sub(r"\n+", "\n", found.content) == re.sub(r"\n+", "\n", content)


@pytest.mark.parametrize(
    ("tag", "close"), [("<div>", ""), ("<blockquote>q ", ""), ("<ul><li>q ", ""), ("<b>", "</b>"), ("<table><td>", "")]
)
def test_deep_nesting_loses_no_word_and_does_not_grow(tag: str, close: str) -> None:
    sizes = []
    for depth in (2000, 4000):
        found = read(Path("a.html"), (tag * depth + "treasure" + close * depth).encode())
        assert "treasure" in found.content
        assert found.content.count("q") == tag.count("q ") * depth
        sizes.append(len(found.content))
    assert sizes[1] <= 2.1 * sizes[0]


@pytest.mark.parametrize(
    ("data", "content", "notes"),
    [
        (b"<meta charset=gb2312>" + "朱镕基".encode("gb18030"), "朱镕基", 0),
        (b"<meta charset=latin1>\x93quoted\x94", "“quoted”", 0),
        (b"<meta charset=latin1>" + "Prüfung".encode(), "Prüfung", 0),
        (b"<meta charset=utf-16>Pr\xc3\xbcfung", "Prüfung", 0),
        (b"<meta charset=nonsense>Pr\xc3\xbcfung", "Prüfung", 0),
        (b"\xef\xbb\xbf<meta charset=latin1>Pr\xc3\xbcfung", "Prüfung", 0),
        (b"Pr\xc3\xbcfung t\xc3\xa4glich \xff", "Prüfung täglich \ufffd", 1),
        (b"caf\xe9", "café", 1),
    ],
)
def test_pages_are_decoded_as_browsers_do_it(data: bytes, content: str, notes: int) -> None:
    found = read(Path("a.html"), data)
    assert (found.content, len(found.notes)) == (content, notes)


def test_one_bad_byte_of_a_text_costs_a_character() -> None:
    assert read(Path("a.txt"), b"Pr\xc3\xbcfung t\xc3\xa4glich \xff").content == "Prüfung täglich \ufffd"
    assert read(Path("a.txt"), "wide".encode("utf-32")).content == "wide"


@pytest.mark.parametrize(
    ("head", "title"),
    [
        ("---\ntitle: Notes\ndate: 2025-13-45\n---", "Notes"),
        ("---\ntitle: Draft\ndate: 0000-00-00\n---", "Draft"),
        ("---\ntitle: Big\nserial: " + "9" * 5000 + "\n---", "Big"),
        ('---\ntitle: "Pump\\0manual \\ud83c"\n---', "Pump manual"),
        ("---\ntitle: Dots\n...", "Dots"),
        ("---\ntitle: Long\nsummary: How the pump is oiled\n---", "Long"),
        ('+++\ntitle = "Toml"\n+++', "Toml"),
        ("---\na: &a [x,x]\nb: &b [*a,*a]\ntitle: *b\n---", "a"),
        ("---\na: " + "[" * 1500 + "\n---", "a"),
        ("```sh\n# no title\n```", "a"),
    ],
)
def test_a_head_is_never_the_end_of_a_document(head: str, title: str) -> None:
    found = read(Path("a.md"), f"{head}\n\ntext".encode("utf-8", "surrogatepass"))
    assert (found.title, found.content.endswith("text")) == (title, True)
    assert ("the pump is oiled" in found.content) == ("oiled" in head)


def test_what_is_no_text_is_left_out_and_told() -> None:
    found = read(Path("a.md"), b"![plan](data:image/png;base64," + b"iVBORw0KGgo" * 900 + b")\n\nSee \x1b[31mred\x1b[0m.")
    assert found.content == "![plan](data:image/png)\n\nSee red."
    assert found.notes == ("1 embedded files, 10 kB of base64, are no text",)


def test_a_file_is_read_only_when_it_is_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.md")
    (tmp_path / "null.md").symlink_to("/dev/zero")
    (tmp_path / "loop.md").symlink_to("loop.md")
    (tmp_path / "large.md").write_bytes(b"x" * 11)
    for name, reason in {
        "fifo.md": "not a regular file",
        "null.md": "not a regular file",
        "loop.md": "cannot be read: Too many levels",
        "gone.md": "cannot be read: No such file",
        "large.md": "at most 1e-05 MB",
    }.items():
        with pytest.raises(Unreadable, match=reason):
            file_bytes(tmp_path / name, 10)


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
