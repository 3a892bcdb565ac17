"""The map of IVFFlat: recall and speed over lists and probes, predicted and measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aya_lib.labels import Labels
from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet, round_numbers, spread, ticks, unspread
from aya_lib.show import Note
from aya_lib.vectors.bench.result import Choice, Comparison, Point
from aya_lib.vectors.report.plots_more import beginning, settled

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import FuncNorm, ListedColormap
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ALL_LISTS = 1.12  # where the map ends: a little beyond as many probes as lists
CHIP = {"boxstyle": "round,pad=0.3,rounding_size=0.5", "facecolor": (0.04, 0.05, 0.09, 0.62), "edgecolor": "none"}
ON_FIELD: dict[str, Any] = {"color": "white", "bbox": CHIP, "ha": "left"}
LADDER = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))


def lists_probes(c: Comparison) -> Picture | Note:
    """Recall over lists and probes as the twins predict it, the speed that the cost model predicts, and what was measured."""
    points = [point for point in settled(c) if point.index.family == "ivfflat"]
    rows = _rows(c, points)
    if len(rows) < 2:
        return Note("No heat map: fewer than two numbers of lists were looked at.", "quiet")
    import numpy as np

    figure = canvas(9, 5.2)
    axes = figure.add_subplot(facecolor="none")
    axes.set_xlim(0.82, 1.18 * _most_probes(c, points))
    best = c.best.get("ivfflat")
    shown = sorted({*rows, *(point.index.option("lists") for point in points)}, key=lambda one: (not _is(best, one), one))
    axes.set_ylim(min(shown) / 1.16, max(shown) * 1.16)
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    probes, lists = np.geomspace(*axes.get_xlim(), 300), np.geomspace(*axes.get_ylim(), 240)
    recall, us = _field(c, rows, probes, lists)
    low = min(beginning(float(np.nanmin(recall)), c.target), 0.5)
    colours = _colours(low)
    mesh = axes.pcolormesh(probes, lists, recall, cmap=colours.cmap, norm=colours.norm, shading="nearest")
    _only_lists(axes, mesh)
    _bar(mesh, low)
    labels = Labels(axes)
    _written(axes, labels, points, best, colours)
    _best(axes, labels, c, best)
    _contours(axes, labels, (probes, lists), recall, 1e6 / us, c.target)
    axes.yaxis.set_ticks(_apart(shown))
    axes.set_xlabel("probes", fontsize=9)
    axes.set_ylabel("lists", fontsize=9)
    quiet(axes, "")
    axes.tick_params(labelsize=9, length=0)
    said = _map_said(c, best)
    headline(figure, said)
    by = "measured" if not c.twins else "by twins" if len(rows) == len(c.twins) else "by twins, else measured"
    more = f"Colour: recall, {by}; thin lines: searches per second by the cost model; numbers: recall as measured"
    axes.set_title(more, loc="left", fontsize=9, color=INK)
    labels.settle()
    return Picture(figure, f"{said}. {more}.")


def _map_said(c: Comparison, best: Choice | None) -> str:
    if best is None:
        return f"Recall of IVFFlat over lists and probes, k = {c.k}"
    setting = f"lists={best.index.option('lists')}, {best.point.setting}"
    if not best.met:
        return f"IVFFlat does not reach recall {c.target:g}; it comes closest at {setting}: {best.point.recall.value:.3f}"
    return f"IVFFlat reaches recall {c.target:g} fastest at {setting}: {best.point.qps:,.0f} searches per second"


def _is(best: Choice | None, lists: int) -> bool:
    return best is not None and best.index.option("lists") == lists


@dataclass(frozen=True)
class _Row:
    """Of one number of lists: recall over probes, and how many more rows are scanned than if all lists were equal."""

    probes: list[float]
    recall: list[float]
    uneven: list[float]


def _rows(c: Comparison, points: list[Point]) -> dict[int, _Row]:
    """Each number of lists that a twin speaks of; those with three measured settings, where there is no twin."""
    rows: dict[int, _Row] = {}
    for twin in c.twins:
        uneven = [scanned / (probes * c.rows / twin.lists) for probes, _, scanned in twin.curve]
        rows[twin.lists] = _Row([float(p) for p, _, _ in twin.curve], [recall for _, recall, _ in twin.curve], uneven)
    twins = dict(rows)
    for lists in {point.index.option("lists") for point in points} - set(twins):
        own = sorted((p.value, p.recall.value) for p in points if p.index.option("lists") == lists and p.value < lists)
        if len(own) >= 3:
            probes = [float(value) for value, _ in own] + [float(lists)]
            rows[lists] = _Row(probes, [recall for _, recall in own] + [1.0], _like(twins, lists, probes))
    return rows


def _like(twins: Mapping[int, _Row], lists: int, probes: list[float]) -> list[float]:
    """As uneven as the twin with the nearest number of lists is at the same share of them."""
    import numpy as np

    if not twins:
        return [1.0] * len(probes)
    near = min(twins, key=lambda one: abs(math.log(one / lists)))
    share = np.log(np.array(twins[near].probes) / near)
    return [float(value) for value in np.interp(np.log(np.array(probes) / lists), share, twins[near].uneven)]


def _field(c: Comparison, rows: Mapping[int, _Row], probes: Array, lists: Array) -> tuple[Array, Array]:
    """Recall, and microseconds a search, shape (lists, probes): between the rows along the logarithms; nan beyond all lists."""
    import numpy as np

    known = sorted(rows)
    at = np.log(np.maximum(probes, 1))
    recall, uneven = np.empty((len(known), len(probes))), np.empty((len(known), len(probes)))
    for place, each in enumerate(known):
        row = rows[each]
        rising = np.maximum.accumulate(row.recall)
        left = np.nan if row.probes[0] > 1 else None
        recall[place] = np.interp(at, np.log(row.probes), spread(rising), left=left)
        uneven[place] = np.interp(at, np.log(row.probes), row.uneven)
    between = [np.interp(np.log(lists), np.log(known), column) for column in (*recall.T, *uneven.T)]
    recall, uneven = np.array(between[: len(probes)]).T, np.array(between[len(probes) :]).T
    scanned = np.minimum(c.rows, uneven * np.maximum(probes, 1)[None, :] * c.rows / lists[:, None])
    us = c.cost.per_list * lists[:, None] + c.cost.per_row * scanned + c.cost.fixed
    unknown = np.isnan(recall)
    beyond = probes[None, :] > 1.2 * ALL_LISTS * lists[:, None]
    return np.where(beyond, np.nan, unspread(recall)), np.where(beyond | unknown, np.nan, us)


def _most_probes(c: Comparison, points: list[Point]) -> int:
    """As far to the right as something was measured, or the target is reached with room beyond."""
    most = max(twin.lists for twin in c.twins) if c.twins else max(point.index.option("lists") for point in points)
    wanted = [2 * twin.probes for twin in c.twins if twin.probes]
    return min(most, max([8, *(point.value for point in points), *wanted]))


@dataclass(frozen=True)
class _Colours:
    cmap: ListedColormap
    norm: FuncNorm

    def of(self, recall: float) -> tuple[float, ...]:
        return tuple(float(part) for part in self.cmap(self.norm(recall)))


def _colours(low: float) -> _Colours:
    """From dark to bright, on the scale that spreads recall near 1; white lines read on all of it."""
    import matplotlib
    import numpy as np
    from matplotlib.colors import FuncNorm, ListedColormap

    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.82, 256))
    return _Colours(ListedColormap(shades), FuncNorm((spread, unspread), vmin=low, vmax=1.0, clip=True))


def _only_lists(axes: Axes, mesh: QuadMesh) -> None:
    """Cut off where there would be more probes than lists."""
    from matplotlib.patches import Polygon

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    corner = [(ALL_LISTS * low, low), (right, right / ALL_LISTS)] if right > ALL_LISTS * low else [(right, low)]
    mesh.set_clip_path(Polygon([(left, high), (left, low), *corner, (right, high)], transform=axes.transData))


def _bar(mesh: QuadMesh, low: float) -> None:
    figure: Any = mesh.figure
    bar = figure.colorbar(mesh, ax=mesh.axes, ticks=ticks(low), pad=0.015, aspect=32, format="%g")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=9, length=0)
    bar.ax.minorticks_off()
    bar.set_label("recall", color=INK, fontsize=9)


def _best(axes: Axes, labels: Labels, c: Comparison, best: Choice | None) -> None:
    if best is None:
        return
    where = (best.value, best.index.option("lists"))
    axes.plot(*where, "*", color="white", markersize=17, markeredgecolor="#222", markeredgewidth=1, zorder=6)
    word = "recommended" if best is c.recommendation else "best IVFFlat"
    text = f"{word}: lists={where[1]}, {best.point.setting}"
    labels.hold(where, 14)
    labels.put(text, [where], lines=0.05, **ON_FIELD, fontweight="bold", zorder=7)


def _written(axes: Axes, labels: Labels, points: list[Point], best: Choice | None, colours: _Colours) -> None:
    """Measured recall on its place, in its colour: where it was predicted rightly, only the number is seen."""
    own = [(p.index, p.value) for p in ([best.point] if best else [])]
    shown = [point for point in points if (point.index, point.value) not in own]
    for point in sorted(shown, key=lambda point: point.queries == "choose"):
        where, colour = (point.value, point.index.option("lists")), colours.of(point.recall.value)
        axes.plot(*where, "o", color="white", alpha=0.8, markersize=2.4, markeredgewidth=0, zorder=3)
        pill = {"boxstyle": "round,pad=0.25,rounding_size=0.6", "facecolor": colour, "edgecolor": "white", "linewidth": 0.6}
        text = f"{point.recall.value:.3f}".removeprefix("0")
        labels.put(text, [where], needed=False, on=True, color="white", fontsize=6.5, ha="left", bbox=pill, zorder=4)


def _contours(axes: Axes, labels: Labels, grid: tuple[Array, Array], recall: Array, qps: Array, target: float) -> None:
    """The target as a strong line, searches per second as thin ones."""
    import numpy as np

    levels = round_numbers(float(np.nanmin(qps)), float(np.nanmax(qps)), 12, LADDER)
    for level in (target, *levels):
        style: dict[str, Any] = {"linewidths": 2.6} if level == target else {"linewidths": 0.8, "alpha": 0.75}
        field, text = (recall, f"recall {level:g}") if level == target else (qps, f"{level:,.0f}/s")
        lines = axes.contour(*grid, field, levels=[level], colors="white", **style)
        pieces = [piece for piece in lines.allsegs[0] if len(piece) > 1]
        for piece in pieces:
            labels.avoid(piece[:, 0], piece[:, 1])
        if pieces:
            spots = [(float(x), float(y)) for x, y in _along(max(pieces, key=len))]
            weight = "bold" if level == target else "normal"
            labels.put(text, spots, needed=False, on=True, **ON_FIELD, fontsize=8, fontweight=weight, zorder=5)


def _along(line: Array) -> Array:
    """Places along a line, from a fifth of its length on: where its name may stand."""
    import numpy as np

    shares = (0.2, 0.25, 0.3, 0.15, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
    length = np.concatenate([[0.0], np.hypot(*np.diff(np.log(line), axis=0).T).cumsum()])
    return np.column_stack([np.interp(np.array(shares) * length[-1], length, part) for part in line.T])


def _apart(values: list[int], least: float = 0.05) -> list[int]:
    """Values on a logarithmic axis that are far enough apart to be written, the first first."""
    kept: list[int] = []
    room = math.log(max(values) / min(values)) or 1.0
    for value in values:
        if all(abs(math.log(value / other)) >= least * room for other in kept):
            kept.append(value)
    return kept
