"""Files are read and cut in a process of its own: what makes it crash, hang or swell costs that file only.

PDF and HTML are read by libraries in C, cutting is done by one in Rust, and files are of any kind. One process serves one file
after another; after an accident the next file gets another.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from aya_lib.embedding.files import ModelFiles
from aya_lib.embedding.model import Tokenizer
from aya_lib.errors import AyaError
from aya_lib.knowledge.chunking import Chunk, Chunker
from aya_lib.knowledge.decoding import Unreadable
from aya_lib.knowledge.reading import Empty, Reading, read

START_S = 300  # until a process has loaded the tokenizer, on a machine with no time for it
BY_THE_CLOCK = 10  # times the processor's seconds: others may be at work, and a process may wait for ever and use none


@dataclass(frozen=True)
class Limits:
    """What one file may take. Slow ones of the ordinary kind (HTML, nested Markdown) take some 3 s and 60 MB a megabyte."""

    seconds: int
    bytes: int

    @classmethod
    def of(cls, size: int) -> Limits:
        return cls(60 + 30 * size // 1_000_000, 2_000_000_000 + 150 * size)


@dataclass(frozen=True)
class Document:
    """A file's text, cut."""

    reading: Reading
    chunks: tuple[Chunk, ...]


class Reader:
    """Reads files for a model. The process starts with the first; :meth:`close` ends it."""

    def __init__(self, files: ModelFiles, chunk_tokens: int, limits: Callable[[int], Limits] = Limits.of) -> None:
        self.files, self.chunk_tokens, self.limits = files, chunk_tokens, limits
        self.process: subprocess.Popen[bytes] | None = None

    def document(self, path: Path, data: bytes) -> Document:
        """The file's text and chunks. Raises :class:`Unreadable`, :class:`Empty`; :class:`AyaError` when no process starts."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        limits = self.limits(len(data))
        try:
            self.pipe.send((path, data, limits))
            if not self.pipe.poll(BY_THE_CLOCK * limits.seconds):
                raise Unreadable(f"cannot be read: not done after {BY_THE_CLOCK * limits.seconds} s")
            kind, found = self.pipe.recv()
        except (EOFError, OSError):
            raise Unreadable(f"cannot be read: {self._accident(limits)}") from None
        except BaseException:
            self.close()
            raise
        if kind is BaseException:
            self.close()
            raise Unreadable(f"cannot be read: {found}")
        if kind is not Document:
            raise kind(found)
        return Document(*found)

    def close(self) -> None:
        """End the process, whatever it does; a :meth:`document` that another thread waits for is unreadable then."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        self.pipe, theirs = Pipe()
        command = [
            sys.executable,
            "-c",
            f"from {__name__} import serve; serve({theirs.fileno()})",
        ]  # not -m: classes keep their names
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        try:
            self.pipe.send((self.files, self.chunk_tokens))
            if self.pipe.poll(START_S) and self.pipe.recv():
                return
        except (EOFError, OSError):
            pass
        self.close()
        raise AyaError(f"the process that reads files does not start: {' '.join(command)}", hint="Run: make install")

    def _accident(self, limits: Limits) -> str:
        """Why the process ended, in words."""
        assert self.process
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        code = self.process.returncode
        self.close()
        if code == -signal.SIGXCPU:
            return f"it took more than {limits.seconds} s of the processor"
        said = signal.Signals(-code).name if code and code < 0 else f"exit status {code}"
        return f"what reads it crashed ({said}), as with a damaged file or one that needs too much memory"


def serve(descriptor: int) -> None:
    """The process's side: a document, or why there is none, for each file that comes."""
    pipe = Connection(descriptor)
    files, chunk_tokens = pipe.recv()
    chunker = Chunker(Tokenizer(files), chunk_tokens)
    pipe.send(True)
    while True:
        try:
            path, data, limits = pipe.recv()
        except EOFError:
            return
        _limit(limits)
        pipe.send(_answer(chunker, path, data))


def _answer(chunker: Chunker, path: Path, data: bytes) -> tuple[type, object]:
    try:
        reading = read(path, data)
        return Document, (reading, tuple(chunker.chunks(reading)))
    except (Empty, Unreadable) as error:
        return type(error), str(error)
    except BaseException as error:  # Rust's panics are no Exception; after this, or without memory, a library may be in any state
        return BaseException, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _limit(limits: Limits) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + limits.seconds
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, limits.bytes)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of memory, and an account may have a lower one
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))
