"""``aya``: the command line. Thin: it reads words, calls the library, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from aya_lib import __version__, settings
from aya_lib.cli import air, knowledge, lab, runbooks, site, vectors
from aya_lib.errors import AyaError

app = typer.Typer(
    help="Run, verify and operate an AYA site. Start with: aya lab up, then aya status.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for merged in (runbooks.app, site.app, knowledge.app):
    app.add_typer(merged)
app.add_typer(knowledge.documents, name="documents")
app.add_typer(site.serve, name="serve")
app.add_typer(air.app, name="air")
app.add_typer(lab.app, name="lab")
app.add_typer(vectors.bench, name="bench")
app.add_typer(vectors.vectors, name="vectors")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"aya {__version__}")
        raise typer.Exit


def main() -> None:
    """The console script: every error is one line on stderr and an exit code, or one JSON document with --json."""
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
        _fail(f"unexpected {type(error).__name__}: {error}", type(error).__name__, f"The traceback is in {_keep(error)}", 1)


def _fail(message: str, kind: str, hint: str, exit_code: int) -> NoReturn:
    line = " ".join(message.split())
    if "--json" in sys.argv:
        from aya_lib.cli.options import print_json

        print_json({"error": {"type": kind, "message": line, "hint": hint}, "exit_code": exit_code})
    suffix = f". {hint}" if hint and hint not in line else ""
    print(f"aya: {line.rstrip('.') if suffix else line}{suffix}", file=sys.stderr)
    sys.exit(exit_code)


def _keep(error: BaseException) -> str:
    """Write the traceback into a file, without secrets; its path."""
    import traceback

    from aya_lib.secrets import mask

    path = settings.runs() / "last-traceback.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(mask("".join(traceback.format_exception(error))))
    return str(path)
