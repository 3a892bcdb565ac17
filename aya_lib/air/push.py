"""What was written on the laptop goes to the primary: each mutation once, in order, a refused one alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import psycopg

from aya_lib.air.link import SLOWEST, STEP_S, At, Ends, within
from aya_lib.air.position import Position
from aya_lib.air.pull import Incomplete
from aya_lib.node.sql import rows, statement

AT_ONCE = 20  # mutations in one transaction of the primary,
AT_ONCE_BYTES = 8_000_000  # and as soon as it has more than this, it is committed


@dataclass(frozen=True)
class Mutation:
    """A row of ``write_queue`` that is next for its document. ``size``: bytes of the document's content."""

    id: int
    mutation: str
    operation: str | None
    table_name: str | None
    document_id: int | None
    base_version: int | None
    chunks_changed: bool
    kind: str | None
    has_content: bool
    size: int
    attempts: int


@dataclass(frozen=True)
class Taken:
    """What of a mutation may have changed since it was looked at."""

    id: int
    operation: str | None
    document_id: int | None
    base_version: int | None
    chunks_changed: bool


@dataclass(frozen=True)
class Outcome:
    """What the primary made of it: applied, conflict, gone, or refused with its reason."""

    outcome: str
    document_id: int | None = None
    document_version: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Payload:
    """What is sent, as JSON that is not read on the way, or numbers would lose digits. ``chunks``: None when they stay."""

    document: str
    chunks: str | None

    @property
    def size(self) -> int:
        return len(self.document) + len(self.chunks or "")


@dataclass
class Pushed:
    """Counts of one push; ``dead``: (queue id, reason) of those refused, ``failed``: of those that are tried again."""

    applied: int = 0
    conflicts: int = 0
    dead: list[tuple[int, str]] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)


def push(ends: Ends, done: Pushed, at: At = lambda step: None) -> None:
    """Send what waits until nothing more can be sent. May be killed anywhere: what arrived is recorded there with the write.

    :class:`Incomplete` when the primary gave a document an id that another has here: it is not the one that was known.
    """
    done.failed = []
    while True:
        but = [number for number, _ in done.failed]
        waiting = rows(ends.here, __package__, "push_next", Mutation, most=AT_ONCE, but=but)
        if not waiting:
            return
        at("push: looked")
        for one in [one for one in waiting if unfit(ends, one)]:
            _dead(ends, one, unfit(ends, one), done)
        fit = [one for one in waiting if not unfit(ends, one)]
        try:
            _exchange(ends, fit, done, at)
        except psycopg.Error as error:
            if not _of_one(ends, error):
                raise
            for one in fit:
                _alone(ends, one, done, at)


def _alone(ends: Ends, one: Mutation, done: Pushed, at: At) -> None:
    """One of those that failed together: the primary's fault may be the fault of one."""
    try:
        _exchange(ends, [one], done, at)
    except psycopg.Error as error:
        if not _of_one(ends, error):
            raise
        done.failed.append((one.id, " ".join((error.diag.message_primary or str(error)).split())))


def _of_one(ends: Ends, error: psycopg.Error) -> bool:
    """Whether an error may be of one mutation: locked, no room for it, an internal error; and not of the connection, or here."""
    there = ends.there.pgconn.status == psycopg.pq.ConnStatus.OK and error.diag.sqlstate is not None
    mine = ends.here.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    return there and not mine and str(error.diag.sqlstate)[:2] in ("40", "53", "54", "55", "XX")


def unfit(ends: Ends, one: Mutation) -> str:
    """Why a row of the queue cannot be sent at all; empty when it can."""
    limit = ends.site.knowledge.max_file_mb
    if one.table_name != "documents":
        return f"table '{one.table_name}' is not synchronised; allowed is 'documents'"
    if one.operation not in ("INSERT", "UPDATE", "DELETE"):
        return f"operation '{one.operation}' is unknown; allowed are 'INSERT', 'UPDATE', 'DELETE'"
    if one.document_id is None and one.operation != "INSERT":
        return f"{one.operation} without document_id: change the row of documents itself, and the queue follows"
    if one.operation == "INSERT" and (one.document_id or -1) > 0 and not one.attempts:
        return f"INSERT with document_id {one.document_id}: ids above zero are given by the primary"
    if one.kind != "object":
        return f"data is {one.kind or 'missing'}; allowed is a JSON object with the columns of documents"
    if not one.has_content and one.operation != "DELETE":
        return "data.content is missing or not a text"
    if one.size > limit * 1e6 and one.operation != "DELETE":
        return f"the document has {one.size / 1e6:.1f} MB; allowed are {limit:g} MB (knowledge.max_file_mb)"
    return ""


def _exchange(ends: Ends, mutations: list[Mutation], done: Pushed, at: At) -> None:
    now = {one.id: one for one in rows(ends.here, __package__, "push_taken", Taken, ids=[one.id for one in mutations])}
    mutations = [replace(one, **vars(now[one.id])) for one in mutations if one.id in now]
    if not mutations:
        return
    at("push: taken")
    client = ends.state().client
    outcomes: list[tuple[Mutation, Outcome]] = []
    number = None
    with within(ends.there, STEP_S) as watch:
        with ends.there.transaction():
            sent = 0
            for one in mutations:
                payload = _payload(ends, one)
                sent += payload.size
                watch.renew(more_s=payload.size / SLOWEST)
                outcomes.append((one, _send(ends, client, one, payload)))
                at("push: sent")
                if sent > AT_ONCE_BYTES:
                    break
            watch.renew()
            if any(outcome.outcome == "applied" for _, outcome in outcomes):
                number = ends.sign()
            at("push: signed")
        position = ends.position()
    at("push: committed there")
    if number is not None:  # before it says that anything has arrived: a primary that loses this must be seen to
        ends.here.execute("UPDATE aya_sync.laptop SET round = %s", (number,))
    for one, outcome in outcomes:
        try:
            _settle(ends, one, outcome, position, done)
        except Incomplete:
            ends.here.execute("UPDATE aya_sync.laptop SET snapshot = NULL")
            raise
        at("push: acknowledged here")


def _payload(ends: Ends, one: Mutation) -> Payload:
    return rows(ends.here, __package__, "push_payload", Payload, id=one.id)[0]


def _send(ends: Ends, client: str, one: Mutation, payload: Payload) -> Outcome:
    values = {**vars(one), **vars(payload), "client": client}
    return rows(ends.there, __package__, "push_send", Outcome, **values)[0]


def _settle(ends: Ends, one: Mutation, outcome: Outcome, position: Position, done: Pushed) -> None:
    """Write the primary's answer down, in one transaction with what follows from it."""
    if outcome.outcome == "refused":
        _dead(ends, one, outcome.reason or "refused", done)
        return
    if outcome.outcome == "applied":
        values = {**vars(one), "new_id": outcome.document_id, "new_version": outcome.document_version, **vars(position)}
        with ends.applying() as here:
            # In a statement of its own: who writes the document right now is waited for, and its mutation then seen by the next.
            here.execute("SELECT FROM documents WHERE id = %s FOR UPDATE", (one.document_id,))
            taken = "SELECT FROM documents WHERE id = %s AND id IS DISTINCT FROM %s"
            if here.execute(taken, (outcome.document_id, one.document_id)).fetchone() is not None:
                raise Incomplete
            for name in ("push_rename", "push_done"):
                here.execute(statement(__package__, name), values)
            if one.document_id is not None and one.document_id < 0:
                here.execute(statement(__package__, "push_renamed"), values)
        done.applied += 1
        return
    why = "deleted on the primary, changed here" if outcome.outcome == "gone" else "changed on both sides"
    if one.operation == "INSERT":
        why = "the same source_uri is on the primary already"
    with ends.applying() as here:
        if one.document_id is None:
            values = {"id": one.id, "why": why}
            here.execute(statement(__package__, "push_lost_row"), values)
        else:
            here.execute("SELECT FROM documents WHERE id = %s FOR UPDATE", (one.document_id,))
            here.execute("SELECT aya_sync.lose(%s, %s)", (one.document_id, why))
        if outcome.document_id is not None:
            here.execute(statement(__package__, "refetch"), {"id": outcome.document_id})
    done.conflicts += 1


def _dead(ends: Ends, one: Mutation, reason: str, done: Pushed) -> None:
    said = " ".join(reason.split())
    ends.here.execute("UPDATE write_queue SET state = 'dead', reason = %s WHERE id = %s", (said, one.id))
    done.dead.append((one.id, said))
