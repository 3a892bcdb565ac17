"""What a data directory's WAL holds past a position: read by pg_waldump on the node, summed up there, server running or not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from aya_lib.cluster import wal
from aya_lib.cluster.lsn import lsn, number
from aya_lib.cluster.reading import READ_S, last_position, missing_segment
from aya_lib.cluster.server import Cluster, Files, Switch, parse_history
from aya_lib.errors import CommandFailed
from aya_lib.node.node import Node
from aya_lib.node.shell import read

# One line each: C <xid>[; subxacts: ...] for a commit, P <xid> for a PREPARE, <operation> <xid> <relation> for a change of a row.
SHORT = (
    r"s/^rmgr: Transaction.* desc: COMMIT_PREPARED ([0-9]+):[^;]*(.*)$/C \1\2/p",
    r"s/^rmgr: Transaction.* tx: +([0-9]+),.* desc: COMMIT [^;]*(.*)$/C \1\2/p",
    r"s/^rmgr: Transaction.* tx: +([0-9]+),.* desc: PREPARE .*$/P \1/p",
    r"s/^rmgr: Heap2? .* tx: +([0-9]+),.* desc: (MULTI_INSERT|INSERT|HOT_UPDATE|UPDATE|DELETE).* rel ([0-9]+\/[0-9]+\/[0-9]+).*$/"
    r"\2 \1 \3/p",
)
NOWHERE = Switch(0, "0/0")


@dataclass(frozen=True)
class Span:
    """A stretch of one timeline's WAL; ``end`` None: as far as it goes."""

    timeline: int
    start: str
    end: str | None = None


@dataclass(frozen=True)
class Touched:
    """A relation's file that committed transactions changed, and how many rows they say: a multi-insert counts as one.
    ``database`` 0: one that all databases share."""

    database: int
    filenode: int
    written: int
    deleted: int


@dataclass(frozen=True)
class Past:
    """``end``: where the WAL ends. ``segments``: files from the divergence on. ``xids``: committed, subtransactions too.
    ``prepared``: how many transactions were prepared, whatever became of them.

    ``gone``: a stretch that the node has recycled, so that its transactions cannot be told; empty when all is there.
    """

    spans: tuple[Span, ...]
    end: str
    segments: tuple[str, ...] = ()
    commits: int = 0
    xids: tuple[int, ...] = ()
    touched: tuple[Touched, ...] = ()
    gone: str = ""
    prepared: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of WAL past the divergence."""
        return max(0, number(self.end) - number(self.spans[0].start)) if self.spans else 0


@dataclass
class _Sum:
    commits: set[int] = field(default_factory=set)
    xids: set[int] = field(default_factory=set)
    prepared: set[int] = field(default_factory=set)
    changes: dict[tuple[int, str, int, int], int] = field(default_factory=dict)


def fork(old: tuple[int, Iterable[Switch]], new: tuple[int, Iterable[Switch]]) -> Switch | None:
    """Where two histories part, each given as its timeline and the ends of the earlier ones.

    None: they are one history. :data:`NOWHERE`: they have nothing in common. Otherwise as pg_rewind finds it
    (findCommonAncestorTimeline): the last timeline that both have, at the earlier of its two ends.
    """
    ends = [[*((s.timeline, s.lsn) for s in history), (timeline, "")] for timeline, history in (old, new)]
    for before, (one, two) in zip([None, *ends[0]], zip_longest(*ends), strict=False):
        if one is None or two is None or one[0] != two[0]:
            return Switch(*before) if before else NOWHERE
        if one[1] != two[1]:
            known = [lsn for _, lsn in (one, two) if lsn]
            return Switch(one[0], min(known, key=number))
    return None


def spans(fork: Switch, timeline: int, history: Iterable[Switch]) -> tuple[Span, ...]:
    """What a node on ``timeline`` wrote after the fork: the rest of the common timeline, then those of its own."""
    ends = [*((s.timeline, s.lsn) for s in history), (timeline, "")]
    starts = ["0/0", *(lsn for _, lsn in ends)]
    later = [(tli, start, end) for (tli, end), start in zip(ends, starts, strict=False) if tli >= fork.timeline]
    first = max(fork.lsn, later[0][1], key=number)
    return tuple(Span(tli, first if place == 0 else start, end or None) for place, (tli, start, end) in enumerate(later))


def look_history(node: Node, timeline: int) -> tuple[Switch, ...]:
    """The ends of earlier timelines, of the history file in the node's ``pg_wal``; none on the first timeline."""
    if timeline == 1:
        return ()
    path = wal.folder(node) / f"{timeline:08X}.history"
    return parse_history(read(node.shell, path, account=node.account) or "")


def look(node: Node, wanted: tuple[Span, ...], segment_bytes: int, reached: str = "") -> Past:
    """Sum up the WAL of ``wanted``. ``reached``: how far the node is known to have written; then WAL that is not there is told.

    Without ``reached`` a span without WAL is empty. Raises what the shell raises, and :class:`CommandFailed` when pg_waldump
    does not say where the WAL ends.
    """
    present, gone = wal.segments(node), []
    total, end, files = _Sum(), wanted[0].start, []
    for span in wanted:
        first = _first(span, present, segment_bytes)
        if reached and first != span and (first or number(reached) > number(span.start) or number(span.start) % segment_bytes):
            gone.append(
                f"its WAL of timeline {span.timeline} from {span.start} {f'to {first.start}' if first else 'on'} is not there"
            )
        if first is None:
            end = max(end, reached or end, key=number)
            continue
        stdout, until = _dump(node, first, present, segment_bytes)
        _add(total, stdout)
        end = max(end, until, key=number)
        files += [segment for segment in present if _within(segment, first, end, segment_bytes)]
    touched = _touched(total)
    xids = tuple(sorted(total.xids))
    return Past(wanted, end, tuple(sorted(set(files))), len(total.commits), xids, touched, "; ".join(gone), len(total.prepared))


def _first(span: Span, present: list[str], segment_bytes: int) -> Span | None:
    """The span from the first position on that is at hand; None when nothing of it is."""
    if wal.name(span.timeline, number(span.start), segment_bytes) in present:
        return span
    later = [
        segment
        for segment in present
        if int(segment[:8], 16) == span.timeline and wal.position(segment, segment_bytes) > number(span.start)
    ]
    if not later or (span.end and wal.position(later[0], segment_bytes) >= number(span.end)):
        return None
    return Span(span.timeline, lsn(wal.position(later[0], segment_bytes)), span.end)


def look_past(node: Node, files: Files, leader: Cluster, segment_bytes: int) -> tuple[Switch | None, Past | None]:
    """Where the node's history left the primary's, and its WAL from there on; of one history: what is left of older ones."""
    history = look_history(node, files.timeline)
    left = fork((files.timeline, history), (leader.timeline, leader.history))
    if left == NOWHERE:
        return left, None
    if left is not None:
        return left, look(node, spans(left, files.timeline, history), segment_bytes, files.lsn)
    older = tuple(Span(switch.timeline, switch.lsn) for switch in leader.history)
    return None, look(node, older, segment_bytes) if older else None


def look_checkpoint(node: Node, fork: Switch, segment_bytes: int) -> bool:
    """Whether the WAL back to the last checkpoint before the fork is at hand: pg_rewind reads the old WAL from there on."""
    present, walk = wal.segments(node), []
    place = number(fork.lsn) // segment_bytes
    while place >= 0 and (file := wal.name(fork.timeline, place * segment_bytes, segment_bytes)) in present:
        walk.append(file)
        place -= 1
    if not walk:
        return False
    dump = shlex.join(node.command("pg_waldump", "-p", str(wal.folder(node)), "-r", "XLOG"))
    script = (
        f'limit="-e {fork.lsn}"; for file in {" ".join(walk)}; do if {dump} $limit "$file" 2>/dev/null '
        f"| grep -q 'desc: CHECKPOINT_'; then exit 0; fi; limit=; done; exit 9"
    )
    output = node.shell.run(["sh", "-c", script], account=node.account, timeout_s=READ_S)
    return output.status == 0


def parse(stdout: str) -> tuple[int, tuple[int, ...], Mapping[tuple[int, str, int, int], int]]:
    """Commits, committed transaction ids, and (xid, operation, database, filenode) -> count; of the summed-up lines."""
    total = _Sum()
    _add(total, stdout)
    return len(total.commits), tuple(sorted(total.xids)), total.changes


def _dump(node: Node, span: Span, present: list[str], segment_bytes: int) -> tuple[str, str]:
    """The summed-up lines of a span, and where its WAL ends."""
    first, last, until = wal.stretch(span.timeline, span.start, present, segment_bytes, span.end)
    managers = ("-r", "Heap", "-r", "Heap2", "-r", "Transaction")
    where = ("-p", str(wal.folder(node)), "-t", str(span.timeline), "-s", span.start, "-e", until)
    short = shlex.join(["sed", "-nE", *(word for line in SHORT for word in ("-e", line))])
    script = f"{shlex.join(node.command('pg_waldump', *where, *managers, first, last))} | {short} | sort | uniq -c"
    output = node.shell.run(["sh", "-c", script], account=node.account, timeout_s=READ_S).checked()
    told = "\n".join(line for line in output.stderr.splitlines() if "first record is after" not in line)
    missing = missing_segment(told)
    end = lsn(wal.position(missing, segment_bytes)) if missing else last_position(told) if told else until
    if end is None:
        raise CommandFailed(node.name, ["pg_waldump", *where], output.status, told)
    return output.stdout, end


def _add(total: _Sum, stdout: str) -> None:
    for line in stdout.splitlines():
        count, kind, xid, *rest = line.split()
        if kind == "C":
            subs = re.search(r"subxacts: ([0-9 ]+)", line)
            top = int(xid.rstrip(";"))
            total.commits.add(top)
            total.xids |= {top, *(int(sub) for sub in (subs[1].split() if subs else ()))}
        elif kind == "P":
            total.prepared.add(int(xid))
        else:
            _, database, filenode = rest[0].split("/")
            place = (int(xid), kind, int(database), int(filenode))
            total.changes[place] = total.changes.get(place, 0) + int(count)


def _touched(total: _Sum) -> tuple[Touched, ...]:
    sums: dict[tuple[int, int], list[int]] = {}
    for (xid, kind, database, filenode), count in total.changes.items():
        if xid in total.xids:
            sums.setdefault((database, filenode), [0, 0])[kind == "DELETE"] += count
    return tuple(Touched(*place, *counts) for place, counts in sorted(sums.items()))


def _within(file: str, span: Span, end: str, segment_bytes: int) -> bool:
    if int(file[:8], 16) != span.timeline:
        return False
    first, last = (wal.name(span.timeline, number(lsn), segment_bytes) for lsn in (span.start, span.end or end))
    return first <= file <= last
