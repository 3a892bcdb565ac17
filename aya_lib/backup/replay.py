"""A backup put together in a folder of its own, and a server without network on it that is seen to reach its target.

The folder is known by a mark, and nothing else is ever deleted. What stands in it: ``data``, ``tablespaces/<oid>``, the server's
own configuration, its log, its target. The settings that came with the backup are not used; ``postgresql.auto.conf`` is kept
beside as ``postgresql.auto.conf.backup``.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from aya_lib.backup.chain import links, tip_of
from aya_lib.backup.held import end_left
from aya_lib.backup.reading import settled
from aya_lib.backup.records import Backup, Position, Repository, Target
from aya_lib.cluster import scratch as server
from aya_lib.cluster.lsn import number
from aya_lib.cluster.server import SIZES, ControlData
from aya_lib.errors import ChangeFailed, DeadlinePassed, UsageError
from aya_lib.node.node import Node
from aya_lib.node.shell import WRITE, exists, read
from aya_lib.node.sql import statement

MARK = ".aya-scratch"
STALL_S = 300.0  # replay that does not move for so long hangs: fetching one segment, or replaying one record, takes less
SLOW = 2 * 2**20  # bytes a second: no disk copies slower than this
WAL_BYTES = 2**30  # what the server may keep of WAL besides
POLL_S = 0.1
GONE_S = 1.0  # a server that has said something and is not seen for so long has ended
PLACES = "redo done at|current LSN:|redo starts at|consistent recovery state reached at"
# $1: the folder; $2: its mark. Made for us alone, or known as ours.
BEGIN = 'umask 077; mkdir -p "$1" && { test -e "$1/$2" || { test -z "$(ls -A "$1")" && : > "$1/$2"; }; }'
# $1: a backup's folder. Its links of tablespaces lead into it, wherever the repository lies by now.
LINKS = """
for where in "$1"/tablespaces/*; do
  link="$1/data/pg_tblspc/${where##*/}"
  if test -d "$where" && test "$(readlink "$link")" != "$where"; then ln -sfn "$where" "$link" || exit 1; fi
done
"""
# $1: the folder, $2: the backup's. A whole copy, its tablespaces beside it.
COPY = """
cp -a "$2/data" "$1/data" || exit 1
for where in "$2"/tablespaces/*; do
  test -d "$where" || continue
  cp -a "$where" "$1/tablespaces/" && ln -sfn "$1/tablespaces/${where##*/}" "$1/data/pg_tblspc/${where##*/}" || exit 1
done
"""
# $1: the data directory. Nothing that makes a server follow, keep WAL for others, or do as another one was told.
STRIP = """
cd "$1" && rm -rf standby.signal recovery.signal postmaster.pid pg_replslot/* || exit 1
if test -e postgresql.auto.conf; then mv postgresql.auto.conf postgresql.auto.conf.backup; fi
"""
FETCH = 'for f in {0}/%f {0}/*/%f {0}/%f.partial {0}/*/%f.partial; do if test -f "$f"; then exec cp "$f" "%p"; fi; done; exit 1'
OWN = {
    "wal_keep_size": "0",
    "hot_standby": "on",
    "max_wal_size": "1GB",
    "log_startup_progress_interval": "1s",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] ",
    "huge_pages": "off",
}


@dataclass(frozen=True)
class Reached:
    """Where a server stands that has reached its target."""

    lsn: str
    stopped: str


def needed(repository: Repository, backup: Backup) -> int:
    """Bytes that a restore of it takes on the disk, at most. :class:`UsageError`: a link of its chain is missing."""
    return sum(one.bytes for one in links(repository, backup)) + WAL_BYTES


def begin(keeper: Node, into: Path) -> None:
    """Make the folder. :class:`UsageError` when it is there, is not ours, and is not empty."""
    output = keeper.shell.run(["sh", "-c", BEGIN, "sh", str(into), MARK], account=keeper.account)
    if output.status != 0:
        why = output.stderr.strip() or "it holds files that are not ours"
        raise UsageError(f"{keeper.name}: {into} cannot be used: {why}", hint="Name a folder that does not exist")


def restore(keeper: Node, repository: Repository, backup: Backup, target: Target, into: Path, *, durable: bool = False) -> None:
    """Put a data directory together below ``into``, ready to be started by :func:`scratch` and to end at the target.

    ``durable``: it is to be used on, and must survive a power failure; else its server does not wait for the disk. What a killed
    run left in the folder is ended and deleted first; its owner holds the lock. Raises :class:`UsageError` and what the shell
    raises.
    """
    chain = links(repository, backup)
    begin(keeper, into)
    clear(keeper, into)
    limit_s = 600 + 2 * sum(one.bytes for one in chain) / SLOW
    folders = [Path(repository.directory) / "backups" / one.label for one in chain]
    for folder in folders:
        keeper.script(LINKS, folder)
    keeper.script('umask 077; mkdir "$1"', into / "tablespaces")
    if len(chain) == 1:
        keeper.script(COPY, into, folders[0], timeout_s=limit_s)
    else:
        oids = keeper.script('ls -1 "$1/tablespaces"', folders[-1]).split()
        moved = [f"{folders[-1] / 'tablespaces' / oid}={into / 'tablespaces' / oid}" for oid in oids]
        words = [*(word for one in moved for word in ("-T", one)), "-o", str(into / "data"), *([] if durable else ["--no-sync"])]
        keeper.postgresql("pg_combinebackup", *words, *(str(one / "data") for one in folders), timeout_s=limit_s).checked()
    keeper.script(STRIP, into / "data")
    aim(keeper, repository, backup, target, into, durable=durable)
    if durable:
        keeper.script("sync", timeout_s=limit_s)


def aim(
    keeper: Node,
    repository: Repository,
    backup: Backup,
    target: Target,
    into: Path,
    *,
    promote: bool = False,
    durable: bool = False,
) -> Target:
    """Set where the next start ends, and whether the server is promoted there; else it stays read-only, and can go on from there
    to a later target of the same timeline. Given back is the target as recovery is told it (:func:`settled`).

    Right before the commit of a TRUNCATE or DROP TABLE a read-only server keeps the table locked, as it was then: promote it.
    """
    wanted = settled(keeper, repository, backup, target)
    data = into / "data"
    control = ControlData(keeper.name, keeper.postgresql("pg_controldata", "-D", str(data)).checked().stdout)
    fetch = FETCH.format(shlex.quote(str(Path(repository.directory) / "wal")).replace("%", "%%"))
    values = {**server.SETTINGS, **OWN, **{name: control[line] for name, line in SIZES.items() if line in control}}
    values |= {f"recovery_target_{wanted.kind}": wanted.value, "recovery_target_timeline": str(wanted.timeline)}
    values |= {"recovery_target_inclusive": _on(wanted.inclusive), "recovery_target_action": "promote" if promote else "pause"}
    values |= {"restore_command": fetch, "fsync": _on(durable), "default_transaction_read_only": _on(not promote)}
    values |= {"port": str(keeper.config.postgresql.port)}
    text = "".join(f"{name} = '{value.replace(chr(39), 2 * chr(39))}'\n" for name, value in values.items())
    keeper.script(WRITE, into / "scratch.conf", "0600", stdin=text)
    keeper.script(WRITE, into / "target.json", "0600", stdin=json.dumps({**asdict(wanted), "promote": promote}))
    keeper.script(': > "$1"', data / "recovery.signal")
    return wanted


@contextmanager
def scratch(keeper: Node, into: Path) -> Iterator[Path]:
    """Start the server, wait until it has reached its target, give the folder of its socket, and end it.

    Raises :class:`ChangeFailed` when recovery ends without having reached the target, with the last LSN;
    :class:`DeadlinePassed` when replay stands still for :data:`STALL_S`.
    """
    data = into / "data"
    try:
        server.end(keeper, data)
        keeper.script('rm -f "$1"', server.log(into))
        own = {"config_file": str(into / "scratch.conf")}
        server.start(keeper, data, into, own, wait=False).checked(hint=f"Its log is {server.log(into)}")
        reach(keeper, into)
        yield server.sockets(keeper, data)
    finally:
        server.end(keeper, data)


def reach(keeper: Node, into: Path) -> Reached:
    """Wait until the server that was started has reached its target; believed is what it says, never that it runs."""
    wanted = json.loads(read(keeper.shell, into / "target.json", account=keeper.account) or "{}")
    sockets, moved, last = server.sockets(keeper, into / "data"), time.monotonic(), ""
    gone: float | None = None
    while True:
        alive = _alive(keeper, into)
        state = _state(keeper, sockets) if alive else None
        log = keeper.script('test ! -e "$1" || tail -c 40000 "$1"', server.log(into))
        stopped = re.findall(r"LOG:  (recovery stopping .*)", log)
        if state and (state["paused"] or not state["in_recovery"]):
            if not stopped or bool(wanted["promote"]) == bool(state["in_recovery"]):
                raise ChangeFailed(f"{keeper.name}: recovery ended at {state['lsn']} without reaching {_words(wanted)}")
            return Reached(str(state["lsn"]), stopped[-1])
        gone = None if alive else gone or time.monotonic()
        if gone:  # or started a moment ago: on a busy machine its first word takes a while
            if time.monotonic() - gone >= (GONE_S if log.strip() else keeper.site.deadlines.start_s):
                raise ChangeFailed(f"{keeper.name}: {_ended(log, wanted)}", hint=f"Its log is {server.log(into)}")
            time.sleep(POLL_S)
            continue
        now = str(state["lsn"]) if state else "".join(re.findall(r"restored log file \S+|(?:current LSN|path): \S+", log)[-2:])
        if now != last:
            last, moved = now, time.monotonic()
        elif time.monotonic() - moved > STALL_S:
            raise DeadlinePassed(
                keeper.name, f"recovery to {_words(wanted)}", f"stands still for {STALL_S:.0f} s at {now or 'start'}"
            )
        time.sleep(POLL_S)


def clear(keeper: Node, into: Path) -> None:
    """End what a killed run left at work in the folder, and delete what stands in it; :class:`UsageError` when it is not ours."""
    if not exists(keeper.shell, into, account=keeper.account):
        return
    if not exists(keeper.shell, into / MARK, account=keeper.account):
        raise UsageError(f"{keeper.name}: {into} is not a folder of ours: nothing of it is deleted")
    server.end(keeper, into / "data")
    end_left(keeper, into, ("cp", "pg_combinebackup"))
    script = 'cd "$1" && rm -rf data tablespaces scratch.* target.json'
    keeper.script(script, into, timeout_s=600)


def remove(keeper: Node, into: Path) -> None:
    """The folder too."""
    clear(keeper, into)
    keeper.script('test ! -e "$1" || { rm -f "$1/$2" && rmdir "$1"; }', into, MARK)


def reaches(repository: Repository, backup: Backup, target: Target) -> Position | None:
    """How far WAL is needed for a target: to itself, or for a time as far as there is any."""
    tip = tip_of(repository, backup.stop)
    if target.kind == "name":
        return next((one.mark.position for one in repository.backups if one.mark and one.mark.name == target.value), tip)
    return tip if target.kind == "time" or tip is None else Position(target.timeline, target.value, tip.at)


def _alive(keeper: Node, into: Path) -> bool:
    text = read(keeper.shell, into / "data" / "postmaster.pid", account=keeper.account)
    return text is not None and server.running(keeper, text) is not None


def _state(keeper: Node, sockets: Path) -> dict[str, object] | None:
    """What the server says of itself; None while it takes no sessions."""
    output = server.ask(keeper, sockets, "template1", statement(__package__, "replay_state"))
    return dict(json.loads(output.stdout)) if output.status == 0 else None


def _ended(log: str, wanted: dict[str, object]) -> str:
    """Why a server ended during recovery, and how far it had come."""
    places = re.findall(rf"(?:{PLACES}) ([0-9A-F]+/[0-9A-F]+)", log)
    why = re.findall(r"(?:FATAL|PANIC):  (?!terminating|the database system is)(.*)", log)
    damage = re.findall(r"LOG:  ((?:invalid|incorrect|record with|unexpected|out-of-sequence|there is no).* at .*)", log)
    reached = max(places, key=number) if places else "its start"
    return f"recovery ended at {reached}, before {_words(wanted)}: {'; '.join([*damage[-1:], *why[:1]]) or 'it says nothing'}"


def _words(target: dict[str, object]) -> str:
    return f"the {'LSN' if target['kind'] == 'lsn' else 'mark' if target['kind'] == 'name' else 'time'} {target['value']}"


def _on(value: bool) -> str:
    return "on" if value else "off"
