"""One round of the synchronisation: look whom it speaks to, write chunks, push, pull. Killed anywhere, the next one goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from aya_lib.air import initial_copy
from aya_lib.air.chunk_writer import ChunkWriter
from aya_lib.air.link import At, Ends
from aya_lib.air.pull import Incomplete, Pulled, pull
from aya_lib.air.push import Pushed, push
from aya_lib.air.reconcile import Compared, reconcile
from aya_lib.errors import AyaError, SqlFailed


@dataclass
class Round:
    """What one round did. ``waiting``: why documents that lack chunks could not be given them."""

    pushed: Pushed = field(default_factory=Pushed)
    pulled: Pulled = field(default_factory=Pulled)
    compared: list[Compared] = field(default_factory=list)
    waiting: str = ""


def run_round(ends: Ends, writer: ChunkWriter | None = None, at: At = lambda step: None) -> Round:
    """A whole round. Raises when the primary cannot be reached any more, what was done until then stays; and at its end when a
    mutation could not be taken and is tried again."""
    done = Round()
    moved = ends.moved
    if not moved and initial_copy.needed(ends):
        initial_copy.copy(ends, at)
    elif moved or ends.state().snapshot is None:
        done.compared.append(reconcile(ends, at))
    if writer:
        try:
            writer.write(ends.here)
        except AyaError as error:
            done.waiting = str(error)
        at("chunks written")
    try:
        _exchange(ends, done, at)
    except Incomplete:
        done.compared.append(reconcile(ends, at))
        _exchange(ends, done, at)
    if done.pushed.failed:
        reasons = "; ".join(f"mutation {number}: {reason}" for number, reason in done.pushed.failed)
        raise SqlFailed(ends.primary, f"not taken, and tried again: {reasons}")
    return done


def _exchange(ends: Ends, done: Round, at: At) -> None:
    push(ends, done.pushed, at)
    done.pulled = pull(ends, at)
