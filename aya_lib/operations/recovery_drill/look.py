"""What is drilled: which backup, to where, on whose disk; what earlier drills took; and what the last one found."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.backup import chain, elsewhere, engine, reading, replay
from aya_lib.backup import look as repositories
from aya_lib.backup.records import Backup, Mark, Repository, Target
from aya_lib.cluster import roles
from aya_lib.cluster.machine import free_bytes
from aya_lib.errors import AyaError, UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, Unseen, seen
from aya_lib.operations.recovery_drill import history
from aya_lib.operations.recovery_drill.history import Drill
from aya_lib.show import Shown, Table

NAME = "drill"  # the restored copy, below the repository; gone afterwards


@dataclass(frozen=True)
class Request:
    """``backup``: a label, or nothing: the newest verified one that reaches there. ``to``: as for a restore, or nothing: the
    newest mark. ``light``: the files are not read one by one, nor the dump loaded. ``place``: one of the site's further places,
    whose copy is drilled; ``identity``: the file of the private key that opens it."""

    backup: str = ""
    to: str = ""
    light: bool = False
    place: str = ""
    identity: str = ""


@dataclass(frozen=True, repr=False)
class Found(Shown):
    """``aim``: the backup and the target as recovery is told it. ``present``: bytes of all databases now, for the forecast."""

    nodes: Nodes
    request: Request
    repository: Repository | Missing
    aim: tuple[Backup, Target] | Missing
    free: int | Missing
    past: tuple[Drill, ...] | Missing
    present: int | Missing

    @property
    def keeper(self) -> Node:
        return repositories.keeper(self.nodes)

    @property
    def mark(self) -> Mark | None:
        """The mark that the target is; None for a moment that nobody counted."""
        if not isinstance(self.aim, tuple) or not isinstance(self.repository, Repository) or self.aim[1].kind != "name":
            return None
        return next((one for one in chain.marks(self.repository) if one.name == self.aim[1].value), None)

    def table(self) -> Table:
        if not isinstance(self.aim, tuple):
            return Table("Nothing to drill", ("",), ((str(self.aim),),), tone="failed")
        backup, target = self.aim
        kind = "whole" if not self.request.light else "light"
        rows = (
            ("backup", f"{backup.label}{'' if backup.verified else ', not verified'}"),
            ("to", f"{target.kind} {target.value}, timeline {target.timeline}"),
            ("compared with", self.mark.name if self.mark else "nothing: nobody counted at that moment"),
            ("drill", kind + (f", of the copy at {self.request.place}" if self.request.place else "")),
        )
        return Table("What is drilled", ("", ""), rows, (f"on {self.keeper.name}, in {place(self.keeper)}",))


def request(backup: str = "", to: str = "", light: bool = False, place: str = "", identity: str = "") -> Request:
    """:class:`UsageError` for what cannot be."""
    if identity and not place:
        raise UsageError("identity: a private key opens the copy at a place, and no place is named", hint="Name one: place")
    if place and to:
        raise UsageError("to: a copy is drilled to its own mark", hint="Leave to empty, or leave place empty")
    return Request(backup.strip(), to.strip(), light, place.strip(), identity.strip())


def place(keeper: Node) -> str:
    return str(repositories.folder(keeper.site) / NAME)


def look(nodes: Nodes, asked: Request = Request()) -> Found:
    """:class:`UsageError`, one line with the window that there is, for a moment that cannot be restored."""
    held, keeper = repositories.look(nodes), repositories.keeper(nodes)
    aim = _aim(keeper, held, asked) if isinstance(held, Repository) else held
    free = free_bytes(keeper, repositories.folder(nodes.site)) if isinstance(held, Repository) else held
    past = seen(keeper.name, "read what earlier drills found", lambda: history.past(keeper))
    present = seen(nodes.site.primary, "ask how large the databases are", lambda: engine.look_source(roles.primary(nodes)).bytes)
    return Found(nodes, asked, held, aim, free, past, present)


def result(nodes: Nodes) -> Drill | Missing:
    """The last drill, as it was written down."""
    keeper = repositories.keeper(nodes)
    past = seen(keeper.name, "read what the drill found", lambda: history.past(keeper))
    if not isinstance(past, tuple):
        return past
    return past[-1] if past else Unseen(keeper.name, "read what the drill found", "no drill was written down")


def needed(found: Repository, backup: Backup, *, fetched: bool = False) -> int:
    """Bytes that a drill takes on the keeper's disk, at most: the restored copy, the dump loaded beside it, what is fetched."""
    own = replay.needed(found, backup) + (backup.bytes if backup.dumps else 0)
    copied = sum(one.bytes for one in chain.links(found, backup)) + sum(one.bytes for one in found.segments)
    return own + (copied if fetched else 0)


def _aim(keeper: Node, held: Repository, asked: Request) -> tuple[Backup, Target] | Missing:
    try:
        if asked.place:
            elsewhere.named(keeper.site, asked.place)
        backup, target = chain.locate(held, asked.to, asked.backup)
    except UsageError:
        raise
    except AyaError as error:
        return Unseen(keeper.name, "find the backup", error.message)
    return seen(keeper.name, "find the target in the WAL", lambda: (backup, reading.settled(keeper, held, backup, target)))
