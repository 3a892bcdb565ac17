"""Is the laptop like the primary, and does something wait for a person?"""

from __future__ import annotations

from aya_lib.air.compare import Compared
from aya_lib.air.status import Queue, Status
from aya_lib.air.sync_check.look import Comparison
from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.node.unseen import Missing
from aya_lib.site import Site

MEND = "The daemon fetches it; at once with mend=true"
TRIGGERS, COLUMNS = "Run air_setup", "Make both sides alike: ALTER TABLE on the one that lacks it"


def preconditions(found: Comparison | Missing) -> list[Check]:
    """Both sides were read. Warned of: what lets rows differ without a word, and columns that do not travel."""

    def without(notes: tuple[str, ...], hint: str) -> Judged:
        return Judged("warning" if notes else "passed", "; ".join(notes) or "yes", hint)

    return [
        evaluate("both sides", "can be compared", found, lambda c: passed_if(True, f"{c.laptop} and {c.primary}")),
        evaluate("triggers note what is written", "yes", found, lambda c: without(c.silent, TRIGGERS)),
        evaluate("columns are the same", "yes", found, lambda c: without(c.notes, COLUMNS)),
    ]


def checks(site: Site, found: Comparison | Missing) -> list[Check]:
    """Rows, ranges and indexes of both sides."""
    return [
        evaluate("documents", "as on the primary", found, lambda comparison: _table(comparison, "documents", "d")),
        evaluate("chunks", "as on the primary", found, lambda comparison: _table(comparison, "chunks", "c")),
        _exact(found),
        evaluate("rows that differ", "0", found, _differing),
        evaluate("vector indexes", "those of the primary", found, _indexed),
    ]


def waiting(site: Site, found: Status | Missing) -> list[Check]:
    """What waits for a person: refused mutations, and versions that lost and were not looked at."""
    return [
        evaluate("refused mutations", "0", found, lambda status: _count(status, "dead", "See: aya air refused")),
        evaluate("conflicts not seen", "0", found, lambda status: _count(status, "conflicts", "See: aya air conflicts")),
        evaluate("sync daemon", "runs", found, _runs),
    ]


def _table(comparison: Comparison, table: str, relation: str) -> Judged:
    there, here = comparison.compared.counts[table]
    differing = sum(row.relation == relation for row in comparison.differences)
    return passed_if(not differing, f"{here:,} here, {there:,} there" + (f", {differing} differ" if differing else ""), MEND)


def _exact(found: Comparison | Missing) -> Check:
    name, expected = "rows on their way", "told from rows that differ"
    compared = found.compared if isinstance(found, Comparison) else found
    if isinstance(compared, Compared) and compared.inexact:
        return Check(name, "unknown", expected, compared.inexact, "Run: aya air sync-now, then this again")
    return evaluate(
        name, expected, found, lambda c: Judged("passed", f"{c.compared.pending} to pull, {c.compared.queued} to push")
    )


def _differing(comparison: Comparison) -> Judged:
    count = len(comparison.differences)
    named = ", ".join(str(row) for row in comparison.differences[:3]) + (f" and {count - 3} more" if count > 3 else "")
    return passed_if(not count, f"{count}: {named}" if count else "0", MEND)


def _indexed(comparison: Comparison) -> Judged:
    missing = ", ".join(index.name for index in comparison.indexes_missing)
    return passed_if(not missing, f"missing: {missing}" if missing else "there", MEND)


def _count(status: Status, field: str, hint: str) -> Judged:
    if not isinstance(status.queue, Queue):
        return Judged("unknown", str(status.queue))
    count = getattr(status.queue, field)
    return Judged("warning" if count else "passed", str(count), hint)


def _runs(status: Status) -> Judged:
    return Judged("passed", "runs") if status.daemon else Judged("warning", "does not run", "Run air_setup")
