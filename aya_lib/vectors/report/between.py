"""Two comparisons beside each other: before and after a change, or the same vectors on two machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aya_lib.labels import Labels
from aya_lib.picture import INK, Picture, canvas, headline, log_axis, quiet, share_axis
from aya_lib.show import Note, Shown, Table
from aya_lib.vectors.index import mb
from aya_lib.vectors.report.plots_more import STYLE, beginning, bounds, front, named, parsed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
# What must be equal beside the vectors for numbers to be comparable: where it stands in a document, and its name.
EQUAL = (
    (("corpus", "metric"), "metric"),
    (("k",), "k"),
    (("target",), "target"),
    (("server", "node"), "node"),
    (("server", "version"), "PostgreSQL"),
    (("server", "pgvector"), "pgvector"),
    (("server", "shared_buffers"), "shared_buffers"),
    (("server", "maintenance_work_mem"), "maintenance_work_mem"),
    (("server", "parallel_maintenance"), "parallel build workers"),
    (("server", "cores"), "cores"),
)


@dataclass(frozen=True)
class Pair:
    """The same place in two comparisons (today's index, the recommendation, the best of a family); None: not in that one."""

    what: str
    before: Document | None
    after: Document | None

    @property
    def qps(self) -> float | None:
        """Searches per second after, as a multiple of before."""
        return self._ratio("qps")

    @property
    def p95(self) -> float | None:
        return self._ratio("latency_ms", "p95")

    @property
    def size(self) -> float | None:
        return self._ratio("bytes")

    @property
    def build(self) -> float | None:
        return self._ratio("build_s")

    @property
    def recall(self) -> float | None:
        """Recall after less before."""
        return self.after["recall"]["value"] - self.before["recall"]["value"] if self.before and self.after else None

    @property
    def overlap(self) -> bool | None:
        """Do the 95 % intervals of recall overlap? Where they do, the difference may be chance."""
        if not self.before or not self.after:
            return None
        one, other = self.before["recall"], self.after["recall"]
        return bool(one["low"] <= other["high"] and other["low"] <= one["high"])

    def _ratio(self, *keys: str) -> float | None:
        before, after = (_at(one, keys) if one else None for one in (self.before, self.after))
        return float(after) / float(before) if before and after else None

    def json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "before": _short(self.before),
            "after": _short(self.after),
            "qps_ratio": self.qps,
            "recall_difference": self.recall,
            "recall_intervals_overlap": self.overlap,
            "p95_ratio": self.p95,
            "bytes_ratio": self.size,
            "build_ratio": self.build,
        }


@dataclass(frozen=True, repr=False)
class Difference(Shown):
    """``unlike``: what differs between the two besides the results, each as a sentence."""

    before: str
    after: str
    pairs: tuple[Pair, ...]
    unlike: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "before": self.before,
            "after": self.after,
            "unlike": list(self.unlike),
            "pairs": [pair.json() for pair in self.pairs],
        }

    def table(self) -> Table:
        columns = ("", "index", "searches/s", "x", "recall", "p95", "size", "build")
        said = "x, p95, size and build: after as a multiple of before; new, gone: only in one of the two."
        notes = (f"Before: {self.before}. After: {self.after}.", said)
        lines = tuple(_line(pair) for pair in self.pairs)
        return Table(self.headline, columns, lines, (*self.unlike, *notes), "warning" if self.unlike else "plain")

    @property
    def headline(self) -> str:
        """What changed for the one who searches: the recommendation, or what else is in both."""
        found = {pair.what: pair for pair in self.pairs}
        for what in ("recommendation", "today"):
            if what in found and (times := found[what].qps):
                return f"{what.capitalize()}: {times:.2f} times the searches per second of before"
        return "Nothing to compare: neither a recommendation nor today's index is in both"


def between(before: Document, after: Document) -> Difference:
    """What changed from one saved comparison to another. What makes them unlike is named, and nothing is refused."""
    wished = [(what, before.get(what), after.get(what)) for what in ("recommendation", "today")]
    ones, others = ({one["type"]: one for one in document["best_of_family"]} for document in (before, after))
    for family, style in STYLE.items():
        wished.append((style.word, ones.get(family), others.get(family)))
    pairs = tuple(Pair(what, one, other) for what, one, other in wished if one or other)
    return Difference(_called(before), _called(after), pairs, tuple(_unlike(before, after)))


def _unlike(before: Document, after: Document) -> list[str]:
    if _at(before, ("corpus", "fingerprint")) != _at(after, ("corpus", "fingerprint")):
        one, other = (f"{_at(of, ('corpus', 'name'))}, {_plain(_at(of, ('corpus', 'rows')))} rows" for of in (before, after))
        found = [f"Not the same vectors: {one} before, {other} after; recall and speed are not of one thing."]
    else:
        found = []
    for keys, word in EQUAL:
        one, other = _at(before, keys), _at(after, keys)
        if one != other:
            show = mb if word.endswith(("buffers", "_mem")) and one and other else _plain
            one, other = show(one), show(other)
            found.append(f"Not the same {word}: {one} before, {other} after.")
    return found


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _called(document: Document) -> str:
    server = document["server"]
    return f"{document.get('at') or 'at an unknown time'} on {server.get('node')} ({document['corpus'].get('name')})"


def _at(document: Document, keys: tuple[str, ...]) -> Any:
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _short(choice: Document | None) -> dict[str, Any] | None:
    keys = ("index", "search_settings", "recall", "qps", "latency_ms", "bytes", "build_s")
    return {key: choice.get(key) for key in keys} if choice else None


def _line(pair: Pair) -> tuple[str, ...]:
    one, other = pair.before, pair.after
    if not one or not other:
        only = one or other or {}
        return (pair.what, _name(only, "\n"), f"{only['qps']:,.0f}", "gone" if one else "new", _recall(only), "", "", "")
    names = list(dict.fromkeys(_name(each, "\n") for each in (one, other)))
    chance = "intervals overlap" if pair.overlap else "intervals apart"
    said = f"{_recall(one)}\n-> {_recall(other)}\n{pair.recall:+.3f}, {chance}"
    ratios = [f"{ratio:.2f}" if ratio is not None else "" for ratio in (pair.qps, pair.p95, pair.size, pair.build)]
    speed = f"{one['qps']:,.0f} -> {other['qps']:,.0f}"
    return (pair.what, "\n-> ".join(names), speed, ratios[0], said, *ratios[1:])


def _name(choice: Document, between: str = ", ") -> str:
    settings = ", ".join(f"{name.split('.')[-1]}={value}" for name, value in choice["search_settings"].items())
    return between.join(part for part in (named(parsed(choice["index"])), settings) if part)


def _recall(choice: Document) -> str:
    recall = choice["recall"]
    return f"{recall['value']:.3f} ({recall['low']:.3f} to {recall['high']:.3f})"


@dataclass(frozen=True)
class _Spot:
    """A measured setting of a document."""

    family: str
    recall: float
    qps: float

    @property
    def place(self) -> tuple[float, float]:
        return self.recall, self.qps


def picture(before: Document, after: Document) -> Picture | Note:
    """The fronts of recall and speed over all indexes, before and after, and where the recommendation went."""
    fronts = [_front(document) for document in (before, after)]
    if not all(fronts):
        return Note("No plot: one of the two measured nothing.", "quiet")
    figure = canvas(9, 4.6)
    axes = figure.add_subplot(facecolor="none")
    spots, target = [*fronts[0], *fronts[1]], float(after["target"])
    low = beginning(min(spot.recall for spot in spots), target)
    share_axis(axes.xaxis, low, apart=0.05)
    seen = [spot.qps for spot in spots if spot.recall >= low] or [spot.qps for spot in spots]
    axes.set_ylim(min(seen) / 1.6, max(seen) * 1.8)
    log_axis(axes.yaxis)
    axes.set_xlabel(f"recall@{after['k']}", fontsize=9)
    axes.set_ylabel("searches per second, one client", fontsize=9)
    quiet(axes, "both")
    axes.tick_params(labelsize=9, length=0, pad=6)
    axes.axvline(target, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    labels = Labels(axes)
    labels.avoid([target] * 2, axes.get_ylim())
    labels.put(f"target {target:g}", bounds(axes, target))
    _recommended(axes, labels, before, after)
    for points, word in zip(fronts, ("before", "after"), strict=True):
        _drawn(axes, labels, [spot for spot in points if spot.recall >= low] or points, word)
    found = between(before, after)
    headline(figure, found.headline)
    labels.settle()
    return Picture(figure, f"{found.headline}. Dashed: before ({found.before}); solid: after ({found.after}).")


def _front(document: Document) -> list[_Spot]:
    """The settings that no other beats in recall and speed, those that were verified before those that were only tried."""
    kept: dict[str, _Spot] = {}
    tried = sorted((one for one in document["measured"] if one["clients"] == 1), key=lambda one: one["queries"] != "choose")
    chosen = [one for one in [*document["best_of_family"], document.get("today")] if one]
    for one in [*tried, *chosen]:
        kept[f"{one['index']} {one['search_settings']}"] = _Spot(one["type"], one["recall"]["value"], one["qps"])
    best = front(spot.place for spot in kept.values())
    return sorted((spot for spot in kept.values() if spot.place in best), key=lambda spot: spot.recall)


def _drawn(axes: Axes, labels: Labels, spots: list[_Spot], word: str) -> None:
    """One front: a line, with the marker of the family that is the fastest there; each family named once."""
    after = word == "after"
    x, y = [spot.recall for spot in spots], [spot.qps for spot in spots]
    axes.plot(x, y, color=INK, linewidth=2 if after else 1.4, linestyle="-" if after else (0, (3, 2)), alpha=0.9, zorder=2)
    labels.avoid(x, y)
    middle = len(spots) // 2
    places = [spot.place for spot in spots[middle:] + spots[:middle]]
    labels.put("after (solid)" if after else "before (dashed)", places, fontweight="bold")
    for family in dict.fromkeys(spot.family for spot in spots):
        style, own = STYLE[next(known for known in STYLE if known == family)], [spot for spot in spots if spot.family == family]
        places = [spot.place for spot in own]
        face = style.colour if after else "none"
        axes.plot(*zip(*places, strict=True), style.marker, color=style.colour, markerfacecolor=face, markersize=6, zorder=3)
        labels.put(style.word, places, color=style.colour, needed=False)


def _recommended(axes: Axes, labels: Labels, before: Document, after: Document) -> None:
    """From the recommendation before (a ring) to the one after (a star)."""
    spots = [_Spot(one["type"], one["recall"]["value"], one["qps"]) if one else None for one in _both(before, after)]
    for spot, marker, size in zip(spots, "o*", (13, 19), strict=True):
        if spot:
            colour = STYLE[next(known for known in STYLE if known == spot.family)].colour
            face = colour if marker == "*" else "none"
            axes.plot(*spot.place, marker, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=1.6, zorder=5)
            labels.hold(spot.place, size)
    if spots[0] and spots[1]:
        arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 9, "shrinkB": 9}
        axes.annotate("", spots[1].place, xytext=spots[0].place, arrowprops=arrow, zorder=4)
    for spot, choice, word in reversed(list(zip(spots, _both(before, after), ("before", "after"), strict=True))):
        if spot and choice:
            name, _, setting = _name(choice).partition(", ")
            text = f"recommended {word}: {name}\n{setting}{': ' if setting else ''}{spot.qps:,.0f}/s at recall {spot.recall:.3f}"
            labels.put(text, [spot.place], linespacing=1.35)


def _both(before: Document, after: Document) -> tuple[Document | None, Document | None]:
    return before.get("recommendation"), after.get("recommendation")
