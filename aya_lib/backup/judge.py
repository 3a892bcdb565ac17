"""Do the backups protect the site? The age of the last verified one, what can be restored, whether WAL is safe, room. Pure."""

from __future__ import annotations

from datetime import timedelta

from aya_lib.backup import chain
from aya_lib.backup.copies import Copied
from aya_lib.backup.elsewhere import Elsewhere
from aya_lib.backup.look import NoRepository
from aya_lib.backup.records import Backup, Repository
from aya_lib.check import Check, Judged, Status, absent, evaluate, passed_if
from aya_lib.node.unseen import Missing
from aya_lib.site import Backup as Section
from aya_lib.site import Site

FRESH_H = 26.0  # a backup a day, and two hours to make and to verify it
SILENT_S = 60.0  # the receiver says every few seconds that it is there
RUN = "Run backup"


def checks(site: Site, found: Repository | Missing) -> list[Check]:
    """Nothing for a site without backups."""
    wanted = site.backup
    if wanted is None:
        return []
    if isinstance(found, NoRepository):
        status: Status = "failed" if site.production else "warning"
        hint = f"{RUN}: it makes and verifies one"
        return [Check("last verified backup", status, _fresh(), "no backup was made yet", hint, required=site.production)]
    return [
        evaluate("last verified backup", _fresh(), found, lambda seen: _age(site, seen), hint=RUN),
        evaluate("what can be restored", _window(wanted), found, lambda seen: _restorable(wanted, seen), hint=RUN),
        evaluate("WAL is safe on the keeper", f"within {wanted.rpo_s:g} s", found, lambda seen: _safe(wanted, seen), hint=RUN),
        evaluate("backups are whole", "no damage was found", found, _whole),
        evaluate("room for backups", "as much as two full ones need", found, _room),
    ]


def elsewhere(site: Site, found: Repository | Missing, there: Elsewhere | Missing) -> list[Check]:
    """Is the last verified backup, with its WAL, at every further place? Nothing for a site without backups."""
    wanted = site.backup
    if wanted is None:
        return []
    if not wanted.copies:
        hint = "Add backup.copies to site.yaml: docs/backup.md"
        status: Status = "warning" if site.production else "passed"
        return [Check("copies elsewhere", status, "one place beside the keeper", "none", hint if site.production else "")]
    at = {one.name: there.found.get(one.name, there) if isinstance(there, Elsewhere) else there for one in wanted.copies}
    return [_copied(f"copy at {name}", found, one) for name, one in at.items()]


def _copied(name: str, seen: Repository | Missing, there: Copied | Elsewhere | Missing) -> Check:
    expected = "the last verified backup, and its WAL"
    if not isinstance(seen, Repository):
        return absent(name, expected, seen, RUN)
    if isinstance(there, Elsewhere):
        return Check(name, "unknown", expected, "the keeper does not know this place", "Is site.yaml the same there?")

    def of(has: Copied) -> Judged:
        lacking = [one.name for one in seen.segments if not one.partial and one.name not in has.wal]
        observed = f"{len(has.backups)} backups, {len(has.wal)} files of WAL, {size(has.bytes)}"
        if seen.proven is None:
            return Judged("warning", f"{observed}; on the keeper none is verified")
        if seen.proven.label not in has.backups:
            return passed_if(False, f"{observed}; {seen.proven.label} is not among them")
        if hole := chain.unserved(seen, seen.proven, {*has.wal}):
            return passed_if(False, f"{observed}; to restore {seen.proven.label} there, {hole} is missing")
        return passed_if(not lacking, f"{observed}; {len(lacking)} segments not yet" if lacking else observed)

    return evaluate(name, expected, there, of, hint=RUN)


def ago(age: timedelta) -> str:
    """How long ago, in the unit that a person would use."""
    seconds = age.total_seconds()
    for unit, size in (("days", 172_800.0), ("h", 7200.0), ("min", 120.0)):
        if abs(seconds) >= size:
            return f"{seconds / {'days': 86_400.0, 'h': 3600.0, 'min': 60.0}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(number: float) -> str:
    """Bytes for people."""
    return f"{number / 2**30:.1f} GB" if number >= 2**30 else f"{number / 2**20:.0f} MB"


def _fresh() -> str:
    return f"at most {FRESH_H:g} h old"


def _window(wanted: Section) -> str:
    return f"any moment of the last {wanted.keep_days:g} days"


def _age(site: Site, seen: Repository) -> Judged:
    proven = seen.proven
    if proven is None:
        hint = f"{RUN}: it verifies what it makes" if seen.backups else f"{RUN}: it makes and verifies one"
        return Judged("failed", f"none of {len(seen.backups)} backups is verified", hint)
    age = seen.now - proven.ended
    status: Status = "passed" if age <= timedelta(hours=FRESH_H) else "failed" if site.production else "warning"
    if age < -timedelta(minutes=5):
        return Judged("failed", f"{proven.label} is of the future: a clock was set back", "Set the clocks right, by NTP")
    return Judged(status, f"the last verified backup is {ago(age)} old", RUN)


def _restorable(wanted: Section, seen: Repository) -> Judged:
    found = chain.windows(seen)
    if not found:
        return passed_if(False, "nothing: no verified backup has its WAL")
    tip, last = found[-1].end, seen.proven
    observed = chain.described(found).partition(": ")[2]
    reached = seen.flushed is None or tip.lsn == seen.flushed.lsn
    since = seen.now - timedelta(days=wanted.keep_days)
    holes = [one for one in found[:-1] if one.end.at < found[-1].start.at and found[-1].start.at > since]
    if not reached or (last and last.label != found[-1].backup):
        return passed_if(False, f"{observed}; then WAL is missing", f"{RUN}: what comes after the gap needs a new backup")
    return (
        Judged("warning", f"{observed}; WAL is missing in between", "It passes with time: the window moves on")
        if holes
        else (passed_if(True, observed))
    )


def _safe(wanted: Section, seen: Repository) -> Judged:
    said, flushed = seen.receiver, seen.flushed
    if said.state == "gone" or said.at is None:
        return passed_if(False, f"no receiver runs: {said.reason}", f"{RUN}: it starts the receiver")
    silent = (seen.now - said.at).total_seconds()
    if silent > SILENT_S:
        hint = f"{RUN}: it starts the receiver; autostart lets it come back by itself"
        return passed_if(False, f"the receiver has said nothing for {ago(seen.now - said.at)}", hint)
    if flushed is None:
        return passed_if(False, f"the receiver is {said.state}, and nothing is received yet: {said.reason or 'it began'}")
    behind = (seen.now - flushed.at).total_seconds()
    observed = f"{max(0.0, behind):.0f} s behind, received from {said.source}"
    if said.state == "waiting":
        observed = f"{ago(seen.now - flushed.at)} behind; the receiver waits: {said.reason}"
    hint = "Read the receiver's reason; where its server is down, run restore"
    return passed_if(behind <= wanted.rpo_s, observed, hint)


def _whole(seen: Repository) -> Judged:
    faults = {one.label: one.fault for one in seen.backups if one.fault} | dict(seen.damaged)
    words = [f"{label}: {why}" for label, why in faults.items()]
    words += [f"WAL: {gap}" for gap in seen.receiver.gaps[-2:]]
    if not words:
        return passed_if(True, f"{len(seen.backups)} backups")
    newer = seen.proven is not None and all(label < seen.proven.label for label in faults)
    hint = "A verified one is newer; it goes with time" if newer else RUN
    return Judged("warning" if newer else "failed", "; ".join(words), hint)


def _room(seen: Repository) -> Judged:
    largest = max((one.bytes for one in seen.backups if one.kind == "full"), default=0)
    taken = sum(one.bytes for one in seen.backups) + sum(one.bytes for one in seen.segments)
    observed = f"{size(seen.free_bytes)} free; backups take {size(taken)}"
    hint = "Make room on the keeper's disk, or lower backup.keep_days in site.yaml and run backup"
    status: Status = "passed" if seen.free_bytes >= 2 * largest else "warning" if seen.free_bytes >= largest else "failed"
    return Judged(status, observed, hint)


def row(one: Backup) -> tuple[str, ...]:
    """A backup in a list: label, size, how far it is proven."""
    proof = f"verified {one.proof.at:%Y-%m-%d %H:%M}" if one.proof and not one.fault else one.fault or "not verified"
    return one.label, one.parent or "", one.source, size(one.bytes), f"{one.stop.timeline} {one.stop.lsn}", proof
