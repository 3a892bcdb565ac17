"""The process that reads files: an accident in it costs the file that made it, and no other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aya_lib.embedding.files import open_files
from aya_lib.knowledge.decoding import Unreadable
from aya_lib.knowledge.reader import Limits, Reader
from aya_lib.knowledge.reading import Empty
from aya_lib.site import Embedding

GOOD = (Path("good.md"), b"# Title\n\ntext")
SLOW = (Path("slow.html"), b"<p>one <b>or</b> <i>two</i> words</p>" * 80_000)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    found = Reader(open_files(Embedding(model="lab", dimension=384)), 256)
    yield found
    found.close()


def crash(reader: Reader) -> Limits:
    assert reader.process
    os.kill(reader.process.pid, signal.SIGSEGV)
    return Limits.of(1)


@pytest.mark.parametrize(
    ("limits", "file", "says"),
    [
        (crash, GOOD, r"what reads it crashed \(SIGSEGV\)"),
        (lambda _: Limits(1, 2**40), SLOW, "it took more than 1 s of the processor"),
        (lambda _: Limits(0, 2**40), SLOW, "not done after 0 s"),
        (lambda _: Limits(60, 1), SLOW, r"^cannot be read: (\w+Error|what reads it crashed)"),
    ],
)
def test_a_crash_an_endless_loop_and_memory_cost_that_file_only(
    limits: object, file: tuple[Path, bytes], says: str, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reader.document(*GOOD).reading.title == "Title"
    with monkeypatch.context() as patch:
        patch.setattr(reader, "limits", lambda size: limits(reader))  # type: ignore[operator]
        with pytest.raises(Unreadable, match=says):
            reader.document(*file)
    assert [chunk.text for chunk in reader.document(*GOOD).chunks] == ["# Title\n\ntext"]


def test_what_is_no_document_is_told_as_it_was_and_the_process_stays(reader: Reader) -> None:
    reader.document(*GOOD)
    process = reader.process
    with pytest.raises(Empty, match=r"^empty: there is no text in it$"):
        reader.document(Path("empty.md"), b"")
    with pytest.raises(Unreadable, match=r"^binary content"):
        reader.document(Path("binary.md"), b"\0")
    assert reader.process is process
