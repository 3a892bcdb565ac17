"""Copies of verified backups, and of the WAL between them, at other places: made on the keeper, read back, fetched one day.

::

    backups/<label>.tar.zst[.age]    a backup's folder
    backups/<label>.json             its record, its bytes and SHA-256; written last: with it the copy is whole
    wal/<file>.zst[.age]             a whole segment, or a history file
    repository.json                  which cluster it is of
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aya_lib.backup import places, sealed
from aya_lib.backup.places import Place
from aya_lib.cluster.lsn import number
from aya_lib.cluster.wal import SEGMENT
from aya_lib.cluster.wal import name as name_of
from aya_lib.errors import AyaError, UsageError
from aya_lib.site import Backup as Config

Told = Callable[[str], object]


@dataclass(frozen=True)
class Copied:
    """What a place has: ``backups`` label -> what its record says; ``wal``: names of files without their endings."""

    place: str
    backups: Mapping[str, Mapping[str, Any]]
    wal: Mapping[str, str]
    bytes: int


@dataclass(frozen=True)
class Done:
    """What one call copied and removed, by name."""

    copied: tuple[str, ...]
    removed: tuple[str, ...]


def look(place: Place) -> Copied:
    """List a place and read its records. One that is damaged counts as no copy."""
    there, backups = place.names(), dict[str, Mapping[str, Any]]()
    for name in there:
        if name.startswith("backups/") and name.endswith(".json"):
            with places.source(place, name) as stream:
                text = stream.read()
            try:
                record = json.loads(text)
                if there.get(f"backups/{record['file']}") == record["bytes"]:
                    backups[str(record["label"])] = record
            except (ValueError, KeyError, TypeError):
                continue
    wal = {name[4:].split(".zst")[0]: name for name in there if name.startswith("wal/")}
    return Copied(place.name, backups, wal, sum(there.values()))


def copy(repository: Path, config: Config, place: Place, labels: Sequence[str], told: Told = print) -> Done:
    """Have the backups ``labels`` (verified ones, a parent before its children) and all whole WAL files at a place; what is
    older than the window goes. Each file is read back before it counts. Run again it goes on."""
    sealed.recipients(config.recipients)
    there, ending = look(place), ".zst.age" if config.recipients else ".zst"
    _same_cluster(repository, place, there)
    copied = []
    for label in labels:
        if label not in there.backups:
            told(f"{place.name}: {label}")
            _copy_backup(repository / "backups" / label, config, place, f"{label}.tar{ending}")
            copied.append(label)
    for path in _wal(repository):
        if path.name not in there.wal:
            _checked(path, config, place, f"wal/{path.name}{ending}")
            copied.append(path.name)
    return Done(tuple(copied), _tidy(repository, config, place, look(place), labels))


def fetch(place: Place, label: str, into: Path, private: Path | None, told: Told = print) -> None:
    """A repository again, below ``into``: one backup with those it stands on, and the WAL from the first one's start."""
    if into.exists() and any(into.iterdir()):
        raise UsageError(f"{into} is not empty", hint="Name a folder that is not there yet")
    there = look(place)
    if label not in there.backups:
        raise UsageError(f"{place.name} has no backup '{label}'", hint=f"It has {', '.join(there.backups) or 'none'}")
    keys = sealed.identities(private) if private else []
    chain = [label]
    while parent := there.backups[chain[0]]["record"].get("parent"):
        if parent not in there.backups:
            raise AyaError(f"{place.name} has {chain[0]}, but not {parent}, which it stands on")
        chain.insert(0, str(parent))
    for folder in ("backups", "wal"):
        (into / folder).mkdir(parents=True, mode=0o700)
    for one in chain:
        told(f"{place.name}: {one}")
        record = there.backups[one]
        if place.digest(f"backups/{record['file']}") != record["sha256"]:
            raise AyaError(f"{place.name}: {record['file']} is not what was copied there: its SHA-256 differs")
        _open(place, f"backups/{record['file']}", into / "backups", keys, folder=True)
        _relink(into / "backups" / one)
    with places.source(place, "repository.json") as stream:
        (into / "repository.json").write_bytes(stream.read())
    start = _start(into, there.backups[label]["record"])
    for name, stored in there.wal.items():
        if not SEGMENT.fullmatch(name) or name[8:] >= start:
            _open(place, stored, into / "wal" / name, keys, folder=False)


def _relink(backup: Path) -> None:
    """Tablespaces are named by absolute links: to where they lie now."""
    for link in (backup / "data" / "pg_tblspc").glob("*"):
        if link.is_symlink():
            link.unlink()
            link.symlink_to(backup.absolute() / "tablespaces" / link.name)


def _copy_backup(folder: Path, config: Config, place: Place, file: str) -> None:
    size, digest = _checked(folder, config, place, f"backups/{file}")
    record = json.loads((folder / "backup.json").read_text(encoding="utf-8"))
    content = {"label": folder.name, "file": file, "bytes": size, "sha256": digest, "record": record}
    with places.sink(place, f"backups/{folder.name}.json") as stream:
        stream.write(json.dumps(content).encode())


def _checked(source: Path, config: Config, place: Place, name: str) -> tuple[int, str]:
    with places.sink(place, name) as stream:
        size, digest = sealed.seal(source, stream, config.recipients)
    if (found := place.digest(name)) != digest:
        raise AyaError(
            f"{place.name}: {name} reads back as another file ({found[:12]}, not {digest[:12]})", hint="Is its disk sound?"
        )
    return size, digest


def _same_cluster(repository: Path, place: Place, there: Copied) -> None:
    own = (repository / "repository.json").read_bytes()
    if "repository.json" not in place.names():
        if there.backups or there.wal:
            raise AyaError(f"{place.name} holds backups, and nothing says of which cluster", hint="Name an empty folder")
        with places.sink(place, "repository.json") as stream:
            stream.write(own)
        return
    with places.source(place, "repository.json") as stream:
        other = json.loads(stream.read())
    if str(other["system_identifier"]) != str(json.loads(own)["system_identifier"]):
        raise AyaError(f"{place.name} holds the backups of another cluster", hint="Name another folder in site.yaml")


def _wal(repository: Path) -> list[Path]:
    """Whole segments and history files, those that were moved aside too, in order."""
    paths = [path for path in (repository / "wal").rglob("*") if path.is_file()]
    return sorted(
        (path for path in paths if SEGMENT.fullmatch(path.name) or path.suffix == ".history"), key=lambda path: path.name
    )


def _tidy(repository: Path, config: Config, place: Place, there: Copied, labels: Sequence[str]) -> tuple[str, ...]:
    """Take away what is older than the window, once all of ``labels`` are there. A repository that was lost and made anew knows
    nothing of older copies: these are what is left, so not what it lacks goes, but what no moment of the window needs."""
    if not labels or any(label not in there.backups for label in labels):
        return ()
    ends = {label: datetime.fromisoformat(str(one["record"]["ended"])) for label, one in there.backups.items()}
    since = max(ends[label] for label in labels) - timedelta(days=config.keep_days)
    first = max((label for label in ends if ends[label] <= since), key=lambda label: ends[label], default=None)
    kept = {label for label, end in ends.items() if end > since} | ({first} if first else set())
    for label in list(kept):
        while label := str(there.backups.get(label, {}).get("record", {}).get("parent") or ""):
            kept.add(label)
    names = [name for label in ends if label not in kept for name in _files(there, label)]
    start = min(_start(repository, there.backups[label]["record"]) for label in kept if label in there.backups)
    have = {path.name for path in _wal(repository)}
    old = (name for name in there.wal if SEGMENT.fullmatch(name) and name[8:] < start and name not in have)
    names += [there.wal[name] for name in old]
    for begin in range(0, len(names), 500):
        place.remove(names[begin : begin + 500])
    return tuple(names)


def _files(there: Copied, label: str) -> tuple[str, str]:
    """The record of a copy first: without it the rest counts for nothing."""
    return f"backups/{label}.json", f"backups/{there.backups[label]['file']}"


def _start(repository: Path, record: Mapping[str, Any]) -> str:
    """The first segment that a backup needs, without its timeline."""
    size = int(json.loads((repository / "repository.json").read_text(encoding="utf-8"))["segment_bytes"])
    return name_of(1, number(str(record["start"]["lsn"])), size)[8:]


def _open(place: Place, stored: str, into: Path, keys: Sequence[object], *, folder: bool) -> None:
    encrypted = stored.endswith(".age")
    if encrypted and not keys:
        raise UsageError(f"{place.name}: {stored} is encrypted", hint="Name the private key's file: --identity FILE")
    try:
        with places.source(place, stored) as stream:
            sealed.unseal(stream, into, keys, sealed=encrypted, folder=folder)
    except AyaError as error:
        raise AyaError(f"{place.name}: {stored}: {error}", hint=error.hint) from None
