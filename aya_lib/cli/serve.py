"""``aya serve``: a service in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from aya_lib.cli.air import sync
from aya_lib.cli.options import SiteName, group

app = group("Run a service in the foreground.")


@app.command(epilog="Example: aya serve embedding --site lab --node ALPHA")
def embedding(
    site: SiteName = "lab", node: Annotated[str, typer.Option("--node", metavar="NODE", help="The node it is for.")] = "ALPHA"
) -> None:
    """The embedding service of a node."""
    from aya_lib.embedding.service import serve
    from aya_lib.site import load_site

    serve(load_site(site), node)


app.command(epilog="Example: aya serve sync --site production")(sync)
