"""What a failover rests on: how the old primary is, what the standby has, what would be lost, and what was promised."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from aya_lib.cluster import overview, standby, wal
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview, SiteSeen
from aya_lib.cluster.replication import Sender, exempt
from aya_lib.cluster.server import Cluster, Files, look_control
from aya_lib.cluster.standby import Login, Ready
from aya_lib.cluster.state import State
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows
from aya_lib.node.unseen import Missing, Unseen, looking, seen
from aya_lib.operations.failover import fencing, leaving
from aya_lib.operations.failover.fencing import Asked, Fencing, Promise
from aya_lib.operations.failover.leaving import Leaving
from aya_lib.show import Shown, Table
from aya_lib.site import Site

WALDUMP_S = 60


@dataclass(frozen=True)
class Request:
    """``new`` is to be the primary in place of ``old``; empty until the look: the standby as it is then. ``emergency``: ``old``
    is given up, not handed over. ``take_back``: a failover that was broken off before the promotion is undone instead. ``by``:
    who asks."""

    old: str
    new: str
    emergency: bool = False
    fence: Asked = "auto"
    confirmed_by: str = ""
    by: str = ""
    take_back: bool = False


@dataclass(frozen=True)
class Promotable:
    """A standby before its promotion. ``told_lsn``: the primary's position as its walreceiver last heard it, ``told_age_s``
    seconds ago; both None once the walreceiver has ended. ``listens_as``: the application_name of its walreceiver. ``exempt``:
    see :func:`aya_lib.cluster.replication.exempt`."""

    received_lsn: str
    last_commit_at: datetime | None
    told_lsn: str | None
    told_age_s: float | None
    restore_command: str
    summarizes: bool
    synchronous_names: str
    has_slot: bool
    listens_as: str = ""
    exempt: Sequence[str] = ()


@dataclass(frozen=True)
class Behind:
    """What the old primary wrote and the standby has not received.

    ``bytes`` and ``transactions`` (committed) are None where they cannot be known. ``source``: its server, its WAL files, what
    the walreceiver heard ``age_s`` seconds ago, or nothing; then all that is known is that ``since`` the last commit that was
    replayed nothing arrived.
    """

    source: Literal["server", "files", "walreceiver", "nothing", "past"]
    bytes: int | None
    transactions: int | None
    age_s: float | None
    since: datetime | None
    primary_lsn: str | None = None

    def __str__(self) -> str:
        if self.source == "past":
            return "the promotion is past: the failover log has what was known before it"
        since = f"; the last commit replayed is of {self.since:%Y-%m-%d %H:%M:%S.%f} UTC" if self.since else ""
        if self.bytes is None:
            return f"not known: the old primary's WAL cannot be seen{since}"
        count = "" if self.transactions is None else f", {self.transactions:,} committed transactions"
        age = f", as heard {self.age_s:.1f} s ago" if self.age_s is not None and self.source == "walreceiver" else ""
        word = {"server": "by its server", "files": "by its WAL files", "walreceiver": "by the walreceiver"}[self.source]
        return f"{self.bytes:,} bytes{count} ({word}{age}){since if self.bytes else ''}"


@dataclass(frozen=True, repr=False)
class Stakes(Shown):
    """What the standby has not received, and whether a commit waited for it: to be shown before anything is lost."""

    behind: Behind | Missing
    promise: Promise

    def table(self) -> Table:
        known = self.behind if isinstance(self.behind, Behind) else None
        rows = (
            ("old primary at", (known and known.primary_lsn) or "not known"),
            ("behind", str(self.behind)),
            ("replication was", self.promise.word),
            ("known because", self.promise.how),
        )
        title = "What the standby has not received, and what a commit waited for"
        return Table(title, ("", ""), rows, tone="warning" if known is None or known.bytes is None else "plain")


@dataclass(frozen=True, repr=False)
class Found(SiteSeen):
    """All that a failover looks at before it acts. ``promotable`` None: ``new`` is no standby (any more); ``ready`` and
    ``leaving`` None: it is past, or being taken back, and they do not matter any more."""

    request: Request
    promotable: Promotable | Missing | None
    behind: Behind | Missing
    promise: Promise
    ready: Ready | None = None
    leaving: Leaving | Missing | None = None

    @property
    def old(self) -> NodeSeen:
        return self.overview.nodes[self.request.old]

    @property
    def new(self) -> NodeSeen:
        return self.overview.nodes[self.request.new]

    @property
    def began(self) -> Mapping[str, Any]:
        """What an earlier run wrote down about the failover that it began; empty when none is under way."""
        return self.overview.state.under_way or {}

    @property
    def promoting(self) -> str:
        """Since when ``new`` is being promoted, by an earlier run that did not see the end of it; empty when it is not."""
        mine = (self.began.get("old"), self.began.get("new")) == (self.request.old, self.request.new)
        return str(self.began.get("promoting", "")) if mine else ""

    @property
    def stakes(self) -> Stakes:
        return Stakes(self.behind, self.promise)

    @property
    def fencing(self) -> Fencing:
        """What keeps the old primary from acknowledging writes."""
        return fencing.choose(self.request.fence, self.old, self.promise, self.request.confirmed_by)


@dataclass(frozen=True, repr=False)
class After(SiteSeen):
    """The site once somebody is the primary, and what clients find there."""

    login: Login | Missing


def request(
    site: Site,
    *,
    to: str = "",
    emergency: bool = False,
    fence: Asked = "auto",
    confirmed_by: str = "",
    by: str = "",
    take_back: bool = False,
) -> Request:
    """What the runbook's parameters ask for; ``to`` empty: the node that is the standby when it is looked at, whatever the site
    names; ``by`` empty: the user here.

    :class:`UsageError` for a node that cannot be the primary, and for a fence that only an emergency may choose.
    """
    if to and to not in site.pair:
        raise UsageError(f"to: found '{to}', allowed are {' and '.join(site.pair)}, the two nodes that replicate")
    if not emergency and fence not in ("auto", "stopped"):
        raise UsageError(f"fence: '{fence}' is for an emergency; a planned failover always stops the old primary")
    asked = Request("", "", emergency, fence, confirmed_by, by or getpass.getuser(), take_back)
    return _between(site, asked, to) if to else asked


def _between(site: Site, request: Request, new: str) -> Request:
    return replace(request, old=next(name for name in site.pair if name != new), new=new)


def resolved(site: Site, request: Request, site_seen: Overview) -> Request:
    """The request with the nodes that it is between: the primary and the standby as they are. Where the old primary is fenced the
    failover has been, and its new primary is meant again; so it is while one is under way whose old primary has not followed."""
    if request.new:
        return request
    began, (primary, standby) = site_seen.state.under_way or {}, site_seen.pair(site)
    new = primary.name if primary.writable and site_seen.fenced(standby.name) else standby.name
    if began.get("old") in site.pair and (request.take_back or not site_seen.nodes[began["old"]].follows):
        new = str(began["new"])
    return _between(site, request, new)


def look(nodes: Nodes, request: Request) -> Found:
    """The whole site, then what the promotion of ``request.new`` rests on."""
    site_seen = overview.look(nodes)
    request = resolved(nodes.site, request, site_seen)
    promotable = look_promotable(nodes[request.new])
    behind = look_behind(nodes[request.old], site_seen, promotable)
    promise = look_promise(nodes[request.old], site_seen.nodes[request.old], site_seen.state, promotable)
    found = Found(nodes, site_seen, request, promotable, behind, promise)
    if not isinstance(promotable, Promotable) or request.take_back:
        return found
    ready = standby.look(nodes, found.old, found.new)
    old, new, reached = nodes[request.old], nodes[request.new], fencing.reached(found.old)
    left = leaving.look(old, new, serves=found.old.writable, reached=reached, called=promotable.listens_as)
    return replace(found, ready=ready, leaving=left)


def look_after(nodes: Nodes) -> After:
    """The whole site, and the application's login on the node that is the primary now."""
    seen_now = overview.look(nodes)
    return After(nodes, seen_now, standby.look_login(nodes[seen_now.pair(nodes.site)[0].name]))


@looking("SQL on the standby")
def look_promotable(node: Node) -> Promotable | None:
    """Ask the standby; None when it is no standby (any more)."""
    with node.session() as connection:
        standby = rows(connection, __package__, "promotable", Promotable, slot=node.site.replication.slot)
        return replace(standby[0], exempt=exempt(connection)) if standby else None


def look_behind(old: Node, site_seen: Overview, standby: Promotable | Missing | None) -> Behind | Missing:
    """How far the standby is behind, by the best source there is."""
    if standby is None and site_seen.writable():
        return Behind("past", None, None, None, None)
    if not isinstance(standby, Promotable):
        return standby or Unseen(old.name, "what the standby lacks", "there is no standby to compare with")
    server, files = site_seen.nodes[old.name].cluster, site_seen.nodes[old.name].files
    if isinstance(server, Cluster) and not server.in_recovery:
        behind = max(0, number(server.lsn) - number(standby.received_lsn))
        return Behind("server", behind, None, 0.0, standby.last_commit_at, server.lsn)
    if isinstance(files, Files) and files.timeline:
        timeline = files.timeline
        by_files = seen(old.name, "pg_waldump", lambda: _by_files(old, timeline, standby))
        if isinstance(by_files, Behind):
            return by_files
    if standby.told_lsn:
        behind = max(0, number(standby.told_lsn) - number(standby.received_lsn))
        return Behind("walreceiver", behind, None, standby.told_age_s, standby.last_commit_at, standby.told_lsn)
    return Behind("nothing", None, None, None, standby.last_commit_at)


def look_promise(old: Node, node: NodeSeen, known: State, standby: Promotable | Missing | None) -> Promise:
    """Did every commit wait for this standby? The old primary's server says, else its files and what was last applied and
    verified; and the standby's own catalog says which roles and databases never wait."""
    called, never = (standby.listens_as, standby.exempt) if isinstance(standby, Promotable) else ("", ())
    verified = f"{known.mode} since {known.mode_since}, as last applied and verified"
    if isinstance(node.sender, Sender) and node.sender.settings:
        it, streams = node.sender.settings, node.sender.streams
        alike = sum(stream.application_name.lower() == called.lower() for stream in streams)
        return fencing.promise(f"{old.name} says", it.names, it.commit, called, never, alike)
    if fencing.reached(node) and isinstance(node.files, Files):
        by_files = seen(old.name, "postgres -C synchronous_standby_names", lambda: _settings_by_files(old))
        if not isinstance(by_files, Missing):
            found = fencing.promise(f"{old.name}'s files say", *by_files, called, never)
            unproven = f"{found.how}; whether its server had read them, no runbook has verified"
            return Promise(None, unproven) if found.synchronous and known.mode != "synchronous" else found
    if known.mode is None:
        return Promise(None, "no runbook has ever applied a mode here, and the old primary cannot be asked")
    return fencing.unless_exempt(known.mode == "synchronous", verified, never)


def _settings_by_files(node: Node) -> tuple[str, str]:
    names, commit = (
        node.postgresql("postgres", "-D", str(node.data_directory), "-C", name).checked().stdout.strip()
        for name in ("synchronous_standby_names", "synchronous_commit")
    )
    return names, commit


def _by_files(node: Node, timeline: int, standby: Promotable) -> Behind:
    """WAL that its files hold past what the standby received: pg_waldump's statistics, which end where valid records end."""
    segment_bytes, start = int(look_control(node)["Bytes per WAL segment"]), standby.received_lsn
    first, last, until = wal.stretch(timeline, start, wal.segments(node), segment_bytes)
    words = ("-p", str(wal.folder(node)), "-t", str(timeline), "-s", start, "-e", until, "--stats=record", first, last)
    output = node.postgresql("pg_waldump", *words, timeout_s=WALDUMP_S)
    end, commits = parse_stats(output.stdout)
    if end is None and "find a valid record" not in output.stderr:
        output.checked()
    behind = max(0, number(end) - number(standby.received_lsn)) if end else 0
    return Behind("files", behind, commits if end else 0, None, standby.last_commit_at, end or standby.received_lsn)


def parse_stats(text: str) -> tuple[str | None, int]:
    """The end position and the number of commits in the output of ``pg_waldump --stats=record``."""
    where = re.search(r"WAL statistics between \S+ and ([0-9A-F]+/[0-9A-F]+)", text)
    commits = re.findall(r"^Transaction/COMMIT(?:_PREPARED)?\s+(\d+) ", text, re.MULTILINE)
    return (where[1] if where else None), sum(int(count) for count in commits)
