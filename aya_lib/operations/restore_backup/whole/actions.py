"""Restore beside the data directory, prove it, promote it there, and put it in its place by rename. Each can be killed and done
again; the old data directory is kept whatever happens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from aya_lib.backup import mark, replay
from aya_lib.backup.held import held
from aya_lib.backup.look import folder
from aya_lib.cluster import scratch
from aya_lib.cluster.server import OF_A_ROLE
from aya_lib.cluster.state import MARK
from aya_lib.errors import AyaError, ChangeFailed, NoWayBack, UsageError
from aya_lib.node.node import Node
from aya_lib.node.shell import WRITE, read
from aya_lib.node.sql import statement
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.operations.restore_backup.whole.look import Made, incoming, journal
from aya_lib.plan.actions import Script, Service

SYNC_S = 3600.0  # to write out what the disk has not yet
# $1: the restored directory, $2: the present one. A new timeline must have a number that no earlier one had.
HISTORIES = 'for f in "$2"/pg_wal/*.history; do test -e "$f" || continue; cp -n "$f" "$1/pg_wal/" || exit 1; done'
# $1: the restored folder, $2: the present data directory, $3: for tablespaces. The node's own settings, where it has any; what
# else names the folder is led elsewhere, for the folder itself goes.
SETTLE = f"""
cd "$1/data" || exit 1
rm -f standby.signal recovery.signal {MARK} postgresql.auto.conf.backup.new
if test -e "$2/postgresql.conf"; then cp -p "$2"/*.conf . || exit 1; fi
for where in "$1"/tablespaces/*; do
  test -d "$where" || continue
  mkdir -p "$3" && mv "$where" "$3/" && ln -sfn "$3/${{where##*/}}" "pg_tblspc/${{where##*/}}" || exit 1
done
"""
PUT = 'if [ -e "$1" ]; then if [ -e "$2" ]; then mv "$2" "$3" || exit 1; fi; mv "$1" "$2"; fi'
TAKE_BACK = 'if [ -e "$3" ]; then mv "$2" "$1" && mv "$3" "$2"; fi'


@dataclass(frozen=True)
class Restore:
    """Restore to the target beside, look at it, compare it where the target is a mark, and promote it to a new timeline."""

    aim: Aim
    asked: str
    stamp: str

    def command(self, node: Node) -> str:
        how = "pg_combinebackup" if self.aim.backup.parent else "cp -a"
        target = f"{self.aim.target.kind} {self.aim.target.value}"
        return f"{how} {self.aim.backup.label} into {incoming(node)}; recovery to {target}; promote"

    def run(self, node: Node) -> None:
        aim, into = self.aim, incoming(node)
        with held(node, folder(node.site), "restore_backup") as still:
            _sh(node, 'rm -f "$1"', journal(node))
            replay.restore(node, aim.repository, aim.backup, aim.target, into, durable=True)
            _sh(node, HISTORIES, into / "data", node.data_directory)
            with replay.scratch(node, into) as sockets:
                found, compared = _facts(node, sockets), _compared(aim, node, sockets)
            still()
            replay.aim(node, aim.repository, aim.backup, aim.target, into, promote=True, durable=True)
            with replay.scratch(node, into) as sockets:
                timeline = int(str(_facts(node, sockets)["timeline"]))
            _settle(node, into, node.data_directory.with_name(f"{node.data_directory.name}.tablespaces-{self.stamp}"))
            counts = int(str(found["tables"])), int(str(found["rows"]))
            identity = aim.point, self.asked, aim.repository.system_identifier, timeline
            made = Made(*identity, str(found["lsn"]), str(found["last"]), *counts, compared)
            _sh(node, "sync", timeout_s=SYNC_S)
            _sh(node, WRITE, journal(node), "0600", stdin=json.dumps(asdict(made)) + "\n")


@dataclass(frozen=True)
class Put:
    """Rename the restored directory into the place of the old one, which is kept under the name ``before``; ``back``: the other
    way round. :class:`UsageError` while a server runs on it."""

    before: str
    back: bool = False

    def command(self, node: Node) -> str:
        here, new, old = self._paths(node)
        return f"mv {here} {new}; mv {old} {here}" if self.back else f"mv {here} {old}; mv {new} {here}"

    def run(self, node: Node) -> None:
        here, new, old = self._paths(node)
        text = read(node.shell, here / "postmaster.pid", account=node.account)
        if text is not None and (said := scratch.running(node, text)):
            raise UsageError(f"{node.name}: a server runs on {here}: {said}", hint=f"{_stop(node)}, then run it again")
        _sh(node, TAKE_BACK if self.back else PUT, new, here, old)

    def _paths(self, node: Node) -> tuple[Path, Path, Path]:
        return node.data_directory, incoming(node) / "data", node.data_directory.with_name(self.before)


@dataclass(frozen=True)
class Start:
    """Start what was put in place. Once its server runs there is no way back: it may have accepted writes."""

    def command(self, node: Node) -> str:
        return Service("start", "postgresql").command(node)

    def run(self, node: Node) -> None:
        try:
            Service("start", "postgresql").run(node)
        except AyaError as error:
            if node.supervisor.state("postgresql").status in ("running", "frozen"):
                hint = "It runs, and may have accepted writes: run it again"
                raise NoWayBack(error.message, hint=hint) from None
            raise


def finish(node: Node) -> Script:
    """Take away the journal, and what is left of the folder beside."""
    folder_, note = incoming(node), journal(node)
    script = 'rm -f "$2"; test ! -e "$1" || { cd "$1" && rm -rf scratch.* target.json tablespaces "$3" && cd / && rmdir "$1"; }'
    return Script(script, (str(folder_), str(note), replay.MARK), shown=f"rm {note}; rm -r {folder_}")


def _stop(node: Node) -> str:
    return f"{node.supervisor.describe('disable', 'postgresql')}; {node.supervisor.describe('stop', 'postgresql')}"


def _facts(node: Node, sockets: Path) -> dict[str, object]:
    """What stands in it: the last transaction, and how many rows."""
    text = scratch.psql(node, sockets, node.site.database.name, statement(__package__, "restored"))
    return dict(json.loads(text))


def _compared(aim: Aim, node: Node, sockets: Path) -> int | None:
    """How many tables are equal to the mark; :class:`ChangeFailed` when one is not."""
    if aim.mark is None or aim.mark.unsaid:
        return None
    found = mark.compare(aim.mark, node, sockets)
    if found.differing:
        line = f"what {aim.backup.label} gives is not what its mark says: {'; '.join(found.differing[:3])}"
        raise ChangeFailed(line, hint="Nothing was put in place. Choose another backup, and run aya backup verify on this one")
    return found.compared


def _settle(node: Node, into: Path, tablespaces: Path) -> None:
    """The node's own settings into the restored directory, and none that belongs to another role or to this restore. Where the
    node has none any more, those of the backup serve, on this node's port."""
    _sh(node, SETTLE, into, node.data_directory, tablespaces)
    data = into / "data"
    own = read(node.shell, node.data_directory / "postgresql.auto.conf", account=node.account)
    kept = read(node.shell, data / "postgresql.auto.conf.backup", account=node.account) if own is None else own
    lines = [line for line in (kept or "").splitlines() if not OF_A_ROLE.match(line)]
    lines += [f"port = '{node.config.postgresql.port}'"] if own is None else []
    _sh(node, WRITE, data / "postgresql.auto.conf", "0600", stdin="\n".join(lines) + "\n")


def _sh(node: Node, script: str, *words: Path | str, stdin: str | None = None, timeout_s: float = 60) -> None:
    Script(script, tuple(map(str, words)), stdin, timeout_s=timeout_s).run(node)
