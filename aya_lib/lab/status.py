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
        ports = {
            "postgresql": node.config.postgresql.port,
            "embedding": node.config.embedding.port if node.config.embedding else None,
        }
        for service in node.supervisor.units:
            state = node.supervisor.state(service)
            later = node.config.role == "laptop" and service != "postgresql" and state.status == "stopped"
            if not later:  # it is there once air_setup has run
                lines.append(Line(name, service, ports.get(service), state))
    return LabStatus(site, tuple(lines))
