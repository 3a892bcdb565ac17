"""What a failover rests on: how the old primary is, what the standby has, what would be lost, and what was promised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from aya_lib.cluster import state
from aya_lib.cluster.lsn import number
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.server import Cluster, Files
from aya_lib.errors import SqlFailed
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing, Starting, Unseen, seen
from aya_lib.show import Shown, Table, Tone

Condition = Literal["primary", "standby", "down", "starting", "frozen", "deaf", "unreachable"]
WALDUMP_S = 60


@dataclass(frozen=True)
class Promotable:
    """A standby before its promotion. ``told_lsn``: the primary's position as its walreceiver last heard it, ``told_age_s``
    seconds ago; both None once the walreceiver has ended."""

    node: str
    received_lsn: str
    replayed_lsn: str
    last_commit_at: datetime | None
    told_lsn: str | None
    told_age_s: float | None
    restore_command: str
    summarizes: bool
    synchronous_names: str
    has_slot: bool


@dataclass(frozen=True, repr=False)
class Behind(Shown):
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

    def table(self) -> Table:
        tone: Tone = "warning" if self.bytes is None else "plain"
        return Table(
            "What the standby has not received",
            ("", ""),
            (
                ("old primary at", self.primary_lsn or "not known"),
                ("behind", str(self)),
            ),
            (),
            tone,
        )

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
class Promise(Shown):
    """Whether a commit waited for the standby. None: nobody can say. ``how`` it is known."""

    synchronous: bool | None
    how: str

    def table(self) -> Table:
        word = {True: "synchronous", False: "asynchronous", None: "not known"}[self.synchronous]
        return Table("What a commit waited for", ("", ""), (("replication was", word), ("known because", self.how)))


def condition(node: NodeSeen) -> Condition:
    """How a node is, from all sides. *unreachable* is the weakest: neither its server nor a shell on it answered."""
    if isinstance(node.cluster, Cluster):
        return "standby" if node.cluster.in_recovery else "primary"
    if isinstance(node.cluster, Starting):
        return "starting"
    if not isinstance(node.process, ServiceState):
        return "unreachable"
    if node.process.status == "frozen":
        return "frozen"
    return "deaf" if node.process.status == "running" else "down"


def reached(node: NodeSeen) -> bool:
    """Whether commands can be run on the node."""
    return isinstance(node.process, ServiceState)


def look_promotable(nodes: Nodes, name: str) -> Promotable | Missing | None:
    """Ask the standby; None when it is no standby (any more)."""
    node = nodes[name]

    def ask() -> Promotable | None:
        with node.session() as connection:
            found = rows(connection, __package__, "promotable", Promotable, node=name, slot=node.site.replication.slot)
            return found[0] if found else None

    return seen(name, "SQL on the standby", ask)


def look_behind(nodes: Nodes, overview: Overview, old: str, found: Promotable | Missing | None) -> Behind | Missing:
    """How far the standby is behind, by the best source there is."""
    node = overview.nodes[old]
    if found is None and overview.writable():
        return Behind("past", None, None, None, None)
    if not isinstance(found, Promotable):
        return found or Unseen(old, "what the standby lacks", "there is no standby to compare with")
    if isinstance(node.cluster, Cluster) and not node.cluster.in_recovery:
        behind = max(0, number(node.cluster.lsn) - number(found.received_lsn))
        return Behind("server", behind, None, 0.0, found.last_commit_at, node.cluster.lsn)
    if isinstance(node.files, Files) and node.files.timeline:
        told = seen(old, "pg_waldump", lambda: _by_files(nodes[old], node.files, found))  # type: ignore[arg-type]
        if isinstance(told, Behind):
            return told
    if found.told_lsn:
        behind = max(0, number(found.told_lsn) - number(found.received_lsn))
        return Behind("walreceiver", behind, None, found.told_age_s, found.last_commit_at, found.told_lsn)
    return Behind("nothing", None, None, None, found.last_commit_at)


def look_promise(nodes: Nodes, overview: Overview, old: str) -> Promise:
    """Was replication synchronous? The old primary's server says, else its files, else what was last applied and verified."""
    node, statement = nodes[old], "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit')"
    if overview.nodes[old].writable:

        def ask() -> Promise:
            with node.session(database="postgres") as connection:
                row = connection.execute(statement).fetchone()
            if row is None:
                raise SqlFailed(old, "no answer to synchronous_standby_names")
            waits = bool(row[0]) and row[1] in ("on", "remote_write", "remote_apply")
            return Promise(waits, f"{old} says synchronous_standby_names = '{row[0]}', synchronous_commit = {row[1]}")

        told = seen(old, "synchronous_standby_names", ask)
        if isinstance(told, Promise):
            return told
    if reached(overview.nodes[old]) and isinstance(overview.nodes[old].files, Files):
        told = seen(old, "postgres -C synchronous_standby_names", lambda: _promised_by_files(node))
        if isinstance(told, Promise):
            return told
    known = state.read(node.site)
    if known.mode is None:
        return Promise(None, "no runbook has ever applied a mode here, and the old primary cannot be asked")
    return Promise(known.mode == "synchronous", f"{known.mode} since {known.mode_since}, as last applied and verified")


def _promised_by_files(node: Node) -> Promise:
    names, commit = (_configured(node, name) for name in ("synchronous_standby_names", "synchronous_commit"))
    waits = bool(names) and commit in ("on", "remote_write", "remote_apply")
    return Promise(waits, f"{node.name}'s files say synchronous_standby_names = '{names}', synchronous_commit = {commit}")


def _configured(node: Node, name: str) -> str:
    return node.postgresql("postgres", "-D", str(node.data_directory), "-C", name).checked().stdout.strip()


def _by_files(node: Node, files: Files, found: Promotable) -> Behind:
    """WAL that its files hold past what the standby received: pg_waldump's statistics, which end where valid records end."""
    words = ("-p", str(node.data_directory / "pg_wal"), "-t", str(files.timeline), "-s", found.received_lsn, "--stats=record")
    output = node.postgresql("pg_waldump", *words, timeout_s=WALDUMP_S)
    end, commits = parse_stats(output.stdout)
    if end is None and "find a valid record" not in output.stderr:
        output.checked()
    behind = max(0, number(end) - number(found.received_lsn)) if end else 0
    return Behind("files", behind, commits if end else 0, None, found.last_commit_at, end or found.received_lsn)


def parse_stats(text: str) -> tuple[str | None, int]:
    """The end position and the number of commits in the output of ``pg_waldump --stats=record``."""
    where = re.search(r"WAL statistics between \S+ and ([0-9A-F]+/[0-9A-F]+)", text)
    commits = re.findall(r"^Transaction/COMMIT(?:_PREPARED)?\s+(\d+) ", text, re.MULTILINE)
    return (where[1] if where else None), sum(int(count) for count in commits)
