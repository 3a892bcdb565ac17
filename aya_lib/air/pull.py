"""What changed on the primary comes to the laptop: as rows that are now, by the log of which changed, whole transactions at a
time, in one transaction here together with the snapshot up to which everything is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from aya_lib.air import tables, triggers, unique
from aya_lib.air.fit import MEND, TABLES, Apart
from aya_lib.air.link import DAY_S, FETCH_S, At, Ends, Laptop, Log, within
from aya_lib.air.position import Position, Snapshot, advanced
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import Connection, column, statement, stream, value

AT_ONCE = 20_000  # changed rows fetched in one transaction


class Incomplete(Exception):
    """The log no longer tells everything that changed (pruned, truncated, restored): compare instead. Not an error."""


@dataclass(frozen=True)
class Batch:
    """The rows of one pull. ``new``: sees the transactions whose rows they are; ``more``: others follow."""

    new: Snapshot
    log: Log
    more: bool
    documents: tuple[int, ...]
    chunks: tuple[int, ...]


@dataclass(frozen=True)
class Mark:
    """The number of a write of the laptop on the primary, and where the primary was after it."""

    round: int
    position: Position


@dataclass
class Pulled:
    rows: int = 0
    passed_over: int = 0


def pull(ends: Ends, at: At = lambda step: None) -> Pulled:
    """Fetch until nothing is new. :class:`Incomplete` when the log cannot tell what is."""
    done = Pulled()
    while _one(ends, done, at):
        pass
    return done


def _one(ends: Ends, done: Pulled, at: At) -> bool:
    known = ends.state()
    with within(ends.there, FETCH_S) as watch:
        ends.there.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            batch = look(ends, known, watch)
            if not batch.documents and not batch.chunks:
                return False
            at("pull: looked")
            with ends.applying():
                _stage(ends, batch, watch, at)
                ends.there.execute("COMMIT")
                mark = durable(ends, str(known.snapshot))
                watch.end()  # the rest is the laptop's own work
                at("pull: fetched")
                done.passed_over += _apply(ends, batch)
                remember(ends.here, str(batch.new), batch.log, mark)
                at("pull: applied")
            at("pull: committed here")
        finally:
            if not ends.there.closed and ends.there.info.transaction_status:
                ends.there.execute("ROLLBACK")
    done.rows += len(batch.documents) + len(batch.chunks)
    return batch.more


def look(ends: Ends, known: Laptop, watch: Watch) -> Batch:
    """Which rows changed since; in a transaction of the primary that sees one snapshot."""
    log, old = Log.read(ends.there), known.cursor
    if old is None or not log.reaches(known):
        raise Incomplete
    changes = new_in_log(ends.there, old, watch)
    if any(relation == "*" for _, relation, _ in changes):
        raise Incomplete
    taken, left = _prefix([xid for xid, _, _ in changes])
    again = stream(ends.here, statement(__package__, "refetch_ready"), most=AT_ONCE)
    rows = {(relation, number) for xid, relation, number in changes if xid in taken} | {*again}
    documents, chunks = (tuple(sorted(number for kind, number in rows if kind == relation)) for relation in TABLES)
    new = advanced(old, Snapshot.parse(log.snapshot), sorted(taken), sorted(left))
    return Batch(new, log, bool(left) or len(again) == AT_ONCE, documents, chunks)


def new_in_log(there: Connection, old: Snapshot, watch: Watch | None = None) -> list[tuple[int, str, int]]:
    """What the log names since a snapshot, in the order of transactions: xid, relation, id. Relation ``*``: everything."""
    query = statement(__package__, "log_new")
    return [(xid, relation, number) for xid, relation, number in stream(there, query, watch, old=str(old))]


def _prefix(xids: Sequence[int]) -> tuple[set[int], set[int]]:
    """The oldest transactions, whole, with at most about ``AT_ONCE`` rows; and the others."""
    taken: set[int] = set()
    for count, xid in enumerate(xids):
        if count >= AT_ONCE and xid not in taken:
            break
        taken.add(xid)
    return taken, set(xids) - taken


def _stage(ends: Ends, batch: Batch, watch: Watch, at: At) -> None:
    """The rows as they are now into temporary tables, byte for byte as the primary sends them."""
    ends.here.execute(statement(__package__, "stage_tables"))
    for relation, ids in (("d", batch.documents), ("c", batch.chunks)):
        ends.here.execute("INSERT INTO named SELECT %s, unnest(%s::int[])", (relation, list(ids)))
    again = column(ends.here, "SELECT row_id FROM aya_sync.refetch WHERE relation = 'd'")
    values = {
        "documents": sql.Literal(list(batch.documents)),
        "chunks": sql.Literal(list(batch.chunks)),
        "whole": sql.Literal([number for number in again if number in set(batch.documents)]),
    }
    for table, columns in (("documents", ends.fit.documents), ("chunks", ends.fit.chunks)):
        which = statement(__package__, f"fetch_{table}{'_partly' if batch.more and table == 'documents' else ''}")
        query = sql.SQL(which).format(columns=tables.listed(columns), **values)
        transfer(ends, query, f"incoming_{table}", columns, watch)
        at(f"pull: staged {table}")


def transfer(ends: Ends, query: sql.Composed, table: str, columns: Sequence[str], watch: Watch) -> None:
    """Rows of a query of the primary into a table of the laptop, by binary COPY, not parsed on the way. Each renews the
    deadline."""
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), tables.listed(columns))
    out = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    with (
        ends.there.cursor() as source,
        ends.here.cursor() as target,
        source.copy(out) as reading,
        target.copy(into) as writing,
    ):
        for block in reading:
            writing.write(block)
            watch.renew()
        watch.renew(more_s=DAY_S)  # the end of the COPY here is the laptop's own work
    watch.renew()


def durable(ends: Ends, applied: str) -> Mark:
    """Make what was seen outlive a crash of the primary: a commit after it, whose WAL is flushed with all before it. Without
    this, transaction ids that a crash takes back would be used again below the snapshot. Says also what may be pruned."""
    drawn = ends.sign(applied)
    return Mark(drawn, ends.position())


def _apply(ends: Ends, batch: Batch) -> int:
    """Put the staged rows in place, but for documents that wait to be pushed or are just being written; how many those are."""
    parts = {
        "documents": tables.listed(ends.fit.documents),
        "chunks": tables.listed(ends.fit.chunks),
        "set_documents": tables.assigned(ends.fit.documents, "excluded", "id"),
        "set_chunks": tables.assigned(ends.fit.chunks, "excluded", "id"),
        "d_documents": tables.listed(ends.fit.documents, "d"),
        "i_documents": tables.listed(ends.fit.documents, "i"),
        "c_rest": tables.listed([name for name in ends.fit.chunks if name != "embedding"], "c"),
        "i_rest": tables.listed([name for name in ends.fit.chunks if name != "embedding"], "i"),
        "set_rest": tables.assigned(ends.fit.chunks, "i", "id", "chunk_text", "embedding"),
    }
    columns = [one for one in unique.look(ends.here) if one.name in ends.fit.documents]
    parts["empty"] = unique.emptied(columns, ends.fit.documents) or sql.Composed([sql.SQL("id = d.id")])
    names = sorted({one.name for one in columns} | {"source_uri"})
    parts["d_unique"], parts["i_unique"] = tables.listed(names, "d"), tables.listed(names, "i")
    others = triggers.foreign(ends.here)
    try:
        for text in statement(__package__, "apply").split("-- next"):
            if "{same}" in text:
                _until_none(ends.here, [sql.SQL(text).format(same=same) for same in unique.same(columns)])
            else:
                ends.here.execute(sql.SQL(text).format(**parts))
        if others.names and others.passable:
            ends.here.execute(sql.SQL(statement(__package__, "as_they_came")).format(**parts))
    except psycopg.IntegrityError as error:
        message = f"{ends.laptop} refuses a row of {ends.primary}: {error.diag.message_primary}"
        raise Apart(message, hint=MEND) from None
    return int(value(ends.here, "SELECT count(*) FROM skipped"))


def _until_none(here: Connection, queries: Sequence[sql.Composed]) -> None:
    """Each again and again until all together find nothing more."""
    while sum([here.execute(query).rowcount for query in queries]):
        pass


def remember(here: Connection, snapshot: str, log: Log, mark: Mark) -> None:
    """The new watermark, in the caller's transaction."""
    values = {"snapshot": snapshot, "log": log.oid, "round": mark.round, **vars(mark.position)}
    here.execute(statement(__package__, "remember"), values)
