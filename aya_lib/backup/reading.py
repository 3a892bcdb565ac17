"""The repository's WAL, read by pg_waldump on the keeper: whether every record of it is whole, and where one begins or ends."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from aya_lib.backup.chain import gaps, tip_of
from aya_lib.backup.history import path_of
from aya_lib.backup.records import Backup, Gap, Position, Repository, Segment, Target
from aya_lib.cluster import wal
from aya_lib.cluster.lsn import lsn, number
from aya_lib.cluster.reading import READ_S, last_position
from aya_lib.errors import CommandFailed, UsageError
from aya_lib.node.node import Node
from aya_lib.node.shell import Output

PAGE = 8192  # bytes; PostgreSQL's default XLOG_BLCKSZ
PIECE = 64  # segments that one pg_waldump reads: its deadline is for so many, and not for all there is
# pg_waldump wants the files of one timeline in one folder, and no .partial, which may get its whole name meanwhile.
# Standard input: name and file of each segment. $1: the command, which finds them in $here.
SCRIPT = r"""
find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'aya_wal.*' -user "$(id -un)" -mtime +0 -exec rm -rf {} + 2>/dev/null
here=$(mktemp -d "${TMPDIR:-/tmp}/aya_wal.XXXXXX") || exit 9
trap 'rm -rf "$here"' EXIT; trap 'exit 9' TERM INT HUP
while read -r name file; do
  case $file in
    *.partial) cp "$file" "$here/$name" 2>/dev/null || ln -s "${file%.partial}" "$here/$name" ;;
    *) ln -s "$file" "$here/$name" ;;
  esac
done
eval "$1"
"""
# Of each segment: its name, and what its first page says: its position, the cluster. (PostgreSQL: XLogLongPageHeaderData.)
HEADERS = 'for f in "$here"/*; do echo "header ${f##*/} $(od -An -tu8 -j8 -N24 "$f" | tr "\\n" " ")"; done'


@dataclass(frozen=True)
class Part:
    """A stretch of one timeline, in bytes, and the file of each segment of it: name -> path on the keeper; None: not there, or of
    another size."""

    timeline: int
    start: int
    end: int
    files: dict[str, str | None]


def parts(repository: Repository, start: Position, end: Position) -> Iterator[Part]:
    """The way from ``start`` to ``end`` along the history. Where a timeline was left, its last segment is read from its own file,
    or from that of the next timeline, which begins with the same bytes."""
    size, first, last = repository.segment_bytes, number(start.lsn), number(end.lsn)
    present: dict[str, list[Segment]] = {}
    for segment in sorted(repository.segments, key=lambda one: one.partial):
        present.setdefault(segment.name, []).append(segment)
    path = path_of(repository, end.timeline) or []
    for place, part in enumerate(path):
        low, high = max(first, part.start), _of_page(min(last, part.end or last), size)
        if low >= high:
            continue
        files: dict[str, str | None] = {}
        for begin in range(low // size * size, high, size):
            able = [name for one in path[place:] for name in [wal.name(one.timeline, begin, size)] if name in present]
            found = present[able[0]][0] if able else None
            usable = found and (found.bytes == size or (found.partial and found.bytes >= high - begin))
            files[wal.name(part.timeline, begin, size)] = _file(repository, found) if found and usable else None
        yield Part(part.timeline, low, high, files)


def _of_page(end: int, size: int) -> int:
    """An end right behind a page's header is where the page begins: pg_waldump would take what is in its memory for a record that
    begins there. (PostgreSQL: SizeOfXLogLongPHD of a segment's first page, SizeOfXLogShortPHD of the others.)"""
    header = 40 if end % size < PAGE else 24
    return end - header if end % PAGE == header else end


def read_through(keeper: Node, repository: Repository, start: Position, end: Position) -> tuple[Gap, ...]:
    """What is missing or damaged of the WAL from ``start`` to ``end``: every name, size, page and record's checksum is looked at.

    After a damage it goes on with the next segment. Raises what the shell raises.
    """
    found = list(gaps(repository, start, end))
    for part in parts(repository, start, end):
        for run in runs(part, repository.segment_bytes):
            found += _read(keeper, repository, run)
    return tuple(found)


def settled(keeper: Node, repository: Repository, backup: Backup, target: Target) -> Target:
    """The same target as something that recovery can be seen to reach: the end of WAL is the last record that is whole, and so is
    an LSN or a time after which nothing was written. :class:`UsageError` when there is no record to end at."""
    tip = tip_of(repository, backup.stop)
    if tip is None:
        raise UsageError(f"there is no WAL after backup {backup.label}")
    tip = tip if tip.timeline == target.timeline else Position(target.timeline, _reach(repository, target), tip.at)
    if target.kind == "name":
        return target
    if target.kind == "time":
        last = _last_decided(keeper, repository, backup.stop, tip)
        if last and last > datetime.fromisoformat(target.value):
            return target
    elif target.kind == "lsn" and (first := _first(keeper, repository, replace(tip, lsn=target.value), tip)):
        return replace(target, value=first)
    record = _last(keeper, repository, backup.start, tip)
    if record is None:
        raise UsageError(f"no whole record of WAL follows backup {backup.label}")
    return replace(target, kind="lsn", value=record, inclusive=True)


def dump(keeper: Node, part: Part, *options: str, then: str = "", before: str = ":", size: int) -> Output:
    """pg_waldump of a part, its status and what it says left to the caller. ``then``: a shell command that its output goes to."""
    names = {name: file for name, file in part.files.items() if file}
    where = ("-t", str(part.timeline), "-s", lsn(part.start), "-e", lsn(part.end))
    command = shlex.join(["env", "TZ=UTC", *keeper.command("pg_waldump", *where, *options)])
    script = f'{before}; {command} -p "$here" {then}'
    stdin = "".join(f"{name} {file}\n" for name, file in names.items())
    return keeper.shell.run(["sh", "-c", SCRIPT, "sh", script], stdin=stdin, account=keeper.account, timeout_s=READ_S)


def pieces(part: Part, size: int) -> Iterator[Part]:
    """A part in pieces that one command reads within its deadline. Only for what may begin anywhere."""
    step = PIECE * size
    for start in range(part.start // step * step, part.end, step):
        yield _clipped(part, max(start, part.start), min(start + step, part.end), size)


def _read(keeper: Node, repository: Repository, part: Part) -> Iterator[Gap]:
    """The damage in segments that are all there."""
    size, place = repository.segment_bytes, part.start
    while place < part.end:
        piece = _clipped(part, place, min((place // size + PIECE) * size, part.end), size)
        output = dump(keeper, piece, "-z", before=HEADERS, size=size)
        wrong = _headers(output.stdout, repository, piece)
        said = re.search(r"WAL statistics between \S+ and ([0-9A-F]+/[0-9A-F]+)", output.stdout)
        reached = max(number(said[1]) if said else 0, place)
        if wrong is None and output.status == 0 and said:
            if reached <= place < part.end - size or piece.end - reached > size:
                wrong = place, f"nothing could be read after {lsn(reached)}"
            elif piece.end == part.end or reached == place:
                return
            else:
                place = reached
                continue
        if wrong is None:
            at = last_position(output.stderr)
            if at is None:
                raise CommandFailed(keeper.name, ["pg_waldump", "-s", lsn(place)], output.status, output.stderr)
            reason = " ".join(output.stderr.splitlines()[-1].removeprefix("pg_waldump: error: ").split())
            wrong = min(max(number(at), place), piece.end - 1), reason
        file = wal.name(part.timeline, wrong[0], size)
        yield Gap(file, file, wrong[1])
        place = (wrong[0] // size + 1) * size


def _headers(stdout: str, repository: Repository, part: Part) -> tuple[int, str] | None:
    """The first segment that is another one, or of another cluster, by its first page."""
    size = repository.segment_bytes
    for name, words in re.findall(r"^header (\w+) (.*)$", stdout, re.MULTILINE):
        fields, place = words.split(), wal.position(name, size)
        if len(fields) != 3 or int(fields[0]) != place:
            held = f"that of {lsn(int(fields[0]))}" if fields and int(fields[0]) else "empty"
            return max(place, part.start), f"its first page is {held}, not that of {lsn(place)}"
        if fields[2] != repository.system_identifier:
            return max(place, part.start), f"it is of another cluster, with the system identifier {fields[2]}"
    return None


def runs(part: Part, size: int) -> Iterator[Part]:
    """What is there of a part, without the files that are not."""
    for there, group in groupby(part.files, key=lambda name: part.files[name] is not None):
        names = list(group)
        if there:
            low, high = wal.position(names[0], size), wal.position(names[-1], size) + size
            yield _clipped(part, max(low, part.start), min(high, part.end), size)


def _clipped(part: Part, start: int, end: int, size: int) -> Part:
    names = {wal.name(part.timeline, place, size) for place in range(start // size * size, end, size)}
    return Part(part.timeline, start, end, {name: file for name, file in part.files.items() if name in names})


def _first(keeper: Node, repository: Repository, start: Position, end: Position) -> str | None:
    """Where the first record at or after ``start`` begins; None when none does before ``end``."""
    for part in parts(repository, start, end):
        for run in runs(part, repository.segment_bytes):
            output = dump(keeper, run, "-n", "1", size=repository.segment_bytes)
            if found := re.search(r"lsn: ([0-9A-F]+/[0-9A-F]+)", output.stdout):
                return lsn(number(found[1]))
    return None


def _last(keeper: Node, repository: Repository, start: Position, end: Position) -> str | None:
    """Where the last whole record before ``end`` begins: looked for from the end on."""
    for part in _backwards(repository, start, end):
        output = dump(keeper, part, then="| tail -n 1", size=repository.segment_bytes)
        if found := re.search(r"lsn: ([0-9A-F]+/[0-9A-F]+)", output.stdout):
            return lsn(number(found[1]))
    return None


def _last_decided(keeper: Node, repository: Repository, start: Position, end: Position) -> datetime | None:
    """When the last transaction before ``end`` was committed or given up: only there recovery to a time can end."""
    for part in _backwards(repository, start, end):
        then = "| grep -E 'desc: (COMMIT|ABORT)' | tail -n 1"
        output = dump(keeper, part, "-r", "Transaction", then=then, size=repository.segment_bytes)
        if found := re.search(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC", output.stdout):
            return datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    return None


def _backwards(repository: Repository, start: Position, end: Position) -> Iterator[Part]:
    """Segment by segment, the last one first."""
    size = repository.segment_bytes
    for part in reversed(list(parts(repository, start, end))):
        for name in reversed(part.files):
            place = wal.position(name, size)
            if part.files[name]:
                yield _clipped(part, max(place, part.start), min(place + size, part.end), size)


def _reach(repository: Repository, target: Target) -> str:
    """The end of the whole segments of a timeline that the newest WAL does not come from."""
    names = [one.name for one in repository.segments if int(one.name[:8], 16) == target.timeline and not one.partial]
    end = wal.position(max(names), repository.segment_bytes) + repository.segment_bytes if names else 0
    return target.value if target.kind != "time" and number(target.value) > end else lsn(end)


def _file(repository: Repository, segment: Segment) -> str:
    name = f"{segment.name}.partial" if segment.partial else segment.name
    return str(Path(repository.directory) / "wal" / segment.folder / name)
