"""Can somebody write and read? By what came back when it was tried as the application's role, and with what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable

from aya_lib.check import Check, Judged, absent, evaluate
from aya_lib.cluster.application import Application, Attempt, Blocker, IdleSlot
from aya_lib.node.refusal import PASSWORD
from aya_lib.node.unseen import Missing
from aya_lib.site import Site

MB = 1024**2
LOCKED, CANCELLED, READ_ONLY, MISSING = "55P03", "57014", "25006", "42P01"  # SQLSTATEs, PostgreSQL's appendix A


def checks(site: Site, found: Application | Missing) -> list[Check]:
    """A write, a search, the index that searches go through, and slots that fill the disk."""
    role, limit_s = site.database.application_role, site.replication.visible_within_s
    tried = [
        (f"{role} can write", f"INSERT accepted, commit back within {limit_s:g} s", lambda seen: _written(site, seen)),
        (f"{role} can search", "a search answers", lambda seen: _tried(site, seen, seen.read, "answered")),
    ]
    hint = "What keeps the primary away stands in the other checks"
    if isinstance(found, Missing):
        return [absent(name, expected, found, hint) for name, expected, _ in tried]
    return [*(evaluate(name, expected, found, rule) for name, expected, rule in tried), *_index(found), *_slots(site, found)]


def _written(site: Site, seen: Application) -> Judged:
    if seen.hung and not seen.write.refused:
        told = f"the commit does not return: it waits for a standby (synchronous_standby_names = '{seen.waits_for}')"
        mode = "asynchronous" if site.replication.mode == "asynchronous" else "degraded"
        return Judged("failed", told, f"Bring that standby back, or: aya run replication_mode -p mode={mode}")
    return _tried(site, seen, seen.write, "accepted and committed")


def _tried(site: Site, seen: Application, attempt: Attempt, good: str) -> Judged:
    """An obstacle in the catalogs goes before what the server said, which may be in any language."""
    searched = attempt is seen.read
    named = [one for one in seen.obstacles if not (searched and one.only_writes)]
    if named:
        told = f"{seen.role}: {'; '.join(one.reason for one in named)}"
        return Judged("failed", told, f"As the owner on {seen.node}: {'; '.join(dict.fromkeys(one.remedy for one in named))}")
    if not attempt.refused:
        return Judged("passed", good)
    if attempt.sqlstate in (LOCKED, CANCELLED):
        return _waited(seen, attempt)
    if attempt.login and not attempt.known:
        hint = f"Put {seen.role}'s password where the owner's is (~/.pgpass): without it nobody can tell whether it logs in"
        else_ = f"; {good} as the owner with SET ROLE {seen.role}" if attempt.in_its_place else ""
        return Judged("unknown", f"its login could not be tried: {attempt.refused}{else_}", hint)
    return Judged("failed", attempt.refused, _hint(site, seen, attempt))


def _waited(seen: Application, attempt: Attempt) -> Judged:
    if not seen.blockers:
        hint = "Run it again; if it stays, look at pg_stat_activity for what the server is busy with"
        return Judged("failed", f"no answer in time, and nobody holds a lock on its tables now: {attempt.refused}", hint)
    first = seen.blockers[0]
    more = len({(one.pid, one.application) for one in seen.blockers}) - 1
    others = f", and {more} more" if more else ""
    return Judged("failed", f"{first.table} is locked: {_holder(first)}{others}", f"Wait for it, or end it: {_end(first)}")


def _holder(lock: Blocker) -> str:
    who = f"PID {lock.pid}, application '{lock.application}'" if lock.pid else f"prepared transaction '{lock.application}'"
    query = f": {lock.query}" if lock.query else ""
    return f"{lock.mode} of {who}, role {lock.role}, {lock.state}, since {lock.since} UTC{query}"


def _end(lock: Blocker) -> str:
    if lock.pid is None:
        return f"COMMIT PREPARED or ROLLBACK PREPARED '{lock.application}'"
    return f"SELECT pg_terminate_backend({lock.pid})"


def _hint(site: Site, seen: Application, attempt: Attempt) -> str:
    """What to do about a refusal for which the catalogs give no reason."""
    name = site.database.name
    if attempt.sqlstate == READ_ONLY:
        return (
            f"Something makes {seen.role}'s transactions read-only: SHOW default_transaction_read_only in a session of that role"
        )
    if attempt.sqlstate == MISSING:
        return "The knowledge base is not there yet: run ingest"
    if not attempt.login:
        return f"This is what the application gets, too: read {seen.node}'s log"
    if "pg_hba.conf" in attempt.refused:
        line = f"host {name} {seen.role} <address>/32 scram-sha-256"
        return f"Add a line to pg_hba.conf on {seen.node}, then SELECT pg_reload_conf(): {line}"
    if attempt.sqlstate == PASSWORD:
        return (
            f"The server has another password for {seen.role} than is known here: correct ~/.pgpass here and in the application, "
            f"or set it anew with psql's \\password {seen.role}"
        )
    return f"{seen.role} cannot log in to {name}: read {seen.node}'s log"


def _index(seen: Application) -> Iterable[Check]:
    """Searches go through an index that is there and valid; without rows none is needed."""
    name, expected = f"{seen.node} vector index", "there and valid"
    broken = [one.name for one in seen.indexes if not one.valid]
    if any(one.valid for one in seen.indexes):
        left = ", ".join(one.name for one in seen.indexes if not one.valid and not one.building)
        hint = f"A build that broke off left it; every write pays for it: DROP INDEX CONCURRENTLY {left}"
        if left:
            return [Check(name, "warning", expected, f"valid, and {left} invalid beside it", hint)]
        return [Check(name, "passed", expected, ", ".join(one.name for one in seen.indexes if one.valid))]
    if not seen.vectors:
        return [Check(name, "passed", expected, "no rows yet, no index needed")]
    if any(one.building for one in seen.indexes):
        return [
            Check(name, "warning", expected, f"{', '.join(broken)} is being built", "Searches read every row until it is ready")
        ]
    told = f"{', '.join(broken)} is invalid" if broken else "there is none"
    return [Check(name, "failed", expected, f"{told}: every search reads every row", "Run: aya vectors rebuild")]


def _slots(site: Site, seen: Application) -> Iterable[Check]:
    """No slot that nobody reads holds WAL: it fills the disk, whatever the site's own standby does."""
    if not seen.slots:
        return [Check(f"{seen.node} forgotten slots", "passed", "none", "none")]
    held = max(seen.slots, key=lambda slot: slot.bytes)
    told = ", ".join(_slot(slot) for slot in seen.slots)
    hint = f"Start its reader; if it has none any more: SELECT pg_drop_replication_slot('{held.name}') on {seen.node}"
    status = "failed" if held.bytes > site.replication.slot_warn_mb * MB else "warning"
    return [Check(f"{seen.node} forgotten slots", status, "none", told, hint)]  # type: ignore[arg-type]


def _slot(slot: IdleSlot) -> str:
    since = f" since {slot.since} UTC" if slot.since else ""
    return f"{slot.kind} slot {slot.name}, read by nobody{since}, holds {slot.bytes / MB:,.0f} MiB of WAL"
