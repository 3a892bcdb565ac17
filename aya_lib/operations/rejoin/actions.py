"""Make a data directory that of a standby: by a base backup beside the old one, or by pg_rewind of the old one itself.

Every action can be killed and done again. A journal beside the data directory says what was made; it is written when the copy
is whole, and for pg_rewind also before it begins: a data directory that was rewound half is of no use any more.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from psycopg import sql

from aya_lib.cluster.server import Files, look_files
from aya_lib.cluster.state import MARK
from aya_lib.node.node import Node
from aya_lib.node.shell import read
from aya_lib.operations.rejoin import scratch, staging
from aya_lib.operations.rejoin.staging import Journal

# Settings of postgresql.auto.conf that a node in another role must not bring along.
DROPPED = re.compile(r"\s*(primary_conninfo|primary_slot_name|synchronous_standby_names|recovery_target\w*)\s*=", re.IGNORECASE)
CHECKPOINT_S = 600  # a checkpoint writes out what is dirty of shared_buffers
READS = (
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
)


@dataclass(frozen=True)
class Follow:
    """Whom the standby follows. ``source``: its primary_conninfo, without a password."""

    source: str
    slot: str
    system_identifier: str
    timeline: int

    def journal(self, node: Node, method: str, *, done: bool) -> Journal:
        return Journal(node.name, method, self.system_identifier, self.timeline, done)


@dataclass(frozen=True)
class CreateSlot:
    """A physical slot that holds WAL at once: from the last checkpoint on, so one is made first. After a promotion the last one
    can lie so far back that the slot would be lost at the next."""

    name: str

    def command(self, node: Node) -> str:
        return f"CHECKPOINT; SELECT pg_create_physical_replication_slot('{self.name}', true)"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True, deadline_s=CHECKPOINT_S) as connection:
            connection.execute("SET statement_timeout = 0")
            connection.execute("CHECKPOINT")
            if not connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (self.name,)).fetchone():
                connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (self.name,))


@dataclass(frozen=True)
class LetRead:
    """Let the replication role read the primary's files as pg_rewind does. A base backup lets it read as much."""

    role: str

    def command(self, node: Node) -> str:
        return f"GRANT EXECUTE ON FUNCTION pg_ls_dir, pg_stat_file, pg_read_binary_file TO {self.role}"

    def run(self, node: Node) -> None:
        with node.session(database="postgres", write=True) as connection:
            connection.execute("SET synchronous_commit = local")
            for function in READS:
                grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}")
                connection.execute(grant.format(sql.SQL(function), sql.Identifier(self.role)))


@dataclass(frozen=True)
class Clone:
    """A base backup into a folder beside the data directory, with the node's own settings; whole or not there."""

    follow: Follow
    timeout_s: float

    def command(self, node: Node) -> str:
        return f"pg_basebackup {shlex.join(self._arguments(node))}"

    def run(self, node: Node) -> None:
        target = staging.incoming(node)
        _begin(node)
        _sh(node, f"rm -rf {_q(target)}", self.timeout_s)
        _keep_settings(node)
        node.postgresql("pg_basebackup", *self._arguments(node), timeout_s=self.timeout_s).checked()
        _settle(node, target, self.follow)
        _write_journal(node, self.follow.journal(node, "clone", done=True))

    def _arguments(self, node: Node) -> list[str]:
        own = ["-D", str(staging.incoming(node)), "-d", self.follow.source, "-w"]
        return [*own, "-X", "stream", "-c", "fast", "-S", self.follow.slot]


@dataclass(frozen=True)
class Swap:
    """Put the clone in the place of the old data directory, which is kept under the name ``before``."""

    before: str

    def command(self, node: Node) -> str:
        here = node.data_directory
        return f"mv {here} {here.with_name(self.before)}; mv {staging.incoming(node)} {here}"

    def run(self, node: Node) -> None:
        here, new = _q(node.data_directory), _q(staging.incoming(node))
        old = _q(node.data_directory.with_name(self.before))
        _sh(node, f"if [ -e {new} ]; then if [ -e {here} ]; then mv {here} {old} || exit 1; fi; mv {new} {here}; fi")


@dataclass(frozen=True)
class Rewind:
    """pg_rewind of the old data directory, which must be stopped. ``archive``: let it fetch WAL by restore_command."""

    follow: Follow
    archive: bool
    timeout_s: float

    def command(self, node: Node) -> str:
        return f"pg_rewind {shlex.join(self._arguments(node))}"

    def run(self, node: Node) -> None:
        scratch.stop(node)
        _begin(node)
        _keep_settings(node)
        files = look_files(node)
        if not isinstance(files, Files) or not files.clean:
            with scratch.started(node, staging.own_settings(node)):
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


@dataclass(frozen=True)
class Finish:
    """Take away the journal and the kept settings: the node is a standby."""

    def command(self, node: Node) -> str:
        return f"rm -r {staging.journal(node)} {staging.own_settings(node)}"

    def run(self, node: Node) -> None:
        _sh(node, f"rm -rf {_q(staging.own_settings(node))} && rm -f {_q(staging.journal(node))}")


@dataclass(frozen=True)
class Remove:
    """Delete old data directories, by their names beside the data directory."""

    names: tuple[str, ...]
    timeout_s: float = 600

    def command(self, node: Node) -> str:
        return f"rm -r {' '.join(str(node.data_directory.with_name(name)) for name in self.names)}"

    def run(self, node: Node) -> None:
        _sh(node, f"rm -rf {' '.join(_q(node.data_directory.with_name(name)) for name in self.names)}", self.timeout_s)


def automatic(text: str, follow: Follow) -> str:
    """The node's own postgresql.auto.conf, with whom it follows now, and without what belonged to another role."""
    lines = [line for line in text.splitlines() if not DROPPED.match(line)]
    values = {"primary_conninfo": follow.source, "primary_slot_name": follow.slot}
    lines += [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _begin(node: Node) -> None:
    """Forget an earlier copy. After a pg_rewind that did not end its journal stays, and the settings: they are nowhere else."""
    found = staging.parse_journal(read(node.shell, staging.journal(node), account=node.account))
    if found is None or found.done or found.node != node.name:
        _sh(node, f"rm -f {_q(staging.journal(node))} && rm -rf {_q(staging.own_settings(node))}")


def _keep_settings(node: Node) -> None:
    """Copy the node's own configuration files beside it, once: pg_rewind overwrites them with the primary's."""
    kept, here = _q(staging.own_settings(node)), _q(node.data_directory)
    script = f"rm -rf {kept}.new; mkdir -m 0700 {kept}.new && cp -p {here}/*.conf {kept}.new/ && mv {kept}.new {kept}"
    _sh(node, f"[ -d {kept} ] || {{ {script}; }}")


def _settle(node: Node, directory: Path, follow: Follow) -> None:
    """The node's own settings, whom it follows, and that it is a standby, into a copy that came from the primary.

    Slots that the node had as a primary go: left on a standby, which nobody reads from, they would hold its WAL for ever.
    """
    kept, target = _q(staging.own_settings(node)), _q(directory)
    own = node.shell.run(["cat", f"{staging.own_settings(node)}/postgresql.auto.conf"], account=node.account).checked().stdout
    settings = f"{target}/postgresql.auto.conf"
    script = (
        f"umask 077; touch {target}/standby.signal && rm -f {target}/recovery.signal {target}/{MARK} && "
        f"rm -rf {target}/pg_replslot/* && "
        f"cp -p {kept}/*.conf {target}/ && cat > {settings}.new && mv {settings}.new {settings}"
    )
    node.shell.run(["sh", "-c", script], stdin=automatic(own, follow), account=node.account, timeout_s=600).checked()


def _write_journal(node: Node, journal: Journal) -> None:
    """On the disk before pg_rewind begins; and only after everything that it says is done."""
    path = _q(staging.journal(node))
    before, after = ("sync && ", "") if journal.done else ("", " && sync")
    script = f"cat > {path}.new && {before}mv {path}.new {path}{after}"
    node.shell.run(["sh", "-c", script], stdin=json.dumps(asdict(journal)) + "\n", account=node.account, timeout_s=600).checked()


def _sh(node: Node, script: str, timeout_s: float = 60) -> None:
    node.shell.run(["sh", "-c", script], account=node.account, timeout_s=timeout_s).checked()


def _q(path: Path) -> str:
    return shlex.quote(str(path))
