"""Files below the given paths: which are documents, and what could not be looked into."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from aya_lib.errors import UsageError
from aya_lib.knowledge.reading import SUFFIXES
from aya_lib.show import Shown, Table

SOURCE_CHARACTERS = 100  # of the column documents.source


def named(path: str | Path) -> str:
    """A path as it can be written anywhere: what is no printable character stands as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


@dataclass(frozen=True)
class SourceFile:
    """A file that was named, or that lay in a folder and is a document by its suffix."""

    path: Path

    @property
    def uri(self) -> str:
        return self.path.as_uri()

    @property
    def kind(self) -> str:
        return SUFFIXES.get(self.path.suffix.lower(), "other")

    @property
    def source(self) -> str:
        """What fits into documents.source: the end of the path, whole parts where that is possible."""
        parts = Path(named(self.path)).parts[1:]
        while len(parts) > 1 and len("/".join(parts)) > SOURCE_CHARACTERS:
            parts = parts[1:]
        return "/".join(parts)[-SOURCE_CHARACTERS:]


@dataclass(frozen=True, repr=False)
class Sources(Shown):
    """The files in the order of their names; the folders among the paths; folders that could not be read, and why."""

    files: tuple[SourceFile, ...]
    folders: tuple[Path, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def uris(self) -> list[str]:
        return [file.uri for file in self.files]

    def table(self) -> Table:
        counts = Counter(file.kind for file in self.files)
        sizes: Counter[str] = Counter()
        for file in self.files:
            sizes[file.kind] += _size(file.path)
        lines = tuple((kind, str(count), f"{sizes[kind] / 1000:,.0f}") for kind, count in sorted(counts.items()))
        notes = tuple(f"cannot be read: {named(name)}: {reason}" for name, reason in self.unreadable)
        return Table(f"{len(self.files)} files", ("kind", "files", "kB"), lines, notes)


def discover(paths: Sequence[str | Path]) -> Sources:
    """Every document below the paths, each once, whatever links lead to it. Raises :class:`UsageError` for a path that is not
    there."""
    if not paths:
        raise UsageError("no path was given", hint="Name files or folders: aya ingest docs/ manual.pdf")
    files: set[Path] = set()
    unreadable: list[tuple[str, str]] = []
    given = [_there(path) for path in paths]
    for path in given:
        files |= _below(path, unreadable) if path.is_dir() else {path}
    folders = tuple(dict.fromkeys(path for path in given if path.is_dir()))
    return Sources(tuple(SourceFile(path) for path in sorted(files)), folders, tuple(unreadable))


def real(path: str | Path) -> Path:
    """The path without links, dots and ``~``; of a link that leads nowhere, the link."""
    path = Path(os.path.abspath(Path(path).expanduser()))
    found = Path(os.path.realpath(path))
    return found if os.path.lexists(found) and not found.is_symlink() else path


def path_of(uri: str) -> Path | None:
    """The file that a document's URI names; None when it came from somewhere else."""
    parts = urlsplit(uri)
    return Path(os.fsdecode(unquote_to_bytes(parts.path))) if parts.scheme == "file" else None


def _there(path: str | Path) -> Path:
    try:
        found = real(path)
        os.lstat(found)
    except (OSError, ValueError) as error:
        reason = "no such file or folder" if isinstance(error, FileNotFoundError) else str(error)
        hint = f"Nothing was changed. Documents that came from there: aya documents delete {named(path)}"
        raise UsageError(f"{named(path)}: {reason}", hint=hint) from None
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link that leads nowhere: loading says so
        return 0


def _below(folder: Path, unreadable: list[tuple[str, str]]) -> set[Path]:
    """Documents below a folder; what begins with a dot is left out, links to folders are not followed."""

    def note(error: OSError) -> None:
        unreadable.append((str(error.filename), error.strerror or str(error)))

    documents: set[Path] = set()
    for place, folders, names in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found = [Path(place, name) for name in names if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")]
        documents |= {_target(path) if path.is_symlink() else path for path in found}
    return documents


def _target(link: Path) -> Path:
    """Where a link leads, when that would be a document of its own."""
    found = real(link)
    hidden = any(part.startswith(".") for part in found.parts)
    return link if hidden or found.suffix.lower() not in SUFFIXES else found
