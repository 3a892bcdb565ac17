"""The laptop beside the primary, row by row: after a failover that lost something, a restore, a pruned log, or at first.

Nothing that only the laptop has disappears: what it pushed and the primary lost is queued again, and what it pulled and the
primary never heard of is kept among the conflicts before it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aya_lib.air import pull
from aya_lib.air.link import FETCH_S, At, Ends, within
from aya_lib.air.position import Position, Snapshot, survives
from aya_lib.node.sql import Connection, rows, statement

Rows = dict[tuple[str, int], str]  # (relation, id) -> version and hash


@dataclass(frozen=True)
class Acknowledged:
    """A mutation that a primary had taken, and where that primary was afterwards."""

    id: int
    mutation: str
    operation: str
    document_id: int
    system_identifier: str
    timeline: int
    lsn: str


@dataclass(frozen=True)
class Compared:
    """What differed: ``fetched`` rows are made equal by the next pull; ``again`` mutations are pushed once more; ``kept``
    documents were only here, and are kept among the conflicts."""

    fetched: int
    again: int
    kept: int


def reconcile(ends: Ends, at: At = lambda step: None) -> Compared:
    """Compare, and write down in one transaction what is to be done; the push and the pull do it."""
    with within(ends.there, FETCH_S):
        ends.there.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            row = ends.there.execute(statement(__package__, "log_state")).fetchone()
            assert row
            snapshot, log = Snapshot.parse(str(row[0])), int(str(row[1]))
            theirs = fingerprints(ends.there)
            deleted = _deleted(ends.there)
            lost = _lost(ends)
        finally:
            ends.there.execute("ROLLBACK")
        # Before anything is locked here: a primary that freezes now keeps nobody on the laptop from writing.
        position = pull.durable(ends, str(snapshot))
        at("compare: read there")
        with ends.applying() as here:
            here.execute("LOCK TABLE documents, chunks IN SHARE ROW EXCLUSIVE MODE")
            for one in lost:
                again(here, one)
            waiting = _waiting(here)
            ours = fingerprints(here)
            differing = {row for row in ours.keys() | theirs.keys() if ours.get(row) != theirs.get(row)}
            # A push whose echo was not pulled yet: its chunks are still the local ones, and give way to the primary's together.
            echoes = here.execute("SELECT DISTINCT document_id FROM chunks WHERE id < 0 AND document_id > 0").fetchall()
            differing |= {("d", int(str(row[0]))) for row in echoes}
            only_here = [
                number
                for relation, number in differing
                if relation == "d" and number not in waiting and unknown(ours.get(("d", number)), theirs.get(("d", number)))
                if ("d", number) in theirs or number not in deleted
            ]
            for number in only_here:
                here.execute("SELECT aya_sync.lose(%s, %s)", (number, "only here: the primary does not know it"))
            with here.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO aya_sync.refetch (relation, row_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", sorted(differing)
                )
            pull.remember(here, snapshot, log, position)
            at("compare: written here")
    at("compare: committed here")
    return Compared(len(differing), len(lost), len(only_here))


def unknown(ours: str | None, theirs: str | None) -> bool:
    """Whether a document's text here is not of the primary's past: it is not there, or there is another text under its id that
    did not come after it. Fingerprints are of :func:`fingerprints`."""
    if ours is None or theirs is None:
        return ours is not None
    version, made, text, _ = ours.split(" ")
    their_version, their_made, their_text, _ = theirs.split(" ")
    return text != their_text and (made != their_made or int(version) >= int(their_version))


def fingerprints(connection: Connection) -> Rows:
    """Version and hash of every document and chunk that has the primary's id."""
    found = connection.execute(statement(__package__, "fingerprints")).fetchall()
    return {(str(relation), int(str(number))): str(hashed) for relation, number, hashed in found}


def _deleted(there: Connection) -> set[int]:
    """Documents that the primary's log names: one of these that is not there was deleted."""
    found = there.execute("SELECT DISTINCT row_id FROM aya_sync.changes WHERE relation = 'd'").fetchall()
    return {int(str(row[0])) for row in found}


def _lost(ends: Ends) -> list[Acknowledged]:
    """Mutations that were acknowledged by a primary whose history goes on without them."""
    done = rows(ends.here, __package__, "acknowledged", Acknowledged)
    gone = [one for one in done if not survives(Position(one.system_identifier, one.timeline, one.lsn), ends.cluster)]
    if not gone:
        return []
    query = "SELECT mutation::text FROM aya_sync.mutations WHERE client = %s AND mutation = ANY (%s::uuid[])"
    known = ends.there.execute(query, (ends.state().client, [one.mutation for one in gone])).fetchall()
    there = {str(row[0]) for row in known}
    return [one for one in gone if one.mutation not in there]


def again(here: Connection, lost: Acknowledged) -> None:
    """Queue a lost mutation once more, under its old key. A document that was made by it takes a local id again, and its chunks
    do, for the primary may give the ids to others meanwhile."""
    row = here.execute("SELECT document_id FROM write_queue WHERE id = %s", (lost.id,)).fetchone()
    now = replace(lost, document_id=int(str(row[0])) if row else lost.document_id)
    here.execute(statement(__package__, "again_chunks"), vars(now))
    if now.operation == "INSERT" and now.document_id > 0:
        here.execute(statement(__package__, "again_document"), vars(now))
    here.execute(statement(__package__, "again_queued"), vars(now))


def _waiting(here: Connection) -> set[int]:
    found = here.execute("SELECT DISTINCT document_id FROM write_queue WHERE NOT synced AND document_id IS NOT NULL").fetchall()
    return {int(str(row[0])) for row in found}
