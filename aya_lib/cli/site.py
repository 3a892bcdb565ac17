"""``aya guard``: what a node's own units ask before they start PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from aya_lib.cli.main import SiteName


def guard(
    node: Annotated[str, typer.Option("--node", metavar="NODE", help="The node that this machine is.")],
    site: SiteName = "lab",
) -> None:
    """May this machine's PostgreSQL start as its data directory is? Exit 0: it may; 1: it must not."""
    from aya_lib.errors import AyaError, UsageError
    from aya_lib.node.node import open_nodes
    from aya_lib.operations.guard import look as facts
    from aya_lib.operations.guard.judge import rule
    from aya_lib.site import load_site

    nodes = open_nodes(load_site(site))
    if node not in nodes:
        raise UsageError(f"unknown node '{node}'", hint=f"Allowed are {', '.join(nodes)}")
    ruling = rule(facts.look(nodes, node))
    if not ruling.may_start:
        raise AyaError(ruling.line)
    print(ruling.line)
