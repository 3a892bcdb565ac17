"""May the standby be promoted, and is it the primary now? What is promised about lost writes is said beforehand."""

from __future__ import annotations

from collections.abc import Callable

from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication, server
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Sender
from aya_lib.cluster.server import Cluster, Files
from aya_lib.operations.failover import fencing
from aya_lib.operations.failover.fencing import condition
from aya_lib.operations.failover.look import Behind, Found, Request
from aya_lib.site import Site


def preconditions(found: Found) -> list[Check]:
    """Everything that must hold before the first change."""
    old, new = found.old, found.new
    if found.request.take_back:
        return [can_be_taken_back(found)]
    if new.writable:
        return [promotable(found), no_other_primary(found)]
    return [
        promotable(found),
        kind(found),
        server.same_system(old, new) if condition(old) != "unreachable" else _unseen_system(old, new),
        *([server.not_diverged(new, old)] if isinstance(old.cluster, Cluster) else []),
        near_enough(found),
        fencing.holds(found.fencing),
    ]


def promotable(found: Found) -> Check:
    """The node to promote answers and is in recovery, or is the primary already."""
    node = found.new
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


def can_be_taken_back(found: Found) -> Check:
    """A failover is under way, and the node that it was to promote is known to be a standby still."""
    request, new = found.request, found.new
    name, expected = "the failover can be taken back", f"one is under way, and {new.name} is a standby still"
    if (found.began.get("old"), found.began.get("new")) != (request.old, request.new):
        return Check(name, "failed", expected, "no such failover is under way", "Leave take_back out")
    hint = f"{new.name} was promoted: finish the failover (run it again without take_back), then rejoin and switchback"
    return evaluate(name, expected, new.cluster, lambda c: passed_if(c.in_recovery, f"{new.name} is a {c.role}", hint), hint=hint)


def kind(found: Found) -> Check:
    """A healthy primary is handed over, a lost one is given up; neither by mistake."""
    old, how, name = found.old, condition(found.old), "planned or emergency"
    if found.request.emergency:
        expected = f"emergency: {old.name} is down, frozen or unreachable"
        hints = {
            "primary": f"{old.name} is healthy: hand over without loss by a planned failover (emergency=false)",
            "starting": f"{old.name} is starting up: let it finish, it is the primary. Its log tells how far it is",
            "standby": f"{old.name} is a standby itself: nobody is the primary. Look at both nodes",
        }
        return Check(name, "failed" if how in hints else "passed", expected, f"{old.name} is {how}", hints.get(how, ""))
    expected = f"planned: {old.name} is healthy and is handed over"
    if how == "primary" or _handing_over(found):
        return Check(name, "passed", expected, f"{old.name} is {how}")
    hint = (
        f"{old.name} is {how}: restore may bring it back without any loss; to give it up and promote {found.new.name}, "
        "run failover with emergency=true"
    )
    return Check(name, "failed", expected, f"{old.name} is {how}", hint)


def near_enough(found: Found) -> Check:
    """The standby is not known to be further behind than the site allows; unknown is a warning, for it may be all there is."""
    new, limit = found.new.name, found.site.replication.promotable_below_bytes
    name, expected = f"{new} has nearly everything", f"under {limit:,} bytes behind"

    def of(behind: Behind) -> Judged:
        if behind.bytes is None:
            return Judged("warning", str(behind), "What the old primary wrote after that moment is lost, unless rejoin finds it")
        if behind.bytes > limit:
            hint = f"Let {new} catch up, or bring {found.old.name} back; if this much may be lost, raise promotable_below_bytes"
            return Judged("failed", str(behind), hint)
        return Judged("passed", str(behind))

    return evaluate(name, expected, found.behind, of, hint=f"Bring {new} back first: what it lacks is not known")


def loss(found: Found) -> Check:
    """The bound of what is lost, said before it happens. (Zero: handed over after an orderly stop, or synchronous.)"""
    name, expected, request = "what may be lost", "nothing, or a stated bound", found.request
    if request.take_back:
        return Check(name, "passed", expected, f"nothing: {request.old} is the primary again", required=False)
    if found.promotable is None:
        return Check(name, "passed", expected, "the promotion is past; see the failover log", required=False)
    if not request.emergency:
        return Check(name, "passed", expected, f"nothing: {request.new} has all of {request.old}'s WAL before it is promoted")
    if found.promise.synchronous:
        bound = "no acknowledged write, unless a waiting commit was cancelled"
        return Check(name, "passed", expected, f"{bound} ({found.promise.how})")

    def of(behind: Behind) -> Judged:
        if behind.bytes == 0 and behind.source == "files":
            return Judged("passed", "nothing: its WAL files end where the standby's do")
        bound = f"at most {behind}" if behind.bytes is not None else str(behind)
        return Judged("warning", bound, "Rejoin saves what the old primary wrote and this node never received")

    return evaluate(name, expected, found.behind, of)


def serves(request: Request) -> Callable[[Site, Overview], list[Check]]:
    """The judgement of what must hold in the end: :func:`promoted`, or :func:`taken_back`."""
    judgement = taken_back if request.take_back else promoted
    return lambda site, seen: judgement(site, seen.nodes[request.old], seen.nodes[request.new], seen)


def promoted(site: Site, old: NodeSeen, new: NodeSeen, seen: Overview) -> list[Check]:
    """The new primary accepts writes on a timeline of its own, nobody else does, and its services are there."""
    alone = server.one_primary([old, new])
    away = alone.status == "unknown" and bool(seen.fenced(old.name))
    return [
        server.primary(new),
        later(new),
        *(optional([alone]) if away else [alone]),
        slot(site, new),
        *glance.embedding(new),
    ]


def taken_back(site: Site, old: NodeSeen, new: NodeSeen, seen: Overview) -> list[Check]:
    """The old primary serves again, and the standby follows it."""
    return [
        server.primary(old),
        server.standby(new),
        server.not_fenced(old, seen),
        replication.stream(site, glance.sender_of(old), new.name),
    ]


def later(node: NodeSeen) -> Check:
    """A promotion began a timeline; its history says where it left the old one."""
    name, expected = f"{node.name} began a timeline", "later than the one it left"

    def of(cluster: Cluster) -> Judged:
        ends = [switch for switch in cluster.history if switch.timeline < cluster.timeline]
        left = f", left {ends[-1].timeline} at {ends[-1].lsn}" if ends else ""
        return passed_if(bool(ends), f"timeline {cluster.timeline}{left}", "It was not promoted: it is the primary it always was")

    return evaluate(name, expected, node.cluster, of)


def slot(site: Site, node: NodeSeen) -> Check:
    """The slot that the returning node will need is there."""
    name = site.replication.slot

    def of(sender: Sender) -> Judged:
        return passed_if(sender.slot(name) is not None, "there" if sender.slot(name) else "no such slot", "Run failover again")

    return evaluate(f"slot {name} waits for the returning node", "there", glance.sender_of(node), of)


def no_other_primary(found: Found) -> Check:
    """Beside the new primary: nobody accepts writes, or it is a fenced node, which stays away or is stopped now."""
    old, how = found.old, condition(found.old)
    alone = server.one_primary([old, found.new])
    if alone.status == "passed" or not found.overview.state.fenced.get(old.name):
        return alone
    observed, hint = f"{old.name} is {how} and fenced", "Run failover again when it can be reached: it is stopped then"
    if how != "unreachable":
        hint = f"{old.name} was fenced while it could not be reached, and is back: it is stopped now, before anything else"
    return Check(alone.name, "warning", alone.expected, observed, hint)


def _handing_over(found: Found) -> bool:
    """A planned failover of ours was broken off after it had stopped the old primary in an orderly way."""
    began, old = found.began, found.old
    same = (began.get("kind"), began.get("old"), began.get("new")) == ("planned", old.name, found.new.name)
    return same and condition(old) == "down" and isinstance(old.files, Files) and old.files.clean


def _unseen_system(old: NodeSeen, new: NodeSeen) -> Check:
    name, expected = f"{old.name} and {new.name} are one system", "the same system identifier"
    return Check(name, "warning", expected, f"{old.name} cannot be reached", "Believed because it followed", required=False)
