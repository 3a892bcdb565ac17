"""``aya air`` and ``aya serve sync``: the laptop's synchronisation."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from aya_lib.cli.options import Json, SiteName

air = typer.Typer(help="The laptop: its queue, its conflicts, its synchronisation.", no_args_is_help=True, rich_markup_mode=None)


@air.command(epilog="Example: aya air status --site production --json")
def status(site: SiteName = "lab", as_json: Json = False) -> None:
    """Does the daemon run, is it online, what waits? Exit 1 when it does not run, is offline, or something was refused."""
    from aya_lib.air.status import look
    from aya_lib.show import as_text
    from aya_lib.site import load_site

    found = look(load_site(site))
    print(json.dumps(found.json(), indent=1) if as_json else as_text(found.table()))
    raise typer.Exit(0 if found.well else 1)


@air.command("sync-now", epilog="Example: aya air sync-now --site production")
def sync_now(site: SiteName = "lab") -> None:
    """A whole round now: by the daemon when it runs, here otherwise."""
    from aya_lib.air import sync_now
    from aya_lib.site import load_site

    print(sync_now.sync(load_site(site)))


@air.command(epilog="Example: aya air pause --minutes 90")
def pause(
    minutes: Annotated[float, typer.Option(min=1, max=100_000, help="How long; it ends by itself.")] = 60, site: SiteName = "lab"
) -> None:
    """Leave the primary alone for a while: a slow or dear network. What is written meanwhile waits in the queue."""
    from aya_lib.air import sync_now
    from aya_lib.site import load_site

    print(sync_now.pause(load_site(site), minutes))


@air.command(epilog="Example: aya air resume")
def resume(site: SiteName = "lab") -> None:
    """Synchronise again, at once."""
    from aya_lib.air import sync_now
    from aya_lib.site import load_site

    print(sync_now.pause(load_site(site), 0))


@air.command(epilog="Example: aya air ready --site production")
def ready(site: SiteName = "lab", as_json: Json = False) -> None:
    """On the laptop: are program, site file and model there, and can the primary be reached? Exit 1 when something lacks."""
    from aya_lib.air.ready import report
    from aya_lib.site import load_site

    found = report(load_site(site))
    lines = [
        f"aya {found.version}, site {found.site}",
        f"model: {found.model_error or 'there'}",
        f"primary: {found.primary_error or found.primary}",
    ]
    print(json.dumps({"schema": 1, **vars(found)}, indent=1) if as_json else "\n".join(lines))
    raise typer.Exit(0 if as_json or not (found.model_error or found.primary_error) else 1)


@air.command(epilog="Example: aya air conflicts --site production")
def conflicts(site: SiteName = "lab", as_json: Json = False) -> None:
    """The versions that lost against the primary's, kept whole; shown ones count as seen."""
    from aya_lib.air import dead_letters
    from aya_lib.show import as_text
    from aya_lib.site import load_site

    found = dead_letters.conflicts(load_site(site))
    document = {"schema": 1, "conflicts": found}
    shown = as_text(dead_letters.conflict_table(found)) if found else "No version lost against the primary's."
    print(json.dumps(document, indent=1) if as_json else shown)


@air.command(epilog="Example: aya air retry 17")
def retry(
    mutation: int = typer.Argument(help="Its number in write_queue; see the log and aya air refused."), site: SiteName = "lab"
) -> None:
    """Send a refused mutation again, after what the primary refused has been corrected."""
    from aya_lib.air import dead_letters
    from aya_lib.site import load_site

    print(dead_letters.retry(load_site(site), mutation))


@air.command(epilog="Example: aya air refused")
def refused(site: SiteName = "lab") -> None:
    """The mutations that the primary refused, each with its reason."""
    from aya_lib.air import dead_letters
    from aya_lib.show import as_text
    from aya_lib.site import load_site

    found = dead_letters.dead(load_site(site))
    print(as_text(dead_letters.dead_table(found)) if found else "Nothing was refused.")


def sync(site: SiteName = "lab") -> None:
    """The sync daemon, on the laptop itself: pushes its queue, pulls what the primary changed."""
    from aya_lib.air.daemon import serve
    from aya_lib.site import load_site

    serve(load_site(site))
