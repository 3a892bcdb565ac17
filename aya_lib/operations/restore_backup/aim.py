"""What is to be restored, from which backup and to where; seen once, so that every later step of a run means the same."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.backup import chain, reading, replay
from aya_lib.backup import look as repositories
from aya_lib.backup.judge import size
from aya_lib.backup.records import Backup, Mark, Repository, Target
from aya_lib.check import Check, Judged, absent, evaluate
from aya_lib.cluster.machine import free_bytes
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, seen

BACKUP = "a backup to restore from"


@dataclass(frozen=True)
class Aim:
    """``target``: as recovery is told it. ``needs``: bytes on the keeper's disk, at most. ``mark``: where the target is one."""

    repository: Repository
    backup: Backup
    target: Target
    needs: int

    @property
    def point(self) -> str:
        """The same in words, by which what an earlier run made is known again."""
        where = f"{self.target.kind} {self.target.value} on timeline {self.target.timeline}"
        return f"aya: {self.backup.label} to {where}, {'inclusive' if self.target.inclusive else 'exclusive'}"

    @property
    def mark(self) -> Mark | None:
        own = self.backup.mark
        return own if own and self.target.kind == "name" and own.name == self.target.value else None


def look(nodes: Nodes, to: str) -> Aim | Missing:
    """:class:`UsageError`, one line with the window that there is, for a point that cannot be restored."""
    found, keeper = repositories.look(nodes), repositories.keeper(nodes)
    if not isinstance(found, Repository):
        return found
    backup, target = chain.locate(found, to)

    def settle() -> Aim:
        return Aim(found, backup, reading.settled(keeper, found, backup, target), replay.needed(found, backup))

    return seen(keeper.name, "find the target in the WAL", settle)


def free(node: Node) -> int | Missing:
    """Bytes on the disk below which the restored directory is made."""
    return free_bytes(node, node.data_directory.parent)


def checks(aim: Aim | Missing, system: str | Missing | None, room: int | Missing) -> list[Check]:
    """A backup, of this cluster, and room for what is made of it. ``system``: the identifier of the cluster that there is; None:
    neither node has one."""

    def whole(found: Aim) -> Judged:
        said = f"{found.backup.label} to {found.target.kind} {found.target.value}"
        if found.backup.verified:
            return Judged("passed", said)
        return Judged("warning", f"{said}; it was never verified", "What is restored is looked at all the same before it is used")

    def same(found: str) -> Judged:
        own = aim.repository.system_identifier if isinstance(aim, Aim) else ""
        return Judged("passed" if found == own else "failed", f"backups of {own}, a cluster {found}")

    def enough(found: int) -> Judged:
        needs = aim.needs if isinstance(aim, Aim) else 0
        return Judged("passed" if found > needs else "failed", f"{size(found)} free, at most {size(needs)} needed")

    first = evaluate(BACKUP, "one that reaches the point", aim, whole, hint="Run backup")
    if not isinstance(aim, Aim):
        return [first]
    name, expected = "the backups are of this cluster", "one system identifier"
    if system is None:
        told = "no data directory of the pair can be read: nothing to compare with"
        own = Check(name, "warning", expected, told, "Be sure that this is the site's own")
    elif isinstance(system, Missing):
        own = absent(name, expected, system, "Nothing else says which cluster this node is of")
    else:
        own = evaluate(name, expected, system, same, hint="Look which repository site.yaml names: backup.directory")
    needed = evaluate("room for the restored cluster", "as much as the records say", room, enough, hint="Make room on that disk")
    return [first, own, needed]
