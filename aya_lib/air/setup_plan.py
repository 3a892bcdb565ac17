"""Set a laptop up: the plan is what is still missing, so that a run that broke off is finished by the next one."""

from __future__ import annotations

from collections.abc import Iterator

from aya_lib.air.create import MakeCluster, Populate
from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.air.schema import Prepare
from aya_lib.air.setup import Primary, Server, Setup
from aya_lib.node.node import Nodes
from aya_lib.operations.autostart import plan as autostart
from aya_lib.operations.autostart.look import Autostart
from aya_lib.plan.actions import Service, Sql
from aya_lib.plan.change import Change, Plan, change

CLOSE = "ALTER SYSTEM SET listen_addresses = 'localhost'"


def plan(nodes: Nodes, seen: Setup) -> Plan:
    """In order: cluster, units, server, closing it, roles and tables, both sync schemas, embedding service, daemon."""
    return Plan("Set the laptop up", tuple(_steps(nodes, seen)), unwind=False)


def _steps(nodes: Nodes, seen: Setup) -> Iterator[Change]:
    node, server = nodes[seen.node], seen.server if isinstance(seen.server, Server) else None
    if seen.directory == "absent":
        yield change(node, "Make the cluster, for local access only", MakeCluster())
    units = autostart.plan(nodes, Autostart({seen.node: seen.services})).changes if seen.services else ()
    late = [
        step
        for step in units
        if isinstance(step.action, Service) and step.action.action == "start" and step.action.service == "sync"
    ]
    yield from (step for step in units if step not in late)
    started = {step.action.service for step in units if isinstance(step.action, Service) and step.action.action == "start"}
    if server is None and "postgresql" not in started:
        yield change(node, "Start PostgreSQL", Service("start", "postgresql"))
    if server and not server.local:
        yield change(node, "Let it listen on its loopback only", Sql(CLOSE), undo=Sql("ALTER SYSTEM RESET listen_addresses"))
        yield change(node, "Restart PostgreSQL", Service("restart", "postgresql"), interrupts=True)
    if server is None or not (server.has_role and server.has_database):
        yield change(node, "Make the application's role and the database", Populate())
    if isinstance(seen.primary, Primary) and seen.primary.sync != SCHEMA_VERSION:
        title = "Keep a log of what changes, and take the laptop's writes"
        yield change(nodes[seen.primary.node], title, Prepare("primary"))
    if server is None or not server.tables or server.sync != SCHEMA_VERSION:
        yield change(node, "Make the tables, the queue and its triggers", Prepare("laptop"))
    if seen.embedding and seen.service("embedding") != "running" and "embedding" not in started:
        yield change(node, "Start the embedding service", Service("start", "embedding"))
    if seen.service("sync") != "running":
        yield change(node, "Start the sync daemon", Service("start", "sync"))
