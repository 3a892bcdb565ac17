"""The whole cluster to a point in time: the pair as it is, the node that is to become the primary, what an earlier run made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from aya_lib.backup.look import keeper
from aya_lib.backup.replay import MARK
from aya_lib.cluster import overview
from aya_lib.cluster.overview import NodeSeen, SiteSeen
from aya_lib.cluster.server import Cluster, Files
from aya_lib.errors import UsageError
from aya_lib.node.node import Node, Nodes
from aya_lib.node.shell import read
from aya_lib.node.unseen import Missing, seen
from aya_lib.operations.failover.fencing import Fencing, Promise, choose
from aya_lib.operations.restore_backup import aim as aims
from aya_lib.operations.restore_backup.aim import Aim
from aya_lib.show import Table

# What stands beside: $1 data directory, $2 the folder, $3 the mark of a folder of ours.
BESIDE = """
test -d "$1" && echo data
test -d "$2/data" && echo incoming
test -e "$2" && test -n "$(ls -A "$2")" && ! test -e "$2/$3" && echo foreign
exit 0
"""


@dataclass(frozen=True)
class Made:
    """What an earlier run proved, as it wrote it down. ``asked``: to which point, in those words. ``timeline``: the new one.
    ``last``: when its last transaction committed. ``compared``: tables equal to the mark; None: the target is not a mark."""

    point: str
    asked: str
    system_identifier: str
    timeline: int
    lsn: str
    last: str
    tables: int
    rows: int
    compared: int | None


@dataclass(frozen=True)
class Beside:
    """``incoming``: a restored directory waits there. ``foreign``: the folder for it holds files that are not ours."""

    data: bool
    incoming: bool
    foreign: bool
    made: Made | None


@dataclass(frozen=True, repr=False)
class Whole(SiteSeen):
    """``name``: the node that is to become the primary. ``asked``: the point in time, as a person wrote it."""

    aim: Aim | Missing
    asked: str
    name: str
    by: str
    fencing: Fencing
    beside: Beside | Missing
    room: int | Missing

    @property
    def node(self) -> Node:
        return self.nodes[self.name]

    @property
    def here(self) -> NodeSeen:
        return self.overview.nodes[self.name]

    @property
    def other(self) -> NodeSeen:
        return self.overview.nodes[next(name for name in self.site.pair if name != self.name)]

    @property
    def made(self) -> Made | None:
        """What was proven, while it is that which is asked for. Once it is in its place, the WAL goes on."""
        found = self.beside.made if isinstance(self.beside, Beside) else None
        if found is None or not isinstance(self.aim, Aim):
            return None
        return found if found.point == self.aim.point or (found.asked == self.asked and self._is_here(found)) else None

    @property
    def ready(self) -> bool:
        """The restored directory stands beside, proven, or a run was killed while it was put in its place."""
        return self.made is not None and isinstance(self.beside, Beside) and self.beside.incoming

    @property
    def placed(self) -> bool:
        """It is in its place: the data directory is the restored one."""
        return self.made is not None and self._is_here(self.made)

    def _is_here(self, made: Made) -> bool:
        if not isinstance(self.beside, Beside) or self.beside.incoming:
            return False
        found = self.here.cluster if isinstance(self.here.cluster, Cluster) else self.here.files
        known = (made.system_identifier, made.timeline)
        return isinstance(found, Cluster | Files) and (found.system_identifier, found.timeline) == known

    @property
    def serves(self) -> bool:
        return self.placed and self.here.writable

    def table(self) -> Table:
        below = super().table()
        made = self.made
        said = f"restored: {words(made)}" if made else ""
        notes = (self.aim.point.removeprefix("aya: ") if isinstance(self.aim, Aim) else str(self.aim), *([said] if said else []))
        return Table(below.title, below.columns, below.rows, (*notes, *below.notes), below.tone)


def look(nodes: Nodes, to: str, node: str = "", confirmed_by: str = "", by: str = "", before: Whole | None = None) -> Whole:
    """``to``: empty is the end of the WAL. ``node``: the keeper where none is named. ``before``: what a look of this run found.

    Raises :class:`UsageError` for a node that is none of the pair, and for a point in time that cannot be restored."""
    name = before.name if before else node or keeper(nodes).name
    if name not in nodes.site.pair:
        raise UsageError(f"node: found '{name}', allowed are {' and '.join(nodes.site.pair)}")
    here = nodes[name]
    site_seen = overview.look(nodes)
    beside = seen(name, f"look beside {here.data_directory}", lambda: look_beside(here))
    aim = before.aim if before else aims.look(nodes, to or "latest")
    other = site_seen.nodes[next(one for one in nodes.site.pair if one != name)]
    fencing = before.fencing if before else choose("auto", other, Promise(None, "not asked"), confirmed_by)
    asked = before.asked if before else to or "latest"
    return Whole(nodes, site_seen, aim, asked, name, by, fencing, beside, aims.free(here))


def look_beside(node: Node) -> Beside:
    words = ["sh", "-c", BESIDE, "sh", str(node.data_directory), str(incoming(node)), MARK]
    there = node.shell.run(words, account=node.account).checked().stdout.split()
    text = read(node.shell, journal(node), account=node.account)
    return Beside("data" in there, "incoming" in there, "foreign" in there, parsed(text))


def parsed(text: str | None) -> Made | None:
    """A journal that a kill left damaged says nothing: what it spoke of is made anew."""
    try:
        return Made(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def incoming(node: Node) -> Path:
    """The folder beside the data directory in which it is restored."""
    return node.data_directory.with_name(f"{node.data_directory.name}.restored")


def journal(node: Node) -> Path:
    return node.data_directory.with_name(f"{node.data_directory.name}.restored.json")


def words(made: Made) -> str:
    """What was proven, in words."""
    equal = "" if made.compared is None else f", {made.compared} tables equal to the mark"
    return f"timeline {made.timeline}, last transaction {made.last}, {made.rows:,} rows in {made.tables} tables{equal}"
