"""The laptop beside the primary, row by row: after a failover that lost something, a restore, a pruned log, or at first.

Nothing that only the laptop has disappears: what it pushed and the primary lost is queued again, and what it pulled and the
primary never heard of is kept among the conflicts before it goes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from aya_lib.air import pull
from aya_lib.air.link import FETCH_S, At, Ends, within
from aya_lib.air.position import Position, Snapshot, survives
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import Connection, rows, statement

ONLY_HERE = "only here: the primary does not know it"
Rows = dict[tuple[str, int], str]  # (relation, id) -> version and hash


@dataclass(frozen=True)
class Acknowledged:
    """A mutation that a primary had taken, and where that primary was afterwards. ``recent``: so young that the primary would
    still know it."""

    id: int
    mutation: str
    operation: str
    document_id: int
    system_identifier: str
    timeline: int
    lsn: str
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


def reconcile(ends: Ends, at: At = lambda step: None) -> Compared:
    """Compare, and write down in one transaction what is to be done; the push and the pull do it."""
    known = ends.state()
    moved = ends.moved
    with within(ends.there, FETCH_S) as watch:
        ends.there.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            row = ends.there.execute(statement(__package__, "log_state")).fetchone()
            assert row
            snapshot, log = Snapshot.parse(str(row[0])), int(str(row[1]))
            moved = moved or known.snapshot is None or known.log != log
            theirs = fingerprints(ends.there, watch)
            deleted = _deleted(ends.there, watch)
            unknown_there = _unknown_there(ends)
            others = _others(ends, known.client, watch) if moved else set()
        finally:
            if not ends.there.closed:
                ends.there.execute("ROLLBACK")
        # The write after this one hides that the primary was put back: killed then, the next round must compare as well.
        ends.here.execute("UPDATE aya_sync.laptop SET snapshot = NULL")
        # Before anything is locked here: a primary that freezes now keeps nobody on the laptop from writing.
        mark = pull.durable(ends, str(snapshot))
        watch.end()
        at("compare: read there")
        with ends.applying() as here:
            here.execute("LOCK TABLE documents, chunks IN SHARE ROW EXCLUSIVE MODE")
            lost = _lost(here, unknown_there, theirs) if unknown_there else []
            for one in lost:
                again(here, one)
            kept = _estranged(here, theirs, deleted, others) if moved else []
            waiting = {one.id for one in rows(here, __package__, "waiting", Waiting)}
            ours = fingerprints(here)
            differing = {row for row in ours.keys() | theirs.keys() if ours.get(row) != theirs.get(row)}
            # A push whose echo was not pulled yet: its chunks are still the local ones, and give way to the primary's together.
            echoes = here.execute("SELECT DISTINCT document_id FROM chunks WHERE id < 0 AND document_id > 0").fetchall()
            differing |= {("d", int(str(row[0]))) for row in echoes}
            only_here = [
                number
                for relation, number in differing
                if relation == "d"
                and number not in {*waiting, *kept}
                and unknown(ours.get(("d", number)), theirs.get(("d", number)))
                if ("d", number) in theirs or number not in deleted
            ]
            for number in only_here:
                _lose(here, number, theirs, ONLY_HERE)
            with here.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO aya_sync.refetch (relation, row_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", sorted(differing)
                )
            pull.remember(here, snapshot, log, mark)
            at("compare: written here")
    at("compare: committed here")
    return Compared(len(differing), len(lost), len(only_here) + len(kept))


def unknown(ours: str | None, theirs: str | None) -> bool:
    """Whether a document's text here is not of the primary's past: it is not there, or there is another text under its id that
    did not come after it. Fingerprints are of :func:`fingerprints`."""
    if ours is None or theirs is None:
        return ours is not None
    version, made, text, rest = ours.split(" ")
    their_version, their_made, their_text, their_rest = theirs.split(" ")
    if made != their_made:
        return text != their_text
    return (text, rest) != (their_text, their_rest) and int(version) >= int(their_version)


def fingerprints(connection: Connection, watch: Watch | None = None) -> Rows:
    """Version and hash of every document and chunk that has the primary's id; each row renews the deadline."""
    found = pull.arriving(connection, hashes(connection), watch)
    return {(str(relation), int(str(number))): str(hashed) for relation, number, hashed in found}


def hashes(connection: Connection) -> sql.Composed:
    """The query that gives relation, id and hash of each row; equal rows give equal hashes on both sides."""
    parts = {
        "document": _values(connection, "documents", "id", "version", "created_at", "content"),
        "chunk": _values(connection, "chunks", "id", "embedding", "chunk_terms"),
    }
    return sql.SQL(statement(__package__, "fingerprints")).format(**parts)


def _values(connection: Connection, table: str, *but: str) -> sql.Composed:
    """The columns of a table that travel, by name, but for some."""
    query = """
        SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
           AND attgenerated = '' AND attname <> ALL (%s) ORDER BY attname"""
    found = connection.execute(query, (f"public.{table}", list(but))).fetchall()
    return pull.listed([str(name) for (name,) in found])


def _deleted(there: Connection, watch: Watch) -> set[int]:
    """Documents that the primary's log names: one of these that is not there was deleted."""
    found = pull.arriving(there, "SELECT DISTINCT row_id FROM aya_sync.changes WHERE relation = 'd'", watch)
    return {int(str(row[0])) for row in found}


def _unknown_there(ends: Ends) -> list[Acknowledged]:
    """Mutations that were acknowledged and that the primary does not know: of those whose position did not survive, and of all
    that are young enough to be known there. A server that was put back to a copy of its files may be past every position."""
    done = rows(ends.here, __package__, "acknowledged", Acknowledged)
    asked = [
        one for one in done if one.recent or not survives(Position(one.system_identifier, one.timeline, one.lsn), ends.cluster)
    ]
    query = "SELECT mutation::text FROM aya_sync.mutations WHERE client = %s AND mutation = ANY (%s::uuid[])"
    known = ends.there.execute(query, (ends.state().client, [one.mutation for one in asked])).fetchall()
    there = {str(row[0]) for row in known}
    return [one for one in asked if one.mutation not in there]


def _lost(here: Connection, found: list[Acknowledged], theirs: Rows) -> list[Acknowledged]:
    """Those whose work is not on the primary either: what it knew of the laptop may be lost alone, and sent twice a document
    would be there twice."""
    ours = fingerprints(here)

    def done(one: Acknowledged) -> bool:
        here_is, there_is = ours.get(("d", one.document_id)), theirs.get(("d", one.document_id))
        if one.operation == "DELETE" or there_is is None or here_is is None:
            return one.operation == "DELETE" and there_is is None
        return here_is == there_is or (one.operation == "INSERT" and here_is.split(" ")[1] == there_is.split(" ")[1])

    return [one for one in found if not done(one)]


def again(here: Connection, lost: Acknowledged) -> None:
    """Queue a lost mutation once more, under its old key. A document that was made by it takes a local id again, and its chunks
    do, for the primary may give the ids to others meanwhile."""
    row = here.execute("SELECT document_id FROM write_queue WHERE id = %s", (lost.id,)).fetchone()
    now = replace(lost, document_id=int(str(row[0])) if row else lost.document_id)
    here.execute(statement(__package__, "again_chunks"), vars(now))
    if now.operation == "INSERT" and now.document_id > 0:
        here.execute(statement(__package__, "again_document"), vars(now))
    here.execute(statement(__package__, "again_queued"), vars(now))


def _others(ends: Ends, client: str, watch: Watch) -> set[int]:
    """Documents that somebody else may have changed on a primary that was put back: their version says nothing."""
    found = pull.arriving(ends.there, statement(__package__, "changed_by_others"), watch, client=client)
    return {int(str(row[0])) for row in found}


def _estranged(here: Connection, theirs: Rows, deleted: set[int], others: set[int]) -> list[int]:
    """Changes that wait for a document which the primary lost, whose id it may give or has given to another, or that was changed
    there to a version of the same number: they would meet the wrong one, and are kept among the conflicts; whose."""
    kept = []
    for one in rows(here, __package__, "waiting", Waiting):
        there = theirs.get(("d", one.id))
        if there is None and one.id in deleted:
            continue  # the push is told so
        if there is None and not one.here:  # it was to be deleted
            query = "UPDATE write_queue SET synced = true, state = 'done' WHERE document_id = %s AND NOT synced"
            here.execute(query, (one.id,))
        elif why := _stranger(one, there, others):
            _lose(here, one.id, theirs, why)
            kept.append(one.id)
    return kept


def _stranger(one: Waiting, there: str | None, others: set[int]) -> str:
    """Why a change must not be sent; empty when it may."""
    if there is None:
        return ONLY_HERE
    version, made = there.split(" ")[:2]
    if made != one.made:
        return "the primary has another document under its id"
    return "changed on both sides" if one.id in others and version == str(one.base) else ""


def _lose(here: Connection, number: int, theirs: Rows, why: str) -> None:
    """Keep a document among the conflicts. One that is not on the primary goes now: its id may be given to one that is pushed, or
    was already."""
    made = "DELETE FROM documents WHERE id = %s AND coalesce(extract(epoch FROM created_at)::text, '-') IS DISTINCT FROM %s"
    here.execute("SELECT aya_sync.lose(%s, %s)", (number, why))
    there = theirs.get(("d", number))
    here.execute(made, (number, there.split(" ")[1] if there else None))
