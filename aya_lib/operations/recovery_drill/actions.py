"""The drill itself: each phase timed, its result written down, the copy removed, whatever happened."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg import sql

from aya_lib.backup import chain, copies, elsewhere, mark, places, reading, replay
from aya_lib.backup.held import held
from aya_lib.backup.look import folder, look_at
from aya_lib.backup.records import Backup, Mark, Repository, Target
from aya_lib.backup.verify import files
from aya_lib.cluster import scratch
from aya_lib.errors import AyaError, CommandFailed, UsageError
from aya_lib.node.node import Node
from aya_lib.node.sql import statement
from aya_lib.operations.recovery_drill import history
from aya_lib.operations.recovery_drill.history import Drill
from aya_lib.operations.recovery_drill.look import NAME

FETCHED = "fetched"  # the copy of a further place, below the repository; gone afterwards
REMOVE_S = 600.0
LOADED = "aya_drill"  # the dump's database, on the restored copy


@dataclass(frozen=True)
class Restore:
    """Restore ``label`` to ``target`` in a folder of its own. Its result is a line of the drills' history, also when it fails."""

    label: str
    target: Target
    light: bool
    place: str = ""
    identity: str = ""

    def command(self, node: Node) -> str:
        where = f"-p place={self.place}" if self.place else f"-p to={self.target.value}"
        return f"aya run recovery_drill -p backup={self.label} {where} --site {node.site.name}"

    def run(self, node: Node) -> None:
        with held(node, folder(node.site), "recovery_drill"):
            repository = look_at(node)
            if not isinstance(repository, Repository):
                raise CommandFailed(node.name, ["ls", str(folder(node.site))], 1, str(repository))
            backup = repository.backup(self.label)
            if backup is None:
                raise UsageError(f"backup {self.label} is gone since it was looked at", hint="Run recovery_drill again")
            if self.place and node.config.ssh:
                raise UsageError(f"the copy is fetched by {node.name} itself", hint=f"Run it on {node.name}")
            _Run(node, repository, backup, self.target, self.light, self.place, self.identity).go()


@dataclass
class _Run:
    keeper: Node
    repository: Repository
    backup: Backup
    target: Target
    light: bool
    place: str
    identity: str
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def into(self) -> Path:
        return folder(self.keeper.site) / NAME

    @property
    def fetched(self) -> Path:
        return folder(self.keeper.site) / FETCHED

    @property
    def mark(self) -> Mark | None:
        named = (one for one in chain.marks(self.repository) if one.name == self.target.value)
        return next(named, None) if self.target.kind == "name" else None

    def go(self) -> None:
        point = f"{self.target.kind} {self.target.value}"
        at, label = self.repository.now.isoformat(timespec="seconds"), self.backup.label
        result = Drill(at, f"{label} from {self.place}" if self.place else label, point, self.light, self.phases)
        try:
            self._clear()
            if self.place:
                with self._timed("fetch"):
                    self._fetch()
            result = self._drilled(result)
        except AyaError as error:
            history.add(self.keeper, replace(result, fault=error.message[:500]))
            raise
        finally:
            self._clear()
        history.add(self.keeper, result)

    def _clear(self) -> None:
        replay.remove(self.keeper, self.into)
        if not self.keeper.config.ssh:  # made by this process, and perhaps not yet given to the account when it was killed
            self.keeper.shell.run(["rm", "-rf", "--", str(self.fetched)], timeout_s=REMOVE_S).checked()

    def _fetch(self) -> None:
        """The copy as a repository of its own, readable for the cluster's account alone."""
        config, private = elsewhere.named(self.keeper.site, self.place), Path(self.identity) if self.identity else None
        copies.fetch(places.open_place(config), self.backup.label, self.fetched, private, lambda _: None)
        if os.geteuid() == 0:
            owned = ["chown", "-R", "-h", str(self.keeper.account), str(self.fetched)]
            self.keeper.shell.run(owned, timeout_s=REMOVE_S).checked()
        found = look_at(self.keeper, self.fetched)
        backup = found.backup(self.backup.label) if isinstance(found, Repository) else None
        if not isinstance(found, Repository) or backup is None:
            raise AyaError(f"what was fetched from {self.place} is no repository: {found}", hint="Run backup: it copies again")
        self.repository, self.backup = found, backup

    def _drilled(self, result: Drill) -> Drill:
        keeper, repository = self.keeper, self.repository
        if not self.light:
            with self._timed("read every file"):
                files(keeper, repository, self.backup, lambda: None)
        with self._timed("read the WAL"):
            end = replay.reaches(repository, self.backup, self.target)
            damaged = reading.read_through(keeper, repository, self.backup.start, end) if end else ()
        if damaged:
            raise AyaError(f"WAL {damaged[0].first}: {damaged[0].reason}", hint="Run backup: it makes one behind the damage")
        with self._timed("put together"):
            replay.restore(keeper, repository, self.backup, self.target, self.into)
            if not self.light:
                replay.aim(keeper, repository, self.backup, self.target, self.into, promote=True)
        began = time.monotonic()
        with replay.scratch(keeper, self.into) as sockets:
            self.phases["recover"] = round(time.monotonic() - began, 2)
            return self._compared(replace(result, bytes=self._bytes(sockets)), sockets)

    def _compared(self, result: Drill, sockets: Path) -> Drill:
        with self._timed("compare"):
            rows = int(self._ask(sockets, "drill_rows"))
            own = mark.compare(self.mark, self.keeper, sockets) if self.mark else None
        result = replace(result, rows=rows, unsaid="" if self.mark else "the target is no mark: nobody counted there")
        if own:
            result = replace(result, tables=own.compared, differing=own.differing, unsaid=own.unsaid)
        with self._timed("search"):
            result = replace(result, found=self._searched(sockets))
        if not self.light and self.backup.dumps and self.mark and self.mark == self.backup.mark:
            with self._timed("load the dump"):
                result = replace(result, differing=result.differing + self._loaded(sockets))
        return result

    def _searched(self, sockets: Path) -> tuple[int, int] | None:
        """How many of the mark's nearest neighbours a search by the index finds, of how many; None: the mark has none."""
        if not self.mark or self.mark.probe is None or not self.mark.neighbours:
            return None
        query = sql.SQL(statement(__package__, "drill_search")).format(
            probe=sql.Literal(self.mark.probe), limit=sql.Literal(len(self.mark.neighbours))
        )
        found = set(json.loads(scratch.psql(self.keeper, sockets, self.keeper.site.database.name, query.as_string())))
        return len(found & {*self.mark.neighbours}), len(self.mark.neighbours)

    def _loaded(self, sockets: Path) -> tuple[str, ...]:
        """Load the site's own dump into a database of its own on the copy: what differs from the mark."""
        name, limit_s = self.keeper.site.database.name, mark.limit(self.backup.bytes)
        file = Path(self.repository.directory) / "backups" / self.backup.label / "dumps" / f"{name}.dump"
        made = f"SET default_transaction_read_only = off; CREATE DATABASE {LOADED} TEMPLATE template0"
        scratch.psql(self.keeper, sockets, "postgres", made)
        where = ("-h", str(sockets), "-p", str(self.keeper.config.postgresql.port), "-U", self.keeper.site.database.owner)
        words = ("--exit-on-error", "-w", "-d", LOADED, str(file))
        output = self.keeper.postgresql("pg_restore", *where, *words, timeout_s=limit_s)
        if output.status:
            return (f"the dump of {name} cannot be loaded: {output.stderr.strip().splitlines()[-1][:200]}",)
        assert self.mark
        rows = {table: (rows, total) for table, (rows, total) in self.mark.tables.get(name, {}).items()}
        there = mark.counted(self.keeper, sockets, LOADED, [*rows], limit_s)
        return tuple(f"the dump of {name}: {table} differs from its mark" for table in rows if there.get(table) != rows[table])

    def _bytes(self, sockets: Path) -> int:
        return int(scratch.psql(self.keeper, sockets, "postgres", "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"))

    def _ask(self, sockets: Path, name: str) -> str:
        return scratch.psql(self.keeper, sockets, self.keeper.site.database.name, statement(__package__, name)).strip()

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[phase] = round(time.monotonic() - began, 2)
