"""Text becomes chunks that the encoder reads whole: sizes are counted in the model's own tokens."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError
from aya_lib.knowledge.reading import Kind, Page, Reading

SPECIAL = 2  # [CLS] and [SEP]; a tokenizer that adds more is met by the check afterwards
PIECE = 100_000  # characters that the splitter is given at once: its time grows faster than the text


@dataclass(frozen=True)
class Chunk:
    """A part of a document. ``tokens`` with the special ones; ``headings``: the path above it, outermost first."""

    index: int
    text: str
    tokens: int
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True)
class _Part:
    text: str
    headings: tuple[str, ...]
    page: int | None


class Chunker:
    """Cuts at headings, paragraphs, sentences, words, in that order of preference (semantic-text-splitter)."""

    def __init__(self, tokenizer: Tokenizer, chunk_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.limit = min(chunk_tokens, tokenizer.max_tokens)

    @cached_property
    def splitters(self) -> tuple[object, object]:
        """For Markdown and for plain text; the splitter counts without special tokens."""
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        room = self.limit - SPECIAL
        raw = self.tokenizer.raw
        return MarkdownSplitter.from_huggingface_tokenizer(raw, room), TextSplitter.from_huggingface_tokenizer(raw, room)

    def chunks(self, reading: Reading) -> list[Chunk]:
        """The chunks in order, none longer than the limit; parts without a letter or digit are left out."""
        parts = [part for page in reading.pages for part in self._page(page, reading.kind)]
        parts = self._fitting([part for part in parts if re.search(r"\w", part.text)])
        counts = self._count([part.text for part in parts])
        if max(counts, default=0) > self.limit:
            raise AyaError(f"a chunk has {max(counts)} tokens, the limit is {self.limit}: this is a defect")
        return [
            Chunk(index, part.text, tokens, part.headings, part.page)
            for index, (part, tokens) in enumerate(zip(parts, counts, strict=True))
        ]

    def _page(self, page: Page, kind: Kind) -> list[_Part]:
        markdown = kind in ("markdown", "html")
        headings = _headings(page.text) if markdown else []
        starts = [start for start, _, _ in headings]
        parts = []
        for offset, piece in _pieces(page.text, starts):
            for start, text in self.splitters[0 if markdown else 1].chunk_indices(piece):  # type: ignore[attr-defined]
                at = offset + start
                upto = bisect.bisect_right(starts, at + _leading(text))
                parts.append(_Part(text.strip(), _path(headings[:upto]), page.number))
        return self._joined(parts) if markdown else parts

    def _joined(self, parts: list[_Part]) -> list[_Part]:
        """A heading alone is a poor passage: it goes with the part below it where both fit."""
        found: list[_Part] = []
        for part in parts:
            before = found[-1] if found else None
            if before and all(line.startswith("#") for line in before.text.splitlines() if line.strip()):
                together = f"{before.text}\n\n{part.text}"
                if self._count([together])[0] <= self.limit:
                    found[-1] = _Part(together, part.headings, part.page)
                    continue
            found.append(part)
        return found

    def _fitting(self, parts: list[_Part]) -> list[_Part]:
        """Halve what is still too long: one enormous word, say."""
        counts = self._count([part.text for part in parts])
        while max(counts, default=0) > self.limit:
            halved: list[_Part] = []
            for part, tokens in zip(parts, counts, strict=True):
                middle = len(part.text) // 2
                whole = tokens <= self.limit or middle == 0
                texts = [part.text] if whole else [part.text[:middle], part.text[middle:]]
                halved += [_Part(text, part.headings, part.page) for text in texts if text.strip()]
            if len(halved) == len(parts):
                break
            parts, counts = halved, self._count([part.text for part in halved])
        return parts

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer.ids(texts)]


def _pieces(text: str, starts: Sequence[int]) -> list[tuple[int, str]]:
    """The text in pieces of at most about ``PIECE`` characters, cut before a heading or else after an empty line."""
    if len(text) <= PIECE:
        return [(0, text)]
    cuts = sorted({*starts, *(found.end() for found in re.finditer(r"\n\s*\n", text))})
    pieces, begin = [], 0
    while len(text) - begin > PIECE:
        last = bisect.bisect_right(cuts, begin + PIECE) - 1
        end = cuts[last] if last >= 0 and cuts[last] > begin else begin + PIECE
        pieces.append((begin, text[begin:end]))
        begin = end
    return [*pieces, (begin, text[begin:])]


def _headings(text: str) -> list[tuple[int, int, str]]:
    """(offset of its line, level, words) of each heading; a line in a code block is none."""
    from markdown_it import MarkdownIt

    lines = [0]
    for found in re.finditer("\n", text):
        lines.append(found.end())
    tokens = MarkdownIt("commonmark").parse(text)
    headings = []
    for token, inline in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            words = " ".join(inline.content.replace("`", "").replace("*", "").split())
            headings.append((lines[token.map[0]], int(token.tag[1:]), words))
    return headings


def _path(headings: Sequence[tuple[int, int, str]]) -> tuple[str, ...]:
    path: list[tuple[int, str]] = []
    for _, level, words in headings:
        path = [above for above in path if above[0] < level] + [(level, words)]
    return tuple(words for _, words in path if words)


def _leading(text: str) -> int:
    return len(text) - len(text.lstrip())
