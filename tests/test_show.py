"""What people see, in text and in HTML."""

from __future__ import annotations

from aya_lib.show import FILL, Badge, Code, Note, Table, as_html, as_text

TABLE = Table(
    "The site",
    ("", "check", "observed"),
    ((Badge("passed"), "role", "primary"), (Badge("failed", "down"), "lag <1 s", Code("kill 1 & rm"))),
    ("role: run restore",),
    "failed",
)


def test_a_table_in_plain_text() -> None:
    assert as_text(TABLE) == (
        "✗ The site\n"
        "            check     observed\n"
        "  --------  --------  -----------\n"
        "  ✓ passed  role      primary\n"
        "  ✗ down    lag <1 s  kill 1 & rm\n"
        "  role: run restore"
    )


def test_a_narrow_terminal_wraps_the_widest_column() -> None:
    table = Table("t", ("a", "b"), (("x", "word " * 30),))
    assert all(len(line) <= 60 for line in as_text(table, width=60).splitlines())
    assert as_text(table, width=60).count("word") == 30


def test_html_is_escaped_and_says_the_status_in_words_too() -> None:
    shown = as_html(TABLE)
    assert "lag &lt;1 s" in shown
    assert "kill 1 &amp; rm" in shown
    assert "✗ down" in shown
    assert "<script" not in as_html(Note("<script>").table())


def test_white_on_every_fill_can_be_read() -> None:
    for colour in FILL.values():
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
