"""What a comparison found, for people who look rather than read. Each plot is a :class:`Picture`, or a quiet note why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aya_lib.labels import Labels
from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet, share_axis
from aya_lib.show import Note
from aya_lib.vectors.bench.result import Choice, Comparison, Point
from aya_lib.vectors.report.plots_growth import scaling
from aya_lib.vectors.report.plots_map import lists_probes
from aya_lib.vectors.report.plots_more import (
    STYLE,
    beginning,
    bounds,
    builds,
    counts,
    front,
    latencies,
    named,
    predicted,
    settled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PLOTS", "builds", "latencies", "lists_probes", "predicted", "recall_qps", "scaling"]


def recall_qps(c: Comparison) -> Picture | Note:
    """Searches per second over recall: every index, the front of each family, the target, the recommendation, today."""
    points = settled(c)
    if not points:
        return Note("No plot of recall and speed: nothing was measured.", "quiet")
    figure = canvas(9, 5.2)
    axes = figure.add_subplot(facecolor="none")
    low = beginning(min(point.recall.value for point in points), c.target)
    share_axis(axes.xaxis, low, apart=0.05)
    seen = [point.qps for point in points if point.recall.value >= low] or [point.qps for point in points]
    axes.set_ylim(min(seen) / 1.5, max(seen) * 1.6)
    log_axis(axes.yaxis)
    quiet(axes, "both")
    axes.tick_params(labelsize=9, length=0, pad=6)
    axes.set_xlabel(f"recall@{c.k} (share of the true nearest {c.k} that a search finds)", fontsize=9)
    axes.set_ylabel("searches per second, one client", fontsize=9)
    labels = Labels(axes)
    _target(axes, labels, low, c.target)
    best = front((point.recall.value, point.qps) for point in points)
    axes.plot([x for x, _ in best], [y for _, y in best], color=INK, alpha=0.25, linewidth=9, solid_capstyle="round", zorder=1)
    _indexes(axes, labels, points)
    _marks(axes, labels, c)
    _families(labels, points, low)
    labels.avoid([x for x, _ in best], [y for _, y in best])
    spots = sorted((one for one in best if one[0] >= low), key=lambda one: one[0] < c.target)
    if len(_by_family(points)) > 1 and spots:
        labels.put("fastest at each recall", spots, needed=False, alpha=0.9, style="italic")
    _curves(labels, points, low)
    said = _said(c)
    headline(figure, said)
    labels.settle()
    families = dict.fromkeys(STYLE[point.index.family].word for point in points if (point.recall.value, point.qps) in best)
    counted = f"{counts(len(points), 'setting')} of {counts(len({point.index for point in points}), 'index')}"
    return Picture(figure, f"{said}. {counted}; the fastest at some recall: {', '.join(families)}.")


def _target(axes: Axes, labels: Labels, low: float, target: float) -> None:
    labels.avoid([target] * 2, axes.get_ylim())
    axes.axvspan(low, target, color=INK, alpha=0.07, linewidth=0)
    axes.axvline(target, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    labels.put(f"target {target:g}", bounds(axes, target))


def _indexes(axes: Axes, labels: Labels, points: list[Point]) -> None:
    """Each index a faint curve in the order of its knob; above them the front of each family."""
    for index in dict.fromkeys(point.index for point in points):
        style, own = STYLE[index.family], sorted((p for p in points if p.index == index), key=lambda p: p.value)
        x, y = [point.recall.value for point in own], [point.qps for point in own]
        axes.plot(x, y, color=style.colour, alpha=0.35, linewidth=1, zorder=2)
        axes.plot(x, y, style.marker, color=style.colour, alpha=0.4, markersize=3, markeredgewidth=0, zorder=2)
        labels.avoid(x, y)
    for family, own in _by_family(points).items():
        style, best = STYLE[family], front((point.recall.value, point.qps) for point in own)  # type: ignore[index]
        x, y = [one for one, _ in best], [one for _, one in best]
        axes.plot(x, y, color=style.colour, linewidth=2, marker=style.marker, markersize=5.5, markeredgewidth=0, zorder=3)


def _by_family(points: list[Point]) -> dict[str, list[Point]]:
    return {family: own for family in STYLE if (own := [point for point in points if point.index.family == family])}


def _curves(labels: Labels, points: list[Point], low: float) -> None:
    """The options of each curve, small, where a family has several."""
    for family, own in _by_family(points).items():
        indexes = dict.fromkeys(point.index for point in own)
        for index in indexes if len(indexes) > 1 else ():
            ends = sorted((point.recall.value, point.qps) for point in own if point.index == index and point.recall.value >= low)
            text = " ".join(f"{name}={value}" for name, value in index.options)
            if ends:
                colour = STYLE[family].colour  # type: ignore[index]
                labels.put(text, [ends[-1], ends[0]], needed=False, color=colour, fontsize=7.5, alpha=0.8)


def _families(labels: Labels, points: list[Point], low: float) -> None:
    """The name of each family beside its front, where there is room."""
    for family, own in _by_family(points).items():
        style = STYLE[family]  # type: ignore[index]
        best = [point for point in front((p.recall.value, p.qps) for p in own) if point[0] >= low]
        if best:
            labels.put(style.word, best, color=style.colour, fontweight="bold")


def _marks(axes: Axes, labels: Labels, c: Comparison) -> None:
    """The recommendation as a star, today's index as a ring."""
    best, today = c.recommendation, c.today
    if best:
        where, colour = (best.point.recall.value, best.point.qps), STYLE[best.index.family].colour
        axes.plot(*where, "*", color=colour, markersize=19, markeredgecolor=INK, markeredgewidth=0.8, zorder=6)
        again = " (today's index)" if today and today.index == best.index else ""
        labels.hold(where, 15)
        labels.put(f"recommended{again}: {_worded(best)}", [where], fontweight="bold", linespacing=1.35)
    if today and (best is None or today.index != best.index):
        where = (today.point.recall.value, today.point.qps)
        colour = STYLE[today.index.family].colour
        axes.plot(*where, "o", color=colour, markerfacecolor="none", markersize=13, markeredgewidth=2, zorder=5)
        labels.hold(where, 12)
        labels.put(f"today: {_worded(today)}", [where], linespacing=1.35)


def _worded(choice: Choice) -> str:
    setting = f", {choice.point.setting}" if choice.point.setting else ""
    return f"{named(choice.index)}{setting}\n{choice.point.qps:,.0f} searches/s at recall {choice.point.recall.value:.3f}"


def _said(c: Comparison) -> str:
    best, times = c.recommendation, c.speedup(c.recommendation)
    if best is None:
        return f"No index reaches recall {c.target:g}"
    said = f"{STYLE[best.index.family].word}: {best.point.qps:,.0f} searches per second at recall {best.point.recall.value:.3f}"
    return f"{said}, {times:.1f} times today's index" if times and c.today and c.today.index != best.index else said


PLOTS: Mapping[str, Callable[[Comparison], Picture | Note]] = {
    "recall_qps": recall_qps,
    "lists_probes": lists_probes,
    "builds": builds,
    "latencies": latencies,
    "predicted": predicted,
    "scaling": scaling,
}
