"""May a node come back as a standby, by which way, and did it? Refused wherever something would be lost or two would write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from aya_lib.check import Check, Judged, absent, evaluate, optional, passed_if
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import replication, server
from aya_lib.cluster.overview import Overview
from aya_lib.cluster.replication import Sender, Slot
from aya_lib.cluster.server import Cluster, Switch
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Down, Missing
from aya_lib.operations.rejoin.look import Details, Rejoin, Source
from aya_lib.operations.rejoin.method import Choice, choose, may_just_start, ready, tablespaces, wal_elsewhere
from aya_lib.operations.rejoin.staging import Staging
from aya_lib.operations.rejoin.waldump import NOWHERE, Past
from aya_lib.operations.verify import judge as verification
from aya_lib.site import Site

SPARE = 1.1  # free disk that a clone needs, in sizes of what it copies


def preconditions(seen: Rejoin, method: str = "auto") -> list[Check]:
    """Everything that must hold before the first change."""
    if seen.node.name not in seen.site.pair:
        return [member(seen)]
    checks = [member(seen), server.primary(seen.primary), not_the_primary(seen)]
    if seen.streams or not seen.primary.writable or seen.node.name == seen.primary.name:
        return checks
    checks += [may_be_stopped(seen), same_system(seen)]
    if ready(seen, method) or may_just_start(seen) or seen.details is None:
        return checks
    return [*checks, *_copy(seen, seen.details, choose(seen, method))]


def follows(node: str) -> Callable[[Site, Overview], list[Check]]:
    """The judgement that a node is the standby of the pair, and receives."""

    def judge_it(site: Site, seen: Overview) -> list[Check]:
        primary, standby = seen.pair(site)[0], seen.nodes[node]
        return [
            server.primary(primary),
            server.alive(standby),
            server.standby(standby),
            server.one_primary([primary, standby]),
            server.same_system(primary, standby),
            server.not_diverged(standby, primary),
            *glance.stream(site, primary, standby),
        ]

    return judge_it


def equal(seen: Rejoin) -> Check:
    """The node holds the primary's rows."""
    return verification.equal(seen.compared or Down(seen.node.name, f"it does not stream from {seen.primary.name}"))


def member(seen: Rejoin) -> Check:
    """The node is one of the two that replicate."""
    pair = seen.site.pair
    name, expected = f"{seen.node.name} is of the pair", f"one of {' and '.join(pair)}"
    good = seen.node.name in pair
    hint = f"Only {' and '.join(pair)} replicate. A laptop has a database of its own"
    return Check(name, "passed" if good else "failed", expected, seen.node.name, "" if good else hint)


def not_the_primary(seen: Rejoin) -> Check:
    """What is to become a standby is not the node that is in charge."""
    name, expected = f"{seen.node.name} is not in charge", "another node accepts writes"
    if seen.node.name != seen.primary.name:
        return Check(name, "passed", expected, f"{seen.primary.name} is the primary")
    hint = "To change the roles, run failover; to bring it back where it was, run restore"
    return Check(name, "failed", expected, f"{seen.node.name} is the primary", hint)


def may_be_stopped(seen: Rejoin) -> Check:
    """It does not run, or what runs may be ended: a standby, a frozen server, or one that a failover fenced."""
    node, fenced = seen.node, seen.overview.fenced(seen.node.name)
    hint = f"Fence it first: run failover, which stops {node.name} or makes sure that nobody writes to it; or stop it yourself"

    def of(state: ServiceState) -> Judged:
        scratch = isinstance(seen.staging, Staging) and seen.staging.scratch
        if state.status not in ("running", "frozen") and not isinstance(node.cluster, Cluster):
            return Judged("passed", state.status)
        if node.writable:
            return passed_if(bool(fenced), f"running, accepts writes{'; ' + fenced if fenced else ''}", hint)
        answers = isinstance(node.cluster, Cluster)
        known = answers or state.status == "frozen" or scratch or bool(fenced)
        return passed_if(known, f"{state.status}, {'in recovery' if answers else f'does not answer: {node.cluster}'}", hint)

    away = f"A shell on {node.name} is needed: come back to this when it can be reached, until then the fence holds"
    return evaluate(f"{node.name} is not a second primary", "down, frozen, fenced, or a standby", node.process, of, hint=away)


def same_system(seen: Rejoin) -> Check:
    """The node's data comes from the same initdb as the primary's."""
    if seen.journal is not None:
        name = f"{seen.node.name} and {seen.primary.name} are one system"
        return Check(name, "passed", "the same system identifier", f"{seen.journal.system_identifier}, by an earlier run")
    check = server.same_system(seen.primary, seen.node)
    if isinstance(seen.staging, Staging) and not seen.staging.data:
        check = Check(check.name, "failed", check.expected, f"{seen.node.name} has no data directory")
    hint = (
        f"{seen.node.name} was never a member. To make it one, move its data directory away if it is of no use, and make a "
        f"standby with pg_basebackup from {seen.primary.name}"
    )
    return check if check.status == "passed" else Check(**{**vars(check), "hint": hint})


def _copy(seen: Rejoin, details: Details, choice: Choice) -> Iterator[Check]:
    """What a copy needs, and that what would be lost can be told."""
    if not (seen.incoming or seen.half_rewound):
        yield _history(seen, details)
        yield _known(seen, details)
    yield from _others(seen, details)
    yield from _possible(seen, choice)
    if not seen.incoming:
        yield from _disks(seen, details, choice)
        yield replication.login(seen.node.name, details.login)
        yield from optional([_link(seen, details)])


def _history(seen: Rejoin, details: Details) -> Check:
    name, expected = f"{seen.node.name} has a history with {seen.primary.name}", "a common timeline"

    def of(fork: object) -> Judged:
        if not isinstance(fork, Switch):
            return Judged("passed", "it never left it")
        hint = f"It was never a member, or lacks history files in its pg_wal: keep it, make a standby from {seen.primary.name}"
        return passed_if(
            fork != NOWHERE, f"common up to {fork.lsn} on timeline {fork.timeline}" if fork != NOWHERE else "none", hint
        )

    return evaluate(name, expected, details.fork or "the same", of, hint="Look at its data directory")


def _known(seen: Rejoin, details: Details) -> Check:
    def of(past: object) -> Judged:
        if not isinstance(past, Past) or not (past.bytes or past.gone):
            return Judged("passed", "nothing")
        observed = f"{past.bytes:,} bytes of WAL, {past.commits} committed transactions: they are saved first"
        waiting = details.source.undecided(past) if isinstance(details.source, Source) else []
        if waiting:
            told = f"{observed}; prepared on both and committed on {seen.node.name} only: {', '.join(waiting)}"
            return Judged(
                "warning", told, f"Its rows are on {seen.primary.name} as soon as it is committed there: COMMIT PREPARED"
            )
        kept = "Rows of that time can only be found by comparing: keep the old directory, and do not use remove_old"
        return Judged("warning", f"{observed}; {past.gone}", kept) if past.gone else Judged("passed", observed)

    hint = "Without that nothing may be thrown away: read the WAL by hand, or mend what keeps pg_waldump from it"
    return evaluate(f"what {seen.primary.name} never received is known", "can be read", details.past or "nothing", of, hint=hint)


def left_behind(node: str, primary: str, slots: Iterable[Slot], there: Iterable[Slot]) -> list[Check]:
    """Who else reads the WAL of a node that is made anew: physical slots come back with it, logical ones do not, unless the
    primary has a copy. No check when nobody does."""
    has = {slot.name for slot in there}
    gone = [slot.name for slot in slots if slot.logical and slot.name not in has]
    back = [slot.name for slot in slots if not slot.logical]
    name, expected, checks = f"others who read WAL of {node}", "their slots stay", []
    if back:
        checks.append(Check(name, "passed", expected, f"made again once {node} streams: {', '.join(back)}"))
    if gone:
        hint = (
            f"They stay only where nothing has to be rewound; else their readers start afresh on {primary}. For a logical slot "
            "on both nodes: make it with failover = true, and on the standby set sync_replication_slots, hot_standby_feedback "
            "and a dbname in primary_conninfo (PostgreSQL 17 and later)"
        )
        checks.append(Check(f"{name} logically", "warning", expected, f"left behind: {', '.join(gone)}", hint, required=False))
    return checks


def _others(seen: Rejoin, details: Details) -> list[Check]:
    sender = seen.primary.sender
    if isinstance(details.slots, Missing):
        return optional([absent(f"others who read WAL of {seen.node.name}", "its slots are known", details.slots)])
    return left_behind(seen.node.name, seen.primary.name, details.slots, sender.slots if isinstance(sender, Sender) else ())


def _possible(seen: Rejoin, choice: Choice) -> Iterator[Check]:
    where = f"the folder of {seen.node.name}'s data directory"

    def of(staging: Staging) -> Judged:
        if staging.link:
            return passed_if(False, "the data directory is a symbolic link", "Name the directory itself in site.yaml")
        hint = "Let the account that owns the cluster write there, or use method = rewind"
        return passed_if(staging.may_write, "may be written to" if staging.may_write else "may not be written to", hint)

    yield evaluate(where, "a copy can be put in its place", seen.staging, of)
    name, clone = f"{choice.method} can work", choice.method == "clone" and not seen.incoming
    cannot, hint = ("", "") if choice.method == "clone" else (choice.cannot, "Use method = clone")
    if clone and tablespaces(seen):
        cannot = f"{seen.primary.name} has {tablespaces(seen)} tablespaces of its own: take the base backup by hand, with -T"
        hint = f"A rewind cannot help: {choice.cannot}" if choice.cannot else "Use method = rewind"
    if clone and wal_elsewhere(seen) and not cannot:
        hint = f"With {seen.node.name} stopped move it out again and link it, or use method = rewind, which leaves it where it is"
        yield Check(name, "warning", "possible", "its pg_wal, now on another disk, will lie in the data directory", hint)
        return
    yield Check(name, "failed" if cannot else "passed", "possible", cannot or choice.why, hint if cannot else "")


def _disks(seen: Rejoin, details: Details, choice: Choice) -> Iterator[Check]:
    """A clone, with its WAL, stands beside the old directory. A rewind brings the primary's WAL into pg_wal, which may be on a
    disk of its own, and the crash recovery before it needs room there. What is saved comes on top."""
    source, past = details.source, details.past.bytes if isinstance(details.past, Past) else 0
    name, hint = f"disk of {seen.node.name}", f"Make room on {seen.node.name}"
    if not isinstance(source, Source):
        yield evaluate(name, "room", source, lambda _: passed_if(False, ""), hint=f"Look at {seen.primary.name} by hand")
        return
    wal = int(source.wal_bytes * SPARE) + past
    if choice.method == "rewind":
        yield _room(name, 3 * past, details.free, hint)
        yield _room(f"disk of {seen.node.name} for pg_wal", wal, details.wal_free, hint)
    else:
        yield _room(name, int(source.bytes * SPARE) + wal, details.free, f"{hint}, or use method = rewind, which needs less")


def _room(name: str, need: int, found: int | Missing, hint: str) -> Check:
    return evaluate(name, f"{_mb(need)} free", found, lambda free: passed_if(free >= need, f"{_mb(free)} free", hint), hint=hint)


def _link(seen: Rejoin, details: Details) -> Check:
    hint = "No estimate without it"
    return evaluate(
        f"link from {seen.primary.name} to {seen.node.name}",
        "measured",
        details.link,
        lambda rate: Judged("passed", f"{_mb(int(rate))} a second"),
        hint=hint,
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
