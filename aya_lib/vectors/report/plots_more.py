"""What all plots of a comparison share (colours, names, fronts), and the smaller ones: builds, latencies, predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aya_lib.labels import Labels
from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet, share_axis
from aya_lib.show import Note
from aya_lib.vectors.bench.result import Choice, Comparison, Point
from aya_lib.vectors.index import Family, Index, mb

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Style:
    """How a family is drawn and called. The marker tells it too, for those who see no colour."""

    word: str
    colour: str
    marker: str


# Chosen so that any two differ by at least 18 (CIE76) for normal, protan, deutan and tritan sight (Machado et al. 2009), and
# each has a contrast of at least 3:1 on white and on a near-black page.
STYLE: Mapping[Family, Style] = {
    "exact": Style("exact search", INK, "D"),
    "ivfflat": Style("IVFFlat", "#2b5cf7", "o"),
    "ivfflat_halfvec": Style("IVFFlat halfvec", "#369ec0", "s"),
    "hnsw": Style("HNSW", "#c84b32", "^"),
    "hnsw_halfvec": Style("HNSW halfvec", "#ca8104", "v"),
    "hnsw_bit": Style("HNSW bit", "#cb5be7", "P"),
}
RANK: Mapping[str, int] = {"verify": 2, "again": 2, "choose": 1}  # held-out queries say more
ENDS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)  # where an axis of recall may end
LEFT = (0.0, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # where an axis of recall may begin
WITHIN = 0.02  # the band of predictions that are good enough


def named(index: Index) -> str:
    """An index for a person: ``IVFFlat lists=600``."""
    return " ".join([STYLE[index.family].word, *(f"{name}={value}" for name, value in index.options)])


def parsed(text: str) -> Index:
    """The index that ``str(index)`` named."""
    family, *words = text.split()
    options = tuple((name, int(value)) for name, value in (word.split("=") for word in words))
    return Index(next(known for known in STYLE if known == family), options)


def counts(number: int, word: str) -> str:
    """``1 index``, ``2 indexes``."""
    return f"{number:,} {word}{'' if number == 1 else 'es' if word.endswith('x') else 's'}"


def settled(c: Comparison) -> list[Point]:
    """One point for each setting, measured with one client: the verified one where there are more."""
    kept: dict[tuple[Index, int], tuple[int, Point]] = {}
    chosen = [(3, choice.point) for choice in choices(c)]
    for rank, point in [(RANK.get(point.queries, 0), point) for point in c.points if point.clients == 1] + chosen:
        key = (point.index, point.value)
        if math.isfinite(point.qps) and point.qps > 0 and (key not in kept or rank >= kept[key][0]):
            kept[key] = (rank, point)
    return [point for _, point in kept.values()]


def choices(c: Comparison) -> list[Choice]:
    """Today's and the best of each family, the fastest first, none twice."""
    found = {(one.index, one.value): one for one in [*([c.today] if c.today else []), *c.best.values()]}
    return sorted(found.values(), key=lambda one: -one.point.qps)


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that no other beats in both numbers (Pareto), by the first number ascending."""
    kept: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept[::-1]


def beginning(least: float, target: float) -> float:
    """Where the axis of recall begins: what lies far below the target is left out."""
    worth = min(target - 0.03, max(least, 0.5))
    return max(tick for tick in LEFT if tick <= max(0.0, worth))


def bounds(axes: Axes, x: float) -> list[tuple[float, float]]:
    """Just above the bottom and just below the top of axes with a logarithmic y: where a vertical line is named."""
    low, high = axes.get_ylim()
    return [(x, low ** (1 - share) * high**share) for share in (0.035, 0.965)]


def builds(c: Comparison) -> Picture | Note:
    """How long each index took to build and how large it is."""
    order = list(STYLE)
    found = [parsed(name) for name, built in c.builds.items() if built.bytes]
    shown = sorted(found, key=lambda index: (order.index(index.family), index.options))
    if not shown:
        return Note("No plot of builds: no index was built.", "quiet")
    figure = canvas(9, 0.75 + 0.27 * len(shown))
    panels = figure.subplots(1, 2, sharey=True, subplot_kw={"facecolor": "none"})
    seconds = [c.builds[str(index)].seconds for index in shown]
    sizes = [c.builds[str(index)].bytes for index in shown]
    strong = [choice.index for choice in (c.recommendation, c.today) if choice]
    _bars(panels[0], shown, strong, seconds, [f"{value:,.1f} s" for value in seconds], "seconds to build")
    _bars(panels[1], shown, strong, sizes, [mb(value) for value in sizes], "size")
    panels[0].set_yticks(range(len(shown)), [_marked(c, index) for index in shown], fontsize=9)
    for label, index in zip(panels[0].get_yticklabels(), shown, strict=True):
        label.set_color(STYLE[index.family].colour)
        label.set_fontweight("bold" if c.recommendation and c.recommendation.index == index else "normal")
    said = _builds_said(c, shown)
    headline(figure, said)
    return Picture(figure, f"{said}. All that were built, {counts(len(shown), 'index')}: {sum(seconds):,.0f} s.")


def _bars(
    axes: Axes, indexes: list[Index], strong: list[Index], values: list[float] | list[int], words: list[str], title: str
) -> None:
    places = range(len(indexes))
    colours = [(STYLE[index.family].colour, 0.95 if index in strong or not strong else 0.6) for index in indexes]
    axes.barh(places, values, color=colours, height=0.62)
    for place, value, word in zip(places, values, words, strict=True):
        axes.annotate(word, (value, place), xytext=(4, 0), textcoords="offset points", va="center", color=INK, fontsize=9)
    axes.set_xlim(0, max(values) * 1.22)
    axes.set_ylim(len(indexes) - 0.4, -0.6)
    axes.set_xticks([])
    axes.set_xlabel(title, loc="left", fontsize=9)
    quiet(axes, "")
    axes.tick_params(length=0)


def _marked(c: Comparison, index: Index) -> str:
    today = c.today is not None and c.today.index == index
    return f"{'today: ' if today else ''}{named(index)}"


def _builds_said(c: Comparison, shown: list[Index]) -> str:
    if c.recommendation is None or c.recommendation.index not in shown:
        return f"Time to build and size of {counts(len(shown), 'index')}"
    index = c.recommendation.index
    built = c.builds[str(index)]
    said = f"{named(index)} is built in {built.seconds:,.1f} s and takes {mb(built.bytes)}"
    before = c.builds.get(str(c.today.index)) if c.today else None
    if c.today is None or before is None or c.today.index == index:
        return said
    return f"{said}; today's index: {before.seconds:,.1f} s, {mb(before.bytes)}"


def latencies(c: Comparison) -> Picture | Note:
    """How long single searches took: today's index and the best of each family."""
    shown = [choice for choice in choices(c) if choice.point.quantiles]
    if not shown:
        return Note("No plot of latencies: nothing was verified.", "quiet")
    figure = canvas(9, 1.0 + 0.44 * len(shown))
    axes, numbers = figure.subplots(1, 2, sharey=True, width_ratios=(5, 1.6), subplot_kw={"facecolor": "none"})
    for place, choice in enumerate(shown):
        _band(axes, place, choice.point)
    quantiles = [value for choice in shown for value in (choice.point.quantiles[0], choice.point.p99, choice.point.quantiles[-2])]
    axes.set_xlim(min(quantiles) / 1.25, max(quantiles) * 1.2)
    axes.set_ylim(len(shown) - 0.4, -0.75)
    log_axis(axes.xaxis, lambda value: f"{value:g}")
    axes.set_xlabel("milliseconds a search, one client", fontsize=9)
    axes.set_yticks(range(len(shown)), [_row(c, choice) for choice in shown], fontsize=9)
    quiet(axes, "x")
    axes.tick_params(length=0, labelsize=9)
    for label, choice in zip(axes.get_yticklabels(), shown, strict=True):
        label.set_color(STYLE[choice.index.family].colour)
        label.set_fontweight("bold" if choice is c.recommendation else "normal")
    _columns(numbers, [choice.point for choice in shown])
    said = _latencies_said(c, shown)
    headline(figure, said)
    more = "Strong: the middle half of searches; light: 5 to 95 %; line: fastest to p99; tick: median"
    axes.set_title(more, loc="left", fontsize=9, color=INK)
    return Picture(figure, f"{said}. {more}.")


def _band(axes: Axes, place: int, point: Point) -> None:
    colour, steps = STYLE[point.index.family].colour, point.quantiles
    share = len(steps) - 1
    axes.plot([steps[0], point.p99], [place, place], color=colour, linewidth=1.2, zorder=2)
    for (low, high), height, alpha in (((0.05, 0.95), 0.42, 0.35), ((0.25, 0.75), 0.42, 0.9)):
        left, right = steps[round(low * share)], steps[round(high * share)]
        axes.barh(place, right - left, left=left, height=height, color=colour, alpha=alpha, linewidth=0, zorder=3)
    axes.plot([point.p50] * 2, [place - 0.31, place + 0.31], color=INK, linewidth=2, zorder=4)
    axes.plot([point.p99], [place], "|", color=colour, markersize=8, markeredgewidth=1.6, zorder=4)


def _columns(axes: Axes, points: list[Point]) -> None:
    """The numbers, in columns."""
    axes.axis("off")
    axes.set_xlim(0, 3)
    for column, name in enumerate(("p50", "p95", "p99"), 1):
        axes.text(column, -0.62, name, ha="right", va="center", fontsize=9, color=INK, alpha=0.8)
        for place, point in enumerate(points):
            axes.text(column, place, f"{getattr(point, name):,.2f}", ha="right", va="center", fontsize=9, color=INK)


def _row(c: Comparison, choice: Choice) -> str:
    today = c.today is not None and (c.today.index, c.today.value) == (choice.index, choice.value)
    return f"{'today: ' if today else ''}{named(choice.index)}\n{choice.point.setting}".strip()


def _latencies_said(c: Comparison, shown: list[Choice]) -> str:
    first = c.recommendation or shown[0]
    word = STYLE[first.index.family].word
    said = f"{word[0].upper()}{word[1:]} answers 95 % of searches within {first.point.p95:,.2f} ms"
    if c.today is None or c.today.index == first.index:
        return said
    return f"{said}; today's index needs {c.today.point.p95:,.2f} ms"


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
    worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1].recall.value))
    _identity(both, pairs, chosen, (low, high), c.k)
    _apart(apart, pairs, chosen, (low, high), worst)
    off = worst[1].recall.value - worst[0]
    said = f"Predicted recall is within {abs(off):.3f} of the measured at {counts(len(pairs), 'IVFFlat setting')}"
    picked = [abs(foreseen - point.recall.value) for foreseen, point in pairs if (point.index, point.value) in chosen]
    said += f", {max(picked):.3f} at the chosen (filled)" if picked and len(picked) < len(pairs) else ""
    headline(figure, said)
    return Picture(figure, f"{said}; furthest off: {named(worst[1].index)}, {worst[1].setting}, {off:+.3f}.")


Pair = tuple[float, Point]


def _identity(axes: Axes, pairs: list[Pair], chosen: set[tuple[Index, int]], ends: tuple[float, float], k: int) -> None:
    share_axis(axes.xaxis, *ends)
    share_axis(axes.yaxis, *ends)
    axes.set_box_aspect(1)  # as high as the other: their widths are as 1 to 1.25
    axes.plot(ends, ends, color=INK, linewidth=1)
    for foreseen, point in pairs:
        _dot(axes, foreseen, 0.0, point, (point.index, point.value) in chosen)
    axes.set_xlabel("recall predicted from the centroids", fontsize=9)
    axes.set_ylabel(f"recall@{k} measured", fontsize=9)
    quiet(axes, "both")
    axes.tick_params(labelsize=9, length=0, pad=6)


def _apart(axes: Axes, pairs: list[Pair], chosen: set[tuple[Index, int]], ends: tuple[float, float], worst: Pair) -> None:
    share_axis(axes.xaxis, *ends)
    axes.set_box_aspect(0.8)
    most = max(1.6 * WITHIN, *(max(abs(p.recall.low - f), abs(p.recall.high - f)) * 1.15 for f, p in pairs))
    axes.set_ylim(-most, most)
    axes.axhspan(-WITHIN, WITHIN, color=INK, alpha=0.12, linewidth=0)
    axes.axhline(0, color=INK, linewidth=1)
    for foreseen, point in pairs:
        _dot(axes, foreseen, foreseen, point, (point.index, point.value) in chosen)
    axes.set_xlabel("recall predicted from the centroids", fontsize=9)
    axes.set_ylabel("measured less predicted", fontsize=9)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+.2f}".replace("-", "\u2212") if abs(value) > 1e-9 else "0")
    quiet(axes, "both")
    axes.tick_params(labelsize=9, length=0)
    labels = Labels(axes)
    for foreseen, point in pairs:
        labels.avoid([foreseen] * 2, [point.recall.low - foreseen, point.recall.high - foreseen])
    off = worst[1].recall.value - worst[0]
    labels.put(f"{off:+.3f}: {named(worst[1].index)}\n{worst[1].setting}", [(worst[0], off)])
    labels.settle()


def predictions(c: Comparison) -> list[Pair]:
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
    fill = style.colour if chosen else "none"
    size = 6 if chosen else 5
    axes.plot([foreseen], [recall.value - less], style.marker, color=style.colour, markerfacecolor=fill, markersize=size)
