"""``aya status``, and ``aya guard``: what a node's own units ask before they start PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from aya_lib.cli.options import Json, SiteName, group, nodes, print_json

app = group()


@app.command(epilog="Example: aya status --site production --json")
def status(site: SiteName = "lab", as_json: Json = False) -> None:
    """The state of a site at a glance. Exit 1 when a check failed or is unknown."""
    from aya_lib.check import Checks, worst
    from aya_lib.cluster import overview
    from aya_lib.cluster.judge.overview import judge
    from aya_lib.show import as_text

    there = nodes(site)
    seen = overview.look(there)
    checks = judge(there.site, seen)
    if as_json:
        at_a_glance = {"schema": 1, "site": there.site.name, "at": seen.at, "status": worst(checks)}
        print_json({**at_a_glance, "checks": checks, "nodes": seen.nodes})
    else:
        print(as_text(seen.table()), as_text(Checks(f"Site {there.site.name}", tuple(checks)).table()), sep="\n\n")
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
    from aya_lib.site import load_site

    there = open_nodes(load_site(site))
    if node not in there:
        raise UsageError(f"unknown node '{node}'", hint=f"Allowed are {', '.join(there)}")
    ruling = rule(look(there, node))
    if not ruling.may_start:
        raise AyaError(ruling.line)
    print(ruling.line)
