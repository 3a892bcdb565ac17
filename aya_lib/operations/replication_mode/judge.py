"""May the mode of replication be changed, and does it hold? A mode that waits for a standby which is away stops every commit."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from aya_lib.check import Check, Judged, evaluate, optional, passed_if
from aya_lib.cluster import archive
from aya_lib.cluster.canary import Commits
from aya_lib.cluster.judge import overview as glance
from aya_lib.cluster.judge import server as cluster
from aya_lib.cluster.overview import NodeSeen
from aya_lib.cluster.replication import Sender
from aya_lib.node.unseen import Missing
from aya_lib.operations.replication_mode.look import PROGRAM, Cancelled, Found, Request, Server, Store
from aya_lib.site import Site


def names(application_name: str) -> str:
    """synchronous_standby_names for one standby. (PostgreSQL: *Synchronous Replication*, the FIRST method.)"""
    quoted = application_name.replace('"', '""')
    return f'FIRST 1 ("{quoted}")'


def wanted(request: Request, seen: Found, node: str) -> Mapping[str, str]:
    """The settings that a node of the pair should have, in the order in which they are set."""
    site, settings = seen.site, {"max_slot_wal_keep_size": str(seen.site.replication.slot_keep_mb)}
    where, store = archive.directory(site), seen.stores[node]
    if where and isinstance(store, Store) and store.python:
        run, folder = f"{shlex.quote(store.python)} -I {PROGRAM}", shlex.quote(str(where)).replace("%", "%%")
        settings |= {
            "archive_command": f"{run} --into {folder} %p %f",
            "restore_command": f"{run} --from {folder} %f %p",
            "archive_mode": "on",
        }
    if node == seen.primary and request.synchronous:
        listener = seen.stream.application_name if seen.stream else seen.standby.lower()
        settings |= {"synchronous_commit": site.replication.commit, "synchronous_standby_names": names(listener)}
    elif node == seen.primary:
        settings |= {"synchronous_standby_names": ""}
    return settings


def preconditions(request: Request, seen: Found) -> list[Check]:
    """Everything that must hold before the first change."""
    primary, standby = (seen.overview.nodes[name] for name in (seen.primary, seen.standby))
    alone = cluster.one_primary([primary, standby])
    checks = [
        cluster.primary(primary),
        cluster.not_fenced(primary, seen.overview),
        settings_seen(seen.servers[seen.primary], seen.primary),
        *(optional([alone]) if request.confirmed_by and alone.status == "unknown" else [_alone(alone, standby)]),
        *(ready(name, store) for name, store in seen.stores.items() if store is not None),
    ]
    if request.synchronous:
        return [*checks, listens(seen)]
    return [*checks, *([meant(seen)] if request.mode == "degraded" else [])]


def listens(seen: Found) -> Check:
    """The standby is there and answers: else every commit would wait for it, without end."""
    hint = (
        f"With {seen.standby} away every commit would wait for it, without end. Run restore, then this again; if commits wait "
        f"already and must go on without it: aya run replication_mode -p mode=degraded"
    )

    def of(_: Sender) -> Judged:
        stream, config = seen.stream, seen.site.replication
        if stream is None:
            return passed_if(False, f"no stream over {config.slot}", hint)
        fresh = stream.reply_age_s is not None and stream.reply_age_s < config.silent_after_s
        age = "never" if stream.reply_age_s is None else f"{stream.reply_age_s:.1f} s ago"
        observed = f"{stream.application_name} {stream.state}, replied {age}"
        return passed_if(stream.state == "streaming" and fresh, observed, hint)

    sender = glance.sender_of(seen.overview.nodes[seen.primary])
    return evaluate(f"{seen.standby} listens", "streams, and replied lately", sender, of, hint=hint)


def meant(seen: Found) -> Check:
    """Degraded says that a promise is suspended: there must be one."""
    known, configured = seen.overview.state.mode, seen.site.replication.mode
    promised = configured == "synchronous" or known in ("synchronous", "degraded")
    hint = "Nothing is promised that could be suspended: the mode is asynchronous. Leave mode out, or say mode=asynchronous"
    judged = passed_if(promised, f"{configured} in site.yaml, {known or 'nothing'} agreed", hint)
    return evaluate("synchronous replication is asked for", "by site.yaml, or by an earlier run", seen, lambda _: judged)


def settings_seen(server: Server | Missing, name: str) -> Check:
    """The settings could be read, and so can be changed and changed back."""
    return evaluate(f"{name}'s settings are known", "all read", server, lambda s: Judged("passed", f"{len(s.settings)} read"))


def ready(node: str, store: Store | Missing) -> Check:
    """The node can archive: a Python that the cluster's account can run, and a folder that it may write to, or make."""

    def of(seen: Store) -> Judged:
        if seen.python is None:
            return passed_if(False, "no python3 of version 3.9 or later", "Install one that the cluster's account can run")
        hint = "Give the folder to the account that owns the cluster"
        return passed_if(seen.folder != "closed", f"{seen.python}, folder {seen.folder}", hint)

    return evaluate(f"archiving can work on {node}", "Python 3.9, and a folder to write to", store, of)


def applied(request: Request) -> Callable[[Site, Found], list[Check]]:
    """The judgement that every setting is as wanted on both nodes, the stream has the state that goes with it, and the archive
    takes WAL."""
    return lambda site, seen: [
        *_settings(request, seen, seen.primary),
        *optional(_settings(request, seen, seen.standby)),
        sync_state(request, seen),
        *([archiving(seen.servers[seen.primary])] if archive.directory(site) else []),
    ]


def reached(request: Request, seen: Found, proof: Commits | Missing) -> list[Check]:
    """The mode holds, is proven by marked commits, and is written down. A degraded one warns."""
    site = seen.site
    checks = [
        *applied(request)(site, seen),
        acknowledged(request, proof),
        agreed(request, seen),
        glance.mode(site, seen.overview),
    ]
    if request.mode != "asynchronous":
        checks += [*optional([cancelled(seen)]), exempt(seen.servers[seen.primary], seen.primary)]
    return checks


def sync_state(request: Request, seen: Found) -> Check:
    """Commits wait for the standby, or for none, as the primary itself says of its stream."""
    expected = "sync" if request.synchronous else "async, or no stream"

    def of(_: Sender) -> Judged:
        if seen.stream is None:
            return passed_if(not request.synchronous, "no stream", "Commits wait. Run restore, or mode=degraded")
        observed = f"{seen.stream.application_name}: {seen.stream.sync_state}"
        hint = "Does the standby's application_name stand in synchronous_standby_names?"
        return passed_if(seen.stream.synchronous == request.synchronous, observed, hint)

    sender = glance.sender_of(seen.overview.nodes[seen.primary])
    return evaluate("sync_state of the standby's stream", expected, sender, of)


def acknowledged(request: Request, proof: Commits | Missing) -> Check:
    """Marked commits were seen to wait for the standby and were acknowledged; or none waited."""
    expected = "they wait for the standby" if request.synchronous else "none waits"

    def of(commits: Commits) -> Judged:
        usual = commits.usual
        observed = (
            f"synchronous_commit = {usual.level}: {'seen waiting' if usual.waited else 'none waited'} in {usual.rows} commits"
        )
        hint = "The settings say otherwise: is a role or database exempt, or did somebody change them meanwhile?"
        return passed_if(usual.waited == request.synchronous, observed, hint)

    return evaluate("marked commits", expected, proof, of)


def agreed(request: Request, seen: Found) -> Check:
    """The site's state says what holds: a failover reads there what was promised."""
    known = seen.overview.state
    observed = f"{known.mode}, since {known.mode_since}, by {known.mode_by}" if known.mode else "nothing: asynchronous"
    good = (known.mode or "asynchronous") == request.mode
    judged = passed_if(good, observed, "Run this again: it writes down what it has proven")
    return evaluate("the state says so", request.mode, seen, lambda _: judged)


def exempt(server: Server | Missing, primary: str) -> Check:
    """No role or database has a synchronous_commit of its own under which it never waits."""

    def of(seen: Server) -> Judged:
        hint = (
            "Commits there are lost with the primary. If that is not meant: ALTER ROLE or DATABASE ... RESET synchronous_commit"
        )
        return Judged("warning" if seen.exempt else "passed", "; ".join(seen.exempt) or "none", hint)

    return evaluate(f"exempt from waiting on {primary}", "no role or database", server, of)


def cancelled(seen: Found) -> Check:
    """No wait was broken off, as far as the server's current log goes back."""

    def of(waits: Cancelled) -> Judged:
        hint = (
            "Each is a commit that its client was told is done, or lost its connection in; the standby may not have had it "
            "then. Compare with verify_replication once the standby has caught up"
        )
        return Judged("warning" if waits.count else "passed", f"{waits.count}; {waits.last}" if waits.count else "none", hint)

    return evaluate("waits broken off", "none in the current log", seen.cancelled, of)


def archiving(server: Server | Missing) -> Check:
    """The archiver's last word was no failure."""

    def of(seen: Server) -> Judged:
        observed = f"{seen.archived} archived, last {seen.last_archived_wal or 'none'}; {seen.failed} failed"
        hint = f"Read the server's log for what archive_wal says about {seen.last_failed_wal}; WAL piles up meanwhile"
        return passed_if(not seen.failing, observed, hint)

    return evaluate("WAL is archived", "the last attempt succeeded", server, of)


def _settings(request: Request, seen: Found, node: str) -> list[Check]:
    server = seen.servers[node]
    checks = []
    for name, value in wanted(request, seen, node).items():

        def of(found: Server, name: str = name, value: str = value) -> Judged:
            setting = found.settings[name]
            observed = (setting.value or "''") + (", restart pending" if setting.pending_restart else "")
            return passed_if(setting.value == value, observed, "Run this again: what is missing is planned anew")

        checks.append(evaluate(f"{name} on {node}", value or "''", server, of))
    return checks


def _alone(check: Check, standby: NodeSeen) -> Check:
    """With the standby out of sight nobody knows whether it was promoted; not waiting for it then makes a split brain."""
    if check.status != "unknown":
        return check
    hint = (
        f"{standby.name} cannot be seen. If somebody promoted it, this primary must not acknowledge another write. Look at it; "
        f"a person who has made sure says so: -p confirmed_by=NAME"
    )
    return Check(check.name, check.status, check.expected, check.observed, hint, check.unseen)
