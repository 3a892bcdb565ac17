"""``aya``: the command line. Thin: it reads words, calls the library, and turns errors into one line and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from aya_lib import __version__, settings
from aya_lib.cli import air, backup, knowledge, lab, printable, runbooks, site, vectors
from aya_lib.errors import AyaError

app = typer.Typer(
    help="Run, verify and operate an AYA site. Start with: aya lab up, then aya status.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for merged in (runbooks.app, site.app, knowledge.app):
    app.add_typer(merged)
app.add_typer(knowledge.documents, name="documents")
app.add_typer(site.serve, name="serve")
app.add_typer(air.app, name="air")
app.add_typer(backup.app, name="backup")
app.add_typer(lab.app, name="lab")
app.add_typer(vectors.bench, name="bench")
app.add_typer(vectors.vectors, name="vectors")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"aya {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """The console script: every error is one line on stderr and an exit code, or one JSON document with --json."""
    printable.install()
    code = 0
    try:
        code = _run()
        sys.stdout.flush()
    except OSError:  # nobody reads any more (| head, a closed terminal): as quiet as other programs are
        printable.discard()
        code = code or 141
    sys.exit(code)


def _run() -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except SystemExit as ended:
        if isinstance(ended.__context__, OSError):  # click's own answer to a pipe that was closed
            raise ended.__context__ from None
        return int(ended.code or 0)
    except AyaError as error:
        return _fail(str(error), type(error).__name__, error.hint, error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", "Interrupted", "", 130)
    except OSError as error:
        if error.filename is None:
            raise  # our own output
        return _fail(
            f"{error.filename}: {error.strerror}", type(error).__name__, "See who may write there, and how full it is", 1
        )
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own: a wrong option or word
            return _fail(error.format_message(), "UsageError", "See aya --help", 2)
        return _fail(f"unexpected {type(error).__name__}: {error}", type(error).__name__, _keep(error), 1)


def _fail(message: str, kind: str, hint: str, exit_code: int) -> int:
    line = " ".join(message.split())
    if "--json" in sys.argv:
        from aya_lib.cli.options import print_json

        print_json({"error": {"type": kind, "message": line, "hint": hint}, "exit_code": exit_code})
    suffix = f". {hint}" if hint and hint not in line else ""
    print(f"aya: {line.rstrip('.') if suffix else line}{suffix}", file=sys.stderr)
    return exit_code


def _keep(error: BaseException) -> str:
    """Write the traceback into a file, without secrets; where it is."""
    import tempfile
    import traceback

    from aya_lib.secrets import mask

    for folder in (settings.runs(), Path(tempfile.gettempdir())):
        path = folder / "last-traceback.txt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(mask("".join(traceback.format_exception(error))), encoding="utf-8")
        except OSError:
            continue
        return f"The traceback is in {path}"
    return "There is no place to keep the traceback in"
