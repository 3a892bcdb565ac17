"""``aya bench`` and ``aya vectors``: measure, check up and rebuild the vector index."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aya_lib import settings
from aya_lib.cli.options import Json, SiteName, group, nodes, print_json
from aya_lib.errors import AyaError

if TYPE_CHECKING:
    from aya_lib.runbook.record import Record
    from aya_lib.vectors.result import Comparison

bench = group("Measure, and compare measurements.")
vectors = group("The vector index of a table.")
NodeName = Annotated[str, typer.Option("--node", metavar="NODE", help="Default: the one that accepts writes.")]
TableName = Annotated[str, typer.Option("--table", metavar="T", help="The table, perhaps schema.table.")]
Column = Annotated[str, typer.Option("--column", metavar="C", help="Its vector column.")]
Target = Annotated[float, typer.Option("--target", metavar="R", help="Recall that must be reached, above 0 and up to 1.")]
K = Annotated[int, typer.Option("--k", metavar="K", help="Neighbours asked for.")]


@bench.command("vectors", epilog="Example: aya bench vectors --corpus sift.hdf5 --target 0.98 --grid --json > sift.json")
def bench_vectors(
    site: SiteName = "lab",
    node: NodeName = "",
    corpus: Annotated[
        str,
        typer.Option("--corpus", metavar="FILE", help=".hdf5 .fvecs .npy .parquet, or generated:ROWSxDIM."),
    ] = "",
    queries: Annotated[str, typer.Option("--queries", metavar="FILE", help="Default: held out of the corpus.")] = "",
    table: TableName = "chunks",
    column: Column = "embedding",
    key: Annotated[str, typer.Option("--key", metavar="C", help="What a search returns, for the statements.")] = "id",
    target: Target = 0.95,
    k: K = 10,
    metric: Annotated[str, typer.Option("--metric", metavar="M", help="cosine, l2 or ip. Default: the file's, cosine.")] = "",
    families: Annotated[
        list[str] | None, typer.Option("--family", metavar="F", help="Only this one; repeatable. Default: all.")
    ] = None,
    clients: Annotated[int, typer.Option("--clients", metavar="N", help="Measured beside one client.")] = 2,
    grid: Annotated[bool, typer.Option("--grid", help="Also measure a whole grid over all families.")] = False,
    build_s: Annotated[float, typer.Option("--build-seconds", metavar="S", help="No build that takes longer. 0: any.")] = 0,
    memory_mb: Annotated[int, typer.Option("--build-memory", metavar="MB", help="No build that needs more. 0: any.")] = 0,
    size_mb: Annotated[int, typer.Option("--size", metavar="MB", help="No larger index. 0: any.")] = 0,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="Read at most so many vectors.")] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Draws the queries.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on from a run that broke off.")] = False,
    as_json: Json = False,
) -> None:
    """Find the best index and setting for a recall target, on your own vectors and this server.

    Everything is built in a scratch database that is gone afterwards; the table itself is only read. Ctrl-C keeps what was
    measured, and the same command goes on from there. Exit 1 when nothing reaches the target.
    """
    from aya_lib.vectors.benchmark import today
    from aya_lib.vectors.catalog import node_of
    from aya_lib.vectors.compare import Request, compare_indexes
    from aya_lib.vectors.corpus import open_source
    from aya_lib.vectors.index import FAMILIES
    from aya_lib.vectors.tuner import Budget

    on = node_of(nodes(site), node)
    request = Request(
        target=target,
        k=k,
        clients=clients,
        families=tuple(families or FAMILIES),
        budget=Budget(build_s or None, memory_mb * 2**20 or None, size_mb * 2**20 or None),
        grid="whole" if grid else None,
        fresh=fresh,
    )
    source = open_source(on, corpus, queries, metric, table=table, column=column, key=key, k=k, most=rows, seed=seed)
    request = replace(request, today=today(on, source))
    record = _record(site, {"corpus": source.corpus.name, "target": target, "k": k, "table": table, "node": on.name})
    bar = sys.stderr if sys.stderr.isatty() and not as_json else None
    try:
        found = compare_indexes(on, source.corpus, source.given, request, out=bar)
    except AyaError as error:
        record.end("failed", error=str(error), exit_code=error.exit_code)
        raise
    except KeyboardInterrupt:
        record.end("interrupted", error="interrupted", exit_code=130)
        print("aya: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None
    _tell(found, record, as_json)
    raise typer.Exit(0 if found.recommendation else 1)


@bench.command("compare", epilog="Example: aya bench compare runs/lab/bench_vectors/A.vectors.json B.vectors.json")
def bench_compare(
    before: Annotated[Path, typer.Argument(help="A kept result, or what --json printed.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: Json = False,
) -> None:
    """Two measurements beside each other: before and after, or two machines."""
    from aya_lib.show import as_text
    from aya_lib.vectors.kept import difference, load

    found = difference(load(before), load(after))
    if as_json:
        print_json(found.json())
    else:
        print(as_text(found.table()))


@vectors.command("checkup", epilog="Example: aya vectors checkup --target 0.98 --json")
def check_up(
    site: SiteName = "lab",
    node: Annotated[str, typer.Option("--node", metavar="NODE", help="Default: the primary, else the standby.")] = "",
    table: TableName = "chunks",
    column: Column = "embedding",
    target: Target = 0.95,
    k: K = 10,
    as_json: Json = False,
) -> None:
    """Is the live index healthy, stale, built too early, of the wrong lists, or searched with the wrong probes?

    Read from its own pages, in seconds, without a search; nothing is written. Exit 1 when a check failed or is unknown.
    """
    from aya_lib.check import Checks, worst
    from aya_lib.show import as_text
    from aya_lib.vectors import checkup

    found = checkup.look(nodes(site), table, column, target, k, node)
    checks = checkup.checks(found)
    if as_json:
        document = found.json() if isinstance(found, checkup.Checkup) else {"unseen": str(found)}
        print_json({"schema": 1, **document, "checks": checks})
    else:
        parts = [found.table()] if isinstance(found, checkup.Checkup) else []
        print("\n\n".join(as_text(part) for part in [*parts, Checks("Vector index", tuple(checks)).table()]))
    raise typer.Exit(1 if worst(checks) in ("failed", "unknown") else 0)


@vectors.command(epilog="Example: aya vectors rebuild --lists 1300 --probes 34 --dry-run")
def rebuild(
    site: SiteName = "lab",
    node: NodeName = "",
    table: TableName = "chunks",
    column: Column = "embedding",
    result: Annotated[str, typer.Option("--from", metavar="FILE", help="The recommendation of a kept result.")] = "",
    family: Annotated[str, typer.Option("--family", metavar="F", help="Default: the family that is there.")] = "",
    lists: Annotated[int, typer.Option("--lists", metavar="N", help="Of IVFFlat.")] = 0,
    probes: Annotated[int, typer.Option("--probes", metavar="N", help="Lists that a search looks into.")] = 0,
    m: Annotated[int, typer.Option("--m", metavar="N", help="Of HNSW.")] = 0,
    ef_construction: Annotated[int, typer.Option("--ef-construction", metavar="N", help="Of HNSW.")] = 0,
    ef_search: Annotated[int, typer.Option("--ef-search", metavar="N", help="How wide an HNSW search is.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Build anew also what is as requested: a stale index.")] = False,
    target: Target = 0.95,
    k: K = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the checks and the plan, change nothing.")] = False,
    approved_by: Annotated[str, typer.Option("--approved-by", metavar="NAME", help="Who approved, on production.")] = "",
    as_json: Json = False,
) -> None:
    """Build the index anew beside running searches, prove it, and only then let go of the old one.

    Runs the runbook rebuild_index and keeps its notebook. Without options: what the check-up advises. Killed anywhere, the
    same command finishes or cleans up. Exit 1 when something does not hold before, or the new index is not good enough; the
    old one is back then.
    """
    values = {name: value for name, value in locals().items() if name != "as_json"}  # the runbook's parameters
    values["result"] = str(Path(result).absolute()) if result else ""
    from aya_lib.runbook import progress
    from aya_lib.runbook.run import run

    out = sys.stderr if as_json else sys.stdout
    done = run("rebuild_index", values, progress.printer(out))
    if as_json:
        print_json(done.record)
    else:
        progress.ending(done, out)
    raise typer.Exit(done.exit_code)


def _record(site: str, parameters: dict[str, object]) -> Record:
    """The record of this run, as a runbook has one: listed and pruned by aya runs."""
    from aya_lib import __version__
    from aya_lib.runbook.record import Record

    name = Path(site).parent.name if site.endswith(("yaml", "yml")) else site
    path = settings.runs() / name / "bench_vectors" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    said = {"dry_run": False, "approved_by": "", "versions": {"aya": __version__}, "pid": os.getpid()}
    return Record.begin(path, runbook="bench_vectors", site=name, parameters=parameters, **said)


def _tell(found: Comparison, record: Record, as_json: bool) -> None:
    """The result on stdout, and as files beside its record."""
    from aya_lib.show import as_text
    from aya_lib.vectors.kept import save
    from aya_lib.vectors.result import LeftOut

    kept = save(found, record.path.parent, record.path.stem)
    best = found.recommendation
    outcome = "passed" if best else "failed"
    record.end(outcome, verdict={"status": outcome, "line": found.table().title}, exit_code=0 if best else 1)
    if as_json:
        print_json(found.json())
        return
    shown = [found.table(), *([LeftOut(found.skipped).table()] if found.skipped else [])]
    print("\n\n".join(as_text(table, 150) for table in shown))
    if best:
        chosen = [f"SET {name} = {value}" for name, value in best.json()["search_settings"].items()]
        print("\n" + "\n".join(f"{line};" for line in (best.create_sql, *chosen, best.search_sql) if line))
    print(f"\n{as_text(kept.table())}")
