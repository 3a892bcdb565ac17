"""``aya``: the command line. Thin: it reads words, calls the library, and turns errors into one line and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from aya_lib import __version__, settings
from aya_lib.errors import AyaError

app = typer.Typer(
    help="Run, verify and operate an AYA site. Start with: aya lab up, then aya status.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SiteName = Annotated[str, typer.Option("--site", metavar="NAME", help="A folder below parameters/, or a site.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else there.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"aya {__version__}")
        raise typer.Exit


@app.command(epilog="Example: aya run restore --site production --approved-by NAME")
def run(
    runbook: Annotated[str, typer.Argument(help="Its name, or the path of a notebook. See: aya params")],
    site: Annotated[str | None, typer.Option("--site", metavar="NAME", help="Default: the notebook's own, lab.")] = None,
    p: Annotated[list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter; repeatable.")] = None,
    f: Annotated[Path | None, typer.Option("-f", metavar="FILE", help="Parameters from a flat YAML file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = False,
    approved_by: Annotated[str | None, typer.Option("--approved-by", metavar="NAME", help="Who approved.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdict and the notebook's path.")] = False,
    as_json: Json = False,
) -> None:
    """Execute a runbook unattended and keep the executed notebook and its record."""
    from aya_lib.runbook import parameters, progress
    from aya_lib.runbook.run import require_parameter
    from aya_lib.runbook.run import run as execute

    declared = parameters.declared(parameters.find(runbook, settings.notebooks()))
    values = {**(parameters.from_file(declared, f) if f else {}), **parameters.parse(declared, p or [])}
    for name, option, value in (
        ("site", "--site", site),
        ("dry_run", "--dry-run", dry_run or None),
        ("approved_by", "--approved-by", approved_by),
    ):
        if value is not None:
            require_parameter(declared, name, option)
            values[name] = value
    out = sys.stderr if as_json else sys.stdout
    result = execute(runbook, values, (lambda step: None) if quiet else progress.printer(out))
    if as_json:
        print(json.dumps(result.record, indent=1, ensure_ascii=False))
    else:
        progress.ending(result, out)
    raise typer.Exit(result.exit_code)


@app.command(epilog="Example: aya params restore")
def params(runbook: Annotated[str | None, typer.Argument(help="Default: list the runbooks.")] = None) -> None:
    """The runbooks, or the parameters of one with their defaults and meaning."""
    from aya_lib.runbook import parameters
    from aya_lib.show import Table, as_text

    if runbook is None:
        found = [parameters.declared(path) for path in sorted(settings.notebooks().glob("*.ipynb"))]
        print(as_text(Table("Runbooks", ("name", "what it does"), tuple((one.name, one.title) for one in found))))
        return
    declared = parameters.declared(parameters.find(runbook, settings.notebooks()))
    rows = tuple((each.name, each.annotation, repr(each.default), each.comment) for each in declared.parameters)
    print(as_text(Table(declared.title, ("parameter", "type", "default", "meaning"), rows)))


@app.command(epilog="Example: aya runs --runbook restore --prune 30d")
def runs(
    site: Annotated[str | None, typer.Option("--site", metavar="NAME", help="Only of this site.")] = None,
    runbook: Annotated[str | None, typer.Option("--runbook", metavar="NAME", help="Only of this runbook.")] = None,
    prune: Annotated[str | None, typer.Option("--prune", metavar="AGE", help="Delete older ones: 30d, 12h, 90m.")] = None,
    as_json: Json = False,
) -> None:
    """The runs that were kept, newest first."""
    from aya_lib.runbook import runs as history
    from aya_lib.show import as_text

    found = history.kept(site, runbook)
    if prune:
        gone = history.prune(found.runs, prune)
        found = history.Runs(tuple(run for run in found.runs if run not in gone))
    if as_json:
        lines = [{**vars(run), "record": str(run.record), "notebook": str(run.notebook)} for run in found.runs]
        print(json.dumps({"schema": 1, "runs": lines}, indent=1))
    else:
        print(as_text(found.table()))


@app.command(epilog="Example: aya status --site production --json")
def status(site: SiteName = "lab", as_json: Json = False) -> None:
    """The state of a site at a glance. Exit 1 when a check failed or is unknown."""
    from pydantic_core import to_jsonable_python

    from aya_lib import lab as labs
    from aya_lib.check import Checks, worst
    from aya_lib.cluster import overview
    from aya_lib.cluster.judge import overview as checks
    from aya_lib.node.node import open_nodes
    from aya_lib.show import as_text
    from aya_lib.site import load_site

    wished = load_site(site)
    labs.require(wished)
    seen = overview.look(open_nodes(wished))
    found = checks.judge(wished, seen)
    if as_json:
        document = {"schema": 1, "site": wished.name, "at": seen.at, "status": worst(found), "checks": found, "nodes": seen.nodes}
        print(json.dumps(to_jsonable_python(document, fallback=str), indent=1, ensure_ascii=False))
    else:
        print(as_text(seen.table()), as_text(Checks(f"Site {wished.name}", tuple(found)).table()), sep="\n\n")
    raise typer.Exit(1 if worst(found) in ("failed", "unknown") else 0)


serve = typer.Typer(help="Run a service in the foreground.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(serve, name="serve")


@serve.command(epilog="Example: aya serve embedding --site lab --node ALPHA")
def embedding(
    site: SiteName = "lab", node: Annotated[str, typer.Option("--node", metavar="NODE", help="The node it is for.")] = "ALPHA"
) -> None:
    """The embedding service of a node."""
    from aya_lib.embedding.service import serve as serve_embedding
    from aya_lib.site import load_site

    serve_embedding(load_site(site), node)


def main() -> None:
    """The console script: every error is one line on stderr and an exit code, or one JSON document with --json."""
    from aya_lib.cli.air import air, sync
    from aya_lib.cli.knowledge import ingest, search
    from aya_lib.cli.lab import lab
    from aya_lib.cli.site import guard
    from aya_lib.cli.vectors import bench, vectors

    app.command(epilog="Example: aya ingest docs/ --category manuals --prune")(ingest)
    app.command(epilog='Example: aya search "how do I rejoin the old primary" --limit 3')(search)
    app.command(epilog="Example: aya guard --site production --node ALPHA")(guard)
    serve.command(epilog="Example: aya serve sync --site production")(sync)
    app.add_typer(air, name="air")
    app.add_typer(lab, name="lab")
    app.add_typer(bench, name="bench")
    app.add_typer(vectors, name="vectors")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except AyaError as error:
        _fail(str(error), type(error).__name__, error.hint, error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", "Interrupted", "", 130)
    except BrokenPipeError:
        os._exit(1)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own: a wrong option or word
            _fail(error.format_message(), "UsageError", "See aya --help", 2)
        path = _keep(error)
        _fail(f"unexpected {type(error).__name__}: {error}", type(error).__name__, f"The traceback is in {path}", 1)


def _fail(message: str, kind: str, hint: str, exit_code: int) -> None:
    line = " ".join(message.split())
    if "--json" in sys.argv:
        said: dict[str, Any] = {"error": {"type": kind, "message": line, "hint": hint}, "exit_code": exit_code}
        print(json.dumps(said, indent=1, ensure_ascii=False))
    suffix = f". {hint}" if hint and hint not in line else ""
    print(f"aya: {line.rstrip('.') if suffix else line}{suffix}", file=sys.stderr)
    sys.exit(exit_code)


def _keep(error: BaseException) -> Path:
    from aya_lib.secrets import mask

    path = settings.runs() / "last-traceback.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(mask("".join(traceback.format_exception(error))))
    return path
