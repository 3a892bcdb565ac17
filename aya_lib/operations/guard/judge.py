"""May PostgreSQL start as its data directory is? An old primary that comes back must not be a second one."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.state import MARK
from aya_lib.node.unseen import Unseen
from aya_lib.operations.guard.look import Guarded


@dataclass(frozen=True)
class Ruling:
    """``line`` says why, in one line."""

    may_start: bool
    line: str


def rule(seen: Guarded) -> Ruling:
    """Refused: fenced, passed over by a failover, or beside a primary. A peer that cannot be asked refuses nothing."""
    if isinstance(seen.state, Unseen):
        return _no(seen, f"who is fenced cannot be told: {seen.state.reason}")
    fence = seen.state.fenced.get(seen.node)
    if fence:
        return _no(seen, f"it was fenced {fence}. Run rejoin")
    if not isinstance(seen.files, Files):
        return _no(seen, f"its data directory cannot be read: {seen.files}")
    if seen.files.fenced is not None:
        said = " ".join(seen.files.fenced.split())[:200]
        return _no(seen, f"{MARK} is in its data directory{f': {said}' if said else ''}. Run rejoin")
    if seen.files.standby_signal:
        return _yes(seen, "as a standby")
    if seen.peer is None:
        return _yes(seen, "it stands alone")
    if seen.state.primary == seen.peer:
        return _no(seen, f"a failover made {seen.peer} the primary, and this data directory has no standby.signal. Run rejoin")
    return _beside(seen, seen.files)


def _beside(seen: Guarded, own: Files) -> Ruling:
    """As a primary: what the other node says decides."""
    other = seen.other
    if not isinstance(other, Cluster):
        return _yes(seen, f"as a primary on timeline {own.timeline}; {seen.peer} could not be asked: {other}")
    what = f"{seen.peer} is a {other.role} on timeline {other.timeline}"
    if other.system_identifier != own.system_identifier:
        return _yes(seen, f"as a primary on timeline {own.timeline}; {seen.peer} holds another database system")
    if other.timeline > own.timeline:
        return _no(seen, f"{what}, this data directory ends on timeline {own.timeline}: it was passed over. Run rejoin")
    if other.timeline == own.timeline and not other.in_recovery:
        return _no(seen, f"{what}, and this data directory has no standby.signal: it would be a second primary")
    return _yes(seen, f"as a primary on timeline {own.timeline}; {what}")


def _yes(seen: Guarded, why: str) -> Ruling:
    return Ruling(True, f"{seen.node} may start: {why}")


def _no(seen: Guarded, why: str) -> Ruling:
    return Ruling(False, f"{seen.node} must not start: {why}")
