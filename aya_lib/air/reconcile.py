"""The laptop beside the primary, row by row: after a failover that lost something, a restore, a pruned log, or at first.

Nothing that only the laptop has disappears: what it pushed and the primary lost is queued again, and what it pulled and the
primary never heard of is kept among the conflicts before it goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from aya_lib.air import differ, pull
from aya_lib.air.differ import RANGE, Hashes, Range, Sums, made
from aya_lib.air.fit import Columns
from aya_lib.air.link import FETCH_S, At, Ends, Log, within
from aya_lib.air.position import Position, Snapshot, survives
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import Connection, column, rows, statement, stream, value

ONLY_HERE = "only here: the primary does not know it"
COMPARED = "UPDATE aya_sync.laptop SET columns = %s"


@dataclass(frozen=True)
class Acknowledged(Position):
    """A mutation that a primary had taken, at the position where that primary was afterwards. ``recent``: so young that the
    primary would still know it."""

    id: int
    mutation: str
    operation: str
    document_id: int
    recent: bool


@dataclass(frozen=True)
class Waiting:
    """A document with the primary's id that waits to be pushed. ``base``: the version that was changed; ``here``: not deleted."""

    id: int
    here: bool
    base: int | None
    made: str


@dataclass(frozen=True)
class Compared:
    """What differed: ``fetched`` rows are made equal by the next pull; ``again`` mutations are pushed once more; ``kept``
    documents were only here, and are kept among the conflicts."""

    fetched: int
    again: int
    kept: int


@dataclass(frozen=True)
class Primary:
    """What one snapshot of the primary shows.

    ``moved``: it may lack what the laptop knows. ``ranges``: those whose sums differ, and those of every document that waits or
    may be lost; ``rows``: what is in them. Outside of them both sides were equal, and what was written here since goes its way.
    ``deleted``: documents that its log names; one of these that is not there was deleted. ``truncated``: a table was emptied,
    and so went every document that is not there. ``unknown``: mutations that it had acknowledged and does not know. ``others``:
    documents that somebody else may have changed since it was put back.
    """

    log: Log
    moved: bool
    ranges: set[Range]
    rows: Hashes
    deleted: set[int]
    truncated: bool
    unknown: list[Acknowledged]
    others: set[int]

    def document(self, number: int) -> str | None:
        return self.rows.get(("d", number))


def reconcile(ends: Ends, at: At = lambda step: None) -> Compared:
    """Compare, and write down in one transaction what is to be done; the push and the pull do it."""
    waiting, ours = (
        _waiting(ends.here),
        differ.sums(ends.here, ends.columns),
    )  # in this order: what is queued after it differs, or is new
    columns = ends.columns
    with within(ends.there, FETCH_S) as watch:
        primary = _read(ends, ours, waiting, watch)
        # The write after this one hides that the primary was put back: killed then, the next round must compare as well.
        ends.here.execute("UPDATE aya_sync.laptop SET snapshot = NULL")
        # Before anything is locked here: a primary that freezes now keeps nobody on the laptop from writing.
        mark = pull.durable(ends, primary.log.snapshot)
    at("compare: read there")
    with ends.applying() as here:
        here.execute("LOCK TABLE documents, chunks IN SHARE ROW EXCLUSIVE MODE")
        again = _send_again(here, columns, primary)
        kept = _keep_estranged(here, primary) if primary.moved else []
        differing, only_here = _differing(here, columns, primary, kept, noted=ends.noted and not primary.moved)
        for number in only_here:
            _lose(here, primary, number, ONLY_HERE)
        here.cursor().executemany(statement(__package__, "refetch"), sorted(differing))
        pull.remember(here, primary.log.snapshot, primary.log, mark)
        here.execute(COMPARED, (ends.fit.names,))
        at("compare: written here")
    at("compare: committed here")
    return Compared(len(differing), len(again), len(only_here) + len(kept))


def _read(ends: Ends, ours: Sums, waiting: Iterable[Waiting], watch: Watch) -> Primary:
    """Everything that is to be known of the primary, in one snapshot; sums first, rows only where they differ."""
    known, there, columns = ends.state(), ends.there, ends.columns
    there.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        log = Log.read(there)
        moved = ends.moved or known.snapshot is None or known.log != log.oid
        deleted = "SELECT DISTINCT row_id FROM aya_sync.changes WHERE relation = 'd'"
        unknown = _unknown(ends, known.client)
        ranges = differ.differing(ours, differ.sums(there, columns, watch=watch))
        ranges |= {("d", number // RANGE) for number in [*(w.id for w in waiting), *(lost.document_id for lost in unknown)]}
        others = stream(there, statement(__package__, "changed_by_others"), watch, client=known.client) if moved else []
        return Primary(
            log,
            moved,
            ranges,
            differ.hashes(there, columns, ranges, watch=watch),
            {number for (number,) in stream(there, deleted, watch)},
            not moved and _truncated(there, known.cursor, watch),
            unknown,
            {number for (number,) in others},
        )
    finally:
        if not there.closed:
            there.execute("ROLLBACK")


def _truncated(there: Connection, since: Snapshot | None, watch: Watch) -> bool:
    return since is not None and any(relation == "*" for _, relation, _ in pull.new_in_log(there, since, watch))


def _unknown(ends: Ends, client: str) -> list[Acknowledged]:
    """Mutations that were acknowledged and that the primary does not know: of those whose position did not survive, and of all
    that are young enough to be known there. A server that was put back to a copy of its files may be past every position."""
    candidates = [
        done
        for done in rows(ends.here, __package__, "acknowledged", Acknowledged)
        if done.recent or not survives(done, ends.cluster)
    ]
    query = "SELECT mutation::text FROM aya_sync.mutations WHERE client = %s AND mutation = ANY (%s::uuid[])"
    known = set(column(ends.there, query, (client, [done.mutation for done in candidates])))
    return [done for done in candidates if done.mutation not in known]


def _waiting(here: Connection) -> list[Waiting]:
    return rows(here, __package__, "waiting", Waiting)


def _send_again(here: Connection, columns: Columns, primary: Primary) -> list[Acknowledged]:
    """Queue what the primary lost once more; which mutations."""
    ranges = {("d", lost.document_id // RANGE) for lost in primary.unknown}
    ours = differ.hashes(here, columns, ranges) if ranges else {}
    lost = [m for m in primary.unknown if not _done(m, ours.get(("d", m.document_id)), primary.document(m.document_id))]
    for mutation in lost:
        _queue_again(here, mutation)
    return lost


def _done(mutation: Acknowledged, ours: str | None, theirs: str | None) -> bool:
    """Whether a mutation's work is on the primary all the same: what it knew of the laptop may be lost alone, and sent twice a
    document would be there twice."""
    if mutation.operation == "DELETE" or theirs is None or ours is None:
        return mutation.operation == "DELETE" and theirs is None
    return ours == theirs or (mutation.operation == "INSERT" and made(ours) == made(theirs))


def _queue_again(here: Connection, lost: Acknowledged) -> None:
    """Under its old key. A document that was made by it takes a local id again, and its chunks do, for the primary may give the
    ids to others meanwhile."""
    number = value(here, "SELECT document_id FROM write_queue WHERE id = %s", (lost.id,))
    now = replace(lost, document_id=lost.document_id if number is None else number)
    here.execute(statement(__package__, "again_chunks"), vars(now))
    if now.operation == "INSERT" and now.document_id > 0:
        here.execute(statement(__package__, "again_document"), vars(now))
    here.execute(statement(__package__, "again_queued"), vars(now))


def _keep_estranged(here: Connection, primary: Primary) -> list[int]:
    """Changes that wait for a document which the primary lost, whose id it may give or has given to another, or that was changed
    there to a version of the same number: they would meet the wrong one, and are kept among the conflicts; whose."""
    kept = []
    for change in _waiting(here):
        theirs = primary.document(change.id)
        if ("d", change.id // RANGE) not in primary.ranges or (theirs is None and change.id in primary.deleted):
            continue  # made since both were equal; or the push is told that it is gone
        if theirs is None and not change.here:  # it was to be deleted
            query = "UPDATE write_queue SET synced = true, state = 'done' WHERE document_id = %s AND NOT synced"
            here.execute(query, (change.id,))
        elif why := _estranged(change, theirs, primary.others):
            _lose(here, primary, change.id, why)
            kept.append(change.id)
    return kept


def _estranged(change: Waiting, theirs: str | None, others: set[int]) -> str:
    """Why a change must not be sent; empty when it may."""
    if theirs is None:
        return ONLY_HERE
    if made(theirs) != change.made:
        return "the primary has another document under its id"
    return "changed on both sides" if change.id in others and theirs.split(" ")[0] == str(change.base) else ""


def _differing(
    here: Connection, columns: Columns, primary: Primary, kept: Iterable[int], *, noted: bool
) -> tuple[set[differ.Row], list[int]]:
    """Rows to be fetched, and of these the documents that only the laptop has or has in a version that is not of the primary's
    past."""
    ours = differ.hashes(here, columns, primary.ranges)
    differing = differ.differing(ours, primary.rows)
    # A push whose echo was not pulled yet: its chunks are still the local ones, and give way to the primary's together.
    echoes = column(here, "SELECT DISTINCT document_id FROM chunks WHERE id < 0 AND document_id > 0")
    differing |= {("d", number) for number in echoes}
    settled = {*kept, *(change.id for change in _waiting(here))}
    only_here = [
        number
        for relation, number in differing
        if relation == "d" and number not in settled
        if not_of_the_past(ours.get((relation, number)), primary.document(number), noted=noted)
        if (relation, number) in primary.rows or not (primary.truncated or number in primary.deleted)
    ]
    return differing, only_here


def not_of_the_past(ours: str | None, theirs: str | None, *, noted: bool = False) -> bool:
    """Whether a document's text here is not of the primary's past: it is not there, or there is another text under its id that
    did not come after it. ``noted``: nothing was written here without a trigger's noting it, so that a row of the same text was
    rewritten on the primary, as by ALTER TABLE. Hashes are those of :data:`aya_lib.air.differ.Hashes`."""
    if ours is None or theirs is None:
        return ours is not None
    version, our_made, text, rest, _ = ours.split(" ")
    their_version, their_made, their_text, their_rest, _ = theirs.split(" ")
    if our_made != their_made:
        return text != their_text
    same = text == their_text and (noted or rest == their_rest)
    return not same and int(version) >= int(their_version)


def _lose(here: Connection, primary: Primary, number: int, why: str) -> None:
    """Keep a document among the conflicts. One that is not on the primary goes now: its id may be given to one that is pushed, or
    was already."""
    here.execute("SELECT aya_sync.lose(%s, %s)", (number, why))
    values = {"id": number, "made": made(primary.document(number))}
    here.execute(statement(__package__, "delete_other"), values)
