"""A folder or a file as one stream: tar, compressed by zstd, encrypted by age when there are public keys to encrypt for.

Each part is a library's. The private key is needed to open a stream, never to make one.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

import pyrage
import zstandard

from aya_lib.errors import AyaError, UsageError

LEVEL = 3  # zstd's own default
THREADS = 2  # beside a server that works
BLOCK = 1 << 20  # bytes


@dataclass
class Counted:
    """What is written goes on, and is counted: ``size`` in bytes so far, and their SHA-256."""

    sink: IO[bytes]
    size: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> int:
        self.sink.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        self.sink.flush()


def recipients(keys: Sequence[str]) -> list[pyrage.x25519.Recipient | pyrage.ssh.Recipient]:
    """Public keys of age or ssh. :class:`UsageError` for anything else, a private key among it."""
    found: list[pyrage.x25519.Recipient | pyrage.ssh.Recipient] = []
    for number, key in enumerate(keys, 1):
        try:
            kind = pyrage.ssh.Recipient if key.startswith("ssh-") else pyrage.x25519.Recipient
            found.append(kind.from_str(key.strip()))
        except (pyrage.RecipientError, ValueError):
            line = f"backup.recipients: key {number} is no public key"
            raise UsageError(line, hint="Allowed are age1... (of age-keygen) and ssh-ed25519 ...") from None
    return found


def identities(file: Path) -> list[pyrage.x25519.Identity | pyrage.ssh.Identity]:
    """The private keys of a file, as age-keygen or ssh-keygen wrote it. :class:`UsageError` when it has none."""
    try:
        text = file.read_bytes()
        if b"PRIVATE KEY-----" in text:
            return [pyrage.ssh.Identity.from_buffer(text)]
        lines = [line.strip() for line in text.decode("ascii").splitlines()]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
    except (OSError, ValueError, pyrage.IdentityError) as error:
        raise UsageError(f"{file}: no private key can be read ({type(error).__name__})") from None
    if not found:
        raise UsageError(f"{file}: no private key in it", hint="It is the file that age-keygen wrote")
    return found


def seal(source: Path, sink: IO[bytes], keys: Sequence[str]) -> tuple[int, str]:
    """Write a folder (as tar, its name on top) or a file (as it is) to ``sink``; its bytes there and their SHA-256."""
    counted, public = Counted(sink), recipients(keys)
    if not public:
        _compress(source, cast("IO[bytes]", counted))
    else:
        with _piped(lambda pipe: _compress(source, pipe)) as reading:
            pyrage.encrypt_io(reading, counted, public)
    counted.flush()
    return counted.size, counted.digest.hexdigest()


def unseal(stream: IO[bytes], into: Path, private: Sequence[object], *, sealed: bool, folder: bool) -> None:
    """The reverse: a folder below ``into``, or the file ``into``. :class:`AyaError` when no key opens it, or it is broken."""
    try:
        if not sealed:
            return _expand(stream, into, folder)
        with _piped(lambda pipe: pyrage.decrypt_io(stream, pipe, list(private))) as reading:
            return _expand(reading, into, folder)
    except pyrage.DecryptError as error:
        hint = "Name the file of the private key whose public one is in backup.recipients"
        raise AyaError(f"it cannot be decrypted: {error}", hint=hint) from None
    except (zstandard.ZstdError, tarfile.TarError, EOFError) as error:
        raise AyaError(f"it is damaged: {error}") from None


def _compress(source: Path, sink: IO[bytes]) -> None:
    writer = zstandard.ZstdCompressor(level=LEVEL, threads=THREADS, write_checksum=True).stream_writer(sink, closefd=False)
    if source.is_dir():
        with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(source, arcname=source.name)
    else:
        with source.open("rb") as file:
            while block := file.read(BLOCK):
                writer.write(block)
    writer.close()  # type: ignore[no-untyped-call]


class _Expanded(io.RawIOBase):
    """What one zstd frame holds. A frame that ends too early is an error here; the library's own reader takes it for the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._frame, self._left = stream, zstandard.ZstdDecompressor().decompressobj(), b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._left and not self._frame.eof:
            block = self._stream.read(BLOCK)
            if not block:
                raise EOFError("it ends too early")
            self._left = self._frame.decompress(block)
        size = len(self._left) if size < 0 else size
        found, self._left = self._left[:size], self._left[size:]
        return found


def _expand(stream: IO[bytes], into: Path, folder: bool) -> None:
    reader = _Expanded(stream)
    if folder:
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            _extract(archive, into)
        while reader.read(BLOCK):
            pass
    else:
        with into.open("wb") as file:
            while block := reader.read(BLOCK):
                file.write(block)


def _extract(archive: tarfile.TarFile, into: Path) -> None:
    """Nothing is ever written outside ``into``, whatever a stranger put there: a link may be made, and is not gone through."""
    links: set[Path] = set()
    for member in archive:
        path = Path(member.name)
        plain = member.isfile() or member.isdir() or member.issym()
        if not plain or path.is_absolute() or ".." in path.parts or links & {path, *path.parents}:
            raise AyaError(f"it is damaged: it holds what no backup does: {member.name}")
        if member.issym():
            links.add(path)
        archive.extract(member, into, numeric_owner=True)


@contextmanager
def _piped(write: Callable[[IO[bytes]], object]) -> Iterator[IO[bytes]]:
    """``write`` writes into a pipe in a thread of its own; what it raises is raised at the end."""
    reading, writing = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with writing:
                write(writing)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        with reading:
            yield reading
    finally:
        thread.join()
        own = [error for error in failed if not isinstance(error, BrokenPipeError)]
        if own:
            raise own[0]
