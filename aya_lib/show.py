"""One object, two representations: HTML in a notebook (light and dark theme), plain text in a terminal.

Whatever a runbook shows is a :class:`Shown`: it gives a neutral :class:`Table`, and this module draws it. The HTML has
inline styles only, takes the theme's own colours for text, and stays readable where a viewer strips every style.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["plain", "quiet", "passed", "warning", "failed", "unknown", "planned"]

SYMBOL: dict[Tone, str] = {
    "plain": " ",
    "quiet": " ",
    "passed": "✓",
    "warning": "!",
    "failed": "✗",
    "unknown": "?",
    "planned": "·",
}
# White text on these has a contrast of at least 4.5:1 (WCAG 2.2, 1.4.3), whatever the theme behind is.
FILL: dict[Tone, str] = {
    "passed": "#1a7f37",
    "warning": "#8f5f00",
    "failed": "#c0262d",
    "unknown": "#7a3fb5",
    "planned": "#2563b0",
    "plain": "#5f6b7a",
    "quiet": "#5f6b7a",
}
# What steers a terminal or turns the direction of what follows, and halves of surrogate pairs, which cannot be printed.
STEERING = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?)?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
WIDTH = 118
LINE = "1px solid rgba(128,128,128,.35)"


@dataclass(frozen=True)
class Badge:
    """A status word in a table: ``tone`` decides colour and symbol."""

    tone: Tone
    word: str = ""

    def __str__(self) -> str:
        return f"{SYMBOL[self.tone]} {self.word or self.tone}"


@dataclass(frozen=True)
class Code:
    """A command or SQL statement: shown in the fixed-width face, in full."""

    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | Badge | Code


@dataclass(frozen=True)
class Table:
    """A title, columns, rows, and lines below. ``tone`` colours the title's edge; a note is text of its own line."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    notes: tuple[str, ...] = field(default=())
    tone: Tone = "plain"


class Shown:
    """Mixin: give :meth:`table`, be shown everywhere."""

    def table(self) -> Table:
        raise TypeError(f"{type(self).__name__} does not say how it is shown")

    def _repr_html_(self) -> str:
        return as_html(self.table())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(as_text(self.table(), width=10_000))  # a notebook wraps by itself  # type: ignore[attr-defined]


@dataclass(frozen=True, repr=False)
class Note(Shown):
    """A sentence with a tone, shown by itself."""

    text: str
    tone: Tone = "plain"
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        return Table(self.text, notes=self.notes, tone=self.tone)


def plain(text: str) -> str:
    """The text without what would steer a terminal; line ends and tabs stay."""
    return STEERING.sub("", text)


def as_html(table: Table) -> str:
    edge = f"border-left:4px solid {FILL[table.tone]};padding:2px 0 2px 12px;margin:4px 0"
    parts = [
        f'<div style="{edge}">',
        f'<div style="font-weight:600;margin:2px 0">{_badge(table)}{_e(table.title)}</div>',
    ]
    if table.rows:
        parts.append('<table style="border-collapse:collapse;margin:4px 0;font-size:13px">')
        if any(table.columns):
            parts.append("<tr>" + "".join(_td(_e(name), head=True) for name in table.columns) + "</tr>")
        parts += ["<tr>" + "".join(_td(_cell(cell)) for cell in row) + "</tr>" for row in table.rows]
        parts.append("</table>")
    parts += [f'<div style="opacity:.8;margin:2px 0">{_e(note)}</div>' for note in table.notes]
    return "\n".join([*parts, "</div>"])


def _badge(table: Table) -> str:
    return "" if table.tone in ("plain", "quiet") else _cell(Badge(table.tone)) + " "


def _cell(cell: Cell) -> str:
    if isinstance(cell, Badge):
        style = f"background:{FILL[cell.tone]};color:#fff;border-radius:3px;padding:1px 6px;white-space:nowrap"
        return f'<span style="{style}">{_e(str(cell))}</span>'
    if isinstance(cell, Code):
        return f'<code style="white-space:pre-wrap;background:transparent;color:inherit;padding:0">{_e(cell.text)}</code>'
    return _e(cell)


def _td(content: str, head: bool = False) -> str:
    style = f"text-align:left;vertical-align:top;border-bottom:{LINE};padding:4px 14px 4px 0;background:transparent"
    if head:
        return f'<th style="{style};font-weight:600;opacity:.7">{content}</th>'
    return f'<td style="{style}">{content}</td>'


def _e(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", "<br>")


def as_text(table: Table, width: int | None = None) -> str:
    """The table in plain text, columns as wide as their content, the widest ones wrapped to fit ``width`` (the terminal's)."""
    width = width or _terminal()
    mark = "" if table.tone in ("plain", "quiet") else f"{SYMBOL[table.tone]} "
    lines = [mark + plain(table.title)]
    rows = [tuple(plain(str(cell)) for cell in row) for row in table.rows]
    if rows:
        heads = [table.columns] if any(table.columns) else []
        widths = _widths([*heads, *rows], width - 2)
        for row in [*heads, *rows]:
            lines += _wrapped(row, widths)
        if heads:
            after = 1 + len(_wrapped(table.columns, widths))
            lines.insert(after, "  " + "  ".join("-" * size for size in widths))
    lines += [
        line
        for note in table.notes
        for line in textwrap.wrap(plain(note), width - 2, initial_indent="  ", subsequent_indent="  ")
    ]
    return "\n".join(line.rstrip() for line in lines)


def _terminal() -> int:
    """Columns of the terminal, or as COLUMNS says; a file or a pipe gets :data:`WIDTH`."""
    asked = sys.stdout.isatty() or "COLUMNS" in os.environ
    return max(40, shutil.get_terminal_size((WIDTH, 24)).columns - 1) if asked else WIDTH


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    sizes = [max(len(line) for cell in column for line in cell.split("\n")) for column in zip(*rows, strict=True)]
    while sum(sizes) + 2 * (len(sizes) - 1) > width and max(sizes) > 12:
        sizes[sizes.index(max(sizes))] -= 1
    return sizes


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    columns = [
        [part for line in cell.split("\n") for part in (textwrap.wrap(line, max(1, size)) or [""])]
        for cell, size in zip(row, widths, strict=True)
    ]
    height = max(len(column) for column in columns)
    filled = [column + [""] * (height - len(column)) for column in columns]
    return [
        "  " + "  ".join(part.ljust(size) for part, size in zip(line, widths, strict=True)) for line in zip(*filled, strict=True)
    ]


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
