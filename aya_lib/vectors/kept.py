"""What a comparison leaves beside its run record (a JSON document, every measured point as CSV and Parquet, the plots), and two
of them beside each other: before and after a change, or the same vectors on two machines."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aya_lib import settings
from aya_lib.errors import AyaError, UsageError
from aya_lib.picture import Picture
from aya_lib.show import Shown, Table
from aya_lib.vectors.index import Index, mb
from aya_lib.vectors.plots import PLOTS
from aya_lib.vectors.result import SCHEMA, Comparison, Point
from aya_lib.vectors.sandbox import Built
from aya_lib.vectors.style import STYLE, named

if TYPE_CHECKING:
    import pyarrow as pa

Document = Mapping[str, Any]
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
# Columns of the table of points, units in their names: the type, and where a point has it; of the build, and options, below.
COLUMNS = {
    "index": ("string", "index"),
    "family": ("string", "index.family"),
    "lists": ("int64", ""),
    "m": ("int64", ""),
    "ef_construction": ("int64", ""),
    "knob": ("string", "index.knob"),
    "knob_value": ("int64", "value"),
    "queries": ("string", "queries"),
    "clients": ("int64", "clients"),
    "recall": ("float64", "recall.value"),
    "recall_low": ("float64", "recall.low"),
    "recall_high": ("float64", "recall.high"),
    "recall_queries": ("int64", "recall.queries"),
    "predicted_recall": ("float64", "predicted"),
    "searches_per_s": ("float64", "qps"),
    "p50_ms": ("float64", "p50"),
    "p95_ms": ("float64", "p95"),
    "p99_ms": ("float64", "p99"),
    "server_p50_ms": ("float64", "server_ms"),
    "asked_searches": ("int64", "asked"),
    "uncached_blocks": ("int64", "reads"),
    "build_s": ("float64", ""),
    "index_bytes": ("int64", ""),
    "build_memory_bytes": ("int64", ""),
    **{f"q{share:03d}_ms": ("float64", "") for share in range(0, 101, 5)},
}
# What must be equal beside the vectors for numbers to be comparable: its name, and where it stands in a document.
EQUAL = {
    "metric": "corpus.metric",
    "k": "k",
    "target": "target",
    "node": "server.node",
    "PostgreSQL": "server.version",
    "pgvector": "server.pgvector",
    "shared_buffers": "server.shared_buffers",
    "maintenance_work_mem": "server.maintenance_work_mem",
    "parallel build workers": "server.parallel_maintenance",
    "cores": "server.cores",
}
RATIOS = {"qps": "qps", "p95": "latency_ms.p95", "bytes": "bytes", "build": "build_s"}
SHORT = ("index", "type", "options", "search_settings", "recall", "qps", "latency_ms", "bytes", "build_s")


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
    """Every measured point as a row of plain columns; an empty field where there is no value."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, (kind, _) in COLUMNS.items()])
    return pa.Table.from_pylist([_row(point, c.builds.get(point.index, Built())) for point in c.points], schema=schema)


def _row(point: Point, built: Built) -> dict[str, Any]:
    row = {name: attrgetter(place)(point) for name, (_, place) in COLUMNS.items() if place}
    row |= {"index": str(point.index), **dict(point.index.options)}
    row |= {"build_s": built.seconds, "index_bytes": built.bytes, "build_memory_bytes": built.memory}
    row |= {f"q{5 * number:03d}_ms": value for number, value in enumerate(point.quantiles)}
    return row if point.index.knob else row | {"knob": None, "knob_value": None}


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


@dataclass(frozen=True, repr=False)
class Difference(Shown):
    """``pairs``: today's index, the recommendation and the best of each family, each before and after (None: not in that one),
    with ratios of after to before. ``unlike``: what differs between the two besides the results, each as a sentence."""

    before: str
    after: str
    unlike: list[str]
    pairs: list[dict[str, Any]]

    def json(self) -> dict[str, Any]:
        return {"schema": 1, **asdict(self)}

    def table(self) -> Table:
        columns = ("", "index", "searches/s", "x", "recall", "p95", "size", "build")
        legend = "x, p95, size and build: after as a multiple of before; new, gone: only in one of the two."
        notes = (*self.unlike, f"Before: {self.before}. After: {self.after}.", legend)
        return Table(self.headline, columns, tuple(map(_line, self.pairs)), notes, "warning" if self.unlike else "plain")

    @property
    def headline(self) -> str:
        """What changed for the one who searches: the recommendation, or what else is in both."""
        times = {pair["what"]: pair["qps_ratio"] for pair in self.pairs}
        for what in ("recommendation", "today"):
            if times.get(what):
                return f"{what.capitalize()}: {times[what]:.2f} times the searches per second of before"
        return "Nothing to compare: neither a recommendation nor today's index is in both"


def difference(before: Document, after: Document) -> Difference:
    """What changed from one saved comparison to another. What makes them unlike is named, and nothing is refused."""
    places = [(what, before.get(what), after.get(what)) for what in ("recommendation", "today")]
    was, now = ({choice["type"]: choice for choice in document["best_of_family"]} for document in (before, after))
    places += [(style.word, was.get(family), now.get(family)) for family, style in STYLE.items()]
    pairs = [_pair(*place) for place in places if any(place[1:])]
    return Difference(_called(before), _called(after), _unlike(before, after), pairs)


def _pair(what: str, before: Document | None, after: Document | None) -> dict[str, Any]:
    """The same place in two comparisons. Where the 95 % intervals of recall overlap, the difference may be chance."""
    pair: dict[str, Any] = {"what": what}
    for name, choice in (("before", before), ("after", after)):
        pair[name] = {key: choice.get(key) for key in SHORT} if choice else None
    for name, place in RATIOS.items():
        was, now = _at(before, place), _at(after, place)
        pair[f"{name}_ratio"] = now / was if was and now else None
    pair |= {"recall_difference": None, "recall_intervals_overlap": None}
    if before and after:
        was, now = before["recall"], after["recall"]
        pair["recall_difference"] = now["value"] - was["value"]
        pair["recall_intervals_overlap"] = was["low"] <= now["high"] and now["low"] <= was["high"]
    return pair


def _line(pair: dict[str, Any]) -> tuple[str, ...]:
    what, before, after = pair["what"], pair["before"], pair["after"]
    if not before or not after:
        only = before or after
        return (what, _name(only), f"{only['qps']:,.0f}", "gone" if before else "new", _recall(only), "", "", "")
    names = "\n-> ".join(dict.fromkeys((_name(before), _name(after))))
    chance = "intervals overlap" if pair["recall_intervals_overlap"] else "intervals apart"
    recall = f"{_recall(before)}\n-> {_recall(after)}\n{pair['recall_difference']:+.3f}, {chance}"
    times, *ratios = ("" if pair[f"{name}_ratio"] is None else f"{pair[f'{name}_ratio']:.2f}" for name in RATIOS)
    return (what, names, f"{before['qps']:,.0f} -> {after['qps']:,.0f}", times, recall, *ratios)


def _unlike(before: Document, after: Document) -> list[str]:
    sentences = []
    if _at(before, "corpus.fingerprint") != _at(after, "corpus.fingerprint"):
        was, now = (f"{_at(of, 'corpus.name')}, {_plain(_at(of, 'corpus.rows'))} rows" for of in (before, after))
        sentences.append(f"Not the same vectors: {was} before, {now} after; recall and speed are not of one thing.")
    for word, place in EQUAL.items():
        was, now = _at(before, place), _at(after, place)
        if was != now:
            show = mb if word.endswith(("buffers", "_mem")) and was and now else _plain
            sentences.append(f"Not the same {word}: {show(was)} before, {show(now)} after.")
    return sentences


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _called(document: Document) -> str:
    server = document["server"]
    return f"{document.get('at') or 'at an unknown time'} on {server.get('node')} ({document['corpus'].get('name')})"


def _at(document: Document | None, place: str) -> Any:
    value: Any = document
    for key in place.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _name(choice: Document) -> str:
    settings = ", ".join(f"{name.split('.')[-1]}={value}" for name, value in choice["search_settings"].items())
    return "\n".join(part for part in (named(Index(choice["type"], tuple(choice["options"].items()))), settings) if part)


def _recall(choice: Document) -> str:
    recall = choice["recall"]
    return f"{recall['value']:.3f} ({recall['low']:.3f} to {recall['high']:.3f})"
