"""Make a backup, by PostgreSQL's own programs on the keeper: base backup, mark, dump, record; then it gets its name.

Killed at any point, it is a folder ``.part`` that the next run deletes.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from aya_lib.backup import mark
from aya_lib.backup.held import held
from aya_lib.backup.look import folder, look_at, place, section, written
from aya_lib.backup.records import Backup, Kind, Mark, Position, Repository
from aya_lib.backup.retain import Expired, expired
from aya_lib.cluster.replication import source_conninfo
from aya_lib.errors import AyaError, CommandFailed
from aya_lib.node.node import Node
from aya_lib.node.shell import WRITE
from aya_lib.node.sql import SILENCE, password, rows
from aya_lib.secrets import Secret
from aya_lib.site import Site

PASSFILE = ".pgpass"  # in a .part, for pg_dump, and gone when that has ended
NAME = "aya_basebackup"  # application_name
_ALIVE = {name: str(value) for name, value in SILENCE.items()}
# The link of a tablespace names its folder, whose name changes too.
RENAME = """
set -e; cd "$1"; rm -f .pgpass; final="$2"; test ! -e "$final"
for link in data/pg_tblspc/*; do if test -L "$link"; then ln -sfn "$final/tablespaces/${link##*/}" "$link"; fi; done
sync; mv "$1" "$final"; sync
"""
SUMS = 'cd "$1" && if command -v sha256sum >/dev/null; then sha256sum -- *; else shasum -a 256 -- *; fi && wc -c -- *'


@dataclass(frozen=True)
class Source:
    """The server that a backup is made of. ``tablespaces``: oid -> where it lies there; ``at``: its clock. ``summarized_from``:
    the LSN since which its WAL is summarized without a hole."""

    system_identifier: str
    segment_bytes: int
    bytes: int
    tablespaces: Mapping[str, str]
    summarizes: bool
    summarized_from: str | None
    archive_command: str
    at: datetime


def look_source(node: Node) -> Source:
    with node.session(database="postgres") as connection:
        return rows(connection, __package__, "source", Source)[0]


@dataclass(frozen=True)
class Make:
    """A backup of ``source`` (a node that answers now) called ``label``; the mark and the dump come from ``primary``.

    ``parent``: the label that an incremental one stands on. A dump that fails does not cost the base backup: it is kept without
    one, and the error names it. Raises :class:`Locked` while another run works on the repository.
    """

    label: str
    kind: Kind
    parent: str | None
    primary: Node
    source: Node
    dump: bool = True

    def command(self, keeper: Node) -> str:
        return f"pg_basebackup {shlex.join(self._arguments(keeper, {}, alive=False))}"

    def run(self, keeper: Node) -> None:
        with held(keeper, folder(keeper.site), "backup") as still:
            clean(keeper)
            try:
                backup, failed = self._make(keeper)
                still()
                finish(keeper, backup)
            except BaseException:
                with suppress(AyaError):
                    keeper.script('rm -rf -- "$1"', _part(keeper.site, self.label), timeout_s=mark.LIMIT_S)  # WAL needs the room
                raise
        if failed:
            raise failed

    def _make(self, keeper: Node) -> tuple[Backup, AyaError | None]:
        part = _part(keeper.site, self.label)
        since, source = time.monotonic(), look_source(self.source)
        keeper.script('umask 077; mkdir -p "$1/dumps" "$1/tablespaces"', part)
        limit_s = mark.limit(source.bytes) + source.bytes / 2**19 / (section(keeper.site).rate_mb_s or 1e9)
        arguments = self._arguments(keeper, source.tablespaces)
        hint = "Run backup with kind=full" if self.parent else "Nothing is kept of it. Mend that, and run backup again"
        keeper.postgresql("pg_basebackup", *arguments, timeout_s=limit_s).checked(hint=hint)
        after = look_source(self.source)
        start, stop = _span(keeper, part, source.at, after.at)
        failed: AyaError | None = None
        dumps: Mapping[str, tuple[int, str]] = {}
        with mark.moment(self.primary, f"aya-{self.label}") as moment:
            if self.dump:
                try:
                    dumps = dump(keeper, self.primary, part, moment, mark.limit(source.bytes))
                except AyaError as error:
                    failed = CommandFailed(keeper.name, ["pg_dump"], 1, error.message, hint="The base backup is whole and kept")
            found: Mark = moment.mark()
        with self.primary.session(database="postgres", write=True) as connection:
            connection.execute("SELECT pg_switch_wal()")  # the mark's segment is whole then, and can be copied elsewhere
        backup = Backup(self.label, self.kind, self.parent, self.source.name, start, stop, source.at, source.at, 0, found, dumps)
        ended = source.at + timedelta(seconds=time.monotonic() - since)  # by the clock of the server, as everything here is
        return replace(backup, ended=ended, bytes=_bytes(keeper, part)), failed

    def _arguments(self, keeper: Node, tablespaces: Mapping[str, str], *, alive: bool = True) -> list[str]:
        """``alive``: with what notices a cut link; a person who types it needs none of that."""
        part, rate = _part(keeper.site, self.label), section(keeper.site).rate_mb_s
        source = make_conninfo(source_conninfo(keeper, self.source, NAME), **(_ALIVE if alive else {}))
        words = ["-D", str(part / "data"), "-d", source, "-w", "-X", "stream", "-c", "fast"]
        words += [f"--max-rate={min(max(32, int(rate * 1024)), 2**20)}k"] if rate else []
        words += [f"--incremental={place(keeper.site, self.parent)}/data/backup_manifest"] if self.parent else []
        for oid, where in tablespaces.items():
            words += ["-T", f"{_escaped(where)}={_escaped(str(part / 'tablespaces' / oid))}"]
        return words


def dump(keeper: Node, primary: Node, part: Path, moment: mark.Moment, limit_s: float) -> dict[str, tuple[int, str]]:
    """Each database by pg_dump (custom form), of the mark's snapshot where it has one, and what belongs to no database."""
    owner, target = primary.site.database.owner, part / "dumps"
    with_password = password(primary, owner, primary.site.database.name)
    if with_password:
        _passfile(keeper, part, primary, with_password)
    own = {"passfile": str(part / PASSFILE)} if with_password else {}
    server: dict[str, Any] = {"host": primary.config.host, "port": primary.config.postgresql.port, "user": owner, **own, **_ALIVE}
    try:
        for database in moment.databases:
            words = ["-w", "-Fc", "-f", str(target / f"{_file(database)}.dump"), "-d", make_conninfo(dbname=database, **server)]
            words += [f"--snapshot={moment.snapshots[database]}"] if database in moment.snapshots else []
            keeper.postgresql("pg_dump", *words, timeout_s=limit_s).checked()
        words = ["-w", "--globals-only", "-f", str(target / "globals.sql"), "-d", make_conninfo(dbname="postgres", **server)]
        keeper.postgresql("pg_dumpall", *words, timeout_s=limit_s).checked()
    finally:
        keeper.script('rm -f "$1"', part / PASSFILE)
    return sums(keeper, target, limit_s)


def sums(keeper: Node, directory: Path, limit_s: float) -> dict[str, tuple[int, str]]:
    """Bytes and SHA-256 of every file in a folder; none in an empty one."""
    text = keeper.script(f'test -z "$(ls -A "$1")" || {{ {SUMS}; }}', directory, timeout_s=limit_s)
    sizes = {name: int(size) for size, name in re.findall(r"^\s*(\d+) (.+)$", text, re.MULTILINE)}
    return {name: (sizes[name], digest) for digest, name in re.findall(r"^([0-9a-f]{64}) [ *](.+)$", text, re.MULTILINE)}


@dataclass(frozen=True)
class Begin:
    """Make the repository for this cluster; nothing when it is there. Only the cluster's account may enter it."""

    system_identifier: str
    segment_bytes: int

    def command(self, keeper: Node) -> str:
        return f"mkdir -p -m 0700 {folder(keeper.site)}"

    def run(self, keeper: Node) -> None:
        where, text = folder(keeper.site), json.dumps(asdict(self)) + "\n"
        script = 'umask 077; mkdir -p "$1" && chmod 0700 "$1" && mkdir -p "$1/wal" "$1/backups"'
        hint = f"Make {where} on {keeper.name}, and give it to the account that owns the cluster"
        keeper.shell.run(["sh", "-c", script, "sh", str(where)], account=keeper.account).checked(hint)
        keeper.script(f'test -e "$1" || {{ {WRITE}; }}', where / "repository.json", "0600", stdin=text)


def clean(keeper: Node) -> None:
    """Delete the half backups of killed runs. Only who holds the repository may."""
    keeper.script('rm -rf -- "$1"/*.part "$1"/*.gone', folder(keeper.site) / "backups", timeout_s=mark.LIMIT_S)


def finish(keeper: Node, backup: Backup) -> None:
    """Write the record, put everything on the disk, and give the backup its name."""
    part = _part(keeper.site, backup.label)
    record(keeper, backup, part)
    keeper.script(RENAME, part, place(keeper.site, backup.label), timeout_s=mark.LIMIT_S)


def record(keeper: Node, backup: Backup, where: Path | None = None) -> None:
    """Write a backup's record, whole or not at all."""
    path = (where or place(keeper.site, backup.label)) / "backup.json"
    keeper.script(f"{WRITE} && sync", path, "0600", stdin=written(backup), timeout_s=mark.LIMIT_S)


def _span(keeper: Node, part: Path, began: datetime, ended: datetime) -> tuple[Position, Position]:
    """From where to where the WAL is needed, as the manifest says. (PostgreSQL: Backup Manifest WAL Range Object.)"""
    text = keeper.script('tail -c 65536 "$1"', part / "data" / "backup_manifest")
    pattern = r'"Timeline": (\d+), "Start-LSN": "([0-9A-F/]+)", "End-LSN": "([0-9A-F/]+)"'
    ranges = sorted((int(timeline), start, end) for timeline, start, end in re.findall(pattern, text))
    if not ranges:
        raise CommandFailed(keeper.name, ["cat", "backup_manifest"], 0, "it names no range of WAL")
    return Position(ranges[0][0], ranges[0][1], began), Position(ranges[-1][0], ranges[-1][2], ended)


def _passfile(keeper: Node, part: Path, primary: Node, secret: Secret) -> None:
    """The owner's password, for pg_dump on the keeper: by standard input, into a file of its account in the ``.part``."""
    host, owner, known = (
        re.sub(r"([\\:])", r"\\\1", text) for text in (primary.config.host, primary.site.database.owner, secret.reveal())
    )
    keeper.script(WRITE, part / PASSFILE, "0600", stdin=f"{host}:*:*:{owner}:{known}\n")


def _file(database: str) -> str:
    """A file's name for a database: other characters than letters, digits, _ and - are percent-encoded."""
    return re.sub(r"[^\w-]", lambda found: f"%{ord(found[0]):02X}", database, flags=re.ASCII)


def _part(site: Site, label: str) -> Path:
    return place(site, f"{label}.part")


def _escaped(path: str) -> str:
    """As pg_basebackup's option -T reads it."""
    return path.replace("=", "\\=")


def _bytes(keeper: Node, where: Path) -> int:
    return int(keeper.script('du -sk -- "$1"', where, timeout_s=mark.LIMIT_S).split()[0]) * 1024


@dataclass(frozen=True)
class Prune:
    """Delete what is older than the window, judged once more while the repository is held. ``clock``: the primary's."""

    expired: Expired
    keep_days: float
    clock: datetime

    def command(self, keeper: Node) -> str:
        names = shlex.join(self.expired.backups)
        return f"rm -r {names}".rstrip() + (f"; rm {len(self.expired.segments)} segments" if self.expired.segments else "")

    def run(self, keeper: Node) -> None:
        where = folder(keeper.site)
        with held(keeper, where, "backup") as still:
            found = look_at(keeper)
            if not isinstance(found, Repository):
                raise CommandFailed(keeper.name, ["ls", str(where)], 1, str(found))
            now = expired(found, self.keep_days, self.clock)
            for label in [one for one in self.expired.backups if one in now.backups]:
                still()
                keeper.script('mv -- "$1" "$1.gone" && rm -rf -- "$1.gone"', place(keeper.site, label), timeout_s=mark.LIMIT_S)
            paths = [str(where / "wal" / one.folder / one.name) for one in self.expired.segments if one in now.segments]
            for first in range(0, len(paths), 200):
                keeper.script('rm -f -- "$@"', *paths[first : first + 200])
