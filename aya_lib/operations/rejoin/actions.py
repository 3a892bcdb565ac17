"""Make a data directory that of a standby: by a base backup beside the old one, or by pg_rewind of the old one itself.

Every action can be killed and done again. A journal beside the data directory says what was made; it is written when the copy
is whole, and for pg_rewind also before it begins: a data directory that was rewound half is of no use any more.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from psycopg import sql

from aya_lib.cluster import scratch
from aya_lib.cluster.server import OF_A_ROLE, Files, look_files
from aya_lib.cluster.state import MARK
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.operations.rejoin import staging
from aya_lib.operations.rejoin.staging import Journal
from aya_lib.plan.actions import Script, Sql

REMOVE_S = SYNC_S = 600.0  # to delete a data directory; to write out what the disk has not yet
READS = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)


@dataclass(frozen=True)
class Follow:
    """Whom the standby follows. ``source``: its primary_conninfo, without a password. ``has``: logical slots there."""

    source: str
    slot: str
    system_identifier: str
    timeline: int
    has: tuple[str, ...] = ()

    def journal(self, node: Node, method: str, *, done: bool) -> Journal:
        return Journal(node.name, method, self.system_identifier, self.timeline, done)


@dataclass(frozen=True)
class Clone:
    """A base backup into a folder beside the data directory, with the node's own settings; whole or not there."""

    follow: Follow
    timeout_s: float

    def command(self, node: Node) -> str:
        return f"pg_basebackup {shlex.join(self._arguments(node))}"

    def run(self, node: Node) -> None:
        target = staging.incoming(node)
        staging.end_copies(node)
        _begin(node)
        _sh(node, 'rm -rf "$1"', target, timeout_s=self.timeout_s)
        _keep_settings(node)
        node.postgresql("pg_basebackup", *self._arguments(node), timeout_s=self.timeout_s).checked()
        _settle(node, target, self.follow)
        _write_journal(node, self.follow.journal(node, "clone", done=True))

    def _arguments(self, node: Node) -> list[str]:
        own = ["-D", str(staging.incoming(node)), "-d", self.follow.source, "-w"]
        return [*own, "-X", "stream", "-c", "fast", "-S", self.follow.slot]


@dataclass(frozen=True)
class Rewind:
    """pg_rewind of the old data directory, which must be stopped. ``archive``: let it fetch WAL by restore_command."""

    follow: Follow
    archive: bool
    timeout_s: float

    def command(self, node: Node) -> str:
        return f"pg_rewind {shlex.join(self._arguments(node))}"

    def run(self, node: Node) -> None:
        staging.end_copies(node)
        scratch.end(node, node.data_directory)
        _begin(node)
        _keep_settings(node)
        files = look_files(node)
        if not isinstance(files, Files) or not files.clean:
            with scratch.server(node, node.data_directory, staging.own_settings(node)):
                pass  # finishes the crash recovery, keeping all WAL; pg_rewind's own way recycles what it then needs
        _write_journal(node, self.follow.journal(node, "rewind", done=False))
        node.postgresql("pg_rewind", *self._arguments(node), timeout_s=self.timeout_s).checked(
            hint="Run rejoin again: it makes a clone"
        )
        _settle(node, node.data_directory, self.follow)
        _write_journal(node, self.follow.journal(node, "rewind", done=True))

    def _arguments(self, node: Node) -> list[str]:
        source = f"--source-server={self.follow.source} dbname=postgres"
        return ["-D", str(node.data_directory), source, *(["--restore-target-wal"] if self.archive else [])]


def swap(node: Node, before: str) -> Script:
    """Put the clone in the place of the old data directory, which is kept under the name ``before``."""
    here, new = node.data_directory, staging.incoming(node)
    old = here.with_name(before)
    script = 'if [ -e "$1" ]; then if [ -e "$2" ]; then mv "$2" "$3" || exit 1; fi; mv "$1" "$2"; fi'
    return Script(script, (str(new), str(here), str(old)), shown=f"mv {here} {old}; mv {new} {here}")


def finish(node: Node) -> Script:
    """Take away the journal and the kept settings: the node is a standby."""
    journal, settings = staging.journal(node), staging.own_settings(node)
    return Script('rm -rf "$1" && rm -f "$2"', (str(settings), str(journal)), shown=f"rm -r {journal} {settings}")


def remove(node: Node, names: Sequence[str]) -> Script:
    """Delete old data directories, by their names beside the data directory."""
    paths = [str(node.data_directory.with_name(name)) for name in names]
    return Script(("rm", "-rf", "--", *paths), timeout_s=REMOVE_S, shown=f"rm -r {' '.join(paths)}")


def let_read(role: str) -> Sql:
    """Let the replication role read the primary's files as pg_rewind does. A base backup lets it read as much."""
    grant = sql.SQL("SET synchronous_commit = local; GRANT EXECUTE ON FUNCTION {} TO {}")
    return Sql(grant.format(sql.SQL(", ").join(map(sql.SQL, READS)), sql.Identifier(role)).as_string(None))


def automatic(text: str, follow: Follow) -> str:
    """The node's own postgresql.auto.conf, with whom it follows now, and without what belonged to another role."""
    lines = [line for line in text.splitlines() if not OF_A_ROLE.match(line)]
    values = {"primary_conninfo": follow.source, "primary_slot_name": follow.slot}
    lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _begin(node: Node) -> None:
    """Forget an earlier copy. After a pg_rewind that did not end its journal stays, and the settings: they are nowhere else."""
    journal = staging.parse_journal(read(node.shell, staging.journal(node), account=node.account))
    if journal is None or journal.done or journal.node != node.name:
        _sh(node, 'rm -f "$1" && rm -rf "$2"', staging.journal(node), staging.own_settings(node))


def _keep_settings(node: Node) -> None:
    """Copy the node's own configuration files beside it, and which slots it has, once: pg_rewind overwrites and removes them."""
    script = (
        f'set -e; [ -d "$2" ] && exit; rm -rf "$2.new"; mkdir -m 0700 "$2.new"; cp -p "$1"/*.conf "$2.new/"; {staging.LIST_SLOTS}'
    )
    _sh(node, f'{script} > "$2.new/slots"; mv "$2.new" "$2"', node.data_directory, staging.own_settings(node))


def _settle(node: Node, directory: Path, follow: Follow) -> None:
    """The node's own settings, whom it follows, and that it is a standby, into a copy that came from the primary.

    The slot over which it is followed goes: on a standby nobody reads over it, and it would hold WAL for ever; and those of which
    it is to get copies from the primary. Others stay, if the copy has them.
    """
    kept = staging.own_settings(node)
    own = node.shell.run(["cat", f"{kept}/postgresql.auto.conf"], account=node.account).checked().stdout
    gone = shlex.join(f"pg_replslot/{name}" for name in (follow.slot, *follow.has))
    script = (
        f'umask 077; touch "$1/standby.signal" && rm -f "$1/recovery.signal" "$1/{MARK}" && (cd "$1" && rm -rf {gone}) && '
        'cp -p "$2"/*.conf "$1/" && cd "$1" && cat > postgresql.auto.conf.new && mv postgresql.auto.conf.new postgresql.auto.conf'
    )
    _sh(node, script, directory, kept, stdin=automatic(own, follow), timeout_s=SYNC_S)


def _write_journal(node: Node, journal: Journal) -> None:
    """On the disk before pg_rewind begins; and only after everything that it says is done."""
    before, after = ("sync && ", "") if journal.done else ("", " && sync")
    script = f'cat > "$1.new" && {before}mv "$1.new" "$1"{after}'
    _sh(node, script, staging.journal(node), stdin=json.dumps(asdict(journal)) + "\n", timeout_s=SYNC_S)


def _sh(node: Node, script: str, *paths: Path, stdin: str | None = None, timeout_s: float = 60) -> None:
    Script(script, tuple(map(str, paths)), stdin, timeout_s=timeout_s).run(node)
