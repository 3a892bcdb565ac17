"""The whole site, and whether the application can work on it."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.backup import look as repositories
from aya_lib.backup.records import Repository
from aya_lib.cluster import application, overview
from aya_lib.cluster.application import Application
from aya_lib.cluster.overview import SiteSeen
from aya_lib.node.node import Nodes
from aya_lib.node.unseen import Missing


@dataclass(frozen=True, repr=False)
class Found(SiteSeen):
    """``repository``: of the backups; None for a site without."""

    application: Application | Missing
    repository: Repository | Missing | None = None


def look(nodes: Nodes) -> Found:
    """Every node at once, then a write and a search as the application's role, of which nothing is left."""
    seen = overview.look(nodes)
    return Found(nodes, seen, application.look(nodes, seen), repositories.look(nodes) if nodes.site.backup else None)
