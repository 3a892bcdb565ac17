"""Could the standby be the primary in a moment? What would delay its promotion or end its recovery, and what would be missed
only afterwards. Asked while the primary still serves, each of these costs nothing."""

from __future__ import annotations

from aya_lib.check import Check, Judged, Status, absent, evaluate, optional, passed_if
from aya_lib.cluster.judge import replication
from aya_lib.cluster.judge.replication import DELAY
from aya_lib.cluster.replication import Login as Entry
from aya_lib.cluster.standby import Answer, Login, Ready, Recovery
from aya_lib.node.unseen import Down, Missing

MB = 1024**2
ROOM_MB = 256  # a promotion begins a segment and a checkpoint; writes follow at once
KEPT_BACK_MB = 64  # replayed in a second or two: below it nobody notices


def ready(found: Ready) -> list[Check]:
    """For a planned change of roles all of it counts; see :func:`urgent`. Of a standby that is down one line says so."""
    if isinstance(found.recovery, Down):
        return [replays(found)]
    able = [sizes(found), to_the_end(found), replays(found), *restores(found), room(found), writable(found), login(found)]
    return [*able, *receives(found)]


def urgent(found: Ready) -> list[Check]:
    """The same with the primary lost: only what would end the recovery, or what a promotion cannot get past, stops it."""
    held = isinstance(found.recovery, Recovery) and bool(found.recovery.held_by)
    replay = [replays(found)] if held else optional([replays(found)])
    others = optional([*restores(found), writable(found), login(found)])
    return [sizes(found), to_the_end(found), room(found), *replay, *others]


def sizes(found: Ready) -> Check:
    """A standby with less than the primary pauses its replay, and ends when that is resumed or it is promoted. (PostgreSQL:
    "Administrator's Overview" of Hot Standby.)"""
    name, expected = f"{found.standby} has room for {found.primary}'s sessions", f"its limits are not below {found.primary}'s"
    needs = found.needs
    if isinstance(needs, Missing):
        return absent(name, expected, needs)

    def of(it: Recovery) -> Judged:
        has = it.sizes or {}
        small = {key: value for key, value in needs.items() if has.get(key, 0) < value}
        told = ", ".join(f"{key} = {has.get(key)}, {found.primary} has {value}" for key, value in small.items())
        sets = "; ".join(f"ALTER SYSTEM SET {key} = {value}" for key, value in small.items())
        hint = f"On {found.standby}: {sets}. Then restart its PostgreSQL; until then do not resume a paused replay: it would end"
        return passed_if(not small, told or "none is", hint)

    return evaluate(name, expected, found.recovery, of)


def to_the_end(found: Ready) -> Check:
    """No recovery_target: it would be promoted there, without the WAL that follows."""

    def of(it: Recovery) -> Judged:
        resets = "; ".join(f"ALTER SYSTEM RESET {name}" for name in it.targets)
        hint = f"On {it.node}: {resets}. Then restart its PostgreSQL"
        return passed_if(not it.targets, ", ".join(it.targets) or "no target", hint)

    return evaluate(f"{found.standby} replays to the end", "no recovery_target is set", found.recovery, of)


def replays(found: Ready) -> Check:
    """Nothing holds the replay up: no pause, no session, no delay with much kept back."""

    def of(it: Recovery) -> Judged:
        kept = "" if not it.backlog_bytes else f"; {it.backlog_bytes:,} bytes are received and not replayed"
        if it.held_by:
            hint = f"Let it end, or on {it.node}: SELECT pg_terminate_backend(PID)"
            return Judged("failed", f"held up by {it.held_by}{kept}", hint)
        if it.pause != "not paused":
            small = sizes(found).status == "failed"
            hint = "Raise the limits first: resumed now, its recovery ends" if small else "Run restore: it resumes the replay"
            return Judged("failed", f"{it.pause}{kept}", hint)
        if it.delay_s:
            hint = f"A promotion skips the delay and replays all of it at once; on {it.node}: ALTER SYSTEM RESET {DELAY}"
            return Judged("warning", f"{DELAY} = {it.delay_s:g} s{kept}", hint)
        busy = (it.backlog_bytes or 0) > KEPT_BACK_MB * MB
        return Judged("warning" if busy else "passed", f"it replays{kept if busy else ''}", "A promotion replays that first")

    return evaluate(f"nothing holds {found.standby}'s replay up", "no pause, no query, no delay", found.recovery, of)


def restores(found: Ready) -> list[Check]:
    """The restore_command answers: a promotion calls it, and waits for it. Nothing where there is none."""

    def of(answer: Answer) -> Judged:
        hint = f"Mend it, or on {found.standby}: ALTER SYSTEM SET restore_command = ''; SELECT pg_reload_conf()"
        told = "a status above 125 ends the recovery: " if answer.word == "broken" else ""
        status: Status = "warning" if answer.word == "late" else "passed" if answer.word == "quick" else "failed"
        return Judged(status, told + answer.said, hint)

    name = f"{found.standby}'s restore_command answers"
    return [evaluate(name, "soon, and with a status up to 125", found.answer, of)] if found.answer else []


def room(found: Ready) -> Check:
    """Its disks have room to go on as a primary."""
    name, expected = f"room on {found.standby}'s disks", f"{ROOM_MB} MiB or more free"
    for free in found.free.values():
        if not isinstance(free, int):
            return absent(name, expected, free)
    folder, least = min(((key, value) for key, value in found.free.items() if isinstance(value, int)), key=lambda one: one[1])
    good = least >= ROOM_MB * MB
    hint = "" if good else f"Make room on {found.standby}: look with du -xh --max-depth=1 {folder}"
    return Check(
        name, "passed" if good else "failed", expected, f"{least / MB:,.0f} MiB at {folder}" if not good else "there", hint
    )


def writable(found: Ready) -> Check:
    """Its configuration does not make every transaction read-only, which shows only once it is the primary."""

    def of(it: Recovery) -> Judged:
        hint = f"On {it.node}: set default_transaction_read_only = off, and SELECT pg_reload_conf()"
        return passed_if(not it.read_only, "on" if it.read_only else "off", hint)

    return evaluate(f"{found.standby}'s default_transaction_read_only", "off", found.recovery, of)


def login(found: Ready) -> Check:
    """The application's role gets a session on the standby, as on the primary. Not known when it has none here either."""
    here, there = found.logins[found.standby], found.logins.get(found.primary)
    check = logs_in(found.standby, here)
    if isinstance(there, Login) and not there.refused and not isinstance(here, Login):
        observed, hint = (
            f"works on {found.primary}, and not here: {here}",
            f"Compare pg_hba.conf of both: {found.standby}'s differs",
        )
        return Check(check.name, "failed", check.expected, observed, hint)
    alike = isinstance(there, Login) and bool(there.refused)
    return optional([check])[0] if alike or check.status == "unknown" else check


def receives(found: Ready) -> list[Check]:
    """Either can be the other's standby: with a stale password it shows only once the roles have changed, or after a restart."""
    checks = [(it, replication.login(node, it)) for node, it in found.receives.items()]
    return [check if isinstance(it, Entry) else optional([check])[0] for it, check in checks]


def logs_in(node: str, login: Login | Missing) -> Check:
    """The application's role gets a session on a node."""

    def of(it: Login) -> Judged:
        hint = f"Clients are sent away once {it.node} is the primary: mend its pg_hba.conf, then SELECT pg_reload_conf() there"
        return passed_if(not it.refused, it.refused or f"as {it.role}", hint)

    hint = "Asked only where the password of the application's role is known: see its password file"
    return evaluate(f"the application logs in on {node}", "a session of its role", login, of, hint=hint)
