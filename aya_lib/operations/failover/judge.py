"""May the standby be promoted, and is it the primary now? What is promised about lost writes is said beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication, server, standby
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Sender
from aya_lib.cluster.server import Cluster, Files
from aya_lib.node.unseen import Missing
from aya_lib.operations.failover import fencing
from aya_lib.operations.failover.fencing import condition
from aya_lib.operations.failover.leaving import Archiver, Leaving, Reader
from aya_lib.operations.failover.look import After, Behind, Found, Request
from aya_lib.site import Site

ASKED_S = 35.0  # a receiver that says nothing by itself is asked after half of wal_sender_timeout, whose default is 60 s
HANGS_S = 15.0  # one segment copied; a command that runs longer holds an orderly stop up
GO_ON = "Run failover again with the same parameters, without take_back"


def preconditions(found: Found) -> list[Check]:
    """Everything that must hold before the first change."""
    old, new = found.old, found.new
    if found.request.take_back:
        return [can_be_taken_back(found)]
    if new.writable:
        return [promotable(found), no_other_primary(found)]
    if found.promoting:
        return [promotable(found), fencing.holds(found.fencing)]
    facts = found.ready
    able = [] if facts is None else standby.urgent(facts) if found.request.emergency else standby.ready(facts)
    return [
        promotable(found),
        kind(found),
        server.same_system(old, new) if condition(old) != "unreachable" else _unseen_system(old, new),
        *([server.not_diverged(new, old)] if isinstance(old.cluster, Cluster) else []),
        near_enough(found),
        *able,
        *_leaves(found),
        fencing.holds(found.fencing),
    ]


def _leaves(found: Found) -> list[Check]:
    """Who is left behind; and, where the old primary is to stop in an orderly way, whether it can."""
    if found.leaving is None:
        return []
    old, new, limits = found.old.name, found.new.name, found.site.replication
    stop = stops(found.leaving, old, new, limits.silent_after_s, limits.promotable_below_bytes)
    return [*(stop if found.old.writable else []), left_behind(old, new, found.leaving), *at_work(old, found.leaving)]


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
    """A failover is under way, and the node that it was to promote is known to be a standby still, which nobody told to become
    the primary: one that was told becomes it, however long that takes."""
    request, new = found.request, found.new
    name, expected = "the failover can be taken back", f"one is under way, and {new.name} is a standby still"
    if (found.began.get("old"), found.began.get("new")) != (request.old, request.new):
        return Check(name, "failed", expected, "no such failover is under way", "Leave take_back out")
    if found.promoting:
        observed, hint = (
            f"pg_promote was called on {new.name} {found.promoting}",
            f"{GO_ON}: it waits until {new.name} is the primary",
        )
        return Check(name, "failed", expected, observed, hint)
    if condition(found.old) == "starting":
        observed, hint = str(found.old.cluster), f"Wait until {request.old} has stopped or started, then run this again"
        return Check(name, "failed", expected, observed, hint)
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
    if how == "starting" and _begun(found):
        hint = f"It still stops, or starts: wait until {old.name} is down, then run this again"
        return Check(name, "failed", expected, str(old.cluster), hint)
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


def left_behind(old: str, new: str, found: Leaving | Missing) -> Check:
    """Slots and receivers of others that only the old primary has: named, for nobody else will."""

    def of(it: Leaving) -> Judged:
        left = ", ".join(f"{one.name} ({one.kind})" for one in it.others if one.name not in it.goes_on and not one.passing)
        hint = (
            f"They stop with {old}: point them to {new} afterwards, each with a slot made there. A logical slot goes along when "
            f"it is made with failover = true and {new} has sync_replication_slots = on"
        )
        return Judged("warning" if left else "passed", left or "nobody", hint)

    return optional([evaluate(f"who else reads WAL from {old}", f"nobody, or {new} has their slots too", found, of)])[0]


def at_work(old: str, found: Leaving | Missing) -> list[Check]:
    """Somebody loads or measures on a healthy primary, and would be broken off. Nobody who gives up a lost one waits for that."""
    if not isinstance(found, Leaving) or not found.at_work:
        return []
    hint = "Wait until it has ended, or end it there: what it has written is whole, and the same again goes on from there"
    return [Check(f"nobody loads into {old}", "failed", "no load, no benchmark, no rebuild", found.at_work, hint)]


def stops(found: Leaving | Missing, old: str, new: str, silent_s: float, limit: int) -> list[Check]:
    """An orderly stop waits for every receiver that is connected to confirm the last of the WAL, and for the archiver."""

    def receivers(it: Leaving) -> Judged:
        if not any(one.pid and one.name in it.ours for one in it.readers):
            return passed_if(
                False, f"{new} receives nothing", f"Run restore: without a stream {new} gets none of the last writes"
            )
        waited_for = [(one, silent_s if one.name in it.ours else max(silent_s, ASKED_S)) for one in it.readers if not one.passing]
        slow = [one for one, allowed in waited_for if one.pid and _slow(one, allowed, limit)]
        ends = "; ".join(f"SELECT pg_terminate_backend({one.pid})" for one in slow)
        return passed_if(not slow, "; ".join(map(str, slow)) or "all confirm", f"Let it catch up, or end it: on {old}: {ends}")

    def archiver(it: Leaving) -> Judged:
        has = it.archiver or Archiver(0, 0.0, False)
        hint = f"Mend {old}'s archive_command; its log and pg_stat_archiver say more"
        if has.segments and has.running and has.oldest_s > HANGS_S:
            return Judged("failed", f"{has}, and an archive_command has not ended", hint)
        return Judged("warning" if has.segments and has.oldest_s > silent_s else "passed", str(has), hint)

    expected = f"{new} among them, no word older than {silent_s:g} s, no more than {limit:,} bytes to confirm"
    return [
        evaluate(f"{old}'s receivers let it stop", expected, found, receivers),
        evaluate(f"{old}'s archiver lets it stop", "no archive_command that hangs", found, archiver),
    ]


def loss(found: Found) -> Check:
    """The bound of what is lost, said before it happens. (Zero: handed over after an orderly stop, or synchronous.)"""
    name, expected, request = "what may be lost", "nothing, or a stated bound", found.request
    if request.take_back:
        return Check(name, "passed", expected, f"nothing: {request.old} is the primary again", required=False)
    if found.promotable is None:
        return Check(name, "passed", expected, "the promotion is past; see the failover log", required=False)
    given_up = request.emergency or (found.promoting and found.began.get("kind") == "emergency")
    if not given_up:
        return Check(name, "passed", expected, f"nothing: {request.new} has all of {request.old}'s WAL before it is promoted")
    if found.promise.synchronous:
        bound = "no acknowledged write, unless a waiting commit was cancelled"
        return Check(name, "passed", expected, f"{bound} ({found.promise.how})")

    def of(behind: Behind) -> Judged:
        if behind.bytes == 0 and behind.source == "files":
            return Judged("passed", "nothing: its WAL files end where the standby's do")
        bound = f"at most {behind}" if behind.bytes is not None else str(behind)
        bound += f". {found.promise.how}" if found.promise.partly else ""
        return Judged("warning", bound, "Rejoin saves what the old primary wrote and this node never received")

    return evaluate(name, expected, found.behind, of)


def serves(request: Request) -> Callable[[Site, Overview], list[Check]]:
    """The judgement of what must hold in the end: :func:`promoted`, or :func:`taken_back`."""
    judgement = taken_back if request.take_back else promoted
    return lambda site, seen: judgement(site, seen.nodes[request.old], seen.nodes[request.new], seen)


def promoted(site: Site, old: NodeSeen, new: NodeSeen, seen: Overview) -> list[Check]:
    """The new primary accepts writes on a timeline of its own, nobody else does, and the slot for the old one is there."""
    alone = server.one_primary([old, new])
    away = alone.status == "unknown" and bool(seen.fenced(old.name))
    return [
        server.primary(new),
        later(new),
        *(optional([alone]) if away else [alone]),
        slot(site, new),
    ]


def served(site: Site, after: After) -> list[Check]:
    """What clients need beside the database: the application's login, and the embedding service, which loads its model first."""
    primary, _ = after.overview.pair(site)
    return [*optional([standby.logs_in(primary.name, after.login)]), *glance.embedding(primary)]


def remains(after: After) -> list[Check]:
    """What is still not there once it was waited for: it is named, and takes nothing from the database's failover."""
    missing = [one for one in served(after.site, after) if one.status in ("failed", "unknown")]
    return [replace(one, status="warning") for one in missing] if after.primary.writable else []


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
    old = found.old
    return _begun(found) and condition(old) == "down" and isinstance(old.files, Files) and old.files.clean


def _begun(found: Found) -> bool:
    began = found.began
    return (began.get("kind"), began.get("old"), began.get("new")) == ("planned", found.old.name, found.new.name)


def _unseen_system(old: NodeSeen, new: NodeSeen) -> Check:
    name, expected = f"{old.name} and {new.name} are one system", "the same system identifier"
    return Check(name, "warning", expected, f"{old.name} cannot be reached", "Believed because it followed", required=False)


def _slow(one: Reader, silent_s: float, limit: int) -> bool:
    return (one.behind or 0) > limit or (one.reply_age_s is not None and one.reply_age_s > silent_s)
