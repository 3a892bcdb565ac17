"""May the laptop be set up, and is it?"""

from __future__ import annotations

import re

from aya_lib import __version__
from aya_lib.air import ready
from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.air.setup.look import Primary, Server, Setup
from aya_lib.air.status import Queue, Status
from aya_lib.check import Check, Judged, conclude, evaluate, passed_if
from aya_lib.cluster.judge import services
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Down, Missing, Unseen
from aya_lib.operations import autostart
from aya_lib.site import Site

ROOM = 2.0  # times the primary's database: the rows, and the sorting of an index's build
LEAST_BYTES = 1_000_000_000
OPEN = "Run air_setup; rules of pg_hba.conf with trust are yours to remove"
OTHER = "Move away what is there, or name another data_directory: nothing of it is touched"
LOG = "See its log: air-sync.log"
AWAY = "The daemon runs on the laptop: it needs the way and the password there, in ~/.pgpass of its account or /etc/aya"
INSTALL = "Install the same version there, and name it in site.yaml: nodes.<laptop>.aya"


def preconditions(found: Setup) -> list[Check]:
    """Before anything is changed on the laptop."""
    node, site = found.node, found.nodes.site
    config, embedding = site.nodes[node].postgresql, found.embedding
    pgvector = f"Install pgvector 0.8 for the PostgreSQL in {config.bin_directory}"
    postgresql = f"Install PostgreSQL 18 into {config.bin_directory}"

    def account(name: str) -> Judged:
        return passed_if(bool(name), "yes" if name else "no account", "Set postgresql.account")

    def directory(holds: str) -> Judged:
        return passed_if(holds in ("absent", "cluster"), holds if holds != "other" else "other files are in it", OTHER)

    checks = [
        evaluate(f"{node} runs commands", "an account for its services", found.account, account),
        evaluate(f"{node} PostgreSQL", "18", found.programs, lambda v: passed_if(bool(re.search(r"\b18\.", v)), v, postgresql)),
        evaluate(f"{node} pgvector", "0.8", found.pgvector, lambda v: passed_if(v.startswith("0.8"), v or "none", pgvector)),
        evaluate(f"{node} data directory", "absent, or a cluster", found.directory, directory),
        _port(found, "postgresql", "postgresql", config.port),
        evaluate("primary", "found", found.primary, lambda primary: Judged("passed", primary.node), hint="Run restore"),
        _room(found),
        _server(found),
        *_readiness(found),
    ]
    if found.directory == "absent":
        hint = "Choose one, and put it into ~/.pgpass here and on the laptop"
        known = passed_if(found.password, "known" if found.password else "not known", hint)
        checks.append(conclude(f"{node} password for {site.database.owner}", "known here", known))
    if embedding:
        checks.append(_port(found, "embedding", "the embedding service", embedding.port))
    return checks


def done(site: Site, found: Setup) -> list[Check]:
    """After it: closed to others, complete, its services running and starting by themselves."""
    node, sync = found.node, found.service("sync")

    def closed(server: Server) -> Judged:
        rules = f", {server.trusting} rules of pg_hba.conf ask for no password" if server.trusting else ""
        return passed_if(server.local and not server.trusting, f"listens on {server.listens or 'no address'}{rules}")

    def version(side: Server | Primary) -> Judged:
        observed = "; ".join(side.silent) or (f"version {side.sync}" if side.sync else "missing")
        return passed_if(side.sync == SCHEMA_VERSION and not side.silent, observed)

    def running(process: ServiceState) -> Judged:
        observed = f"{process.status}, PID {process.pid}" if process.pid else process.status
        return passed_if(process.status == "running", observed, "Read its log: air-sync.log")

    there, wanted = "documents, chunks, write_queue", f"version {SCHEMA_VERSION}"
    checks = [
        evaluate(f"{node} local access only", "loopback, with a password", found.server, closed, hint=OPEN),
        evaluate(f"{node} schema", there, found.server, lambda s: passed_if(s.tables, "there" if s.tables else "missing")),
        evaluate(f"{node} queue and log", wanted, found.server, version),
        evaluate("log of the primary", wanted, found.primary, version),
        evaluate(f"{node} sync daemon", "running", sync if isinstance(sync, Unseen) else sync.process, running),
    ]
    if found.embedding:
        checks += [services.process(found.embedding), services.healthy(found.embedding)]
    return [*checks, *autostart.checks(found.autostart)]


def online(site: Site, found: Status | Missing) -> list[Check]:
    """The daemon speaks with the primary, everything was copied, and nothing was refused."""
    name = next(name for name, config in site.nodes.items() if config.role == "laptop")
    queue = found.queue if isinstance(found, Status) else found

    def speaks(status: Status) -> Judged:
        daemon = status.daemon
        return passed_if(True, f"online: {daemon.primary}") if daemon and daemon.online else passed_if(False, status.away, LOG)

    def copied(status: Status) -> Judged:
        return passed_if(queue.complete, "everything") if isinstance(queue, Queue) else passed_if(False, str(queue))

    def taken(status: Status) -> Judged:
        dead = queue.dead if isinstance(queue, Queue) else 0
        return passed_if(not dead, f"{dead} refused", "See: aya air refused")

    return [
        evaluate(f"{name} is online", "speaks with the primary", found, speaks),
        evaluate(f"{name} has the documents", "everything", found, copied),
        evaluate(f"{name} queue", "0 refused", found, taken),
    ]


def _port(found: Setup, service: str, name: str, port: int) -> Check:
    there = found.service(service)
    holder, process = (there, there) if isinstance(there, Unseen) else (there.listener, there.process)
    return services.port_free(found.node, name, port, holder, process)


def _room(found: Setup) -> Check:
    needed = max(LEAST_BYTES, int(ROOM * found.primary.bytes)) if isinstance(found.primary, Primary) else LEAST_BYTES
    expected = f"{needed / 1e9:.1f} GB"
    return evaluate(f"{found.node} free disk", expected, found.free, lambda b: passed_if(b >= needed, f"{b / 1e9:.1f} GB"))


def _server(found: Setup) -> Check:
    """One that runs is a cluster of its own; one that is down is started."""
    name, expected = f"{found.node} server", "down, or a cluster of its own"
    if isinstance(found.server, Down):
        return Check(name, "passed", expected, "down")

    def own(server: Server) -> Judged:
        hint = "A laptop has a database of its own: this one is a standby"
        return passed_if(not server.in_recovery, "in recovery" if server.in_recovery else "a cluster of its own", hint)

    return evaluate(name, expected, found.server, own)


def _readiness(found: Setup) -> list[Check]:
    """What the laptop says itself."""
    node, report, same = found.node, found.readiness, ready.digest(found.nodes.site)
    site, reach, copy = f"as here ({same})", f"{node} reaches the primary", "Copy parameters/ to the laptop"
    return [
        evaluate(f"{node} aya", __version__, report, lambda r: passed_if(r.version == __version__, r.version), hint=INSTALL),
        evaluate(f"{node} site file", site, report, lambda r: passed_if(r.site == same, r.site), hint=copy),
        evaluate(f"{node} model", "there", report, lambda r: passed_if(not r.model_error, r.model_error or "there")),
        evaluate(reach, "yes", report, lambda r: passed_if(not r.primary_error, r.primary_error or r.primary, AWAY)),
    ]
