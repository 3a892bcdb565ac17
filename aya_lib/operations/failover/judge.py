"""May the standby be promoted, and is it the primary now? What is promised about lost writes is said beforehand."""

from __future__ import annotations

import getpass
from dataclasses import dataclass

from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication, server
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Sender
from aya_lib.cluster.server import Cluster
from aya_lib.errors import UsageError
from aya_lib.node.unseen import Missing
from aya_lib.operations.failover import fencing
from aya_lib.operations.failover import look as facts
from aya_lib.operations.failover.fencing import Asked, Fencing
from aya_lib.operations.failover.look import Behind, Promise, Promotable
from aya_lib.site import Site


@dataclass(frozen=True)
class Wish:
    """``new`` is to be the primary in place of ``old``. ``emergency``: ``old`` is given up, not handed over. ``take_back``: a
    failover that was broken off before the promotion is undone instead."""

    old: str
    new: str
    emergency: bool = False
    fence: Asked = "auto"
    confirmed_by: str = ""
    by: str = ""
    take_back: bool = False

    def promoted(self, site: Site, seen: Overview) -> list[Check]:
        """What must hold in the end; see :func:`promoted` and :func:`taken_back`."""
        return taken_back(site, self, seen) if self.take_back else promoted(site, self, seen)


@dataclass(frozen=True)
class Found:
    """All that a failover looks at before it acts."""

    overview: Overview
    promotable: Promotable | Missing | None
    behind: Behind | Missing
    promise: Promise
    fencing: Fencing

    @property
    def done(self) -> bool:
        """Whether the new primary is one already; then only what is left of the failover is planned."""
        return self.promotable is None


def wish(
    site: Site,
    *,
    to: str = "",
    emergency: bool = False,
    fence: Asked = "auto",
    confirmed_by: str = "",
    by: str = "",
    take_back: bool = False,
) -> Wish:
    """What the runbook's parameters ask for; ``to`` empty: the site's standby. :class:`UsageError` for a node that cannot be."""
    new = to or site.standby
    if new not in site.pair:
        raise UsageError(f"to: found '{to}', allowed are {' and '.join(site.pair)}, the two nodes that replicate")
    if not emergency and fence not in ("auto", "stopped"):
        raise UsageError(f"fence: '{fence}' is for an emergency; a planned failover always stops the old primary")
    old = next(name for name in site.pair if name != new)
    return Wish(old, new, emergency, fence, confirmed_by, by or getpass.getuser(), take_back)


def preconditions(site: Site, wish: Wish, found: Found) -> list[Check]:
    """Everything that must hold before the first change."""
    old, new = found.overview.nodes[wish.old], found.overview.nodes[wish.new]
    if wish.take_back:
        return [can_be_taken_back(wish, new, found)]
    if new.writable:
        return [promotable(new, found), _other(wish, found)]
    return [
        promotable(new, found),
        kind(wish, old, found),
        server.same_system(old, new) if facts.condition(old) != "unreachable" else _unseen_system(old, new),
        *([server.not_diverged(new, old)] if isinstance(old.cluster, Cluster) else []),
        near_enough(site, wish, found),
        fencing.holds(found.fencing),
    ]


def promotable(node: NodeSeen, found: Found) -> Check:
    """The node to promote answers and is in recovery, or is the primary already."""
    name, expected = f"{node.name} can be promoted", "a standby that answers"
    if node.writable:
        return Check(name, "passed", expected, f"{node.name} is already primary")
    fence = found.overview.fenced(node.name)
    if fence:
        return Check(name, "failed", expected, fence, "It lacks what the primary has: run rejoin first")
    hint = (
        f"{node.name} cannot take over. Bring it back first (restore), or bring the old primary back: restore does that as well"
    )
    return evaluate(
        name, expected, node.cluster, lambda c: passed_if(c.in_recovery, f"{c.role}, timeline {c.timeline}"), hint=hint
    )


def can_be_taken_back(wish: Wish, new: NodeSeen, found: Found) -> Check:
    """A failover is under way, and the node that it was to promote is known to be a standby still."""
    name, expected = "the failover can be taken back", f"one is under way, and {wish.new} is a standby still"
    began = found.overview.state.under_way
    if not began or (began.get("old"), began.get("new")) != (wish.old, wish.new):
        return Check(name, "failed", expected, "no such failover is under way", "Leave take_back out")
    hint = f"{wish.new} was promoted: finish the failover (run it again without take_back), then rejoin and switchback"
    return evaluate(name, expected, new.cluster, lambda c: passed_if(c.in_recovery, f"{new.name} is a {c.role}", hint), hint=hint)


def kind(wish: Wish, old: NodeSeen, found: Found) -> Check:
    """A healthy primary is handed over, a lost one is given up; neither by mistake."""
    how = facts.condition(old)
    name = "planned or emergency"
    if wish.emergency:
        expected = f"emergency: {old.name} is down, frozen or unreachable"
        hints = {
            "primary": f"{old.name} is healthy: hand over without loss by a planned failover (emergency=false)",
            "starting": f"{old.name} is starting up: let it finish, it is the primary. Its log tells how far it is",
            "standby": f"{old.name} is a standby itself: nobody is the primary. Look at both nodes",
        }
        return Check(name, "failed" if how in hints else "passed", expected, f"{old.name} is {how}", hints.get(how, ""))
    expected = f"planned: {old.name} is healthy and is handed over"
    if how == "primary" or _handing_over(wish, old, found):
        return Check(name, "passed", expected, f"{old.name} is {how}")
    hint = (
        f"{old.name} is {how}: restore may bring it back without any loss; to give it up and promote {wish.new}, "
        "run failover with emergency=true"
    )
    return Check(name, "failed", expected, f"{old.name} is {how}", hint)


def near_enough(site: Site, wish: Wish, found: Found) -> Check:
    """The standby is not known to be further behind than the site allows; unknown is a warning, for it may be all there is."""
    limit = site.replication.promotable_below_bytes
    name, expected = f"{wish.new} has nearly everything", f"under {limit:,} bytes behind"

    def of(behind: Behind) -> Judged:
        if behind.bytes is None:
            return Judged("warning", str(behind), "What the old primary wrote after that moment is lost, unless rejoin finds it")
        if behind.bytes > limit:
            hint = f"Let {wish.new} catch up, or bring {wish.old} back; if this much may be lost, raise promotable_below_bytes"
            return Judged("failed", str(behind), hint)
        return Judged("passed", str(behind))

    return evaluate(name, expected, found.behind, of, hint=f"Bring {wish.new} back first: what it lacks is not known")


def loss(wish: Wish, found: Found) -> Check:
    """The bound of what is lost, said before it happens. (Zero: handed over after an orderly stop, or synchronous.)"""
    name, expected = "what may be lost", "nothing, or a stated bound"
    if wish.take_back:
        return Check(name, "passed", expected, f"nothing: {wish.old} is the primary again", required=False)
    if found.done:
        return Check(name, "passed", expected, "the promotion is past; see the failover log", required=False)
    if not wish.emergency:
        return Check(name, "passed", expected, f"nothing: {wish.new} has all of {wish.old}'s WAL before it is promoted")
    if found.promise.synchronous:
        told = "no acknowledged write, unless a waiting commit was cancelled"
        return Check(name, "passed", expected, f"{told} ({found.promise.how})")

    def of(behind: Behind) -> Judged:
        if behind.bytes == 0 and behind.source == "files":
            return Judged("passed", "nothing: its WAL files end where the standby's do")
        said = f"at most {behind}" if behind.bytes is not None else str(behind)
        return Judged("warning", said, "Rejoin saves what the old primary wrote and this node never received")

    return evaluate(name, expected, found.behind, of)


def promoted(site: Site, wish: Wish, seen: Overview) -> list[Check]:
    """The new primary accepts writes on a timeline of its own, nobody else does, and its services are there."""
    old, new = seen.nodes[wish.old], seen.nodes[wish.new]
    lonely = server.one_primary([old, new])
    away = lonely.status == "unknown" and bool(seen.fenced(old.name))
    return [
        server.primary(new),
        later(new),
        *(optional([lonely]) if away else [lonely]),
        slot(site, new),
        *glance.embedding(new),
    ]


def taken_back(site: Site, wish: Wish, seen: Overview) -> list[Check]:
    """The old primary serves again, and the standby follows it."""
    old, new = seen.nodes[wish.old], seen.nodes[wish.new]
    return [
        server.primary(old),
        server.standby(new),
        server.not_fenced(old, seen),
        replication.stream(site, glance.sender_of(old), new.name),
    ]


def later(node: NodeSeen) -> Check:
    """A promotion began a timeline; its history says where it left the old one."""
    name, expected = f"{node.name} began a timeline", "later than the one it left"

    def of(found: Cluster) -> Judged:
        ends = [switch for switch in found.history if switch.timeline < found.timeline]
        told = f"timeline {found.timeline}" + (f", left {ends[-1].timeline} at {ends[-1].lsn}" if ends else "")
        return passed_if(bool(ends), told, "It was not promoted: it is the primary it always was")

    return evaluate(name, expected, node.cluster, of)


def slot(site: Site, node: NodeSeen) -> Check:
    """The slot that the returning node will need is there."""
    name = site.replication.slot

    def of(sender: Sender) -> Judged:
        return passed_if(sender.slot(name) is not None, "there" if sender.slot(name) else "no such slot", "Run failover again")

    return evaluate(f"slot {name} waits for the returning node", "there", glance.sender_of(node), of)


def _handing_over(wish: Wish, old: NodeSeen, found: Found) -> bool:
    """A planned failover of ours was broken off after it had stopped the old primary in an orderly way."""
    ours = found.overview.state.under_way or {}
    same = (ours.get("kind"), ours.get("old"), ours.get("new")) == ("planned", wish.old, wish.new)
    files = old.files
    return same and facts.condition(old) == "down" and getattr(files, "clean", False)


def _other(wish: Wish, found: Found) -> Check:
    """Beside the new primary: nobody accepts writes, or it is a fenced node, which stays away or is stopped now."""
    old, new = found.overview.nodes[wish.old], found.overview.nodes[wish.new]
    seen = server.one_primary([old, new])
    if seen.status == "passed" or not found.overview.state.fenced.get(wish.old):
        return seen
    if facts.condition(old) == "unreachable":
        hint = "Run failover again when it can be reached: it is stopped then"
        return Check(seen.name, "warning", seen.expected, f"{old.name} is unreachable and fenced", hint)
    hint = f"{old.name} was fenced while it could not be reached, and is back: it is stopped now, before anything else"
    return Check(seen.name, "warning", seen.expected, f"{old.name} is {facts.condition(old)} and fenced", hint)


def _unseen_system(old: NodeSeen, new: NodeSeen) -> Check:
    name, expected = f"{old.name} and {new.name} are one system", "the same system identifier"
    return Check(name, "warning", expected, f"{old.name} cannot be reached", "Believed because it followed", required=False)
