"""What was written on the laptop goes to the primary: each mutation once, in order, a refused one alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import psycopg

from aya_lib.air import unique
from aya_lib.air.link import SLOWEST, STEP_S, At, Ends, within
from aya_lib.air.mutation import Mutation, Outcome, Payload, Taken, unfit
from aya_lib.air.position import Position
from aya_lib.air.pull import Incomplete
from aya_lib.air.unique import Unique
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import NO_ROOM, raised_by, rows, statement, value

LOOKED = 1000  # mutations of which is known that they are next,
AT_ONCE = 20  # mutations in one transaction of the primary,
AT_ONCE_BYTES = 8_000_000  # and as soon as it has more than this, it is committed
FAILED = 20  # that were not taken, and are tried again: no more are tried in this round, for it may be the primary's fault
TOGETHER = 10  # times that those which wait for each other are sent, each time without the ones that were refused


Later = dict[int, tuple[Mutation, Outcome]]


@dataclass
class Pushed:
    """Counts of one push; ``dead``: (queue id, reason) of those refused, ``failed``: of those that are tried again;
    ``later``: those whose unique value another document has, which may yet give it up; ``held``: those that wait for the next
    round because such a one does."""

    applied: int = 0
    conflicts: int = 0
    dead: list[tuple[int, str]] = field(default_factory=list)
    failed: list[tuple[int, str]] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    later: Later = field(default_factory=dict)


def push(ends: Ends, done: Pushed, at: At = lambda step: None) -> None:
    """Send what waits until nothing more can be sent. May be killed anywhere: what arrived is recorded there with the write.

    :class:`Incomplete` when the primary gave a document an id that another has here: it is not the one that was known.
    """
    done.failed, done.held, done.later = [], [], {}
    largest = int(ends.site.knowledge.max_file_mb * 1e6)
    while True:
        tried = [*(number for number, _ in done.failed), *done.held, *done.later]
        most = LOOKED if len(done.failed) < FAILED else 0
        waiting = rows(ends.here, __package__, "push_next", Mutation, most=most, but=tried, largest=largest)
        if not waiting and not done.later:
            break
        at("push: looked")
        if not waiting:
            _together(ends, done, at)
        for first in range(0, len(waiting), AT_ONCE):
            if len(done.failed) >= FAILED:
                break
            _some(ends, waiting[first : first + AT_ONCE], done, at)


def _together(ends: Ends, done: Pushed, at: At) -> None:
    """Those that wait for each other's unique values, in one transaction: each is given up before any is taken. One that a
    document beside them stands against is refused, or held while that one waits, and the others go without it."""
    for _ in range(TOGETHER):
        group, done.later = done.later, {}
        try:
            refused = _exchange(ends, [mutation for mutation, _ in group.values()], done, at, unique.look(ends.there))
        except psycopg.Error as error:
            if not _theirs(ends, error):
                raise
            if _of_one(ends, error):
                done.failed += [(number, _reason(error)) for number in group]
                return
            refused = group  # what stands in a column for a moment was not taken: as when they are sent one by one
        for mutation, outcome in refused.values():
            _hold(ends, mutation, outcome, done, but=[*group, *done.held])
        done.later = {number: one for number, one in group.items() if number not in refused} if refused else {}
        if not done.later:
            return
    for mutation, outcome in done.later.values():
        _refuse(ends, mutation, outcome, done)
    done.later = {}


def _hold(ends: Ends, mutation: Mutation, outcome: Outcome, done: Pushed, but: list[int]) -> None:
    """Refuse it, unless a document that waits, and was not sent yet, may give up what stands in its way."""
    stands = outcome.outcome == "taken" or (mutation.operation == "INSERT" and outcome.outcome == "conflict")
    if stands and value(ends.here, statement(__package__, "push_unsent"), {"but": but}):
        done.held.append(mutation.id)
    else:
        _refuse(ends, mutation, outcome, done)


def _some(ends: Ends, waiting: list[Mutation], done: Pushed, at: At) -> None:
    """So many as go in one transaction of the primary; when one of them fails, each alone."""
    fit = []
    for mutation in waiting:
        if why := unfit(mutation, ends.site.knowledge.max_file_mb):
            _bury(ends, mutation, why, done)
        else:
            fit.append(mutation)
    try:
        _exchange(ends, fit, done, at)
    except psycopg.Error as error:
        if not _of_one(ends, error):
            raise
        for mutation in fit:
            _alone(ends, mutation, done, at)


def _alone(ends: Ends, mutation: Mutation, done: Pushed, at: At) -> None:
    """One of those that failed together: the primary's fault may be the fault of one."""
    try:
        _exchange(ends, [mutation], done, at)
    except psycopg.Error as error:
        if not _of_one(ends, error):
            raise
        done.failed.append((mutation.id, _reason(error)))


def _reason(error: psycopg.Error) -> str:
    text = " ".join((error.diag.message_primary or str(error)).split())
    return f"{text}. {NO_ROOM}" if error.diag.sqlstate == "53100" else text


def _theirs(ends: Ends, error: psycopg.Error) -> bool:
    """Whether the primary said it, and neither the connection nor the laptop."""
    said = ends.there.pgconn.status == psycopg.pq.ConnStatus.OK and error.diag.sqlstate is not None
    return said and raised_by(ends.there, error)


def _of_one(ends: Ends, error: psycopg.Error) -> bool:
    """Whether an error may be of one mutation: locked, no room for it, an internal error."""
    return _theirs(ends, error) and str(error.diag.sqlstate)[:2] in ("40", "53", "54", "55", "XX")


def _exchange(ends: Ends, mutations: list[Mutation], done: Pushed, at: At, together: list[Unique] | None = None) -> Later:
    """Send them, and write down what became of them. ``together``: unique columns whose values they take from each other; then
    all are applied or none is, and those are given that could not be."""
    ids = [mutation.id for mutation in mutations]
    now = {taken.id: taken for taken in rows(ends.here, __package__, "push_taken", Taken, ids=ids)}
    mutations = [replace(mutation, **vars(now[mutation.id])) for mutation in mutations if mutation.id in now]
    if not mutations:
        return {}
    at("push: taken")
    client, outcomes, drawn, sent = ends.state().client, Later(), None, 0
    anew = _anew(ends, client, [mutation for mutation in mutations if not mutation.attempts])
    mutations = [mutation for mutation in mutations if mutation.mutation not in anew]
    with within(ends.there, STEP_S) as watch:
        with ends.there.transaction():
            for mutation in mutations if together is None else _given_up(ends, mutations, together, watch):
                payload = _payload(ends, mutation)
                sent += payload.size
                watch.renew(more_s=payload.size / SLOWEST)
                values = {**vars(mutation), **vars(payload), "client": client}
                outcomes[mutation.id] = mutation, rows(ends.there, __package__, "push_send", Outcome, **values)[0]
                at("push: sent")
                if sent > AT_ONCE_BYTES and together is None:
                    break
            refused = {number: one for number, one in outcomes.items() if one[1].outcome != "applied"}
            if together is not None and refused:
                raise psycopg.Rollback
            watch.renew()
            if len(refused) < len(outcomes):
                drawn = ends.sign()
            at("push: signed")
        if together is not None and refused:
            return refused
        position = ends.position()
    at("push: committed there")
    if drawn is not None:  # before it says that anything has arrived: a primary that loses this must be seen to
        ends.here.execute("UPDATE aya_sync.laptop SET round = %s", (drawn,))
    for mutation, outcome in outcomes.values():
        try:
            _settle(ends, mutation, outcome, position, done)
        except Incomplete:
            ends.here.execute("UPDATE aya_sync.laptop SET snapshot = NULL")
            raise
        at("push: acknowledged here")
    return {}


def _anew(ends: Ends, client: str, first: list[Mutation]) -> set[str]:
    """Those that were never sent, and that the primary has: this laptop was put back. They are queued anew, as changes of what
    arrived, or what was written since would be taken for sent."""
    query = (
        "SELECT mutation::text, document_id, version FROM aya_sync.mutations WHERE client = %s AND mutation = ANY (%s::uuid[])"
    )
    with within(ends.there, STEP_S):
        known = ends.there.execute(query, (client, [mutation.mutation for mutation in first])).fetchall() if first else []
    for mutation, number, version in known:
        with ends.applying() as here:
            values = {"mutation": mutation, "document_id": number, "version": version}
            here.execute(statement(__package__, "push_anew"), values)
    return {str(mutation) for mutation, _, _ in known}


def _payload(ends: Ends, mutation: Mutation) -> Payload:
    travelling = {"documents": list(ends.fit.documents), "chunks": list(ends.fit.chunks)}
    return rows(ends.here, __package__, "push_payload", Payload, id=mutation.id, **travelling)[0]


def _given_up(ends: Ends, mutations: list[Mutation], columns: list[Unique], watch: Watch) -> list[Mutation]:
    """The same, after each has given up its unique values there: its version has then become another."""
    found = []
    for mutation in mutations:
        watch.renew()
        changed = ends.fit.documents if mutation.changed is None else mutation.changed
        if mutation.operation == "UPDATE" and (empty := unique.emptied(columns, changed)):
            base = unique.give_up(ends.there, mutation.document_id, mutation.base_version, empty)
            mutation = replace(mutation, base_version=base)
        found.append(mutation)
    return found


def _settle(ends: Ends, mutation: Mutation, outcome: Outcome, position: Position, done: Pushed) -> None:
    """Write the primary's answer down, in one transaction with what follows from it."""
    if outcome.outcome == "applied":
        _acknowledge(ends, mutation, outcome, position)
        done.applied += 1
    elif outcome.outcome == "taken" or (mutation.operation == "INSERT" and _waits(ends, outcome.document_id)):
        done.later[mutation.id] = mutation, outcome
    else:
        _refuse(ends, mutation, outcome, done)


def _waits(ends: Ends, number: int | None) -> bool:
    query = "SELECT EXISTS (SELECT FROM write_queue WHERE document_id = %s AND NOT synced AND state = 'queued')"
    return bool(value(ends.here, query, (number,)))


def _refuse(ends: Ends, mutation: Mutation, outcome: Outcome, done: Pushed) -> None:
    if outcome.outcome in ("refused", "taken"):
        _bury(ends, mutation, outcome.reason or "refused", done)
    else:
        _yield(ends, mutation, outcome)
        done.conflicts += 1


def _acknowledge(ends: Ends, mutation: Mutation, outcome: Outcome, position: Position) -> None:
    """The document takes the primary's id and version."""
    values = {**vars(mutation), "new_id": outcome.document_id, "new_version": outcome.document_version, **vars(position)}
    with ends.applying() as here:
        # In a statement of its own: who writes the document right now is waited for, and its mutation then seen by the next.
        here.execute("SELECT FROM documents WHERE id = %s FOR UPDATE", (mutation.document_id,))
        other = "SELECT true FROM documents WHERE id = %s AND id IS DISTINCT FROM %s"
        if value(here, other, (outcome.document_id, mutation.document_id)):
            raise Incomplete
        for name in ("push_rename", "push_done"):
            here.execute(statement(__package__, name), values)
        if mutation.document_id is not None and mutation.document_id < 0:
            here.execute(statement(__package__, "push_renamed"), values)


def _yield(ends: Ends, mutation: Mutation, outcome: Outcome) -> None:
    """The primary's version stands; the laptop's is kept among the conflicts."""
    why = "deleted on the primary, changed here" if outcome.outcome == "gone" else "changed on both sides"
    if mutation.operation == "INSERT":
        why = "the same source_uri is on the primary already"
    with ends.applying() as here:
        if mutation.document_id is None:
            here.execute(statement(__package__, "push_lost_row"), {"id": mutation.id, "why": why})
        else:
            here.execute("SELECT FROM documents WHERE id = %s FOR UPDATE", (mutation.document_id,))
            here.execute("SELECT aya_sync.lose(%s, %s)", (mutation.document_id, why))
        if outcome.document_id is not None:
            here.execute(statement(__package__, "refetch"), ("d", outcome.document_id))


def _bury(ends: Ends, mutation: Mutation, reason: str, done: Pushed) -> None:
    """Among the dead letters, with the reason in one line."""
    line = " ".join(reason.split())
    ends.here.execute("UPDATE write_queue SET state = 'dead', reason = %s WHERE id = %s", (line, mutation.id))
    done.dead.append((mutation.id, line))
