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
from aya_lib.vectors.plots import PLOTS
from aya_lib.vectors.result import SCHEMA, Comparison, Point
from aya_lib.vectors.sandbox import Built

if TYPE_CHECKING:
    import pyarrow as pa

DOCUMENT, POINTS = "vectors.json", "points"
DPI = 160
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
POINT_KEYS = {"index", "type", "options", "search_settings", "recall", "qps", "latency_ms"}
TEXTS = ("index", "family", "knob", "queries")
COUNTS = (
    *("lists", "m", "ef_construction", "knob_value", "clients"),
    *("recall_queries", "asked_searches", "uncached_blocks", "index_bytes", "build_memory_bytes"),
)
QUANTILES = tuple(f"q{share:03d}_ms" for share in range(0, 101, 5))
COLUMNS = (
    *("index", "family", "lists", "m", "ef_construction", "knob", "knob_value", "queries", "clients"),
    *("recall", "recall_low", "recall_high", "recall_queries", "predicted_recall"),
    *("searches_per_s", "p50_ms", "p95_ms", "p99_ms", "server_p50_ms", "asked_searches", "uncached_blocks"),
    *("build_s", "index_bytes", "build_memory_bytes", *QUANTILES),
)


@dataclass(frozen=True, repr=False)
class Kept(Shown):
    """The files that were written into ``folder``, the document first."""

    folder: Path
    files: tuple[str, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in self.files)

    def table(self) -> Table:
        rows = tuple((path.name, f"{path.stat().st_size / 1024:,.0f} kB") for path in self.paths)
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
            _write(c, Path(hidden), stem)
            names = sorted((path.name for path in Path(hidden).iterdir()), key=lambda name: (name.endswith(DOCUMENT), name))
            for gone in {f"{stem}.{plot}.png" for plot in PLOTS} - set(names):
                (folder / gone).unlink(missing_ok=True)
            for name in names:
                os.replace(Path(hidden) / name, folder / name)
    except OSError as error:
        hint = "Make room there, or name another folder"
        raise AyaError(f"nothing can be kept in {folder}: {error.strerror or error}", hint=hint) from None
    return Kept(folder, (names[-1], *names[:-1]))


def _write(c: Comparison, folder: Path, stem: str) -> None:
    """All files into an empty folder."""
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet
    from pydantic_core import to_json

    # A number that is none (nan, infinite) becomes null: JSON knows neither.
    (folder / f"{stem}.{DOCUMENT}").write_bytes(to_json(c.json(), indent=1, inf_nan_mode="null"))
    table = points(c)
    csv.write_csv(table, folder / f"{stem}.{POINTS}.csv")
    parquet.write_table(table, folder / f"{stem}.{POINTS}.parquet")
    for name, plot in PLOTS.items():
        drawn = plot(c)
        if isinstance(drawn, Picture):
            (folder / f"{stem}.{name}.png").write_bytes(drawn.png(DPI))


def points(c: Comparison) -> pa.Table:
    """Every measured point as a row of plain columns, units in their names; an empty field where there is no value."""
    import pyarrow as pa

    kinds = {**dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(COUNTS, pa.int64())}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in COLUMNS])
    return pa.Table.from_pylist([_row(point, c.builds.get(point.index, Built())) for point in c.points], schema=schema)


def _row(point: Point, built: Built) -> dict[str, Any]:
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
        **{f"{name}_ms": value for name, value in point.latency_ms.items()},
        "server_p50_ms": point.server_ms,
        "asked_searches": point.asked,
        "uncached_blocks": point.reads,
        "build_s": built.seconds,
        "index_bytes": built.bytes,
        "build_memory_bytes": built.memory,
        **dict(zip(QUANTILES, point.quantiles, strict=False)),
    }


def load(path: Path) -> dict[str, Any]:
    """A document that :func:`save` wrote, or ``aya bench vectors --json``; :class:`UsageError` when it is not one."""
    hint = f"Name a file that ends in .{DOCUMENT}, beside a run record"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there", hint=hint) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise UsageError(f"{path} cannot be read: {reason}", hint=hint) from None
    if not isinstance(document, dict) or not _is_comparison(document):
        raise UsageError(f"{path} is not a comparison of vector indexes", hint=hint)
    if document.get("schema") != SCHEMA:
        reason = f"{path} has schema {document.get('schema')}, this version reads {SCHEMA}"
        raise UsageError(reason, hint="Compare with the version that wrote it")
    return document


def _is_comparison(document: dict[str, Any]) -> bool:
    """Has it the shape of a comparison, as far as it is read here?"""
    if any(not isinstance(document.get(key), kind) for key, kind in KEYS.items()):
        return False
    parts = [*document["measured"], *document["best_of_family"], document.get("today"), document.get("recommendation")]
    return all(isinstance(p, dict) and p.keys() >= POINT_KEYS and "low" in p["recall"] for p in parts if p is not None)
