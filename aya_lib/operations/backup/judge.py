"""May a backup be made, was it made and proven, and does the site rest on it?"""

from __future__ import annotations

from aya_lib.backup import judge as glance
from aya_lib.backup.elsewhere import Elsewhere
from aya_lib.backup.engine import Source
from aya_lib.backup.look import NoRepository
from aya_lib.backup.records import Backup, Repository
from aya_lib.check import Check, Judged, absent, evaluate, optional, passed_if
from aya_lib.cluster.replication import Login
from aya_lib.errors import UsageError
from aya_lib.node.unseen import Missing
from aya_lib.operations.backup.look import Found
from aya_lib.operations.backup.plan import choose

NEEDS = {"full": 1.0, "incremental": 0.5}  # of what the databases hold; random changes of 3 % gave 0.27
SCRATCH = 1.2  # the same for the restored copy, with its WAL


def preconditions(found: Found) -> list[Check]:
    """Everything that must hold before the first change."""
    keeper = found.keeper.name
    login = evaluate(f"{keeper} may read from the source", "it logs in for replication", found.login, _logs_in)
    return [
        evaluate(
            "a primary answers", "one node that accepts writes", found.source, lambda _: passed_if(True, str(found.primary))
        ),
        _own(found),
        _free(found),
        login,
        evaluate(f"room on {keeper}", "a backup, and a copy restored from it", found.free, lambda free: _room(found, free)),
        *optional([_apart(found), *_archive(found)]),
    ]


def made(before: Found, after: Found) -> list[Check]:
    """A backup is there that was not, with the dump that was asked for."""
    known = {one.label for one in before.repository.backups} if isinstance(before.repository, Repository) else set()

    def of(held: Repository) -> Judged:
        new = [one for one in held.backups if one.label not in known]
        return passed_if(bool(new), _said(new[-1]) if new else "none")

    def dumped(held: Repository) -> Judged:
        new = [one for one in held.backups if one.label not in known]
        return passed_if(bool(new and new[-1].dumps), f"{len(new[-1].dumps)} files" if new else "none")

    hint = "What failed stands with the change above; mend that, and run backup again"
    whole = evaluate("a new backup is whole", "its files, mark and record", after.repository, of, hint=hint)
    dump = evaluate("it is dumped", "every database, of the same moment", after.repository, dumped, hint=hint)
    return [whole, *([dump] if before.request.dump else [])]


def proven(found: Found) -> list[Check]:
    """The newest backup was verified, and the site rests on it."""

    def of(held: Repository) -> Judged:
        one = held.backups[-1] if held.backups else None
        if one is None:
            return passed_if(False, "there is none")
        observed = f"{one.proof.compared_tables} tables equal, {one.proof.took_s:.0f} s" if one.proof else "not verified"
        if one.verified and one.mark and one.mark.unsaid:
            return Judged("warning", f"{one.label} starts, and was not compared: {one.mark.unsaid}", "End that, and run backup")
        hint = "Run backup: it makes another one" if one.fault else f"Run aya backup verify {one.label}"
        return passed_if(one.verified, f"{one.label}: {one.fault or observed}", hint)

    newest = evaluate("the newest backup restores", "started from it once, and equal to its mark", found.repository, of)
    return [newest, *glance.checks(found.site, found.repository)]


def copied(found: Found, there: Elsewhere | Missing) -> list[Check]:
    """The last verified backup lies at every further place."""
    return glance.elsewhere(found.site, found.repository, there)


def _said(one: Backup) -> str:
    tables = f"{sum(map(len, one.mark.tables.values()))} tables marked" if one.mark and not one.mark.unsaid else ""
    unsaid = f"no table marked: {one.mark.unsaid}" if one.mark and one.mark.unsaid else ""
    dumps = f"{len(one.dumps)} dumps" if one.dumps else "no dump"
    return ", ".join(filter(None, (one.label, glance.size(one.bytes), tables or unsaid, dumps)))


def _logs_in(login: Login) -> Judged:
    hint = f"Put the password of {login.role} into {login.file} on {login.node}"
    return passed_if(not login.said, login.said or f"as {login.role} on {login.to}", hint)


def _own(found: Found) -> Check:
    """Another cluster's repository is never written into."""
    name, expected, held, source = "the repository is this cluster's", "one system identifier", found.repository, found.source
    if isinstance(held, NoRepository):
        return Check(name, "passed", expected, "it will be made")
    if not isinstance(held, Repository):
        return absent(name, expected, held)
    hint = f"Name another folder as backup.directory in site.yaml; {held.directory} stays as it is"
    return evaluate(
        name,
        expected,
        source,
        lambda seen: passed_if(
            seen.system_identifier == held.system_identifier,
            held.system_identifier if seen.system_identifier == held.system_identifier else f"it is of {held.system_identifier}",
            hint,
        ),
    )


def _free(found: Found) -> Check:
    name, expected, held = "nobody else is at work", "no other backup, verification or deletion", found.repository
    if isinstance(held, NoRepository):
        return Check(name, "passed", expected, "nobody")
    hint = "Wait until it has ended, or end it there"
    return evaluate(name, expected, held, lambda seen: passed_if(not seen.busy, seen.busy or "nobody", hint))


def _room(found: Found, free: int) -> Judged:
    source = found.source
    if not isinstance(source, Source):
        return Judged("unknown", f"nobody knows how much: {source}")
    try:
        choice = choose(found)
    except UsageError as error:
        return passed_if(False, error.message, error.hint)
    parts = NEEDS[choice.kind] + SCRATCH + (1.0 if found.request.dump else 0.0)
    observed = f"{glance.size(free)} free, {glance.size(parts * source.bytes)} needed ({choice.kind})"
    return passed_if(free >= parts * source.bytes, observed, "Make room there, or name another folder as backup.directory")


def _apart(found: Found) -> Check:
    """A backup on the primary's own machine is lost with it."""
    same = found.primary == found.keeper.name
    hint = "It is so after a failover: run switchback when the other node is back, or rejoin"
    observed = f"{found.keeper.name} is the primary now" if same else f"{found.keeper.name}"
    return Check(
        "backups lie apart", "warning" if same else "passed", "not on the primary's machine", observed, hint if same else ""
    )


def _archive(found: Found) -> list[Check]:
    """An archive_command of the site's own is left as it is, and said."""
    source = found.source
    if not isinstance(source, Source) or not source.archive_command:
        return []
    observed = f"{found.primary} has one, which stays as it is; these backups do not use it"
    return [Check("archive_command", "passed", "none is needed", observed)]
