"""May the laptop be set up, and is it? Pure judgements of :class:`aya_lib.air.setup.Setup`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aya_lib import __version__
from aya_lib.air import ready
from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.air.ready import Report
from aya_lib.air.setup import Primary, Server, Setup
from aya_lib.check import Check, Judged, Status, evaluate, passed_if
from aya_lib.cluster.judge import services
from aya_lib.node.unseen import Down, Missing
from aya_lib.operations.autostart import judge as autostart
from aya_lib.site import Site

ROOM = 2.0  # times the primary's database: the rows, and the sorting of an index's build
LEAST_BYTES = 1_000_000_000


def preconditions(site: Site, seen: Setup) -> list[Check]:
    """Before anything is changed on the laptop."""
    wish = site.nodes[seen.node].postgresql
    where = f"{wish.bin_directory}"
    pgvector = f"Install pgvector 0.8 for the PostgreSQL in {where}"
    found = [
        _reached(seen),
        evaluate(f"{seen.node} PostgreSQL", "18", seen.programs, _eighteen, hint=f"Install PostgreSQL 18 into {where}"),
        evaluate(f"{seen.node} pgvector", "0.8", seen.pgvector, lambda v: passed_if(v.startswith("0.8"), v or "none", pgvector)),
        evaluate(f"{seen.node} data directory", "absent, or a cluster", seen.directory, _directory),
        services.port_free(seen.node, "postgresql", wish.port, seen.listener, seen.process),
        evaluate("primary", "found", seen.primary, lambda one: Judged("passed", one.node), hint="Run restore"),
        _room(seen),
        _server(seen),
        *_report(site, seen.node, seen.report),
    ]
    if seen.directory == "absent":
        found.append(_password(site, seen))
    if seen.embedding:
        found.append(
            services.port_free(
                seen.node, "the embedding service", seen.embedding.port, seen.embedding.listener, seen.embedding.process
            )
        )
    return found


def done(site: Site, seen: Setup) -> list[Check]:
    """After it: closed to others, complete, its services running and starting by themselves."""
    node = seen.node

    def local(server: Server) -> Judged:
        rules = f", {server.trusting} rules of pg_hba.conf ask for no password" if server.trusting else ""
        return passed_if(server.local and not server.trusting, f"listens on {server.listens or 'no address'}{rules}")

    found = [
        evaluate(f"{node} local access only", "loopback, with a password", seen.server, local, hint=OPEN),
        evaluate(f"{node} schema", "documents, chunks, write_queue", seen.server, lambda s: passed_if(s.tables, _word(s.tables))),
        evaluate(f"{node} queue and log", f"version {SCHEMA_VERSION}", seen.server, lambda s: _version(s.sync)),
        evaluate("log of the primary", f"version {SCHEMA_VERSION}", seen.primary, lambda one: _version(one.sync)),
        evaluate(f"{node} sync daemon", "running", _process(seen, "sync"), lambda s: Judged(*_running(s))),
    ]
    if seen.embedding:
        found += [services.process(seen.embedding), services.healthy(seen.embedding)]
    if seen.services:
        found += autostart.installed_on(site, seen.services)
    return found


def _reached(seen: Setup) -> Check:
    name, said = f"{seen.node} runs commands", "yes" if seen.account else "no account"
    if seen.lost:
        return Check(name, "unknown", "an account for its services", f"could not be seen: {seen.lost}", unseen=seen.lost)
    return Check(name, "passed" if seen.account else "failed", "an account for its services", said, "Set postgresql.account")


def _eighteen(said: str) -> Judged:
    return passed_if(bool(re.search(r"\b18\.", said)), said)


def _directory(found: str) -> Judged:
    hint = "Move away what is there, or name another data_directory: nothing of it is touched"
    return passed_if(found in ("absent", "cluster"), found if found != "other" else "other files are in it", hint)


def _room(seen: Setup) -> Check:
    needed = max(LEAST_BYTES, int(ROOM * seen.primary.bytes)) if isinstance(seen.primary, Primary) else LEAST_BYTES
    expected = f"{needed / 1e9:.1f} GB"
    return evaluate(f"{seen.node} free disk", expected, seen.free, lambda free: passed_if(free >= needed, f"{free / 1e9:.1f} GB"))


def _server(seen: Setup) -> Check:
    """One that runs is a cluster of its own; one that is down is started."""
    expected = "down, or a cluster of its own"
    if isinstance(seen.server, Down):
        return Check(f"{seen.node} server", "passed", expected, "down")
    hint = "A laptop has a database of its own: this one is a standby"
    return evaluate(f"{seen.node} server", expected, seen.server, lambda s: passed_if(not s.in_recovery, _role(s), hint))


def _role(server: Server) -> str:
    return "in recovery" if server.in_recovery else "a cluster of its own"


def _password(site: Site, seen: Setup) -> Check:
    name, hint = f"{seen.node} password for {site.database.owner}", "Choose one, and put it into ~/.pgpass here and on the laptop"
    status: Status = "passed" if seen.password else "failed"
    return Check(name, status, "known here", "known" if seen.password else "not known", "" if seen.password else hint)


def _report(site: Site, node: str, found: Report | Missing) -> Iterable[Check]:
    """What the laptop says itself."""
    install = "Install the same version there, and name it in site.yaml: nodes.<laptop>.aya"
    same = ready.digest(site)
    yield evaluate(f"{node} aya", __version__, found, lambda r: passed_if(r.version == __version__, r.version), hint=install)
    copy = "Copy parameters/ to the laptop"
    yield evaluate(f"{node} site file", f"as here ({same})", found, lambda r: passed_if(r.site == same, r.site), hint=copy)
    yield evaluate(f"{node} model", "there", found, lambda r: passed_if(not r.model_error, r.model_error or "there"))
    way = "The daemon runs on the laptop: it needs the way and the password there, in ~/.pgpass of its account or /etc/aya"
    yield evaluate(
        f"{node} reaches the primary", "yes", found, lambda r: passed_if(not r.primary_error, r.primary_error or r.primary, way)
    )


def _process(seen: Setup, name: str) -> object:
    found = seen.services.service(name) if seen.services else None
    return found.process if found else seen.lost


def _running(state: object) -> tuple[Status, str, str]:
    said = getattr(state, "status", "unknown")
    pid = getattr(state, "pid", None)
    return ("passed" if said == "running" else "failed", f"{said}, PID {pid}" if pid else said, "Read its log: air-sync.log")


def _version(found: int | None) -> Judged:
    return passed_if(found == SCHEMA_VERSION, f"version {found}" if found else "missing", "Run air_setup")


def _word(there: bool) -> str:
    return "there" if there else "missing"


OPEN = "Run air_setup; rules of pg_hba.conf with trust are yours to remove"
