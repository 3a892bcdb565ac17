"""A laptop that is to be set up, as it is: programs, disk, ports, cluster, schemas, services, and what it says itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aya_lib.air import ready, schema
from aya_lib.air.link import laptop
from aya_lib.air.ready import Report
from aya_lib.cluster import roles, services
from aya_lib.cluster.machine import parse_df
from aya_lib.cluster.services import Embedding
from aya_lib.node import shell, sql
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Down, Missing, Unseen, seen
from aya_lib.operations.autostart import look as autostart
from aya_lib.operations.autostart.look import NodeSeen
from aya_lib.show import Badge, Cell, Shown, Table

T = TypeVar("T")
LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}


@dataclass(frozen=True)
class Server:
    """The laptop's PostgreSQL. ``listens``: listen_addresses. ``tables``: the three of the contract are there."""

    version: int
    in_recovery: bool
    listens: str
    trusting: int
    has_role: bool
    has_database: bool
    tables: bool = False
    pgvector: str | None = None
    sync: int | None = None

    @property
    def local(self) -> bool:
        return {one.strip() for one in self.listens.split(",")} <= LOOPBACK


@dataclass(frozen=True)
class _Tables:
    tables: bool
    pgvector: str | None


@dataclass(frozen=True)
class _Server:
    version: int
    in_recovery: bool
    listens: str
    trusting: int
    has_role: bool
    has_database: bool


@dataclass(frozen=True)
class Primary:
    """The node that accepts writes: version of its sync schema, bytes of the database."""

    node: str
    sync: int | None
    bytes: int


@dataclass(frozen=True, repr=False)
class Setup(Shown):
    """``directory``: *cluster*, *absent*, or *other* files. ``free``: bytes on its disk. ``password``: known here, of the owner.

    ``lost``: why no command reaches the laptop; everything that needs one is unseen for that reason.
    """

    node: str
    account: str | None
    lost: Unseen | None
    programs: str | Missing
    pgvector: str | Missing
    free: int | Missing
    directory: str | Missing
    listener: Listener | Missing | None
    process: ServiceState | Missing
    password: bool
    server: Server | Missing
    report: Report | Missing
    primary: Primary | Missing
    services: NodeSeen | None
    embedding: Embedding | None

    def service(self, name: str) -> str:
        """Its state in a word."""
        found = self.services.service(name) if self.services else None
        return found.process.status if found and isinstance(found.process, ServiceState) else "unknown"

    def table(self) -> Table:
        server = self.server
        lines: list[tuple[str, Cell]] = [
            ("programs", _said(self.programs)),
            ("data directory", _said(self.directory)),
            ("PostgreSQL", self._server()),
            ("listens on", server.listens if isinstance(server, Server) else ""),
            ("tables", ("there" if server.tables else "missing") if isinstance(server, Server) else ""),
            ("sync schema", str(server.sync or "none") if isinstance(server, Server) else ""),
            ("embedding service", self.service("embedding") if self.services and self.services.service("embedding") else "none"),
            ("sync daemon", self.service("sync")),
        ]
        title = f"{self.node}, beside {self.primary.node if isinstance(self.primary, Primary) else 'a primary that is not seen'}"
        return Table(title, ("", "observed"), tuple(lines))

    def _server(self) -> Cell:
        if isinstance(self.server, Server):
            return Badge("passed", f"running, version {self.server.version}")
        return "down" if isinstance(self.server, Down) else Badge("unknown")


def look(nodes: Nodes) -> Setup:
    """Everything at once; nothing is started or changed."""
    name = laptop(nodes.site)
    node = nodes[name]
    account = seen(name, "id", lambda: _account(node))
    lost = account if isinstance(account, Unseen) else None

    def of(tried: str, ask: Callable[[], T]) -> T | Missing:
        return seen(name, tried, ask) if lost is None else lost

    return Setup(
        name,
        account if isinstance(account, str) else None,
        lost,
        of("postgres --version", lambda: node.postgresql("postgres", "--version").checked().stdout.strip()),
        of("look for pgvector", lambda: _pgvector(node)),
        of("df", lambda: _free(node)),
        of(f"look into {node.data_directory}", lambda: _directory(node)),
        lost or services.look_listener(node, node.wish.postgresql.port),
        lost or services.look_process(node, "postgresql"),
        sql.password(node, node.site.database.owner, "postgres") is not None,
        of(f"SQL on {node.wish.host}:{node.wish.postgresql.port}", lambda: _server(node)),
        lost or ready.look(node),
        seen(name, "find the primary", lambda: _primary(nodes)),
        None if lost else autostart.look_node(node),
        services.look_embedding(node, lost),
    )


def _account(node: Node) -> str:
    """The account of the services, which must be there; it also tells that commands reach the node."""
    return node.shell.run(["id", "-un", *([node.account] if node.account else [])]).checked().stdout.strip()


def _pgvector(node: Node) -> str:
    words = node.command("pg_config", "--sharedir")
    folder = node.shell.run(words, account=node.account).checked().stdout.strip()
    text = shell.read(node.shell, Path(folder) / "extension" / "vector.control")
    found = [line.split("'")[1] for line in (text or "").splitlines() if line.startswith("default_version")]
    return found[0] if found else ""


def _free(node: Node) -> int:
    """On the disk of the nearest folder above the data directory that is there."""
    script = 'd=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d"'
    return parse_df(node.name, node.shell.run(["sh", "-c", script, "sh", str(node.data_directory)]).checked().stdout)


def _directory(node: Node) -> str:
    data = str(node.data_directory)
    script = '[ -e "$1" ] || { echo absent; exit; }; [ -s "$1/PG_VERSION" ] && echo cluster || { ls -A "$1" | head -1; }'
    said = node.shell.run(["sh", "-c", script, "sh", data], account=node.account).checked().stdout.strip()
    return said if said in ("absent", "cluster") else "other" if said else "absent"


def _server(node: Node) -> Server:
    wish = node.site.database
    with node.session(database="postgres") as connection:
        found = vars(rows(connection, __package__, "setup_server", _Server, role=wish.application_role, database=wish.name)[0])
    if not found["has_database"]:
        return Server(**found)
    with node.session() as connection:
        tables = vars(rows(connection, __package__, "setup_tables", _Tables)[0])
    return Server(**found, **tables, sync=schema.version(node, "laptop") if tables["tables"] else None)


def _primary(nodes: Nodes) -> Primary:
    node = roles.primary(nodes)
    with node.session() as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return Primary(node.name, schema.version(node, "primary"), int(str(row[0])) if row else 0)


def _said(found: object) -> Cell:
    return Badge("unknown") if isinstance(found, Unseen) else str(found)
