"""Plots of IVFFlat: recall and speed over lists and probes, predicted and measured, and how far predictions can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet, round_numbers, share_axis, spread, ticks, unspread
from aya_lib.show import Note
from aya_lib.vectors.index import Index
from aya_lib.vectors.result import Choice, Comparison, Point
from aya_lib.vectors.style import LEFT, STYLE, beginning, choices, counts, named, settled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Rows = Mapping[int, tuple[tuple[float, float], ...]]  # for each number of lists: probes and recall, by probes ascending
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
    known = [*rows, *(point.index.option("lists") for point in points)]
    axes.set(xlim=(0.82, 1.18 * _most_probes(c, points)), ylim=(min(known) / 1.16, max(known) * 1.16))
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.set(xlabel="probes", ylabel="lists")
    quiet(axes, "")
    best = c.best.get("ivfflat")
    _map(axes, c, rows, points)
    if best:
        place = (best.value, best.index.option("lists"))
        axes.plot(*place, "*", color="white", markersize=17, markeredgecolor="#222", markeredgewidth=1, zorder=6)
    said = _map_said(c, best)
    headline(figure, said)
    by = "measured" if not c.twins else "by twins" if len(rows) == len(c.twins) else "by twins, else measured"
    more = f"Colour: recall, {by}, in dots as measured; thick line: {c.target:g}; thin: searches per second by the cost model"
    axes.set_title(more, loc="left", fontsize=9, color=INK)
    return Picture(figure, f"{said}. {more}.")


def _map_said(c: Comparison, best: Choice | None) -> str:
    if best is None:
        return f"Recall of IVFFlat over lists and probes, k = {c.k}"
    setting = f"lists={best.index.option('lists')}, {best.point.setting}"
    if not best.met:
        return f"IVFFlat does not reach recall {c.target:g}; it comes closest at {setting}: {best.point.recall.value:.3f}"
    return f"IVFFlat reaches recall {c.target:g} fastest at {setting} (star): {best.point.qps:,.0f} searches per second"


def _rows(c: Comparison, points: list[Point]) -> Rows:
    """Each number of lists that a twin speaks of; those with three measured settings, where there is no twin."""
    rows = {twin.lists: tuple((float(probes), recall) for probes, recall, _ in twin.curve) for twin in c.twins}
    for lists in {point.index.option("lists") for point in points} - set(rows):
        own = sorted((p.value, p.recall.value) for p in points if p.index.option("lists") == lists and p.value < lists)
        if len(own) >= 3:
            rows[lists] = (*own, (lists, 1.0))
    return rows


def _most_probes(c: Comparison, points: list[Point]) -> int:
    """As far to the right as something was measured, or the target is reached with room beyond."""
    most = max(twin.lists for twin in c.twins) if c.twins else max(point.index.option("lists") for point in points)
    wanted = [2 * twin.probes for twin in c.twins if twin.probes]
    return min(most, max([8, *(point.value for point in points), *wanted]))


def _map(axes: Axes, c: Comparison, rows: Rows, points: list[Point]) -> None:
    """Recall as colours, from dark to bright, on the scale that spreads recall near 1: white lines read on all of it."""
    import matplotlib
    from matplotlib.colors import FuncNorm, ListedColormap

    probes, lists = np.geomspace(*axes.get_xlim(), 300), np.geomspace(*axes.get_ylim(), 240)
    recall, qps = field_of(c, rows, probes, lists)
    low = min(beginning(float(np.nanmin(recall)), c.target), 0.5)
    colours: Any = {
        "cmap": ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.82, 256))),
        "norm": FuncNorm((spread, unspread), vmin=low, vmax=1.0, clip=True),
    }
    figure: Any = axes.figure
    bar = figure.colorbar(axes.pcolormesh(probes, lists, recall, **colours), ticks=ticks(low), pad=0.015, aspect=32, format="%g")
    bar.outline.set_visible(False)
    bar.ax.minorticks_off()
    bar.set_label("recall")
    quiet(bar.ax, "")
    axes.contour(probes, lists, recall, levels=[c.target], colors="white", linewidths=2.6)
    _speeds(axes, probes, lists, qps, sorted({*rows, *(point.index.option("lists") for point in points)}))
    x, y = [point.value for point in points], [point.index.option("lists") for point in points]
    measured = [point.recall.value for point in points]
    axes.scatter(x, y, c=measured, s=55, edgecolors="white", linewidths=0.9, zorder=4, **colours)


def _speeds(axes: Axes, probes: Array, lists: Array, qps: Array, known: list[int]) -> None:
    """Searches per second as thin lines, named where most room is between numbers of lists that were looked at."""
    from matplotlib.patheffects import withStroke

    levels = round_numbers(float(np.nanmin(qps)), float(np.nanmax(qps)))
    thin = axes.contour(probes, lists, qps, levels=levels, colors="white", linewidths=0.8, alpha=0.75)
    widest = int(np.argmax(np.diff(np.log(known))))
    between = math.sqrt(known[widest] * known[widest + 1])
    row = qps[np.searchsorted(lists, between)]
    inner = slice(15, -15)  # no name runs out of the map
    near = [int(np.nanargmin(np.abs(row - level))) for level in levels if np.nanmin(row[inner]) < level < np.nanmax(row[inner])]
    names = axes.clabel(thin, fmt="{:,.0f}/s".format, fontsize=8, manual=[(probes[place], between) for place in near])
    for name in names:
        name.set(path_effects=[withStroke(linewidth=1.5, foreground="#31557a")], zorder=5)


def field_of(c: Comparison, rows: Rows, probes: Array, lists: Array) -> tuple[Array, Array]:
    """Recall, and searches per second, shape (lists, probes): between the rows along the logarithms; nan where there would be
    more probes than lists, and where nothing is known.

    The lists that are probed hold more rows than others do, by as much as at the same share of lists in the nearest twin.
    """
    known, at = sorted(rows), np.log(np.maximum(probes, 1))
    columns = []
    for number in known:
        own, recalls = np.array(rows[number]).T
        unknown = np.nan if own[0] > 1 else None
        columns.append(np.interp(at, np.log(own), spread(np.maximum.accumulate(recalls)), left=unknown))
    recall = unspread(np.array([np.interp(np.log(lists), np.log(known), column) for column in np.array(columns).T]).T)
    share = np.minimum(1.0, np.maximum(probes, 1)[None, :] / lists[:, None])
    scanned = c.rows * share
    if c.twins:
        twin = c.twins[len(c.twins) // 2]
        own, _, rows_scanned = np.array(twin.curve).T
        scanned *= np.interp(np.log(share), np.log(own / twin.lists), rows_scanned * twin.lists / (own * c.rows))
    us = c.cost.per_list * lists[:, None] + c.cost.per_row * scanned + c.cost.fixed
    unknown_there = np.isnan(recall) | (probes[None, :] > 1.12 * lists[:, None])  # a little beyond as many probes as lists
    return np.where(unknown_there, np.nan, recall), np.where(unknown_there, np.nan, 1e6 / us)


def predicted(c: Comparison) -> Picture | Note:
    """Recall as measured less as predicted, from centroids alone, with its interval: how far the twins can be trusted."""
    pairs = predictions(c)
    if not pairs:
        return Note("No plot of predictions: no IVFFlat setting was both predicted and measured.", "quiet")
    figure = canvas(9, 3.8)
    axes = figure.add_subplot(facecolor="none")
    chosen = {(choice.index, choice.value) for choice in choices(c)}
    axes.axhspan(-WITHIN, WITHIN, color=INK, alpha=0.12, linewidth=0)
    axes.axhline(0, color=INK, linewidth=1)
    for foreseen, point in pairs:
        style, recall = STYLE[point.index.family], point.recall
        fill, size = (style.colour, 7) if (point.index, point.value) in chosen else ("none", 6)
        error = [[recall.value - recall.low], [recall.high - recall.value]]
        drawn: Any = {"fmt": style.marker, "color": style.colour, "markerfacecolor": fill, "markersize": size, "linewidth": 1}
        axes.errorbar([foreseen], [recall.value - foreseen], yerr=error, **drawn)
    share_axis(axes.xaxis, max(end for end in LEFT if end <= max(0.0, min(foreseen for foreseen, _ in pairs) - 0.02)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.2f}".replace("-", "\u2212") if abs(value) > 1e-9 else "0")
    axes.set(xlabel=f"recall@{c.k} predicted from the centroids", ylabel="measured less predicted")
    quiet(axes, "both")
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
