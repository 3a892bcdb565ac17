"""Where copies of backups lie: a folder of this machine, one behind ssh, or an object store that rclone knows. One protocol.

What is written ends in ``.part`` until a second command gives it its name: the end of a stream is no proof that it is whole, for
whoever wrote it may have been killed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Protocol

from aya_lib.errors import CommandFailed
from aya_lib.node.shell import Local, Shell
from aya_lib.node.ssh import Ssh
from aya_lib.site import BackupCopy

PUT = 'umask 077; cd -- "$1" && mkdir -p -- "$(dirname -- "$2")" && cat >"$2.part" && sync'
LIST = 'cd -- "$1" || exit 1; find . -type f ! -name "*.part" -exec ls -ln {} +'
DIGEST = 'if command -v sha256sum >/dev/null; then exec sha256sum -- "$1"; else exec shasum -a 256 -- "$1"; fi'
SLOW_S = 3600.0  # to list, read again or delete


class Place(Protocol):
    """One destination. Each way of using it gives a command: its program's words, run by ``shell``."""

    @property
    def name(self) -> str: ...

    @property
    def shell(self) -> Shell: ...

    def names(self) -> Mapping[str, int]:
        """Every whole file there, by its name below the place (``/`` between folders), with its bytes."""

    def digest(self, name: str) -> str:
        """SHA-256 of what lies there, read again."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete files; one that is not there is no error."""

    def putting(self, name: str) -> list[str]:
        """Writes its standard input to ``<name>.part``."""

    def commit(self, name: str) -> None:
        """``<name>.part`` is whole."""

    def getting(self, name: str) -> list[str]:
        """Writes the file to its standard output."""


@dataclass(frozen=True)
class Folder:
    """A folder, here or behind ssh. It must be there: one on a disk that is not mounted is never made beside it."""

    name: str
    shell: Shell
    path: str

    def names(self) -> Mapping[str, int]:
        listed = self.shell.run(["sh", "-c", LIST, "sh", self.path], timeout_s=SLOW_S)
        lines = [line.split(None, 8) for line in listed.checked(f"Make the folder {self.path} first").stdout.splitlines()]
        return {fields[8].removeprefix("./"): int(fields[4]) for fields in lines if len(fields) == 9}

    def digest(self, name: str) -> str:
        return self.shell.run(["sh", "-c", DIGEST, "sh", self._at(name)], timeout_s=SLOW_S).checked().stdout.split()[0]

    def remove(self, names: Sequence[str]) -> None:
        self.shell.run(["rm", "-f", "--", *map(self._at, names)], timeout_s=SLOW_S).checked()

    def putting(self, name: str) -> list[str]:
        return ["sh", "-c", PUT, "sh", self.path, name]

    def commit(self, name: str) -> None:
        self.shell.run(["mv", "-f", "--", f"{self._at(name)}.part", self._at(name)]).checked()

    def getting(self, name: str) -> list[str]:
        return ["cat", "--", self._at(name)]

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"


@dataclass(frozen=True)
class Store:
    """What rclone knows under ``remote:path``; its configuration and keys are rclone's own."""

    name: str
    shell: Shell
    path: str

    def names(self) -> Mapping[str, int]:
        listed = self.shell.run(["rclone", "lsjson", "-R", "--files-only", self.path], timeout_s=SLOW_S).checked()
        return {item["Path"]: int(item["Size"]) for item in json.loads(listed.stdout) if not item["Path"].endswith(".part")}

    def digest(self, name: str) -> str:
        words = ["rclone", "hashsum", "sha256", "--download", self._at(name)]
        return self.shell.run(words, timeout_s=SLOW_S).checked().stdout.split()[0]

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self.shell.run(["rclone", "deletefile", self._at(name)], timeout_s=SLOW_S).checked()

    def putting(self, name: str) -> list[str]:
        return ["rclone", "rcat", f"{self._at(name)}.part"]

    def commit(self, name: str) -> None:
        self.shell.run(["rclone", "moveto", f"{self._at(name)}.part", self._at(name)], timeout_s=SLOW_S).checked()

    def getting(self, name: str) -> list[str]:
        return ["rclone", "cat", self._at(name)]

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"


def open_place(config: BackupCopy) -> Place:
    """The place of a copy; nothing is connected yet."""
    if config.rclone:
        return Store(config.name, Local(config.name), config.path)
    return Folder(config.name, Ssh(config.name, config.ssh) if config.ssh else Local(config.name), config.path)


@contextmanager
def sink(place: Place, name: str) -> Iterator[IO[bytes]]:
    """What is written in the block is there, whole, when it has ended; nothing is there when it ended with an error."""
    with _running(place, place.putting(name)) as process:
        assert process.stdin
        yield process.stdin.buffer  # type: ignore[attr-defined]  # the pipes of a shell are opened as text
        process.stdin.close()
    place.commit(name)


@contextmanager
def source(place: Place, name: str) -> Iterator[IO[bytes]]:
    """The file's bytes; a program that failed is an error at the end of the block."""
    with _running(place, place.getting(name)) as process:
        assert process.stdout
        stream: IO[bytes] = process.stdout.buffer  # type: ignore[attr-defined]
        yield stream
        while stream.read(1 << 20):
            pass


@contextmanager
def _running(place: Place, words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = place.shell.start(words)
    try:
        yield process
        status, stderr = process.wait(), process.stderr.read() if process.stderr else ""
        if status:
            raise CommandFailed(place.name, words, status, stderr)
    except BrokenPipeError:
        stderr = process.stderr.read() if process.stderr else ""
        raise CommandFailed(place.name, words, process.wait(), stderr) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream and not stream.closed:
                with suppress(BrokenPipeError):
                    stream.close()
