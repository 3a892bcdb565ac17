"""What a comparison leaves beside its run record: one JSON document, every measured point as CSV and Parquet, the plots."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aya_lib import settings
from aya_lib.errors import AyaError, UsageError
from aya_lib.picture import Picture
from aya_lib.show import Shown, Table
from aya_lib.vectors.bench.build import Built
from aya_lib.vectors.bench.result import SCHEMA, Comparison, Point
from aya_lib.vectors.report.plots import PLOTS

if TYPE_CHECKING:
    import pyarrow as pa

DOCUMENT, POINTS = "vectors.json", "points"
DPI = 160
QUANTILES = 21  # 0, 5, 10 ... 100 %
# What must be there for a document to be read: its keys, and of which kind.
KEYS: dict[str, type | tuple[type, ...]] = {
    "corpus": dict,
    "k": int,
    "target": (int, float),
    "server": dict,
    "best_of_family": list,
    "measured": list,
    "builds": dict,
}
POINT_KEYS = {"index", "type", "search_settings", "recall", "qps", "latency_ms"}


@dataclass(frozen=True, repr=False)
class Kept(Shown):
    """The files that were written into ``folder``. ``said``: what each plot shows, in a sentence."""

    folder: Path
    files: tuple[str, ...]
    said: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in self.files)

    def table(self) -> Table:
        rows = tuple((name, f"{(self.folder / name).stat().st_size / 1024:,.0f} kB") for name in self.files)
        runs = settings.runs()
        place = f"the runs, below {self.folder.relative_to(runs)}" if self.folder.is_relative_to(runs) else str(self.folder)
        return Table(f"{len(rows)} files in {place}", ("file", "size"), rows, (), "quiet")


def save(c: Comparison, folder: Path, stem: str) -> Kept:
    """Write ``<stem>.vectors.json``, ``.points.csv``, ``.points.parquet`` and ``.<plot>.png`` into ``folder``.

    Everything is written into a hidden folder first and then renamed, the document last: where it is, all of it is. Files of
    an earlier call with the same stem are replaced. Raises :class:`AyaError` when the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".vectors-") as hidden:
            said = _write(c, Path(hidden), stem)
            names = sorted((path.name for path in Path(hidden).iterdir()), key=lambda name: (name.endswith(DOCUMENT), name))
            for gone in {f"{stem}.{plot}.png" for plot in PLOTS} - set(names):
                (folder / gone).unlink(missing_ok=True)
            for name in names:
                os.replace(Path(hidden) / name, folder / name)
    except OSError as error:
        raise AyaError(
            f"nothing can be kept in {folder}: {error.strerror or error}", hint="Make room there, or name another folder"
        ) from None
    return Kept(folder, (names[-1], *names[:-1]), said)


def _write(c: Comparison, folder: Path, stem: str) -> tuple[str, ...]:
    """All files into an empty folder; what the plots say."""
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet
    from pydantic_core import to_json

    # A number that is none (nan, infinite) becomes null: JSON knows neither.
    (folder / f"{stem}.{DOCUMENT}").write_bytes(to_json(c.json(), indent=1, inf_nan_mode="null"))
    table = points(c)
    csv.write_csv(table, folder / f"{stem}.{POINTS}.csv")
    parquet.write_table(table, folder / f"{stem}.{POINTS}.parquet")
    said = []
    for name, plot in PLOTS.items():
        drawn = plot(c)
        if isinstance(drawn, Picture):
            (folder / f"{stem}.{name}.png").write_bytes(drawn.png(DPI))
            said.append(drawn.caption)
    return tuple(said)


def points(c: Comparison) -> pa.Table:
    """Every measured point as a row of plain columns, units in their names; an empty field where there is no value."""
    import pyarrow as pa

    rows = [_row(point, c.builds.get(str(point.index), Built())) for point in c.points]
    text, whole = ("index", "family", "knob", "queries"), ("lists", "m", "ef_construction", "knob_value", "clients")
    counts = ("recall_queries", "asked_searches", "uncached_blocks", "index_bytes", "build_memory_bytes")
    kinds = {**dict.fromkeys(text, pa.string()), **dict.fromkeys((*whole, *counts), pa.int64())}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in COLUMNS])
    return pa.Table.from_pylist(rows, schema=schema)


COLUMNS = (
    *("index", "family", "lists", "m", "ef_construction", "knob", "knob_value", "queries", "clients"),
    *("recall", "recall_low", "recall_high", "recall_queries", "predicted_recall"),
    *("searches_per_s", "p50_ms", "p95_ms", "p99_ms", "server_p50_ms", "asked_searches", "uncached_blocks"),
    *("build_s", "index_bytes", "build_memory_bytes"),
    *(f"q{5 * step:03d}_ms" for step in range(QUANTILES)),
)


def _row(point: Point, built: Built) -> dict[str, Any]:
    quantiles = {f"q{5 * step:03d}_ms": value for step, value in enumerate(point.quantiles[:QUANTILES])}
    return {
        "index": str(point.index),
        "family": point.index.family,
        **dict(point.index.options),
        "knob": point.index.knob or None,
        "knob_value": point.value if point.index.knob else None,
        "queries": point.queries,
        "clients": point.clients,
        "recall": point.recall.value,
        "recall_low": point.recall.low,
        "recall_high": point.recall.high,
        "recall_queries": point.recall.queries,
        "predicted_recall": point.predicted,
        "searches_per_s": point.qps,
        "p50_ms": point.p50,
        "p95_ms": point.p95,
        "p99_ms": point.p99,
        "server_p50_ms": point.server_ms,
        "asked_searches": point.asked,
        "uncached_blocks": point.reads,
        "build_s": built.seconds,
        "index_bytes": built.bytes,
        "build_memory_bytes": built.memory,
        **quantiles,
    }


def load(path: Path) -> dict[str, Any]:
    """A document that :func:`save` wrote, or ``aya bench vectors --json``; :class:`UsageError` when it is not one."""
    hint = f"Name a file that ends in .{DOCUMENT}, beside a run record"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", hint=hint) from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise UsageError(f"{path} cannot be read: {said}", hint=hint) from None
    if not isinstance(document, dict) or not _is_one(document):
        raise UsageError(f"{path} is not a comparison of vector indexes", hint=hint)
    if document.get("schema") != SCHEMA:
        said = f"{path} has schema {document.get('schema')}, this version reads {SCHEMA}"
        raise UsageError(said, hint="Compare with the version that wrote it")
    return document


def _is_one(document: dict[str, Any]) -> bool:
    """Has it the shape of a comparison, as far as it is read here?"""
    if any(not isinstance(document.get(key), kind) for key, kind in KEYS.items()):
        return False
    found = [*document["measured"], *document["best_of_family"], document.get("today"), document.get("recommendation")]
    return all(isinstance(one, dict) and one.keys() >= POINT_KEYS and "low" in one["recall"] for one in found if one is not None)
