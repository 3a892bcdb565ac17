"""What runs of a lab, in a table."""

from __future__ import annotations

from dataclasses import dataclass

from aya_lib.node.node import open_nodes
from aya_lib.node.supervisor import ServiceState
from aya_lib.show import Badge, Shown, Table
from aya_lib.site import Site


@dataclass(frozen=True)
class Line:
    node: str
    service: str
    port: int | None
    state: ServiceState


@dataclass(frozen=True, repr=False)
class LabStatus(Shown):
    """The processes of a lab, each checked against its PID file."""

    site: Site
    lines: tuple[Line, ...]

    def table(self) -> Table:
        rows = tuple(
            (
                Badge("passed" if line.state.status == "running" else "failed", line.state.status),
                line.node,
                line.service,
                f"127.0.0.1:{line.port}" if line.port else "",
                str(line.state.pid or ""),
                line.state.detail,
            )
            for line in self.lines
        )
        return Table(f"Lab {self.site.name} in {self.site.root}", ("", "node", "service", "port", "PID", ""), rows)


def status(site: Site) -> LabStatus:
    """Every service of the lab; :class:`AyaError` when the lab was never made."""
    site.require_made()
    lines = []
    for name, node in open_nodes(site).items():
        lines.append(Line(name, "postgresql", node.wish.postgresql.port, node.supervisor.state("postgresql")))
        for service in [service for service in node.supervisor.units if service != "postgresql"]:
            state = node.supervisor.state(service)
            if node.wish.role == "laptop" and state.status == "stopped":
                continue  # it is there once air_setup has run
            port = node.wish.embedding.port if service == "embedding" and node.wish.embedding else None
            lines.append(Line(name, service, port, state))
    return LabStatus(site, tuple(lines))
