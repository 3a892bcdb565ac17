"""``aya ingest``, ``aya search`` and ``aya documents``."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from aya_lib.cli.options import Json, SiteName, answer, group, nodes
from aya_lib.errors import UsageError

app = group()
documents = group("The documents that are there.")
What = Annotated[list[str], typer.Argument(metavar="WHAT", help="Numbers, or files and folders that documents came from.")]


@app.command(epilog="Example: aya ingest docs/ --category manuals --prune")
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, or folders with .md .txt .html .pdf in them.")],
    site: SiteName = "lab",
    category: Annotated[
        str | None, typer.Option("--category", metavar="C", help="Of the documents. Default: as they are, general at first.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Also delete documents whose files are gone from the folders.")] = False,
    as_json: Json = False,
) -> None:
    """Load documents: cut into chunks, embedded, written. The same file again changes nothing.

    Killed at any point and run again, it goes on where it was. Exit 1 when a file was left out, in whole or in part. At its end
    stands what the check-up says of the vector index; a first large load builds it anew.
    """
    from aya_lib.knowledge.ingest import bar
    from aya_lib.knowledge.ingest import ingest as run

    with bar(file=sys.stderr, disable=as_json or not sys.stderr.isatty()) as progress:
        report = run(nodes(site), paths, category=category, prune=prune, progress=progress)
    index = _vector_index(site, report.tally.chunks) if report.tally.chunks else None
    answer(report, report.json() | {"vector_index": index}, as_json)
    if index and not as_json:
        print(f"Vector index: {index['verdict']}: {index['why']}" + (f"\n  mend it: {index['mend']}" if index["mend"] else ""))
    raise typer.Exit(0 if report.tally.whole else 1)


def _vector_index(site: str, chunks: int) -> dict[str, str]:
    """The check-up's verdict after a load, and the index built anew where that load was the first large one."""
    from aya_lib.vectors import after_load

    with redirect_stdout(sys.stderr):  # a build shows how far it is; stdout is the answer's
        return after_load.settle(nodes(site), chunks)


@app.command(epilog='Example: aya search "how do I rejoin the old primary" --limit 3')
def search(
    query: Annotated[str, typer.Argument(metavar="QUESTION", help='"quoted phrases" must stand there, -words at the end not.')],
    site: SiteName = "lab",
    mode: Annotated[str, typer.Option("--mode", metavar="M", help="vector, text or hybrid.")] = "hybrid",
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="Results, at most 1000.")] = 5,
    category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only of this category.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Only with this in the metadata; repeatable.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="DATE", help="Documents created since then.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Documents created before then.")] = None,
    as_json: Json = False,
) -> None:
    """Ask the knowledge base."""
    from aya_lib.knowledge.ask import ask
    from aya_lib.knowledge.search import MODES, Filters
    from aya_lib.runbook.progress import coloured

    if mode not in MODES:
        raise UsageError(f"--mode {mode}: allowed are {', '.join(MODES)}")
    filters = Filters(category, _pairs(metadata or []), _date("--since", since), _date("--until", until))
    found = ask(nodes(site), query, mode, limit, filters)
    answer(found.text(coloured(sys.stdout)), found.json(), as_json)


@documents.command("list", epilog="Example: aya documents list docs/ --category manuals")
def list_(
    what: Annotated[list[str] | None, typer.Argument(metavar="[WHAT]", help="Numbers, files or folders. Default: all.")] = None,
    site: SiteName = "lab",
    category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only of this category.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 1000,
    as_json: Json = False,
) -> None:
    """Which documents there are, and where they came from."""
    from aya_lib.knowledge.documents import find

    found = find(nodes(site), what or [], category=category, limit=limit)
    answer(found, found.json(), as_json)


@documents.command(epilog="Example: aya documents show docs/standby.md --json")
def show(what: What, site: SiteName = "lab", as_json: Json = False) -> None:
    """What a document is, and how it begins; all of its text with --json."""
    from aya_lib.knowledge.documents import find
    from aya_lib.show import as_text

    found = find(nodes(site), what, whole=as_json)
    answer(as_text(found.text()), found.json(), as_json)


@documents.command(epilog="Example: aya documents delete docs/old/ --dry-run")
def delete(
    what: What,
    site: SiteName = "lab",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which, delete none.")] = False,
    approved_by: Annotated[str, typer.Option("--approved-by", metavar="NAME", help="Who approved, on production.")] = "",
    as_json: Json = False,
) -> None:
    """Delete documents with their chunks. The files stay, and loading them again brings the documents back."""
    from aya_lib.knowledge import documents as there

    found = there.delete(nodes(site), what, approved_by=approved_by, dry_run=dry_run)
    answer(found, found.json(), as_json)


def _pairs(words: list[str]) -> dict[str, Any]:
    """KEY=VALUE; a value that is JSON (a number, true, a list) is taken as such."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise UsageError(f"--meta {word}: allowed is KEY=VALUE, for example kind=pdf")
        try:
            found[key] = json.loads(value, parse_constant=_no_json)
        except (ValueError, RecursionError):
            found[key] = value
    return found


def _no_json(word: str) -> Any:
    raise ValueError(word)  # NaN and Infinity, which Python takes and JSON has not


def _date(option: str, word: str | None) -> datetime | None:
    if word is None:
        return None
    try:
        return datetime.fromisoformat(word)
    except ValueError:
        raise UsageError(f"{option} {word}: allowed is a date like 2026-11-24 or 2026-11-24T03:00") from None
