"""When were these rows deleted? Commits that deleted, updated or truncated rows of a table, found in the repository's WAL; each
with the LSN right before it, to which a restore may go."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from aya_lib.backup.chain import tip_of
from aya_lib.backup.reading import dump, parts, runs
from aya_lib.backup.records import Gap, Position, Repository
from aya_lib.cluster import roles
from aya_lib.cluster.lsn import lsn, number
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import statement, value
from aya_lib.show import Code, Shown, Table

FILE = re.compile(r"\d+/\d+")
DEPTH = 8  # times that a table was written anew (TRUNCATE, VACUUM FULL), followed back
# want: database/filenode of the table's files, blanks around each; empty: every change of files. For each commit of one:
# E <xid> <LSN> <time> <deleted> <updated> <files made> <files dropped>, the latter two with commas.
AWK = r"""
function file(path,  p, n) { n = split(path, p, "/"); sub(/[^0-9].*/, "", p[n]); return p[n-1] "/" p[n] }
function wanted(one) { return want == "" || index(want, " " one " ") }
function first(rest) { sub(/[^0-9].*/, "", rest); return rest }
{ xid = $0; sub(/^.* tx: +/, "", xid); xid = first(xid); desc = $0; sub(/^.* desc: /, "", desc) }
/ desc: (DELETE|UPDATE|HOT_UPDATE) / {
  if (want != "" && match($0, /rel [0-9]+\/[0-9]+\/[0-9]+/) && wanted(file(substr($0, RSTART, RLENGTH))))
    if (desc ~ /^DELETE/) deleted[xid]++; else updated[xid]++
  next
}
/^rmgr: Storage .* desc: CREATE / { sub(/^CREATE /, "", desc); made[xid] = made[xid] "," file(desc); next }
/ desc: ABORT/ { delete deleted[xid]; delete updated[xid]; delete made[xid]; next }
/ desc: COMMIT/ {
  if (desc ~ /^COMMIT_PREPARED/) { xid = desc; sub(/^COMMIT_PREPARED /, "", xid); xid = first(xid) }
  ids = xid; if (match(desc, /subxacts:[ 0-9]+/)) ids = ids substr(desc, RSTART + 9, RLENGTH - 9)
  n = split(ids, each, " "); d = u = 0; m = ""; hit = 0
  for (i = 1; i <= n; i++) {
    d += deleted[each[i]]; u += updated[each[i]]; m = m made[each[i]]
    delete deleted[each[i]]; delete updated[each[i]]; delete made[each[i]]
  }
  gone = ""; if (match(desc, / rels:[^;]*/)) {
    n = split(substr(desc, RSTART + 6, RLENGTH - 6), each, " "); for (i = 1; i <= n; i++) gone = gone "," file(each[i])
  }
  n = split(gone, each, ","); for (i = 2; i <= n; i++) if (wanted(each[i])) hit = 1
  if (gone != "") { n = split(m, each, ","); for (i = 2; i <= n; i++) if (wanted(each[i])) hit = 1 }
  if (d + u + hit == 0) next
  at = desc; sub(/^COMMIT(_PREPARED [0-9]+:)? /, "", at); split(at, each, " "); place = $0; sub(/^.*lsn: /, "", place)
  print "E", xid, substr(place, 1, index(place, ",") - 1), each[1] "T" each[2], d + 0, u + 0, "=" m, "=" gone
}
"""


@dataclass(frozen=True)
class Event:
    """A commit. ``deleted``, ``updated``: rows of the table. ``rewritten``: its file was replaced or dropped (TRUNCATE, DROP
    TABLE, VACUUM FULL). ``lsn``: where the commit's record begins: a restore to there has everything before it, and not this."""

    at: datetime
    lsn: str
    timeline: int
    xid: int
    deleted: int
    updated: int
    rewritten: bool


@dataclass(frozen=True, repr=False)
class Events(Shown):
    """``files``: those of the table that were looked for; none: it is not there now, and every dropped or rewritten one is named.
    ``gaps``: WAL that could not be read."""

    table_name: str
    files: tuple[str, ...]
    start: Position
    end: Position
    events: tuple[Event, ...]
    gaps: tuple[Gap, ...] = ()

    def table(self) -> Table:
        rows = tuple(
            (f"{one.at:%Y-%m-%d %H:%M:%S.%f} UTC", f"{one.xid}", f"{one.deleted}", f"{one.updated}", _did(one), Code(one.lsn))
            for one in self.events
        )
        notes = [f"WAL from {self.start.lsn} to {self.end.lsn} was read", "Restore to: the last column, right before the commit"]
        notes += [] if self.files else [f"There is no table {self.table_name} now: every commit that dropped or replaced files"]
        notes += [f"Not read: {gap.first} to {gap.last}: {gap.reason}" for gap in self.gaps]
        columns = ("committed at", "transaction", "deleted", "updated", "file", "to")
        return Table(f"Commits that changed {self.table_name}", columns, rows, tuple(notes))


def files_of(node: Node, table: str, database: str | None = None) -> tuple[str, ...]:
    """``database/filenode`` of a table's files as they are now, of a server that answers; none when there is no such table."""
    if FILE.fullmatch(table):
        return (table,)
    with node.session(database=database) as connection:
        return tuple(json.loads(json.dumps(value(connection, statement(__package__, "table_files"), {"table": table}))))


def look(
    nodes: Nodes,
    repository: Repository,
    table: str,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    database: str | None = None,
) -> Events:
    """:func:`find`, for a table as a server that answers knows it. A file (``database/filenode``) needs no server."""
    files = (table,) if FILE.fullmatch(table) else files_of(roles.readable(nodes), table, database)
    return find(nodes[repository.node], repository, table, files, since, until)


def find(
    keeper: Node,
    repository: Repository,
    table: str,
    files: tuple[str, ...],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Events:
    """The commits between two times (default: all that WAL is kept of), oldest first.

    A table that was written anew is followed back to the file that it had before. :class:`UsageError` when there is no WAL.
    """
    able = [one for one in repository.backups if since is None or one.start.at <= since] or [*repository.backups[:1]]
    tip = tip_of(repository, able[-1].stop) if able else None
    if not able or tip is None:
        raise UsageError(f"{repository.node} has no backup with WAL after it yet: run backup")
    start = able[0 if since is None else -1].start
    looked, known = files, set(files)
    found: dict[str, Event] = {}
    unread: tuple[Gap, ...] = ()
    for _ in range(DEPTH):
        lines, unread = _search(keeper, repository, start, tip, looked)
        found |= {event.lsn: event for event, _, _ in lines}
        before = {_before(one, made, gone) for _, made, gone in lines for one in looked if one in made} - known - {None}
        if not before:
            break
        looked = tuple(one for one in before if one)
        known |= set(looked)
    events = sorted(found.values(), key=lambda one: (one.timeline, number(one.lsn)))
    kept = (one for one in events if (since is None or one.at >= since) and (until is None or one.at <= until))
    return Events(table, tuple(sorted(known)), start, tip, tuple(kept), unread)


def _search(
    keeper: Node, repository: Repository, start: Position, end: Position, files: tuple[str, ...]
) -> tuple[list[tuple[Event, list[str], list[str]]], tuple[Gap, ...]]:
    """Each commit with the files that it made and dropped, in the order in which it did."""
    want = f" {' '.join(files)} " if files else ""
    found: list[tuple[Event, list[str], list[str]]] = []
    unread: list[Gap] = []
    managers = [word for name in ("Heap", "Transaction", "Storage") for word in ("-r", name)]
    for part in parts(repository, start, end):
        unread += [Gap(name, name, "missing, or not whole") for name, file in part.files.items() if file is None]
        for run in runs(part, repository.segment_bytes):
            then = f"| awk -v want={shlex.quote(want)} {shlex.quote(AWK)}"
            output = dump(keeper, run, *managers, then=then, size=repository.segment_bytes)
            output.checked()
            found += list(_parsed(output.stdout, part.timeline))
            name = max(run.files)
            unread += [Gap(min(run.files), name, line) for line in output.stderr.splitlines() if "error: error in" in line]
    return found, tuple(unread)


def _parsed(text: str, timeline: int) -> Iterator[tuple[Event, list[str], list[str]]]:
    for line in text.splitlines():
        _, xid, place, at, deleted, updated, made, gone = line.split()
        moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
        old, new = (listed.split(",")[1:] for listed in (gone, made))
        event = Event(moment, lsn(number(place)), timeline, int(xid), int(deleted), int(updated), bool(old))
        yield event, new, old


def _before(file: str, made: list[str], gone: list[str]) -> str | None:
    """The file that a new one replaced: of each table the new files are made one after the other, and the old ones are listed in
    the commit the other way round."""
    return gone[::-1][made.index(file)] if len(made) == len(gone) else None


def _did(one: Event) -> str:
    return "replaced or dropped" if one.rewritten else ""
