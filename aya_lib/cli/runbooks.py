"""``aya run``, ``aya init``, ``aya params`` and ``aya runs``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from aya_lib import settings
from aya_lib.cli.options import Json, answer, group, print_json, sites
from aya_lib.errors import AyaError

app = group()


def books() -> list[str]:
    """Names of runbooks, for a shell that completes words."""
    from aya_lib.runbook import parameters

    return parameters.runbooks(settings.notebooks())


@app.command(epilog="Example: aya run restore --site production --approved-by NAME")
def run(
    runbook: Annotated[str, typer.Argument(help="Its name, or a notebook's path. See: aya params", autocompletion=books)],
    site: Annotated[
        str | None, typer.Option("--site", metavar="NAME", help="Default: the notebook's own, lab.", autocompletion=sites)
    ] = None,
    p: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter; repeatable.")] = None,
    f: Annotated[Path | None, typer.Option("-f", metavar="FILE", help="Parameters from a flat YAML file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    approved_by: Annotated[str | None, typer.Option("--approved-by", metavar="NAME", help="Who approved.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdict and the notebook's path.")] = False,
    as_json: Json = False,
) -> None:
    """Execute a runbook unattended and keep the executed notebook and its record."""
    from aya_lib.runbook import parameters, progress
    from aya_lib.runbook.run import run as execute
    from aya_lib.site import read_yaml

    declared = parameters.declared(parameters.find(runbook, settings.notebooks()))
    values = {**parameters.given(declared, read_yaml(f) if f else {}), **parameters.parse(declared, p or [])}
    options = {"--site": ("site", site), "--dry-run": ("dry_run", dry_run or None), "--approved-by": ("approved_by", approved_by)}
    for option, (name, value) in options.items():
        if value is not None:
            parameters.require(declared, name, option)
            values[name] = value
    out = sys.stderr if as_json else sys.stdout
    result = execute(runbook, values, (lambda step: None) if quiet else progress.printer(out))
    if as_json:
        print_json(result.record)
    else:
        with contextlib.suppress(OSError):  # nobody reads any more: how the run ended is the exit code all the same
            progress.ending(result, out)
    raise typer.Exit(result.exit_code)


@app.command(epilog="Example: aya init aya && cd aya && aya lab up")
def init(directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one to complete.")]) -> None:
    """Lay out a folder to work in: notebooks, parameters, a place for runs. What is there already stays as it is."""
    from aya_lib.runbook.layout import lay_out

    done = lay_out(directory)
    print(f"{done.folder}: {len(done.made)} files written. aya finds them from there: cd {shlex.quote(str(done.folder))}")
    if done.kept:
        print(f"Kept, though this version ships others: {', '.join(str(path.relative_to(done.folder)) for path in done.kept)}")


@app.command(epilog="Example: aya params restore")
def params(
    runbook: Annotated[str | None, typer.Argument(help="Default: list the runbooks.", autocompletion=books)] = None,
) -> None:
    """The runbooks, or the parameters of one with their defaults and meaning."""
    from aya_lib.runbook import parameters
    from aya_lib.show import Table, as_text

    if runbook is None:
        declared = [parameters.declared(path) for path in sorted(settings.notebooks().glob("*.ipynb"))]
        if not declared:
            raise AyaError(f"no runbooks in {settings.notebooks()}", hint="Lay out a folder to work in: aya init DIR")
        print(as_text(Table("Runbooks", ("name", "what it does"), tuple((each.name, each.title) for each in declared))))
        return
    asked = parameters.declared(parameters.find(runbook, settings.notebooks()))
    rows = tuple((each.name, each.annotation, repr(each.default), each.comment) for each in asked.parameters)
    print(as_text(Table(asked.title, ("parameter", "type", "default", "meaning"), rows)))


@app.command(epilog="Example: aya runs --runbook restore --prune 30d")
def runs(
    site: Annotated[str | None, typer.Option("--site", metavar="NAME", help="Only of this site.", autocompletion=sites)] = None,
    runbook: Annotated[
        str | None, typer.Option("--runbook", metavar="NAME", help="Only of this runbook.", autocompletion=books)
    ] = None,
    prune: Annotated[str | None, typer.Option("--prune", metavar="AGE", help="Delete older ones: 30d, 12h, 90m.")] = None,
    as_json: Json = False,
) -> None:
    """The runs that were kept, newest first."""
    from aya_lib.runbook import runs as history

    kept = history.kept(site, runbook)
    if not kept.runs:
        history.require_known(site, runbook)
    if prune:
        kept = history.prune(kept, prune)
    elif not kept.runs:
        of = f"{f' of {runbook}' if runbook else ''}{f' on {site}' if site else ''}"
        raise AyaError(f"no run{of} is kept in {settings.runs()}", hint=f"aya run {runbook or 'start_here'} makes one")
    answer(kept, {"schema": 1, "runs": [{**vars(run), "notebook": run.notebook} for run in kept.runs]}, as_json)
