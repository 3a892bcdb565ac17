"""Set a laptop up: the plan is what is still missing, so that a run that broke off is finished by the next one."""

from __future__ import annotations

from collections.abc import Iterator

from aya_lib.air.link import SCHEMA_VERSION
from aya_lib.air.setup.actions import MakeCluster, Populate, Prepare
from aya_lib.air.setup.look import Primary, Server, Setup
from aya_lib.operations import autostart
from aya_lib.plan.actions import Service, Setting
from aya_lib.plan.change import Change, Plan, change

CLOSE, OPEN = Setting("listen_addresses", "localhost"), Setting("listen_addresses", None)
SYNC = Service("start", "sync")


def plan(found: Setup) -> Plan:
    """In order: cluster, units, server, closing it, roles and tables, both sync schemas, embedding service, daemon."""
    return Plan("Set the laptop up", tuple(_steps(found)), unwind=False)


def _steps(found: Setup) -> Iterator[Change]:
    node = found.nodes[found.node]
    server = found.server if isinstance(found.server, Server) else None
    if found.directory == "absent":
        yield change(node, "Make the cluster, for local access only", MakeCluster())
    units = autostart.plan(found.autostart).changes
    yield from (step for step in units if step.action != SYNC)  # the daemon comes last
    starts = [step.action for step in units]
    if server is None and Service("start", "postgresql") not in starts:
        yield change(node, "Start PostgreSQL", Service("start", "postgresql"))
    if server and not server.local:
        yield change(node, "Let it listen on its loopback only", CLOSE, undo=OPEN)
        yield change(node, "Restart PostgreSQL", Service("restart", "postgresql"), interrupts=True)
    if server is None or not (server.has_role and server.has_database):
        yield change(node, "Make the application's role and the database", Populate())
    if isinstance(found.primary, Primary) and (found.primary.sync != SCHEMA_VERSION or found.primary.silent):
        title = "Keep a log of what changes, and take the laptop's writes"
        yield change(found.nodes[found.primary.node], title, Prepare("primary"))
    if server is None or not server.tables or server.sync != SCHEMA_VERSION or server.silent:
        yield change(node, "Make the tables, the queue and its triggers", Prepare("laptop"))
    if found.embedding and found.state("embedding") != "running" and Service("start", "embedding") not in starts:
        yield change(node, "Start the embedding service", Service("start", "embedding"))
    if found.state("sync") != "running":
        yield change(node, "Start the sync daemon", SYNC)
