"""Is the laptop like the primary, and what mends it where it is not?"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from aya_lib.air import now
from aya_lib.air.compare import Comparison
from aya_lib.air.first import Index
from aya_lib.air.link import lock
from aya_lib.air.status import Depth, Status
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.check import Status as Word
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing
from aya_lib.plan.change import Change, Plan, change
from aya_lib.site import Site

BUILD_S = 86400.0
MEND = "Run air_sync_check with mend"


@dataclass(frozen=True)
class CompareAgain:
    """Have the next round compare everything under its own locks, and fetch what differs. What only the laptop has, or has in
    another version, is kept whole among the conflicts before it goes."""

    def command(self, node: Node) -> str:
        return "UPDATE aya_sync.laptop SET snapshot = NULL; NOTIFY aya_queue"

    def run(self, node: Node) -> None:
        with node.session(write=True) as connection:
            lock(node.name, connection)  # the end of a round under way would store its own snapshot over this
            connection.execute("UPDATE aya_sync.laptop SET snapshot = NULL")
        now.sync(node.site)


@dataclass(frozen=True)
class Build:
    """Build a vector index as the primary has it; an invalid one of that name goes first."""

    index: Index

    def command(self, node: Node) -> str:
        return self.index.made

    def run(self, node: Node) -> None:
        with node.session(write=True, deadline_s=BUILD_S) as connection, connection.transaction():
            connection.execute("SET LOCAL client_min_messages = error")
            connection.execute(sql.SQL("DROP INDEX IF EXISTS public.{}").format(sql.Identifier(self.index.name)))
            connection.execute(self.index.made.encode())


def preconditions(found: Comparison | Missing) -> list[Check]:
    """Both sides were read, and rows that differ can be told from rows that are on their way."""
    return [evaluate("both sides", "can be compared", found, lambda one: passed_if(True, f"{one.laptop} and {one.primary}"))]


def checks(site: Site, found: Comparison | Missing) -> list[Check]:
    """Rows, ranges and indexes of both sides."""
    return [
        evaluate("documents", "as on the primary", found, lambda one: _table(one, "documents", "d")),
        evaluate("chunks", "as on the primary", found, lambda one: _table(one, "chunks", "c")),
        _exact(found),
        evaluate("rows that differ", "0", found, _differing),
        evaluate("vector indexes", "those of the primary", found, _indexed),
    ]


def plan(nodes: Nodes, found: Comparison | Missing, mend: bool = True) -> Plan:
    """What makes the laptop like the primary; nothing when it is, when it could not be seen, or unless ``mend``."""
    steps: list[Change] = []
    if isinstance(found, Comparison) and mend:
        node, count = nodes[found.laptop], len(found.differences)
        if count:
            rows = "1 row that differs" if count == 1 else f"{count} rows that differ"
            title = f"Fetch {rows}; keep what only the laptop has"
            steps.append(change(node, title, CompareAgain()))
        steps += [change(node, f"Build the index {one.name}", Build(one)) for one in found.indexes_missing]
    return Plan("Make the laptop like the primary", tuple(steps), unwind=False)


def letters(site: Site, found: Status | Missing) -> list[Check]:
    """What waits for a person: refused mutations, and versions that lost and were not looked at."""

    def of(one: Status, name: str, hint: str) -> Judged:
        if not isinstance(one.depth, Depth):
            return Judged("unknown", str(one.depth))
        count = getattr(one.depth, name)
        word: Word = "warning" if count else "passed"
        return Judged(word, str(count), hint)

    return [
        evaluate("refused mutations", "0", found, lambda one: of(one, "dead", "See: aya air refused")),
        evaluate("conflicts not seen", "0", found, lambda one: of(one, "conflicts", "See: aya air conflicts")),
        evaluate("sync daemon", "runs", found, _runs),
    ]


def _runs(one: Status) -> Judged:
    return Judged("passed", "runs") if one.said else Judged("warning", "does not run", "Run air_setup")


def _table(found: Comparison, table: str, relation: str) -> Judged:
    there, here = found.counts[table]
    wrong = sum(one.relation == relation for one in found.differences)
    return passed_if(not wrong, f"{here:,} here, {there:,} there" + (f", {wrong} differ" if wrong else ""), MEND)


def _exact(found: Comparison | Missing) -> Check:
    name, expected = "rows on their way", "told from rows that differ"
    if isinstance(found, Comparison) and found.inexact:
        return Check(name, "unknown", expected, found.inexact, "Run: aya air sync-now, then this again")
    return evaluate(name, expected, found, lambda one: Judged("passed", f"{one.pending} to pull, {one.queued} to push"))


def _differing(found: Comparison) -> Judged:
    named = ", ".join(str(one) for one in found.differences[:3])
    more = f" and {len(found.differences) - 3} more" if len(found.differences) > 3 else ""
    return passed_if(not found.differences, f"{len(found.differences)}{': ' if named else ''}{named}{more}", MEND)


def _indexed(found: Comparison) -> Judged:
    missing = ", ".join(one.name for one in found.indexes_missing)
    return passed_if(not missing, f"missing: {missing}" if missing else "there", MEND)
