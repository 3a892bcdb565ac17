"""Does the standby follow? Judged by bytes and by the age of the last word, because state and lag lie both ways."""

from __future__ import annotations

from aya_lib.check import Check, Judged, Status, evaluate, passed_if
from aya_lib.cluster.judge.archive import Bridge
from aya_lib.cluster.overview import NodeSeen
from aya_lib.cluster.replication import Receiver, Sender, Slot, Stream
from aya_lib.node.unseen import Missing
from aya_lib.site import Site

MB = 1024**2  # PostgreSQL's MB of a setting


def stream(site: Site, sender: Sender | Missing, standby: str) -> Check:
    """Exactly one row of pg_stat_replication, in state streaming."""

    def of(seen: Sender) -> Judged:
        states = ", ".join(f"{s.application_name or s.client} {s.state}" for s in seen.streams) or "none"
        hint = f"Look at {standby}'s log for what its walreceiver says; restore brings a stopped standby back"
        return passed_if([s.state for s in seen.streams] == ["streaming"], f"{len(seen.streams)}: {states}", hint)

    return evaluate("one stream to the standby", "1, state streaming", sender, of)


def slot(site: Site, sender: Sender | Missing) -> Check:
    """The standby's slot is there, in use, and its WAL is still kept."""
    name, warn = site.replication.slot, site.replication.slot_warn_mb

    def of(seen: Sender) -> Judged:
        found = seen.slot(name)
        if found is None:
            return passed_if(False, "no such slot", f"Run restore: it creates {name} on {seen.node}")
        told = f"active, PID {found.active_pid}" if found.active else "not active"
        near = found.safe_wal_size is not None and found.safe_wal_size < warn * MB
        return Judged(_slot_status(found, near), f"{told}, WAL {found.wal_status}{_room(found)}", _slot_hint(found, near))

    return evaluate(f"slot {name}", f"active, with a PID, WAL kept, {warn:,} MiB or more until it is lost", sender, of)


def slot_limit(site: Site, sender: Sender | Missing) -> Check:
    """A dead standby's slot holds WAL only up to a limit, so that it cannot fill the primary's disk."""
    wished = site.replication.slot_keep_mb
    hint = "Run replication_mode: it sets max_slot_wal_keep_size to slot_keep_mb of site.yaml"

    def of(seen: Sender) -> Judged:
        if seen.settings is None:
            return Judged("unknown", "not looked at")
        keep = seen.settings.slot_keep_mb
        told = "-1: a standby that stays away fills the disk" if keep < 0 else f"{keep:,} MB"
        return Judged("passed" if keep == wished else "warning", told, hint)

    return evaluate("max_slot_wal_keep_size", f"{wished:,} MB", sender, of)


def slot_not_lost(site: Site, sender: Sender | Missing, standby: str, found_bridge: Bridge | Missing | None = None) -> Check:
    """The WAL that the standby still needs is there: on the primary, or in the archive from which a lost slot is mended.

    A missing slot is no loss by itself: it can be created.
    """
    name = site.replication.slot

    def of(seen: Sender) -> Judged:
        found = seen.slot(name)
        if found is None:
            return Judged("passed", "no such slot: it will be created")
        if found.wal_status != "lost":
            return Judged("passed", f"WAL {found.wal_status}")
        anew = f"Make it anew: run rejoin, or pg_basebackup from {seen.node} with slot {name} (on the lab: aya lab reset)"
        return _lost(found_bridge, standby, f"{standby} cannot catch up any more. {anew}")

    return evaluate(f"slot {name} still holds the WAL", "wal_status is not lost, or the archive has what is missing", sender, of)


def silence(site: Site, sender: Sender | Missing, receiver: Receiver | Missing) -> list[Check]:
    """Both sides have heard of each other lately: a link that was cut silently shows here and nowhere else.

    The standby reports at every wal_receiver_status_interval. The primary of an idle pair says nothing until it is asked,
    which the standby does after half of wal_receiver_timeout: so that much more is allowed in that direction.
    """
    limit = site.replication.silent_after_s
    allowed = limit + (receiver.timeout_s / 2 if isinstance(receiver, Receiver) else 0)

    def reply(seen: Sender) -> Judged:
        ages = [stream.reply_age_s for stream in seen.streams]
        hint = "The link is silent: look at the network, and whether the standby or its walreceiver is frozen"
        return _age(ages[0] if ages else None, limit, hint)

    def receipt(seen: Receiver) -> Judged:
        return _age(seen.receipt_age_s, allowed, "The primary has gone silent: look at the network, and whether it is frozen")

    return [
        evaluate("last reply from the standby", f"under {limit:g} s ago", sender, reply),
        evaluate("last message from the primary", f"under {allowed:g} s ago", receiver, receipt),
    ]


def lag(site: Site, sender: Sender | Missing) -> Check:
    """Bytes that the standby has not replayed, on the primary's own clock; an idle pair has none.

    Seconds are pg_stat_replication's replay_lag, believed only while replies arrive; without bytes there is no lag.
    """
    limit_s, limit_bytes = site.replication.lag_below_s, site.replication.lag_below_bytes

    def of(seen: Sender) -> Judged:
        if not seen.streams:
            return Judged("failed", "no stream", "Run restore")
        return _lag_of(seen.streams[0], limit_s, limit_bytes, site.replication.silent_after_s)

    return evaluate("lag", f"under {limit_s:g} s and {limit_bytes:,} bytes", sender, of)


def replaying(receiver: Receiver | Missing) -> Check:
    """Replay on the standby is not paused."""

    def of(seen: Receiver) -> Judged:
        return passed_if(seen.replay_state == "not paused", seen.replay_state, "Run restore: it resumes the replay")

    return evaluate("replay on the standby", "not paused", receiver, of)


def receives_from(site: Site, receiver: Receiver | Missing, primary: NodeSeen) -> Check:
    """The standby takes its WAL over the site's slot."""

    def of(seen: Receiver) -> Judged:
        where = f"{seen.sender_host}:{seen.sender_port} over {seen.slot_name or 'no slot'}"
        hint = f"Set primary_slot_name = '{site.replication.slot}' and primary_conninfo on {seen.node}"
        if seen.status is None:
            return passed_if(False, "no walreceiver", hint if not seen.has_conninfo else f"Read {seen.node}'s log")
        return passed_if(seen.slot_name == site.replication.slot, where, hint)

    return evaluate(f"receives from {primary.name}", f"over {site.replication.slot}", receiver, of)


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
