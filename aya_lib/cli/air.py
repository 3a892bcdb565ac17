"""``aya air``: the laptop's synchronisation."""

from __future__ import annotations

from typing import Annotated

import typer

from aya_lib.cli.options import Json, SiteName, answer, group, load

app = group("The laptop: its queue, its conflicts, its synchronisation.")


@app.command(epilog="Example: aya air status --site production --json")
def status(site: SiteName = "lab", as_json: Json = False) -> None:
    """Does the daemon run, is it online, what waits? Exit 1 when it does not run, is offline, or something was refused."""
    from aya_lib.air.status import look

    found = look(load(site))
    answer(found, found.json(), as_json)
    raise typer.Exit(0 if found.well else 1)


@app.command("sync-now", epilog="Example: aya air sync-now --site production")
def sync_now(site: SiteName = "lab") -> None:
    """A whole round now: by the daemon when it runs, here otherwise."""
    from aya_lib.air import sync_now

    print(sync_now.sync(load(site)))


@app.command(epilog="Example: aya air pause --minutes 90")
def pause(
    minutes: Annotated[float, typer.Option(min=1, max=100_000, help="How long; it ends by itself.")] = 60, site: SiteName = "lab"
) -> None:
    """Leave the primary alone for a while: a slow or dear network. What is written meanwhile waits in the queue."""
    from aya_lib.air import sync_now

    print(sync_now.pause(load(site), minutes))


@app.command(epilog="Example: aya air resume")
def resume(site: SiteName = "lab") -> None:
    """Synchronise again, at once."""
    from aya_lib.air import sync_now

    print(sync_now.pause(load(site), 0))


@app.command(epilog="Example: aya air ready --site production")
def ready(site: SiteName = "lab", as_json: Json = False) -> None:
    """On the laptop: are program, site file and model there, and can the primary be reached? Exit 1 when something lacks."""
    from aya_lib.air.ready import report

    found = report(load(site))
    lines = [
        f"aya {found.version}, site {found.site}",
        f"model: {found.model_error or 'there'}",
        f"primary: {found.primary_error or found.primary}",
    ]
    answer("\n".join(lines), {"schema": 1, **vars(found)}, as_json)
    raise typer.Exit(0 if as_json or not (found.model_error or found.primary_error) else 1)


@app.command(epilog="Example: aya air conflicts --site production")
def conflicts(site: SiteName = "lab", as_json: Json = False) -> None:
    """The versions that lost against the primary's, kept whole; shown ones count as seen."""
    from aya_lib.air import dead_letters
    from aya_lib.show import as_text

    found = dead_letters.conflicts(load(site))
    shown = as_text(dead_letters.conflict_table(found)) if found else "No version lost against the primary's."
    answer(shown, {"schema": 1, "conflicts": found}, as_json)


@app.command(epilog="Example: aya air retry 17")
def retry(
    mutation: int = typer.Argument(help="Its number in write_queue; see the log and aya air refused."), site: SiteName = "lab"
) -> None:
    """Send a refused mutation again, after what the primary refused has been corrected."""
    from aya_lib.air import dead_letters

    print(dead_letters.retry(load(site), mutation))


@app.command(epilog="Example: aya air refused")
def refused(site: SiteName = "lab") -> None:
    """The mutations that the primary refused, each with its reason."""
    from aya_lib.air import dead_letters
    from aya_lib.show import as_text

    found = dead_letters.dead(load(site))
    print(as_text(dead_letters.dead_table(found)) if found else "Nothing was refused.")
