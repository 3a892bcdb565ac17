"""Chunks fit the model, lose nothing, and know where they stand."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from aya_lib import settings
from aya_lib.embedding.files import open_files
from aya_lib.embedding.model import Tokenizer
from aya_lib.knowledge.chunking import WINDOW, Chunker
from aya_lib.knowledge.markdown import HEADING
from aya_lib.knowledge.reading import Page, Reading, read
from aya_lib.site import Embedding


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(open_files(Embedding(model="lab", dimension=384)))


def markdown(text: str) -> Reading:
    return Reading("t", "markdown", (Page(None, text),))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


@pytest.mark.parametrize("size", [32, 256, 8192])
def test_no_chunk_of_the_manual_is_longer_than_asked_or_than_the_model_reads(
    manual: Path, tokenizer: Tokenizer, size: int
) -> None:
    chunker = Chunker(tokenizer, size)
    for path in sorted(manual.iterdir())[::4]:
        chunks = chunker.chunks(read(path, path.read_bytes()))
        assert chunks
        assert [chunk.tokens for chunk in chunks] == [len(ids) for ids in tokenizer.ids([chunk.text for chunk in chunks])]
        assert max(chunk.tokens for chunk in chunks) <= min(size, 256)


def test_no_word_is_lost_and_none_is_doubled(manual: Path, tokenizer: Tokenizer) -> None:
    chunker = Chunker(tokenizer, 128)
    for path in sorted(manual.iterdir())[::4]:
        reading = read(path, path.read_bytes())
        assert words(" ".join(chunk.text for chunk in chunker.chunks(reading))) == words(reading.content), path


def test_headings_are_the_path_above_and_code_is_no_heading(tokenizer: Tokenizer) -> None:
    lines = ["# Höhe 你好 😀", "intro " * 9, "## Lag", "lag text", "```sh\n# not a heading\n```", "### Deep", "deep text " * 6]
    chunks = Chunker(tokenizer, 20).chunks(markdown("\n\n".join([*lines, "## Slots", "slots " * 9])))
    found = {word: next(c.headings for c in chunks if word in c.text) for word in ("intro", "deep text", "slots")}
    assert found["intro"] == ("Höhe 你好 😀",)
    assert found["deep text"] == ("Höhe 你好 😀", "Lag", "Deep")
    assert found["slots"] == ("Höhe 你好 😀", "Slots")
    assert not any("not a heading" in path for path in [c.headings for c in chunks])


def test_a_heading_goes_with_the_text_below_it(tokenizer: Tokenizer) -> None:
    chunks = Chunker(tokenizer, 40).chunks(markdown("# Title\n\n" + "word " * 30 + "\n\n# Other\n\n" + "more " * 30))
    assert not any(re.fullmatch(r"#+ \w+", chunk.text) for chunk in chunks)


@pytest.mark.parametrize("text", ["x" * 5000, "你好" * 3000, "😀" * 500, "a-" * 4000, "SELECT " * 2000])
def test_text_without_places_to_cut_still_fits(text: str, tokenizer: Tokenizer) -> None:
    chunks = Chunker(tokenizer, 64).chunks(Reading("t", "text", (Page(None, text + " end"),)))
    assert max(chunk.tokens for chunk in chunks) <= 64
    assert "".join(chunk.text for chunk in chunks).replace(" ", "").endswith("end")


def test_pages_keep_their_numbers(tokenizer: Tokenizer) -> None:
    chunks = Chunker(tokenizer, 64).chunks(Reading("t", "pdf", (Page(1, "one"), Page(7, "seven"))))
    assert [(chunk.page, chunk.text, chunk.index) for chunk in chunks] == [(1, "one", 0), (7, "seven", 1)]


def test_rules_and_dots_are_no_chunks(tokenizer: Tokenizer) -> None:
    assert Chunker(tokenizer, 64).chunks(markdown("---\n\n...\n\n***")) == []


class Counting:
    """A splitter that counts what it is given."""

    def __init__(self, splitter: Any) -> None:
        self.splitter = splitter
        self.given: list[int] = []

    def chunk_indices(self, text: str) -> Any:
        self.given.append(len(text))
        return self.splitter.chunk_indices(text)


@pytest.mark.parametrize("line", ["#" * 9000, "> " * 40 + "level\n", "- item\n  - item\n", "word ", "[a](", "x" * 9000])
def test_work_grows_with_the_text_and_no_faster(line: str, tokenizer: Tokenizer) -> None:
    chunker = Chunker(tokenizer, 32)
    counting = Counting(chunker.splitters[0])
    chunker.splitters = (counting, counting)
    text = ("# " + line * 9000)[:9000]
    chunker.chunks(markdown(text))
    assert max(counting.given) <= WINDOW * 32
    assert sum(counting.given) <= 1.7 * len(text)


def test_what_the_model_cannot_read_gets_no_vector_and_no_word_is_lost(tokenizer: Tokenizer) -> None:
    thai, digest = "การสำรองข้อมูล" * 300, "\n".join(f"{number:064x}"[::-1] + "ab12" for number in range(1 << 200, (1 << 200) + 40))
    encoded = base64.b64encode(bytes(range(256)) * 20).decode()
    for text, reason in {thai: "does not know 100%", digest: "encoded data", encoded: "encoded data"}.items():
        chunks = Chunker(tokenizer, 256).chunks(Reading("t", "text", (Page(None, text),)))
        assert all(reason in chunk.unread for chunk in chunks)
        assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())
        assert max(len(chunk.text) for chunk in chunks) <= 16 * 256
    (plain,) = Chunker(tokenizer, 64).chunks(markdown("The commit 53aa51172d142c89d9012cce15ae4d6cc0ca6895 mended the slot."))
    assert not plain.unread


def test_a_heading_is_kept_short_beside_its_chunks(tokenizer: Tokenizer) -> None:
    chunks = Chunker(tokenizer, 64).chunks(markdown("# " + "very long " * 2000 + "\n\ntext"))
    assert max(len(heading) for chunk in chunks for heading in chunk.headings) == HEADING


def test_a_large_file_is_cut_without_losing_a_word(tokenizer: Tokenizer) -> None:
    text = "\n\n".join(path.read_text() for path in sorted((settings.home() / "aya_lib" / "lab" / "documents").glob("*.md")))
    text = text * (400_000 // len(text))
    chunks = Chunker(tokenizer, 256).chunks(markdown(text))
    assert words(" ".join(chunk.text for chunk in chunks)) == words(text)
    assert max(chunk.tokens for chunk in chunks) <= 256
