"""The mode of replication as the servers have it: for whom commits wait, who waits, the slot's limit, the archive."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Literal

from aya_lib.cluster import archive, log, overview
from aya_lib.cluster.overview import Overview
from aya_lib.cluster.replication import Sender, Stream, exempt
from aya_lib.cluster.state import Mode
from aya_lib.errors import MissingProgram
from aya_lib.node.node import Node, Nodes
from aya_lib.node.shell import read as read_file
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, looking, seen
from aya_lib.show import Cell, Shown, Table
from aya_lib.site import Site

PROGRAM = "aya_archive_wal.py"  # in the data directory: a clone of the node brings it along
SOURCE = "archive_wal.py"
OLDEST_PYTHON = (3, 9)
MODE = ("synchronous_standby_names", "synchronous_commit")
LIMITS = ("max_slot_wal_keep_size", "wal_keep_size")
ARCHIVE = ("archive_mode", "archive_command", "restore_command")
CANCELLED = "wait for synchronous replication"  # canceling (the) wait for ...: the commit is local only


@dataclass(frozen=True)
class Request:
    """``by``: who asks, and ``why``. ``confirmed_by``: who made sure that a standby that cannot be seen was not promoted."""

    mode: Mode
    by: str = ""
    why: str = ""
    confirmed_by: str = ""

    @property
    def synchronous(self) -> bool:
        return self.mode == "synchronous"


@dataclass(frozen=True)
class Setting:
    """``own``: set by ALTER SYSTEM. ``pending_restart``: a new value waits for a restart. WAL sizes are in MB, -1: no limit."""

    name: str
    value: str
    own: bool = False
    pending_restart: bool = False


@dataclass(frozen=True)
class Server:
    """One server's settings and what it says beside them. ``exempt``: roles and databases whose commits never wait."""

    settings: Mapping[str, Setting] = field(default_factory=dict)
    exempt: Sequence[str] = ()
    archived: int = 0
    failed: int = 0
    last_archived_wal: str | None = None
    last_failed_wal: str | None = None
    failing: bool = False

    def value(self, name: str) -> str:
        return self.settings[name].value


@dataclass(frozen=True)
class Store:
    """What archiving needs on a node, as the cluster's account finds it: an interpreter, the program, the folder."""

    python: str | None
    installed: bool
    folder: Literal["there", "absent", "closed"]


@dataclass(frozen=True)
class Cancelled:
    """Waits for a standby that were broken off, as the server's current log tells: each such commit is local only."""

    count: int
    last: str = ""


@dataclass(frozen=True, repr=False)
class Found(Shown):
    """All that replication_mode looks at. ``servers`` and ``stores`` by node, of the pair; no store where no archive is kept."""

    nodes: Nodes
    overview: Overview
    primary: str
    standby: str
    servers: Mapping[str, Server | Missing]
    stores: Mapping[str, Store | Missing | None]
    cancelled: Cancelled | Missing
    stream: Stream | None

    @property
    def site(self) -> Site:
        return self.nodes.site

    def table(self) -> Table:
        names = (self.primary, self.standby)
        lines: list[tuple[Cell, ...]] = [
            (name, *(_value(self.servers[node], name) for node in names)) for name in (*MODE, *LIMITS, *ARCHIVE)
        ]
        sender = self.overview.nodes[self.primary].sender
        waiting = str(sender.settings.waiting) if isinstance(sender, Sender) and sender.settings else "unknown"
        lines.append(("sync_state of the stream", self.stream.sync_state if self.stream else "no stream", ""))
        lines.append(("sessions that wait for the standby", waiting, ""))
        cancelled = str(self.cancelled.count) if isinstance(self.cancelled, Cancelled) else "not known"
        lines.append(("waits broken off (current log)", cancelled, ""))
        return Table("Replication as it is", ("", *names), tuple(lines))


def request(site: Site, mode: Mode | str = "", *, by: str = "", why: str = "", confirmed_by: str = "") -> Request:
    """What the runbook's parameters ask for; ``mode`` empty: as configured; ``by`` empty: the user here."""
    asked: dict[str, Mode] = {
        "": site.replication.mode,
        "asynchronous": "asynchronous",
        "synchronous": "synchronous",
        "degraded": "degraded",
    }
    return Request(asked[mode], by or getpass.getuser(), why, confirmed_by)


def look(nodes: Nodes) -> Found:
    """Look at the whole site, then at both servers of the pair as they are."""
    site_seen = overview.look(nodes)
    primary, standby = (node.name for node in site_seen.pair(nodes.site))
    pair = [nodes[primary], nodes[standby]]
    with ThreadPoolExecutor(4) as pool:
        servers, stores = pool.map(look_server, pair), pool.map(look_store, pair)
        both = dict(zip((primary, standby), servers, strict=True))
        kept = dict(zip((primary, standby), stores, strict=True))
    sender = site_seen.nodes[primary].sender
    stream = sender.stream(nodes.site.replication.slot) if isinstance(sender, Sender) else None
    return Found(nodes, site_seen, primary, standby, both, kept, look_cancelled(nodes[primary]), stream)


@looking("SQL on the server's settings")
def look_server(node: Node) -> Server:
    """Ask a server of the pair."""
    with node.session(database="postgres") as connection:
        settings = rows(connection, __package__, "mode_settings", Setting, names=[*MODE, *LIMITS, *ARCHIVE])
        server, never = rows(connection, __package__, "mode", Server)[0], exempt(connection)
    return replace(server, settings={setting.name: setting for setting in settings}, exempt=never)


def look_store(node: Node) -> Store | Missing | None:
    """What archiving needs on a node; None when the site keeps no archive."""
    where = archive.directory(node.site)
    if where is None:
        return None

    def find() -> Store:
        there = read_file(node.shell, node.data_directory / PROGRAM, account=node.account) == program()
        script = 'test -d "$1" || exit 1; test -w "$1" || exit 2'
        status = node.shell.run(["sh", "-c", script, "sh", str(where)], account=node.account).status
        folder: Literal["there", "absent", "closed"] = "there" if status == 0 else "absent" if status == 1 else "closed"
        return Store(_python(node), there, folder)

    return seen(node.name, f"the archive {where}", find)


@looking("waits broken off, in its log")
def look_cancelled(node: Node) -> Cancelled:
    """Waits that were broken off, in the server's newest log file. (src/backend/replication/syncrep.c; English messages.)"""
    path, _ = log.tail(node, "postgresql", 0)
    output = node.shell.run(["grep", "-F", CANCELLED, path], account=node.account)
    lines = [] if output.status == 1 else output.checked("It keeps no log file of its own: logging_collector").stdout.splitlines()
    return Cancelled(len(lines), lines[-1][:200] if lines else "")


def program() -> str:
    """Text of the program that is installed on the nodes."""
    return resources.files("aya_lib.node").joinpath(SOURCE).read_text(encoding="utf-8")


def _python(node: Node) -> str | None:
    """An interpreter that the cluster's account can run, by its full path: the server's PATH is not ours."""
    code = "import sys; print(sys.executable, *sys.version_info[:2])"
    for candidate in ("python3", "/usr/bin/python3"):
        try:
            output = node.shell.run([candidate, "-I", "-c", code], account=node.account)
        except MissingProgram:
            continue
        words = output.stdout.split()
        if output.status == 0 and (int(words[-2]), int(words[-1])) >= OLDEST_PYTHON:
            return " ".join(words[:-2])
    return None


def _value(server: Server | Missing, name: str) -> str:
    if not isinstance(server, Server):
        return "unknown"
    setting = server.settings[name]
    value = f"{setting.value} MB" if name in LIMITS and setting.value != "-1" else setting.value
    return (value or "''") + (", restart pending" if setting.pending_restart else "")
