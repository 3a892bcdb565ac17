"""What a comparison found, for people who look rather than read. Each plot is a :class:`Picture`, or a quiet note why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet, share_axis
from aya_lib.show import Note
from aya_lib.vectors.index import Index, mb
from aya_lib.vectors.plots_ivfflat import lists_probes, predicted
from aya_lib.vectors.result import Choice, Comparison, Point
from aya_lib.vectors.style import STYLE, beginning, choices, counts, front, named, settled, spot_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def recall_qps(c: Comparison) -> Picture | Note:
    """Searches per second over recall: every index, the front of each family, the target, the recommendation, today."""
    points = settled(c)
    if not points:
        return Note("No plot of recall and speed: nothing was measured.", "quiet")
    figure = canvas(9, 5.6)
    axes = figure.add_subplot(facecolor="none")
    low = beginning(min(point.recall.value for point in points), c.target)
    share_axis(axes.xaxis, low, apart=0.05)
    seen = [point.qps for point in points if point.recall.value >= low] or [point.qps for point in points]
    axes.set_ylim(min(seen) / 1.5, max(seen) * 1.6)
    log_axis(axes.yaxis)
    quiet(axes, "both")
    words = f"recall@{c.k} (share of the true nearest {c.k} that a search finds)"
    axes.set(xlabel=words, ylabel="searches per second, one client")
    axes.axvspan(low, c.target, color=INK, alpha=0.07, linewidth=0)
    axes.axvline(c.target, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label=f"target {c.target:g}")
    best = front(map(spot_of, points))
    axes.plot(*zip(*best, strict=True), color=INK, alpha=0.25, linewidth=9, zorder=1, label="fastest at each recall")
    _curves(axes, points)
    axes.set_title("\n".join(_marks(axes, c)), loc="left", fontsize=9, color=INK)
    said = _recall_said(c)
    headline(figure, said)
    axes.legend(loc="lower left", frameon=False, labelcolor=INK, fontsize=9)
    families = dict.fromkeys(STYLE[point.index.family].word for point in points if spot_of(point) in best)
    counted = f"{counts(len(points), 'setting')} of {counts(len({point.index for point in points}), 'index')}"
    return Picture(figure, f"{said}. {counted}; the fastest at some recall: {', '.join(families)}.")


def _curves(axes: Axes, points: list[Point]) -> None:
    """Each index a faint curve in the order of its knob; above them the front of each family."""
    for index in dict.fromkeys(point.index for point in points):
        style, own = STYLE[index.family], sorted((p for p in points if p.index == index), key=lambda point: point.value)
        x, y = zip(*map(spot_of, own), strict=True)
        axes.plot(x, y, color=style.colour, alpha=0.35, linewidth=1, zorder=2)
        axes.plot(x, y, style.marker, color=style.colour, alpha=0.4, markersize=3, markeredgewidth=0, zorder=2)
    for family, style in STYLE.items():
        own_spots = [spot_of(point) for point in points if point.index.family == family]
        if own_spots:
            line = {"color": style.colour, "marker": style.marker, "linewidth": 2, "markersize": 5.5, "markeredgewidth": 0}
            axes.plot(*zip(*front(own_spots), strict=True), label=style.word, zorder=3, **line)  # type: ignore[arg-type]


def _marks(axes: Axes, c: Comparison) -> list[str]:
    """The recommendation as a star, today's index as a ring; what they are, in words."""
    best, today, words = c.recommendation, c.today, []
    if best:
        colour = STYLE[best.index.family].colour
        axes.plot(*spot_of(best.point), "*", color=colour, markersize=19, markeredgecolor=INK, markeredgewidth=0.8, zorder=6)
        again = " (today's index)" if today and today.index == best.index else ""
        words.append(f"\u2605 recommended{again}: {_worded(best)}")
    if today and (best is None or today.index != best.index):
        colour, face = STYLE[today.index.family].colour, "none"
        axes.plot(*spot_of(today.point), "o", color=colour, markerfacecolor=face, markersize=13, markeredgewidth=2, zorder=5)
        words.append(f"\u25cb today: {_worded(today)}")
    return words


def _worded(choice: Choice) -> str:
    setting = f", {choice.point.setting}" if choice.point.setting else ""
    return f"{named(choice.index)}{setting}, {choice.point.qps:,.0f} searches/s at recall {choice.point.recall.value:.3f}"


def _recall_said(c: Comparison) -> str:
    best, times = c.recommendation, c.speedup(c.recommendation)
    if best is None:
        return f"No index reaches recall {c.target:g}"
    said = f"{STYLE[best.index.family].word}: {best.point.qps:,.0f} searches per second at recall {best.point.recall.value:.3f}"
    return f"{said}, {times:.1f} times today's index" if times and c.today and c.today.index != best.index else said


def builds(c: Comparison) -> Picture | Note:
    """How long each index took to build and how large it is."""
    order = list(STYLE)
    shown = [index for index, built in c.builds.items() if built.bytes]
    shown.sort(key=lambda index: (order.index(index.family), index.options))
    if not shown:
        return Note("No plot of builds: no index was built.", "quiet")
    figure = canvas(9, 0.75 + 0.27 * len(shown))
    panels = figure.subplots(1, 2, sharey=True, subplot_kw={"facecolor": "none"})
    seconds, sizes = [c.builds[index].seconds for index in shown], [c.builds[index].bytes for index in shown]
    strong = [choice.index for choice in (c.recommendation, c.today) if choice]
    colours = [(STYLE[index.family].colour, 0.95 if index in strong or not strong else 0.6) for index in shown]
    _bars(panels[0], colours, seconds, [f"{value:,.1f} s" for value in seconds], "seconds to build")
    _bars(panels[1], colours, sizes, [mb(value) for value in sizes], "size")
    today = c.today.index if c.today else None
    _labelled(panels[0], c, shown, [f"{'today: ' if index == today else ''}{named(index)}" for index in shown])
    said = _builds_said(c, shown)
    headline(figure, said)
    return Picture(figure, f"{said}. All that were built, {counts(len(shown), 'index')}: {sum(seconds):,.0f} s.")


def _bars(axes: Axes, colours: list[tuple[str, float]], values: Sequence[float], words: list[str], title: str) -> None:
    axes.bar_label(axes.barh(range(len(values)), values, color=colours, height=0.62), words, padding=4, color=INK, fontsize=9)
    axes.set(xlim=(0, max(values) * 1.22), ylim=(len(values) - 0.4, -0.6), xticks=[])
    axes.set_xlabel(title, loc="left")
    quiet(axes, "")


def _labelled(axes: Axes, c: Comparison, indexes: list[Index], words: list[str]) -> None:
    """The rows' names in the colours of their families, the recommended one bold."""
    axes.set_yticks(range(len(words)), words, fontsize=9)
    for label, index in zip(axes.get_yticklabels(), indexes, strict=True):
        label.set_color(STYLE[index.family].colour)
        label.set_fontweight("bold" if c.recommendation and c.recommendation.index == index else "normal")


def _builds_said(c: Comparison, shown: list[Index]) -> str:
    if c.recommendation is None or c.recommendation.index not in shown:
        return f"Time to build and size of {counts(len(shown), 'index')}"
    index = c.recommendation.index
    said = f"{named(index)} is built in {c.builds[index].seconds:,.1f} s and takes {mb(c.builds[index].bytes)}"
    before = c.builds.get(c.today.index) if c.today and c.today.index != index else None
    return f"{said}; today's index: {before.seconds:,.1f} s, {mb(before.bytes)}" if before else said


def latencies(c: Comparison) -> Picture | Note:
    """How long single searches took: today's index and the best of each family."""
    shown = [choice for choice in choices(c) if choice.point.quantiles]
    if not shown:
        return Note("No plot of latencies: nothing was verified.", "quiet")
    figure = canvas(9, 1.0 + 0.44 * len(shown))
    axes = figure.add_subplot(facecolor="none")
    for place, choice in enumerate(shown):
        _box(axes, place, choice.point)
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlabel="milliseconds a search, one client")
    log_axis(axes.xaxis, "{:g}")
    quiet(axes, "x")
    today = (c.today.index, c.today.value) if c.today else None
    words = [f"{'today: ' if (o.index, o.value) == today else ''}{named(o.index)}\n{o.point.setting}".strip() for o in shown]
    _labelled(axes, c, [choice.index for choice in shown], words)
    numbers: Any = axes.secondary_yaxis("right")
    numbers.set_yticks(range(len(shown)), ["   ".join(f"{ms:,.2f}" for ms in o.point.latency_ms.values()) for o in shown])
    quiet(numbers, "")
    said = _latencies_said(c, shown)
    headline(figure, said)
    more = "Box: middle half; line: median; whiskers: 5 % to p99; numbers: p50, p95, p99"
    axes.set_title(more, loc="left", fontsize=9, color=INK)
    return Picture(figure, f"{said}. {more}.")


def _box(axes: Axes, place: int, point: Point) -> None:
    colour, steps = STYLE[point.index.family].colour, point.quantiles
    low, first, third = (steps[round(share * (len(steps) - 1))] for share in (0.05, 0.25, 0.75))
    numbers = {"med": point.p50, "q1": first, "q3": third, "whislo": low, "whishi": point.p99}
    line = {"color": colour, "linewidth": 1.4}
    parts: Any = {"boxprops": {"facecolor": colour, "linewidth": 0}, "whiskerprops": line, "capprops": line}
    parts["medianprops"] = {"color": "white", "linewidth": 2}
    axes.bxp([numbers], [place], widths=0.45, orientation="horizontal", patch_artist=True, showfliers=False, **parts)


def _latencies_said(c: Comparison, shown: list[Choice]) -> str:
    first = c.recommendation or shown[0]
    word = STYLE[first.index.family].word
    said = f"{word[0].upper()}{word[1:]} answers 95 % of searches within {first.point.p95:,.2f} ms"
    other = c.today if c.today and c.today.index != first.index else None
    return f"{said}; today's index needs {other.point.p95:,.2f} ms" if other else said


PLOTS: Mapping[str, Callable[[Comparison], Picture | Note]] = {
    "recall_qps": recall_qps,
    "lists_probes": lists_probes,
    "builds": builds,
    "latencies": latencies,
    "predicted": predicted,
}
