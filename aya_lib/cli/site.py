"""``aya status``; ``aya guard``: what a node's own units ask before they start PostgreSQL; ``aya serve``: its other services."""

from __future__ import annotations

from typing import Annotated

import typer

from aya_lib.cli.options import Json, SiteName, answer, group, load, nodes

app = group()
serve = group("Run a service in the foreground.")


@app.command(epilog="Example: aya status --site production --json")
def status(site: SiteName = "lab", as_json: Json = False) -> None:
    """The state of a site at a glance, what is half done first. Exit 1 when a check failed or is unknown."""
    from aya_lib.check import Checks, worst
    from aya_lib.operations.status import checks as judge
    from aya_lib.operations.status import look
    from aya_lib.runbook import unfinished
    from aya_lib.show import as_text

    there = nodes(site)
    found = look(there)
    half = unfinished.checks(there.site.name)
    seen, checks = found.overview, [*half, *judge(found)]
    at_a_glance = {"schema": 1, "application": found.application, "site": there.site.name, "at": seen.at, "status": worst(checks)}
    first = [Checks("Not finished", tuple(half)).table()] if half else []
    tables = (*first, seen.table(), Checks(f"Site {there.site.name}", tuple(checks)).table())
    answer("\n\n".join(map(as_text, tables)), {**at_a_glance, "checks": checks, "nodes": seen.nodes}, as_json)
    raise typer.Exit(1 if worst(checks) in ("failed", "unknown") else 0)


@app.command(epilog="Example: aya guard --site production --node ALPHA")
def guard(
    node: Annotated[str, typer.Option("--node", metavar="NODE", help="The node that this machine is.")],
    site: SiteName = "lab",
) -> None:
    """May this machine's PostgreSQL start as its data directory is? Exit 0: it may; 1: it must not."""
    from aya_lib.errors import AyaError, UsageError
    from aya_lib.node.node import open_nodes
    from aya_lib.operations.guard import look, rule

    there = open_nodes(load(site))
    if node not in there:
        raise UsageError(f"unknown node '{node}'", hint=f"Allowed are {', '.join(there)}")
    ruling = rule(look(there, node))
    if not ruling.may_start:
        raise AyaError(ruling.line)
    print(ruling.line)


@serve.command(epilog="Example: aya serve embedding --site lab --node ALPHA")
def embedding(
    site: SiteName = "lab", node: Annotated[str, typer.Option("--node", metavar="NODE", help="The node it is for.")] = "ALPHA"
) -> None:
    """The embedding service of a node."""
    from aya_lib.embedding.service import serve

    serve(load(site), node)


@serve.command(epilog="Example: aya serve sync --site production")
def sync(site: SiteName = "lab") -> None:
    """The sync daemon, on the laptop itself: pushes its queue, pulls what the primary changed."""
    from aya_lib.air.daemon import serve

    serve(load(site))


@serve.command(epilog="Example: aya serve wal --site production --node BETA")
def wal(
    node: Annotated[str, typer.Option("--node", metavar="NODE", help="The node that keeps the backups.")],
    site: SiteName = "lab",
) -> None:
    """The receiver of WAL, on the keeper itself: what the backups need to restore any moment."""
    from aya_lib.backup.receiver import serve

    serve(load(site), node)
