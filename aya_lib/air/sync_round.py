"""One round of the synchronisation: look whom it speaks to, write chunks, push, pull. Killed anywhere, the next one goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from aya_lib.air import initial_copy
from aya_lib.air.chunk_writer import ChunkWriter
from aya_lib.air.link import At, Ends
from aya_lib.air.pull import Incomplete, Pulled, pull
from aya_lib.air.push import Pushed, push
from aya_lib.air.reconcile import COMPARED, Compared, reconcile
from aya_lib.errors import AyaError, SqlFailed
from aya_lib.node.sql import statement, value


@dataclass
class Round:
    """What one round did. ``waiting``: why documents that lack chunks could not be given them; ``more``: some lack them still,
    for time was over; ``adopted``: documents that were written here past the triggers; ``notices``: what lets rows differ, or
    keeps something back."""

    pushed: Pushed = field(default_factory=Pushed)
    pulled: Pulled = field(default_factory=Pulled)
    compared: list[Compared] = field(default_factory=list)
    waiting: str = ""
    more: bool = False
    adopted: int = 0
    notices: list[str] = field(default_factory=list)

    def continued_by(self, other: Round) -> None:
        """Add what another round did."""
        self.pushed.applied += other.pushed.applied
        self.pushed.conflicts += other.pushed.conflicts
        self.pushed.dead += other.pushed.dead
        self.pulled.rows += other.pulled.rows
        self.more, self.waiting, self.notices = other.more, other.waiting, other.notices


def run_round(ends: Ends, writer: ChunkWriter | None = None, at: At = lambda step: None) -> Round:
    """A whole round. Raises when the primary cannot be reached any more, what was done until then stays; and at its end when a
    mutation could not be taken and is tried again."""
    done = Round()
    moved, fresh = ends.moved, _fresh(ends)
    if not moved and initial_copy.needed(ends):
        initial_copy.copy(ends, at)
    elif moved or fresh or ends.state().snapshot is None:
        done.compared.append(reconcile(ends, at))
    done.adopted = value(ends.here, statement(__package__, "adopt_documents"))
    if writer:
        try:
            done.more = writer.write(ends.here)
        except AyaError as error:
            done.waiting = str(error)
        at("chunks written")
    try:
        _exchange(ends, done, at)
    except Incomplete:
        done.compared.append(reconcile(ends, at))
        _exchange(ends, done, at)
    done.adopted += value(ends.here, statement(__package__, "adopt_chunks"))
    done.notices = [*ends.silent, *ends.fit.notes, *([ends.fit.held] if ends.fit.held else [])]
    if done.pushed.failed:
        reasons = "; ".join(f"mutation {number}: {reason}" for number, reason in done.pushed.failed[:3])
        reasons += f"; and {len(done.pushed.failed) - 3} more" if len(done.pushed.failed) > 3 else ""
        raise SqlFailed(ends.primary, f"not taken, and tried again: {reasons}")
    return done


def _fresh(ends: Ends) -> bool:
    """Whether a column travels that did not when both sides were last equal. One that travels no longer is forgotten."""
    known, now = ends.state().columns, ends.fit.names
    if known is None or {*known} - {*now}:
        ends.here.execute(COMPARED, (now if known is None else [name for name in now if name in known],))
    return bool(ends.columns.fresh)


def _exchange(ends: Ends, done: Round, at: At) -> None:
    if not ends.fit.held:
        push(ends, done.pushed, at)
    done.pulled = pull(ends, at)
