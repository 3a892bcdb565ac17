"""Does the standby follow? Judged by bytes and by the age of the last word, because state and lag lie both ways.

And does the archive hold what a standby that lost its slot still needs? Pure arithmetic on positions and names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aya_lib.check import Check, Judged, Status, evaluate, passed_if
from aya_lib.cluster import wal
from aya_lib.cluster.archive import Archive
from aya_lib.cluster.judge import server
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.replication import Login, Receiver, Sender, Slot, Stream, clocks_apart
from aya_lib.cluster.server import Cluster
from aya_lib.node.unseen import Missing
from aya_lib.site import Site

DELAY = "recovery_min_apply_delay"
MB = 1024**2  # PostgreSQL's MB of a setting
# What a refused login says, its SQLSTATE, and what to do. The words that no server translates come first; libpq itself says of a
# wrong password where it had it from.
REFUSED = (
    ("password", "28P01", "Put the present password of {role} into {file} on {node}"),
    ("pg_hba.conf", "28000", "Let {role} in from {node}'s address: a line 'host replication ...' in pg_hba.conf on {to}"),
    ("REPLICATION", "42501", "On the primary: ALTER ROLE {role} REPLICATION"),
    ("WAL sender", "42501", "On the primary: ALTER ROLE {role} REPLICATION"),
    ("not permitted to log in", "28000", "On the primary: ALTER ROLE {role} LOGIN"),
    ("does not exist", "28000", "Name the right replication_role in site.yaml, or create {role} on the primary"),
)
CLOCKS_S = 2.0  # two clocks that NTP keeps are far nearer; the time that an answer takes counts as being apart


@dataclass(frozen=True)
class Bridge:
    """The archived files from the standby's position to the oldest WAL of the primary. ``reads``: the standby's
    restore_command takes them from there; None while that cannot be seen, because the standby is down."""

    directory: str
    needed: tuple[str, ...]
    missing: tuple[str, ...]
    reads: bool | None

    @property
    def holds(self) -> bool:
        return not self.missing and self.reads is not False


def stream(site: Site, sender: Sender | Missing, standby: str) -> Check:
    """The standby's row of pg_stat_replication is there, in state streaming. What others receive beside it is no failure."""

    def rule(side: Sender) -> Judged:
        own = side.standby(site)
        states = [f"{s.application_name or s.client} {s.state}" for s in ([own] if own else [])]
        beside = [f"{s.application_name or s.client} {s.state}" for s in side.streams if s is not own]
        told = f"{len(states)}: {', '.join(states) or 'none'}" + (f"; beside it {', '.join(beside)}" if beside else "")
        hint = f"Look at {standby}'s log for what its walreceiver says; restore brings a stopped standby back"
        return passed_if(own is not None and own.state == "streaming", told, hint)

    return evaluate("one stream to the standby", "1, state streaming", sender, rule)


def login(node: str, found: Login | Missing) -> Check:
    """The replication role gets in with the password that the node has: with a stale one it does not come back as a standby."""

    def rule(seen: Login) -> Judged:
        if not seen.said:
            return Judged("passed", f"{seen.role} is let in by {seen.to}")
        known = ((state, hint) for words, state, hint in REFUSED if words in seen.said)
        state, hint = next(known, ("not known", "Read the log of {to}"))
        return Judged("failed", f"refused by {seen.to}, SQLSTATE {state}: {seen.said}", hint.format(**vars(seen)))

    return evaluate(f"{node} may receive", "the replication role is let in", found, rule, hint=f"Look at {node} by hand")


def slot(site: Site, sender: Sender | Missing) -> Check:
    """The standby's slot is there, in use, and its WAL is still kept."""
    name, warn = site.replication.slot, site.replication.slot_warn_mb

    def rule(side: Sender) -> Judged:
        held = side.slot(name)
        if held is None:
            return passed_if(False, "no such slot", f"Run restore: it creates {name} on {side.node}")
        use = f"active, PID {held.active_pid}" if held.active else "not active"
        near = held.safe_wal_size is not None and held.safe_wal_size < warn * MB
        return Judged(_slot_status(held, near), f"{use}, WAL {held.wal_status}{_room(held)}", _slot_hint(held, near))

    return evaluate(f"slot {name}", f"active, with a PID, WAL kept, {warn:,} MiB or more until it is lost", sender, rule)


def slot_limit(site: Site, sender: Sender | Missing) -> Check:
    """A dead standby's slot holds WAL only up to a limit, so that it cannot fill the primary's disk."""
    limit = site.replication.slot_keep_mb
    hint = "Run replication_mode: it sets max_slot_wal_keep_size to slot_keep_mb of site.yaml"

    def rule(side: Sender) -> Judged:
        if side.settings is None:
            return Judged("unknown", "not looked at")
        keep = side.settings.slot_keep_mb
        observed = "-1: a standby that stays away fills the disk" if keep < 0 else f"{keep:,} MB"
        return Judged("passed" if keep == limit else "warning", observed, hint)

    return evaluate("max_slot_wal_keep_size", f"{limit:,} MB", sender, rule)


def slot_not_lost(site: Site, sender: Sender | Missing, standby: str, found_bridge: Bridge | Missing | None = None) -> Check:
    """The WAL that the standby still needs is there: on the primary, or in the archive from which a lost slot is mended.

    A missing slot is no loss by itself: it can be created.
    """
    name = site.replication.slot

    def rule(side: Sender) -> Judged:
        held = side.slot(name)
        if held is None:
            return Judged("passed", "no such slot: it will be created")
        if held.wal_status != "lost":
            return Judged("passed", f"WAL {held.wal_status}")
        anew = f"Make it anew: run rejoin, or pg_basebackup from {side.node} with slot {name} (on the lab: aya lab reset)"
        return _lost(found_bridge, standby, f"{standby} cannot catch up any more. {anew}")

    expected = "wal_status is not lost, or the archive has what is missing"
    return evaluate(f"slot {name} still holds the WAL", expected, sender, rule)


def bridge(site: Site, seen: Overview) -> Bridge | Missing | None:
    """What mends a lost slot; None when no archive was looked at."""
    primary, standby = seen.pair(site)
    found, place = seen.archive, server.position(standby)
    if not isinstance(found, Archive):
        return found
    if place is None or not isinstance(primary.cluster, Cluster):
        return standby.files if isinstance(standby.files, Missing) else None
    names = needed(found, primary.cluster, *place)
    missing = tuple(name for name in names if not _whole(found, name))
    return Bridge(found.directory, names, missing, _reads(found, standby))


def needed(found: Archive, leader: Cluster, timeline: int, lsn: str) -> tuple[str, ...]:
    """Names of the files from a position on a timeline to the primary's oldest, each on the timeline that was valid there."""
    size = found.segment_bytes
    timelines = [*(switch.timeline for switch in leader.history), leader.timeline]
    begins = [0, *(number(switch.lsn) // size for switch in leader.history)]
    names = []
    for segment in range(number(lsn) // size, wal.position(found.oldest, size) // size):
        valid = [tli for begin, tli in zip(begins, timelines, strict=True) if begin <= segment][-1]
        names.append(wal.name(valid, segment * size, size))
    return tuple(names + [f"{tli:08X}.history" for tli in timelines if tli > timeline])


def silence(site: Site, sender: Sender | Missing, receiver: Receiver | Missing) -> list[Check]:
    """Both sides have heard of each other lately: a link that was cut silently shows here and nowhere else.

    The standby reports at every wal_receiver_status_interval. The primary of an idle pair says nothing until it is asked,
    which the standby does after half of wal_receiver_timeout: so that much more is allowed in that direction.
    """
    limit = site.replication.silent_after_s
    allowed = limit + (receiver.timeout_s / 2 if isinstance(receiver, Receiver) else 0)

    def reply(side: Sender) -> Judged:
        own = side.standby(site)
        apart = clocks_apart(sender, receiver) or 0.0
        way = "ahead of" if apart > 0 else "behind"
        standby = receiver.node if isinstance(receiver, Receiver) else "the standby"
        clock = f"{standby}'s clock is {abs(apart):,.0f} s {way} {side.node}'s" if abs(apart) > CLOCKS_S else ""
        return _reply(own.reply_age_s if own else None, limit, clock)

    def receipt(side: Receiver) -> Judged:
        return _age(side.receipt_age_s, allowed, "The primary has gone silent: look at the network, and whether it is frozen")

    return [
        evaluate("last reply from the standby", f"under {limit:g} s ago", sender, reply),
        evaluate("last message from the primary", f"under {allowed:g} s ago", receiver, receipt),
    ]


def lag(site: Site, sender: Sender | Missing, receiver: Receiver | Missing) -> Check:
    """Bytes that the standby has not replayed, on the primary's own clock; an idle pair has none.

    Seconds are pg_stat_replication's replay_lag, believed only while replies arrive; without bytes there is no lag.
    A deliberate delay of the standby is named, with what it means.
    """
    limit_s, limit_bytes = site.replication.lag_below_s, site.replication.lag_below_bytes

    def rule(side: Sender) -> Judged:
        own = side.standby(site)
        if own is None:
            return Judged("failed", "no stream", "Run restore")
        judged = _lag_of(own, limit_s, limit_bytes, site.replication.silent_after_s)
        if judged.status == "passed" or not isinstance(receiver, Receiver) or not receiver.delay_s:
            return judged
        hint = (
            f"Rows arrive on {receiver.node} so much later on purpose. Where it is to take over at once, on {receiver.node}: "
            f"ALTER SYSTEM RESET {DELAY}; SELECT pg_reload_conf()"
        )
        return replace(judged, observed=f"{judged.observed}; {DELAY} = {receiver.delay_s:g} s", hint=hint)

    return evaluate("lag", f"under {limit_s:g} s and {limit_bytes:,} bytes", sender, rule)


def replaying(receiver: Receiver | Missing) -> Check:
    """Replay on the standby is not paused."""

    def rule(side: Receiver) -> Judged:
        return passed_if(side.replay_state == "not paused", side.replay_state, "Run restore: it resumes the replay")

    return evaluate("replay on the standby", "not paused", receiver, rule)


def receives_from(site: Site, receiver: Receiver | Missing, primary: NodeSeen) -> Check:
    """The standby takes its WAL over the site's slot."""

    def rule(side: Receiver) -> Judged:
        where = f"{side.sender_host}:{side.sender_port} over {side.slot_name or 'no slot'}"
        hint = f"Set primary_slot_name = '{site.replication.slot}' and primary_conninfo on {side.node}"
        if side.status is None:
            return passed_if(False, "no walreceiver", hint if not side.has_conninfo else f"Read {side.node}'s log")
        return passed_if(side.slot_name == site.replication.slot, where, hint)

    return evaluate(f"receives from {primary.name}", f"over {site.replication.slot}", receiver, rule)


def _lag_of(stream: Stream, limit_s: float, limit_bytes: int, silent_s: float) -> Judged:
    if stream.bytes_behind is None:
        return Judged("failed", "the standby has reported no position")
    if stream.bytes_behind == 0:
        return Judged("passed", "0 bytes, 0 s")
    heard = stream.reply_age_s is not None and stream.reply_age_s < silent_s
    seconds = stream.replay_lag_s or 0.0
    told = f"{stream.bytes_behind:,} bytes, {seconds:.3f} s" if heard else f"{stream.bytes_behind:,} bytes, seconds not known"
    hint = "Is replay paused, is the standby busy with a long query, is the link slow? High lag loses that much in a failover"
    return passed_if(heard and seconds < limit_s and stream.bytes_behind < limit_bytes, told, hint)


def _reply(age_s: float | None, limit_s: float, clock: str) -> Judged:
    """``clock``: which clock is wrong by how much. Where that is not known, a reply of the future says nothing."""
    hint = "The link is silent: look at the network, and whether the standby or its walreceiver is frozen"
    mend = "Mend the clock: see on both nodes which one is not kept by NTP (timedatectl; macOS: sntp)"
    if age_s is not None and age_s < -CLOCKS_S:
        return Judged("unknown", f"{-age_s:,.0f} s in the future by the standby's clock, which could not be asked", mend)
    judged = _age(None if age_s is None else max(0.0, age_s), limit_s, hint)
    if not clock:
        return judged
    told = f"{judged.observed}; {clock}"
    return Judged("warning", told, mend) if judged.status == "passed" else Judged(judged.status, told, hint)


def _age(age_s: float | None, limit_s: float, hint: str) -> Judged:
    if age_s is None:
        return Judged("failed", "never", "Run restore")
    return passed_if(age_s < limit_s, f"{age_s:.1f} s ago", hint)


def _lost(bridge: Bridge | Missing | None, standby: str, anew: str) -> Judged:
    if bridge is None:
        return Judged("failed", "WAL lost, and there is no archive", anew)
    if not isinstance(bridge, Bridge):
        return Judged("failed", f"WAL lost, and the archive could not be seen: {bridge}", f"Bring the archive back. Else: {anew}")
    if bridge.missing:
        told = f"{len(bridge.missing)} of {len(bridge.needed)} files, the first is {bridge.missing[0]}"
        return Judged("failed", f"WAL lost, and {bridge.directory} lacks {told}", anew)
    if bridge.reads is False:
        hint = f"Run replication_mode: it sets {standby}'s restore_command; then run restore again"
        return Judged("failed", f"WAL lost; {bridge.directory} has it, but {standby} does not read from there", hint)
    told = f"{bridge.directory} has all {len(bridge.needed)} files that {standby} needs"
    return Judged("warning", f"WAL lost; {told}", "The slot is made anew, and the standby catches up from the archive")


def _slot_status(slot: Slot, near: bool) -> Status:
    if not slot.active or slot.wal_status == "lost":
        return "failed"
    return "warning" if slot.wal_status == "unreserved" or near else "passed"


def _room(slot: Slot) -> str:
    return "" if slot.safe_wal_size is None else f", {slot.safe_wal_size / MB:,.0f} MiB until it is lost"


def _slot_hint(slot: Slot, near: bool) -> str:
    soon = "It is about to be lost: bring the standby up to date, or raise slot_keep_mb and run replication_mode"
    if slot.wal_status == "lost":
        return "Run restore: it mends the slot when the archive has the WAL, and says what to do when it has not"
    if not slot.active:
        return f"Run restore: the standby is not connected. {soon if near else 'The slot holds WAL on the primary meanwhile'}"
    return soon


def _whole(found: Archive, name: str) -> bool:
    size = found.files.get(name)
    return size is not None and (size == found.segment_bytes or name.endswith(".history"))


def _reads(found: Archive, standby: NodeSeen) -> bool | None:
    return found.directory in standby.receiver.restore_command if isinstance(standby.receiver, Receiver) else None
