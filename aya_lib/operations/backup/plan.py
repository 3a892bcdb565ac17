"""What makes a backup, proves it, and deletes what is older than the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from aya_lib.backup.copies import Copied
from aya_lib.backup.elsewhere import Elsewhere, ToPlace
from aya_lib.backup.engine import Begin, Make, Prune, Source
from aya_lib.backup.records import Backup, Kind, Repository
from aya_lib.backup.retain import Expired, expired
from aya_lib.backup.verify import Verify
from aya_lib.cluster.lsn import number
from aya_lib.errors import UsageError
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing
from aya_lib.operations.backup.look import Found
from aya_lib.plan.actions import Service, Setting
from aya_lib.plan.change import Change, Plan, change


@dataclass(frozen=True)
class Choice:
    """What is made, of whom, and why so."""

    kind: Kind
    parent: str | None
    source: str
    why: str


def choose(found: Found) -> Choice:
    """The kind of the next backup; :class:`UsageError` when an incremental one was asked for and cannot be."""
    asked, source = found.request, found.source
    if asked.source == "standby":
        return Choice("full", None, found.keeper.name, "from the standby only a full one can be made")
    if not isinstance(source, Source) or not isinstance(found.primary, str):
        raise UsageError(f"no backup can be made: {source}")
    if asked.kind == "full":
        return Choice("full", None, found.primary, "as asked for")
    parent, why = _parent(found, source)
    if parent is None:
        if asked.kind == "incremental":
            raise UsageError(f"no incremental backup can be made: {why}", hint="kind=auto makes a full one")
        return Choice("full", None, found.primary, why)
    return Choice("incremental", parent.label, found.primary, why)


def plan(found: Found) -> Plan:
    """The repository, WAL summaries and the receiver, where they are missing, and a backup."""
    choice, source = choose(found), found.source
    if not isinstance(source, Source) or not isinstance(found.primary, str):
        raise UsageError(f"no backup can be made: {source}")
    label = f"{source.at:%Y%m%dT%H%M%SZ}-{choice.kind}"
    nodes = found.nodes
    make = Make(label, choice.kind, choice.parent, nodes[found.primary], nodes[choice.source], found.request.dump)
    title = f"Make {'a full backup' if choice.kind == 'full' else f'an incremental backup on {choice.parent}'}: {choice.why}"
    steps = (*_prepare(found, source), change(found.keeper, title, make, vital=False))  # what was made is proven all the same
    return Plan(f"Backup {label} of {choice.source}", steps, unwind=False)


def proof(found: Found, label: str = "") -> Plan:
    """Verify the newest backup, or ``label``; nothing where that is verified."""
    held = found.repository
    if not isinstance(held, Repository) or not held.backups:
        return Plan("Prove the backup", unwind=False)
    one = held.backup(label) if label else held.backups[-1]
    if one is None:
        known = ", ".join(backup.label for backup in held.backups)
        raise UsageError(f"no backup '{label}'", hint=f"There are {known}")
    title = f"Restore {one.label} beside, start it, and compare it with its mark"
    steps = () if one.verified else (change(found.keeper, title, Verify(one.label)),)
    return Plan("Prove the backup", steps, unwind=False)


def prune(found: Found) -> Plan:
    """Delete what no moment of the window needs."""
    held, wanted, source = found.repository, found.site.backup, found.source
    if not isinstance(held, Repository) or wanted is None or not isinstance(source, Source):
        return Plan("Delete what is older than the window", unwind=False)
    gone: Expired = expired(held, wanted.keep_days, source.at)
    title = f"Delete {len(gone.backups)} backups and {len(gone.segments)} segments of WAL older than {wanted.keep_days:g} days"
    step = change(found.keeper, title, Prune(gone, wanted.keep_days, source.at))
    some = gone.backups or gone.segments
    return Plan(f"Delete what is older than the window: {gone.why}", (step,) if some else (), unwind=False)


def copy(found: Found, there: Elsewhere | Missing) -> Plan:
    """Have every verified backup, and all WAL, at each place of the site that answers."""
    held, title = found.repository, "Copy what is verified"
    if not isinstance(held, Repository) or not isinstance(there, Elsewhere):
        return Plan(title, unwind=False)
    labels = tuple(one.label for one in held.backups if one.verified)
    whole = {one.name for one in held.segments if not one.partial}
    steps = []
    for name, has in there.found.items():
        if isinstance(has, Copied) and labels and ({*labels} - has.backups.keys() or whole - has.wal.keys()):
            new = f"{len({*labels} - has.backups.keys())} backups, {len(whole - has.wal.keys())} segments of WAL"
            steps.append(change(found.keeper, f"Copy to {name}: {new}", ToPlace(name, labels), vital=False))
    return Plan(title, tuple(steps), unwind=False)


def _prepare(found: Found, primary: Source) -> Iterator[Change]:
    keeper = found.keeper
    if not isinstance(found.repository, Repository):
        yield change(keeper, "Make the repository", Begin(primary.system_identifier, primary.segment_bytes))
    for name, source in found.sources.items():
        if isinstance(source, Source) and not source.summarizes:
            setting = Setting("summarize_wal", "on")
            yield change(
                found.nodes[name], "Summarize WAL, for incremental backups", setting, undo=Setting("summarize_wal", None)
            )
    if not isinstance(found.receiver, ServiceState) or found.receiver.status != "running":
        yield change(keeper, "Start the receiver of WAL", Service("start", "wal"), vital=False)


def _parent(found: Found, source: Source) -> tuple[Backup | None, str]:
    """What an incremental backup can stand on, or why nothing."""
    held, wanted = found.repository, found.site.backup
    if not isinstance(held, Repository) or wanted is None or held.proven is None:
        return None, "there is no verified backup to stand on"
    proven = held.proven
    first: Backup | None = proven
    while first is not None and first.parent:
        first = held.backup(first.parent)
    if first is None:
        return None, f"{proven.label} stands on a backup that is not there"
    age = source.at - first.began
    if age >= timedelta(days=wanted.full_every_days) - timedelta(hours=1):
        return None, f"the last full one is {age / timedelta(days=1):.0f} days old"
    if not source.summarizes or source.summarized_from is None:
        return None, f"{found.primary} does not summarize its WAL yet"
    if number(source.summarized_from) > number(proven.start.lsn):
        return None, f"{found.primary}'s WAL is summarized only from {source.summarized_from} on"
    return proven, f"the last full one is {age / timedelta(days=1):.0f} days old"
