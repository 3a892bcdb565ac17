"""What was written on the laptop goes to the primary: each mutation once, in order, a refused one alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from aya_lib.air.link import STEP_S, At, Ends, within
from aya_lib.air.position import Position
from aya_lib.node.sql import rows, statement

AT_ONCE = 20  # mutations in one transaction of the primary


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


@dataclass(frozen=True)
class Outcome:
    """What the primary made of it: applied, conflict, gone, or refused with its reason."""

    outcome: str
    document_id: int | None = None
    document_version: int | None = None
    reason: str | None = None


@dataclass
class Pushed:
    """Counts of one push; ``dead``: (queue id, reason)."""

    applied: int = 0
    conflicts: int = 0
    dead: list[tuple[int, str]] = field(default_factory=list)


def push(ends: Ends, at: At = lambda step: None) -> Pushed:
    """Send what waits until nothing more can be sent. May be killed anywhere: what arrived is recorded there with the write."""
    done = Pushed()
    while True:
        waiting = rows(ends.here, __package__, "push_next", Mutation, most=AT_ONCE)
        if not waiting:
            return done
        for one in [one for one in waiting if unfit(ends, one)]:
            _dead(ends, one, unfit(ends, one), done)
        _exchange(ends, [one for one in waiting if not unfit(ends, one)], done, at)


def unfit(ends: Ends, one: Mutation) -> str:
    """Why a row of the queue cannot be sent at all; empty when it can."""
    limit = ends.site.knowledge.max_file_mb
    if one.table_name != "documents":
        return f"table '{one.table_name}' is not synchronised; allowed is 'documents'"
    if one.operation not in ("INSERT", "UPDATE", "DELETE"):
        return f"operation '{one.operation}' is unknown; allowed are 'INSERT', 'UPDATE', 'DELETE'"
    if one.document_id is None and one.operation != "INSERT":
        return f"{one.operation} without document_id: change the row of documents itself, and the queue follows"
    if one.kind != "object":
        return f"data is {one.kind or 'missing'}; allowed is a JSON object with the columns of documents"
    if not one.has_content and one.operation != "DELETE":
        return "data.content is missing or not a text"
    if one.size > limit * 1e6:
        return f"the document has {one.size / 1e6:.1f} MB; allowed are {limit:g} MB (knowledge.max_file_mb)"
    return ""


def _exchange(ends: Ends, mutations: list[Mutation], done: Pushed, at: At) -> None:
    if not mutations:
        return
    ids = [one.id for one in mutations]
    ends.here.execute("UPDATE write_queue SET attempts = attempts + 1 WHERE id = ANY (%s) AND NOT synced", (ids,))
    at("push: taken")
    payloads = {row[0]: row[1:] for row in ends.here.execute(statement(__package__, "push_payload"), {"ids": ids}).fetchall()}
    client = ends.state().client
    with within(ends.there, STEP_S):
        outcomes = []
        with ends.there.transaction():
            for one in mutations:
                outcomes.append(_send(ends, client, one, payloads[one.id]))
                at("push: sent")
        position = ends.position()
    at("push: committed there")
    for one, outcome in zip(mutations, outcomes, strict=True):
        _settle(ends, one, outcome, position, done)
        at("push: acknowledged here")


def _send(ends: Ends, client: str, one: Mutation, payload: tuple[Any, ...]) -> Outcome:
    document, chunks = payload
    values = {**vars(one), "client": client, "document": Jsonb(document), "chunks": None if chunks is None else Jsonb(chunks)}
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
