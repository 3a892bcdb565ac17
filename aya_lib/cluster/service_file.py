"""A libpq service file: ``service=alpha`` and its like reach one node, ``aya_rag`` whichever node accepts writes.

Well-made clients name both hosts with ``target_session_attrs=read-write`` and follow a failover by themselves; the file's
order puts the primary first, so that they find it at once, and ``aya_primary`` names it alone for those that take one host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aya_lib import files
from aya_lib.node.node import Node
from aya_lib.site import Site


@dataclass(frozen=True)
class Write:
    """Write the site's service file for a primary."""

    primary: str

    def command(self, node: Node) -> str:
        return f"write {path(node.site).name}: {self.primary} first"

    def run(self, node: Node) -> None:
        write(node.site, self.primary)


def path(site: Site) -> Path:
    """``pg_service.conf`` beside the password file, or below the site's folder."""
    return (site.path(site.database.passfile).parent if site.database.passfile else site.root) / "pg_service.conf"


def write(site: Site, primary: str) -> Path:
    """Write the file whole or not at all, readable by its owner only; returns its path."""
    target = path(site)
    files.write(target, "\n".join(services(site, primary)), private=True)
    return target


def services(site: Site, primary: str) -> list[str]:
    """The lines of the file. Nodes' services connect as the owner, the others as the application role."""
    lines = []
    for name, node in site.nodes.items():
        lines += _service(name.lower(), node.host, str(node.postgresql.port), site, site.database.owner)
    first = [primary, *(name for name in site.pair if name != primary)]
    hosts, ports = (
        ",".join(values)
        for values in zip(*((site.nodes[n].host, str(site.nodes[n].postgresql.port)) for n in first), strict=True)
    )
    role, one = site.database.application_role, site.nodes[primary]
    many = [*_service(site.database.name, hosts, ports, site, role), "target_session_attrs=read-write", "connect_timeout=3"]
    return [*lines, *many, *_service("aya_primary", one.host, str(one.postgresql.port), site, role), ""]


def _service(name: str, host: str, port: str, site: Site, role: str) -> list[str]:
    return [f"[{name}]", f"host={host}", f"port={port}", f"dbname={site.database.name}", f"user={role}"]
