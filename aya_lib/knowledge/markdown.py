"""Markdown as far as it is looked into: its head, its headings, and files that are embedded in it as base64."""

from __future__ import annotations

import itertools
import re
import tomllib

import yaml

SENTENCE = 4  # words of a head's value that is more than a name or a date
HEADING = 200  # characters of a heading that are kept beside each chunk below it
HEAD = re.compile(r"\A(---|\+\+\+)[ \t]*\r?\n(.*?)\r?\n(?:\1|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
QUOTED = re.compile(r"^((?:>[ ]?){4})[> ]*>", re.MULTILINE)  # deeper than anybody reads, and cutting it takes long
EMBEDDED = re.compile(r"(data:[\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,[A-Za-z0-9+/=_%-]{64,}")


def front_matter(text: str) -> tuple[str, str]:
    """The title that a YAML or TOML head gives, and the text with what else of the head is sentences; what is not valid as a head
    is text.

    YAML's values are taken as they are written: a date that no calendar has is nobody's concern here.
    """
    head = HEAD.match(text)
    if not head:
        return "", text
    try:
        found = tomllib.loads(head[2]) if head[1] == "+++" else yaml.load(head[2], Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return "", text
    if not isinstance(found, dict):
        return "", text
    title = found.pop("title", None)
    said = [value for value in found.values() if isinstance(value, str) and len(value.split()) >= SENTENCE]
    return title if isinstance(title, str) else "", "\n\n".join([*said, text[head.end() :]])


def without_embedded(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without files in base64 (the link keeps its words), and what was left out."""
    sizes: list[int] = []

    def shorter(found: re.Match[str]) -> str:
        sizes.append(len(found[0]) - len(found[1]))
        return found[1]

    text = EMBEDDED.sub(shorter, text)
    return text, (f"{len(sizes)} embedded files, {sum(sizes) / 1000:,.0f} kB of base64, are no text",) if sizes else ()


def headings(text: str) -> list[tuple[int, int, str]]:
    """(offset of its line, level, words) of each heading; a line in a code block is none."""
    from markdown_it import MarkdownIt

    lines = [0, *(found.end() for found in re.finditer("\n", text))]
    parser = MarkdownIt("commonmark").disable(["inline", "text_join"])  # blocks are enough, and take linear time
    found = []
    for token, inline in itertools.pairwise(parser.parse(text)):
        if token.type == "heading_open" and token.map and token.level == 0:
            words = " ".join(inline.content[: 2 * HEADING].replace("`", "").replace("*", "").split())
            found.append((lines[token.map[0]], int(token.tag[1:]), words[:HEADING]))
    return found
