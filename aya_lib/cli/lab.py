"""``aya lab``: three real clusters on this machine, and faults to inject."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aya_lib import settings
from aya_lib.cli.options import Json, SiteName, answer, group, load

app = group("Three real PostgreSQL clusters and an embedding service on this machine.")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@app.command(epilog="Example: aya lab up")
def up(site: SiteName = "lab") -> None:
    """Start the lab, making first what is not there. Harmless when it runs."""
    from aya_lib import lab as labs

    settings.own_parameters()
    described = load(site)
    labs.up(described, _say)
    print(f"The lab {described.name} is up in {described.root}. Next: aya status --site {site}")


@app.command(epilog="Example: aya lab down")
def down(site: SiteName = "lab") -> None:
    """Stop everything of the lab; its data stays."""
    from aya_lib import lab as labs

    labs.down(load(site))
    print("The lab is down; no process of it is left.")


@app.command(epilog="Example: aya lab reset")
def reset(site: SiteName = "lab") -> None:
    """Delete the lab's data and make it anew: mends every fault."""
    from aya_lib import lab as labs

    described = load(site)
    labs.reset(described, _say)
    print(f"The lab {described.name} is new and up in {described.root}.")


@app.command(epilog="Example: aya lab status --json")
def status(site: SiteName = "lab", as_json: Json = False) -> None:
    """Which processes of the lab run. (aya status tells whether the site serves.)"""
    from aya_lib.lab.status import status as look

    running = look(load(site))
    document = {"schema": 1, "site": running.site.name, "directory": running.site.root, "services": running.lines}
    answer(running, document, as_json)


@app.command("break", epilog="Example: aya lab break beta-down, then aya run restore")
def break_(fault: Annotated[str | None, typer.Argument(help="Default: list the faults.")] = None, site: SiteName = "lab") -> None:
    """Inject a fault, for real, and verify that it is there."""
    from aya_lib.lab.faults import FAULTS, inject, sentence
    from aya_lib.show import Table, as_text

    if fault is None:
        print(as_text(Table("Faults", ("name", "what it does"), tuple((name, sentence(name)) for name in FAULTS))))
        return
    print(inject(load(site), fault))


@app.command(
    epilog="Example: aya lab psql beta -c 'SELECT pg_is_in_recovery()'",
    context_settings={"allow_extra_args": True, "allow_interspersed_args": False, "ignore_unknown_options": True},
)
def psql(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="alpha, beta or air", autocompletion=lambda: ["alpha", "beta", "air"])],
    site: SiteName = "lab",
) -> None:
    """psql on a node, as the owner. Every word after the node is psql's, but --site."""
    from aya_lib import lab as labs

    words = list(context.args)
    for place, word in enumerate(words):
        if word == "--site" and words[place + 1 :]:
            site, words[place : place + 2] = words[place + 1], []
            break
        if word.startswith("--site="):
            site = words.pop(place).partition("=")[2]
            break
    labs.psql(load(site), node, words)


@app.command(epilog='Example: eval "$(aya lab env)" && psql service=aya_rag')
def env(site: SiteName = "lab") -> None:
    """Shell lines after which every libpq client knows service=alpha, beta, air and aya_rag."""
    from aya_lib import lab as labs

    print(labs.env(load(site)), end="")


@app.command(epilog="Example: aya lab new second && aya lab up --site second")
def new(
    name: Annotated[str, typer.Argument(help="Name of the new site.")],
    directory: Annotated[Path | None, typer.Option("--directory", metavar="DIR", help="Where its files live.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", help="First of its ports; default: free ones.")] = None,
) -> None:
    """Describe another lab beside this one, with its own folder and ports."""
    from aya_lib.lab.new import new as describe

    made = describe(name, directory, port)
    ports = [config.postgresql.port for config in made.nodes.values()]
    print(f"Site {name}: ports from {min(ports)}, files in {made.root}. Start it: aya lab up --site {name}")
