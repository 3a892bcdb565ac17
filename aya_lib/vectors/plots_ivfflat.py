"""Plots of IVFFlat: recall and speed over lists and probes, predicted and measured, and how far predictions can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aya_lib.picture import (
    INK,
    Picture,
    canvas,
    declutter,
    headline,
    labelled,
    log_axis,
    round_numbers,
    share_axis,
    spread,
    ticks,
    unspread,
)
from aya_lib.show import Note
from aya_lib.vectors.index import Index
from aya_lib.vectors.result import Choice, Comparison, Point
from aya_lib.vectors.style import STYLE, beginning, choices, counts, named, settled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import FuncNorm, ListedColormap
    from matplotlib.text import Text

Array = NDArray[np.float64]
ALL_LISTS = 1.12  # where the map ends: a little beyond as many probes as lists
LADDER = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
ENDS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)  # where an axis of recall may end
WITHIN = 0.02  # the band of predictions that are good enough
Prediction = tuple[float, Point]


def lists_probes(c: Comparison) -> Picture | Note:
    """Recall over lists and probes as the twins predict it, the speed that the cost model predicts, and what was measured."""
    points = [point for point in settled(c) if point.index.family == "ivfflat"]
    rows = _rows(c, points)
    if len(rows) < 2:
        return Note("No heat map: fewer than two numbers of lists were looked at.", "quiet")
    figure = canvas(9, 5.2)
    axes = figure.add_subplot(facecolor="none")
    axes.set_xlim(0.82, 1.18 * _most_probes(c, points))
    best = c.best.get("ivfflat")
    chosen = best.index.option("lists") if best else 0
    shown = sorted({*rows, *(point.index.option("lists") for point in points)}, key=lambda lists: (lists != chosen, lists))
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
    words = _contours(axes, (probes, lists), recall, 1e6 / us, c.target) + _measured(axes, points, best, colours)
    if best:
        axes.plot(best.value, chosen, "*", color="white", markersize=17, markeredgecolor="#222", markeredgewidth=1, zorder=6)
    axes.yaxis.set_ticks(_apart(shown))
    labelled(axes, "probes", "lists")
    said = _map_said(c, best)
    headline(figure, said)
    by = "measured" if not c.twins else "by twins" if len(rows) == len(c.twins) else "by twins, else measured"
    more = f"Colour: recall, {by}; thin lines: searches per second by the cost model; numbers: recall as measured"
    axes.set_title(more, loc="left", fontsize=9, color=INK)
    declutter(words)
    return Picture(figure, f"{said}. {more}.")


def _map_said(c: Comparison, best: Choice | None) -> str:
    if best is None:
        return f"Recall of IVFFlat over lists and probes, k = {c.k}"
    setting = f"lists={best.index.option('lists')}, {best.point.setting}"
    if not best.met:
        return f"IVFFlat does not reach recall {c.target:g}; it comes closest at {setting}: {best.point.recall.value:.3f}"
    return f"IVFFlat reaches recall {c.target:g} fastest at {setting} (star): {best.point.qps:,.0f} searches per second"


@dataclass(frozen=True)
class _Row:
    """Of one number of lists: recall over probes, and how many more rows are scanned than if all lists were equal."""

    probes: list[float]
    recall: list[float]
    uneven: list[float]


def _rows(c: Comparison, points: list[Point]) -> dict[int, _Row]:
    """Each number of lists that a twin speaks of; those with three measured settings, where there is no twin."""
    twins: dict[int, _Row] = {}
    for twin in c.twins:
        uneven = [scanned / (probes * c.rows / twin.lists) for probes, _, scanned in twin.curve]
        twins[twin.lists] = _Row([float(p) for p, _, _ in twin.curve], [recall for _, recall, _ in twin.curve], uneven)
    rows = dict(twins)
    for lists in {point.index.option("lists") for point in points} - set(twins):
        own = sorted((p.value, p.recall.value) for p in points if p.index.option("lists") == lists and p.value < lists)
        if len(own) >= 3:
            probes = [float(value) for value, _ in own] + [float(lists)]
            rows[lists] = _Row(probes, [recall for _, recall in own] + [1.0], _like(twins, lists, probes))
    return rows


def _like(twins: Mapping[int, _Row], lists: int, probes: list[float]) -> list[float]:
    """As uneven as the twin with the nearest number of lists is at the same share of them."""
    if not twins:
        return [1.0] * len(probes)
    near = min(twins, key=lambda other: abs(math.log(other / lists)))
    share = np.log(np.array(twins[near].probes) / near)
    return [float(value) for value in np.interp(np.log(np.array(probes) / lists), share, twins[near].uneven)]


def _field(c: Comparison, rows: Mapping[int, _Row], probes: Array, lists: Array) -> tuple[Array, Array]:
    """Recall, and microseconds a search, shape (lists, probes): between the rows along the logarithms; nan beyond all lists."""
    known = sorted(rows)
    at = np.log(np.maximum(probes, 1))
    recalls, unevens = [], []
    for row in map(rows.__getitem__, known):
        unknown = np.nan if row.probes[0] > 1 else None
        recalls.append(np.interp(at, np.log(row.probes), spread(np.maximum.accumulate(row.recall)), left=unknown))
        unevens.append(np.interp(at, np.log(row.probes), row.uneven))
    recall, uneven = (
        np.array([np.interp(np.log(lists), np.log(known), column) for column in np.array(columns).T]).T
        for columns in (recalls, unevens)
    )
    scanned = np.minimum(c.rows, uneven * np.maximum(probes, 1)[None, :] * c.rows / lists[:, None])
    us = c.cost.per_list * lists[:, None] + c.cost.per_row * scanned + c.cost.fixed
    beyond = probes[None, :] > 1.2 * ALL_LISTS * lists[:, None]
    return np.where(beyond, np.nan, unspread(recall)), np.where(beyond | np.isnan(recall), np.nan, us)


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


def _measured(axes: Axes, points: list[Point], best: Choice | None, colours: _Colours) -> list[Text]:
    """Measured recall on its place, in its colour: where it was predicted rightly, only the number is seen."""
    words = []
    for point in sorted(points, key=lambda point: point.queries == "choose"):
        if best and (point.index, point.value) == (best.index, best.value):
            continue
        place = (point.value, point.index.option("lists"))
        axes.plot(*place, "o", color="white", alpha=0.8, markersize=2.4, markeredgewidth=0, zorder=3)
        pill = {"boxstyle": "round,pad=0.25,rounding_size=0.6", "edgecolor": "white", "linewidth": 0.6}
        pill["facecolor"] = colours.of(point.recall.value)
        text, style = f"{point.recall.value:.3f}".removeprefix("0"), {"ha": "center", "va": "center"}
        words.append(axes.text(*place, text, color="white", fontsize=6.5, bbox=pill, zorder=4, **style))  # type: ignore[arg-type]
    return words


def _contours(axes: Axes, grid: tuple[Array, Array], recall: Array, qps: Array, target: float) -> list[Text]:
    """The target as a strong line, searches per second as thin ones; their names, the target's first."""
    levels = round_numbers(float(np.nanmin(qps)), float(np.nanmax(qps)), 12, LADDER)
    strong = axes.contour(*grid, recall, levels=[target], colors="white", linewidths=2.6)
    thin = axes.contour(*grid, qps, levels=levels, colors="white", linewidths=0.8, alpha=0.75)
    words = list(axes.clabel(strong, fmt=lambda level: f"recall {level:g}", fontsize=8))
    return words + list(axes.clabel(thin, fmt=lambda level: f"{level:,.0f}/s", fontsize=8))


def _apart(values: list[int], least: float = 0.05) -> list[int]:
    """Values on a logarithmic axis that are far enough apart to be written, the first first."""
    kept: list[int] = []
    room = math.log(max(values) / min(values)) or 1.0
    for value in values:
        if all(abs(math.log(value / other)) >= least * room for other in kept):
            kept.append(value)
    return kept


def predicted(c: Comparison) -> Picture | Note:
    """Recall as predicted, from centroids alone, and as measured by searches: how far the twins can be trusted."""
    pairs = predictions(c)
    if not pairs:
        return Note("No plot of predictions: no IVFFlat setting was both predicted and measured.", "quiet")
    figure = canvas(9, 4.3)
    both, apart = figure.subplots(1, 2, width_ratios=(1, 1.25), subplot_kw={"facecolor": "none"})
    values = [value for foreseen, point in pairs for value in (foreseen, point.recall.value)]
    low, high = max(end for end in ENDS if end <= max(0.0, min(values) - 0.02)), min(end for end in ENDS if end >= max(values))
    low, high = (low, high) if low < high else (ENDS[ENDS.index(low) - 1], high)
    chosen = {(choice.index, choice.value) for choice in choices(c)}
    share_axis(both.yaxis, low, high)
    both.plot((low, high), (low, high), color=INK, linewidth=1)
    most = max(1.6 * WITHIN, *(max(abs(p.recall.low - f), abs(p.recall.high - f)) * 1.15 for f, p in pairs))
    apart.set_ylim(-most, most)
    apart.axhspan(-WITHIN, WITHIN, color=INK, alpha=0.12, linewidth=0)
    apart.axhline(0, color=INK, linewidth=1)
    apart.yaxis.set_major_formatter(lambda value, _: f"{value:+.2f}".replace("-", "\u2212") if abs(value) > 1e-9 else "0")
    for axes, aspect, title in ((both, 1, f"recall@{c.k} measured"), (apart, 0.8, "measured less predicted")):
        for foreseen, point in pairs:
            _dot(axes, foreseen, foreseen if axes is apart else 0.0, point, (point.index, point.value) in chosen)
        share_axis(axes.xaxis, low, high)
        axes.set_box_aspect(aspect)  # as high as the other: their widths are as 1 to 1.25
        labelled(axes, "recall predicted from the centroids", title, "both")
        axes.tick_params(pad=6)
    said, further = _predicted_said(pairs, chosen)
    headline(figure, said)
    return Picture(figure, f"{said}; {further}.")


def _predicted_said(pairs: list[Prediction], chosen: set[tuple[Index, int]]) -> tuple[str, str]:
    foreseen, point = max(pairs, key=lambda pair: abs(pair[0] - pair[1].recall.value))
    off = point.recall.value - foreseen
    said = f"Predicted recall is within {abs(off):.3f} of the measured at {counts(len(pairs), 'IVFFlat setting')}"
    errors = [abs(foreseen - point.recall.value) for foreseen, point in pairs if (point.index, point.value) in chosen]
    said += f", {max(errors):.3f} at the chosen (filled)" if errors and len(errors) < len(pairs) else ""
    return said, f"furthest off: {named(point.index)}, {point.setting}, {off:+.3f}"


def predictions(c: Comparison) -> list[Prediction]:
    """Recall as predicted, and the measured point: by its own centroids, or by the twin of as many lists."""
    twins = {(twin.lists, probes): recall for twin in c.twins for probes, recall, _ in twin.curve}
    pairs = []
    for point in settled(c):
        if point.index.method == "ivfflat":
            foreseen = point.predicted if point.predicted is not None else twins.get((point.index.option("lists"), point.value))
            pairs += [(foreseen, point)] if foreseen is not None else []
    return pairs


def _dot(axes: Axes, foreseen: float, less: float, point: Point, chosen: bool) -> None:
    """One setting with its interval, over its prediction; filled where it was a choice."""
    style, recall = STYLE[point.index.family], point.recall
    axes.plot([foreseen] * 2, [recall.low - less, recall.high - less], color=style.colour, linewidth=1, alpha=0.6)
    fill, size = (style.colour, 6) if chosen else ("none", 5)
    axes.plot([foreseen], [recall.value - less], style.marker, color=style.colour, markerfacecolor=fill, markersize=size)
