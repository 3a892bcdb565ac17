"""A laptop that is to be set up, as it is: programs, disk, ports, cluster, schemas, services, and what it says itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from aya_lib.air import ready, triggers
from aya_lib.air.link import laptop, schema_version
from aya_lib.air.ready import Readiness
from aya_lib.cluster import roles, services
from aya_lib.cluster.machine import parse_df
from aya_lib.cluster.services import Embedding
from aya_lib.node import shell, sql
from aya_lib.node.node import Node, Nodes
from aya_lib.node.sql import rows, value
from aya_lib.node.supervisor import ServiceState
from aya_lib.node.unseen import Down, Missing, Unseen, seen
from aya_lib.operations.autostart.look import Autostart, ServiceSeen, look_node
from aya_lib.show import Badge, Cell, Shown, Table

T = TypeVar("T")
LOOPBACK = {"localhost", "127.0.0.1", "::1", ""}
NEAREST = 'd=$1; while [ ! -d "$d" ]; do d=$(dirname "$d"); done; df -Pk "$d"'  # the folder above that is there
HOLDS = '[ -e "$1" ] || { echo absent; exit; }; [ -s "$1/PG_VERSION" ] && echo cluster || { ls -A "$1" | head -1; }'


@dataclass(frozen=True)
class Server:
    """The laptop's PostgreSQL. ``listens``: listen_addresses; ``trusting``: rules of pg_hba.conf that ask for no password.
    ``tables``: the three of the contract are there; ``sync``: version of the sync schema; ``silent``: its triggers that do not
    fire."""

    version: int
    in_recovery: bool
    listens: str
    trusting: int
    has_role: bool
    has_database: bool
    tables: bool = False
    sync: int | None = None
    silent: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        return {address.strip() for address in self.listens.split(",")} <= LOOPBACK


@dataclass(frozen=True)
class Primary:
    """The node that accepts writes: version of its sync schema, bytes of the database; ``silent``: triggers that do not fire."""

    node: str
    sync: int | None
    bytes: int
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Setup(Shown):
    """``account``: of the services; unseen when no command reaches the laptop, and then so is all that needs one. ``free``: bytes
    on its disk. ``directory``: *cluster*, *absent*, or *other* files. ``password``: known here, of the owner."""

    nodes: Nodes
    node: str
    account: str | Missing
    programs: str | Missing
    pgvector: str | Missing
    free: int | Missing
    directory: str | Missing
    password: bool
    server: Server | Missing
    readiness: Readiness | Missing
    primary: Primary | Missing
    autostart: Autostart
    embedding: Embedding | None

    def service(self, name: str) -> ServiceSeen | Unseen:
        here = self.autostart.seen.get(self.node)
        unseen = self.account if isinstance(self.account, Unseen) else Unseen(self.node, name, "it has no such service")
        return (here and here.service(name)) or unseen

    def state(self, name: str) -> str:
        """Of a service, in a word."""
        service = self.service(name)
        process = service if isinstance(service, Unseen) else service.process
        return process.status if isinstance(process, ServiceState) else "unknown"

    def table(self) -> Table:
        primary, server = self.primary, self.server if isinstance(self.server, Server) else None
        runs = Badge("passed", f"running, version {server.version}") if server else Badge("unknown")
        lines: list[tuple[str, Cell]] = [
            ("programs", _word(self.programs)),
            ("data directory", _word(self.directory)),
            ("PostgreSQL", "down" if isinstance(self.server, Down) else runs),
            ("listens on", server.listens if server else ""),
            ("tables", ("there" if server.tables else "missing") if server else ""),
            ("sync schema", str(server.sync or "none") if server else ""),
            ("embedding service", self.state("embedding") if self.embedding else "none"),
            ("sync daemon", self.state("sync")),
        ]
        beside = primary.node if isinstance(primary, Primary) else "a primary that is not seen"
        return Table(f"{self.node}, beside {beside}", ("", "observed"), tuple(lines))


def look(nodes: Nodes) -> Setup:
    """Everything at once; nothing is started or changed."""
    name = laptop(nodes.site)
    node = nodes[name]
    whose = ["id", "-un", *([node.account] if node.account else [])]
    account = seen(name, "id", lambda: _answer(node, *whose))  # it also tells that commands reach the node
    lost = account if isinstance(account, Unseen) else None

    def there(tried: str, ask: Callable[[], T]) -> T | Missing:
        return seen(name, tried, ask) if lost is None else lost

    return Setup(
        nodes,
        name,
        account,
        programs=there("postgres --version", lambda: node.postgresql("postgres", "--version").checked().stdout.strip()),
        pgvector=there("look for pgvector", lambda: _pgvector(node)),
        free=there("df", lambda: parse_df(name, _answer(node, "sh", "-c", NEAREST, "sh", str(node.data_directory)))),
        directory=there(f"look into {node.data_directory}", lambda: _directory(node)),
        password=sql.password(node, node.site.database.owner, "postgres") is not None,
        server=there(f"SQL on {node.config.host}:{node.config.postgresql.port}", lambda: _server(node)),
        readiness=lost or ready.look(node),
        primary=seen(name, "find the primary", lambda: _primary(nodes)),
        autostart=Autostart(nodes, {} if lost else {name: look_node(node)}),
        embedding=services.look_embedding(node, lost),
    )


def _answer(node: Node, *words: str, account: str | None = None) -> str:
    return node.shell.run(words, account=account).checked().stdout.strip()


def _pgvector(node: Node) -> str:
    folder = _answer(node, *node.command("pg_config", "--sharedir"), account=node.account)
    control = shell.read(node.shell, Path(folder) / "extension" / "vector.control") or ""
    return next((line.split("'")[1] for line in control.splitlines() if line.startswith("default_version")), "")


def _directory(node: Node) -> str:
    holds = _answer(node, "sh", "-c", HOLDS, "sh", str(node.data_directory), account=node.account) or "absent"
    return holds if holds in ("absent", "cluster") else "other"


def _server(node: Node) -> Server:
    config = node.site.database
    with node.session(database="postgres") as connection:
        server = rows(connection, __package__, "server", Server, role=config.application_role, database=config.name)[0]
    if not server.has_database:
        return server
    with node.session() as connection:
        tables = bool(value(connection, sql.statement(__package__, "tables")))
        sync = schema_version(connection, "laptop") if tables else None
        return replace(server, tables=tables, sync=sync, silent=triggers.silent(connection, "laptop", node.name) if sync else ())


def _primary(nodes: Nodes) -> Primary:
    node = roles.primary(nodes)
    with node.session() as connection:
        size = int(str(value(connection, "SELECT pg_database_size(current_database())")))
        sync = schema_version(connection, "primary")
        return Primary(node.name, sync, size, triggers.silent(connection, "primary", node.name) if sync else ())


def _word(fact: object) -> Cell:
    return Badge("unknown") if isinstance(fact, Unseen) else str(fact)
