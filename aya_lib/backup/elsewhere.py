"""The copies of a site's backups as its keeper sees them, and the act that makes one. What the keeper's disk holds is read there:
for a keeper behind ssh, by its own ``aya``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from aya_lib.backup import copies, places
from aya_lib.backup.copies import Copied
from aya_lib.backup.look import folder, keeper, section
from aya_lib.errors import CommandFailed, UsageError, nearest
from aya_lib.node.node import Node, Nodes
from aya_lib.node.unseen import Missing, seen
from aya_lib.site import BackupCopy, Site

LOOK_S = 600.0  # to list every place
COPY_S = 7 * 86_400.0  # a first copy over a slow line; it goes on where it was broken off


@dataclass(frozen=True)
class Elsewhere:
    """What each place of ``backup.copies`` has, by name."""

    found: Mapping[str, Copied | Missing]


def look(nodes: Nodes) -> Elsewhere | Missing:
    """List every place; one that does not answer is named, and the others count."""
    node = keeper(nodes)
    if not section(nodes.site).copies:
        return Elsewhere({})
    if node.config.ssh:
        return seen(node.name, "list the copies", lambda: _asked(node))
    return Elsewhere({one.name: _look(one) for one in section(nodes.site).copies})


@dataclass(frozen=True)
class ToPlace:
    """Copy ``labels``, and all WAL, to a place."""

    place: str
    labels: tuple[str, ...]

    def command(self, node: Node) -> str:
        return f"aya backup copy --to {self.place} --site {node.site.name}"

    def run(self, node: Node) -> None:
        if node.config.ssh:
            node.shell.run(_own(node, "copy", "--to", self.place), account=node.account, timeout_s=COPY_S).checked()
        else:
            config = named(node.site, self.place)
            copies.copy(folder(node.site), section(node.site), places.open_place(config), self.labels, lambda _: None)


def named(site: Site, name: str) -> BackupCopy:
    """A place of the site; :class:`UsageError` for another name."""
    known = {one.name: one for one in section(site).copies}
    if name not in known:
        hint = f"There are {', '.join(known)}" if known else "Add backup.copies to site.yaml: docs/backup.md"
        raise UsageError(f"no place '{name}'{nearest(name, list(known))}", hint=hint)
    return known[name]


def _look(config: BackupCopy) -> Copied | Missing:
    return seen(config.name, f"list {config.path}", lambda: copies.look(places.open_place(config)))


def _own(node: Node, *words: str) -> list[str]:
    return ["env", f"AYA_NODE={node.name}", str(node.config.aya or "aya"), "backup", *words, "--site", node.site.name]


def _asked(node: Node) -> Elsewhere:
    output = node.shell.run(_own(node, "copies", "--json"), account=node.account, timeout_s=LOOK_S)
    try:
        there = json.loads(output.stdout)["places"]
        return Elsewhere({name: Copied(name, one["backups"], one["wal"], one["bytes"]) for name, one in there.items()})
    except (ValueError, KeyError, TypeError):
        raise CommandFailed(node.name, output.argv, output.status, output.stderr or output.stdout) from None
