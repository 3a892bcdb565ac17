"""What a backup depends on: the repository, the primary as it is now, the keeper's way to it, and the receiver of WAL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aya_lib.backup import engine
from aya_lib.backup import look as repositories
from aya_lib.backup.engine import Source
from aya_lib.backup.records import Repository
from aya_lib.cluster import machine, roles, services
from aya_lib.cluster.replication import Login, look_login
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.show import Shown, Table
from aya_lib.site import Site

Kind = Literal["auto", "full", "incremental"]


@dataclass(frozen=True)
class Request:
    """What is asked for. ``source`` standby: the keeper's own server, to spare the primary."""

    kind: Kind = "auto"
    source: Literal["primary", "standby"] = "primary"
    dump: bool = True


@dataclass(frozen=True, repr=False)
class Found(Shown):
    """``primary`` by fact; ``sources``: what each server of the pair says; ``standby``: the keeper's server is one.
    ``login``: from the keeper to the source. ``archive_command``: the site's own, on the primary."""

    nodes: Nodes
    request: Request
    repository: Repository | Missing
    primary: str | Missing
    sources: Mapping[str, Source | Missing]
    login: Login | Missing
    receiver: ServiceState | Missing
    free: int | Missing

    @property
    def site(self) -> Site:
        return self.nodes.site

    @property
    def keeper(self) -> Node:
        return repositories.keeper(self.nodes)

    @property
    def source(self) -> Source | Missing:
        """The primary's own word."""
        return self.sources[self.primary] if isinstance(self.primary, str) else self.primary

    def table(self) -> Table:
        from aya_lib.backup.judge import row

        held = self.repository
        rows = tuple(row(one) for one in held.backups) if isinstance(held, Repository) else ()
        notes = [f"{held.directory} on {held.node}" if isinstance(held, Repository) else str(held)]
        if isinstance(held, Repository) and held.left:
            notes.append(f"left half made by a killed run, and deleted by the next one: {', '.join(held.left)}")
        return Table("Backups", ("backup", "stands on", "read from", "size", "until", "proof"), rows, tuple(notes))


def request(kind: Kind = "auto", source: Literal["primary", "standby"] = "primary", dump: bool = True) -> Request:
    """:class:`UsageError` for what cannot be."""
    if kind == "incremental" and source == "standby":
        why = "a quiet standby's WAL summaries stand still, and pg_basebackup gives up after minutes"
        raise UsageError(f"no incremental backup from a standby: {why}", hint="kind=full with source=standby, or source=primary")
    return Request(kind, source, dump)


def look(nodes: Nodes, asked: Request = Request()) -> Found:
    """Nothing is changed."""
    keeper = repositories.keeper(nodes)
    held = repositories.look(nodes)
    primary = seen(nodes.site.primary, "find the primary", lambda: roles.primary(nodes).name)
    sources = {name: _source(nodes[name]) for name in nodes.site.pair}
    whom = keeper.name if asked.source == "standby" else primary
    login = look_login(keeper, nodes[whom]) if isinstance(whom, str) else whom
    where = keeper.data_directory.parent if not isinstance(held, Repository) else repositories.folder(nodes.site)
    receiver = services.look_process(keeper, "wal")
    return Found(nodes, asked, held, primary, sources, login, receiver, machine.free_bytes(keeper, where))


def _source(node: Node) -> Source | Missing:
    return seen(node.name, f"SQL on {node.config.host}:{node.config.postgresql.port}", lambda: engine.look_source(node))


__all__ = ["Found", "Request", "Unseen", "look", "request"]
