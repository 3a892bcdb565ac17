"""Text becomes chunks that the encoder reads whole: sizes are counted in the model's own tokens."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError
from aya_lib.knowledge.markdown import headings
from aya_lib.knowledge.reading import Kind, Page, Reading

SPECIAL = 2  # [CLS] and [SEP]; a tokenizer that adds more is met by the check afterwards
WINDOW = 32  # characters for each token of a chunk that the splitter sees at once: its time grows faster than the text
WIDEST = 16  # characters of a chunk for each token that it may have: words the model does not know are one token each
MOST = 0.5  # share of a chunk that the model may not know: its vector would be near that of any other such
ENCODED = 0.7  # share of a chunk that is no words: a sentence that names a checksum has fewer
# Keys, checksums, encoded files: long words of letters and digits mixed, and bytes written in hexadecimal.
BLOBS = re.compile(r"[A-Za-z0-9+/=_-]{32,}|(?:\b[0-9a-fA-F]{2,8}[ :,]{1,2}){8,}")
MIXED = re.compile(r"(?=.*[0-9])(?=.*[A-Z])(?=.*[a-z])|(?=.*[0-9])(?=.*[a-fA-F])[0-9a-fA-F :,]+$", re.DOTALL)


@dataclass(frozen=True)
class Chunk:
    """A part of a document. ``tokens`` with the special ones; ``headings``: the path above it, outermost first.

    ``unread``: why it gets no vector, and is found by its words only; empty where the model can read it.
    """

    index: int
    text: str
    tokens: int
    headings: tuple[str, ...] = ()
    page: int | None = None
    unread: str = ""


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
        texts = [part.text for part in parts]
        counts = self._count(texts)
        if max(counts, default=0) > self.limit:
            raise AyaError(f"a chunk has {max(counts)} tokens, the limit is {self.limit}: this is a defect")
        return [
            Chunk(
                index,
                part.text,
                tokens,
                part.headings,
                part.page,
                unread if tokens > SPECIAL else "the model reads nothing of it",
            )
            for index, (part, tokens, unread) in enumerate(zip(parts, counts, self._unread(texts), strict=True))
        ]

    def _page(self, page: Page, kind: Kind) -> list[_Part]:
        markdown = kind in ("markdown", "html")
        found = headings(page.text) if markdown else []
        starts, paths = [start for start, _, _ in found], _paths(found)
        parts = []
        for start, text in self._cut(page.text, markdown):
            upto = bisect.bisect_right(starts, start + _leading(text))
            parts.append(_Part(text.strip(), paths[upto], page.number))
        return self._joined(parts) if markdown else parts

    def _cut(self, text: str, markdown: bool) -> Iterator[tuple[int, str]]:
        """Offsets and chunks. The splitter sees a window at once, and the next one begins with the last chunk of the one before,
        so that the chunks are those of the whole text, in time that grows with its length."""
        splitter, begin = self.splitters[0 if markdown else 1], 0
        while begin < len(text):
            window = text[begin : begin + WINDOW * self.limit]
            found = splitter.chunk_indices(window)  # type: ignore[attr-defined]
            end = begin + len(window)
            if end < len(text) and len(found) > 1:
                end = begin + found.pop()[0]
            yield from ((begin + start, chunk) for start, chunk in found)
            begin = end

    def _unread(self, texts: Sequence[str]) -> list[str]:
        """Why a text gets no vector, for each of them."""
        reasons = []
        for text, unknown in zip(texts, self.tokenizer.unknown(texts), strict=True):
            blobs = sum(len(found[0]) for found in BLOBS.finditer(text) if MIXED.match(found[0])) / max(1, len(text))
            script = f"the model does not know {unknown:.0%} of it" if unknown > MOST else ""
            reasons.append(script or (f"{blobs:.0%} of it is encoded data" if blobs > ENCODED else ""))
        return reasons

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
        """Halve what is still too long, between words where there are some: one enormous word, say."""
        counts = self._count([part.text for part in parts])
        while True:
            halved: list[_Part] = []
            for part, tokens in zip(parts, counts, strict=True):
                whole = tokens <= self.limit and len(part.text) <= WIDEST * self.limit
                texts = [part.text] if whole else _halves(part.text)
                halved += [_Part(text.strip(), part.headings, part.page) for text in texts if text.strip()]
            if len(halved) == len(parts):
                return parts
            parts, counts = halved, self._count([part.text for part in halved])

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self.tokenizer.ids(texts)]


def _paths(found: Sequence[tuple[int, int, str]]) -> list[tuple[str, ...]]:
    """The path of headings after each number of them: none, the first, ..."""
    path: list[tuple[int, str]] = []
    paths: list[tuple[str, ...]] = [()]
    for _, level, words in found:
        path = [above for above in path if above[0] < level] + [(level, words)]
        paths.append(tuple(words for _, words in path if words))
    return paths


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    space = text.rfind(" ", middle // 2, middle)
    cut = space if space > 0 else middle
    return [text[:cut], text[cut:]]


def _leading(text: str) -> int:
    return len(text) - len(text.lstrip())
