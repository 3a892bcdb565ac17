"""What all plots and tables of a comparison share: colours, names, and which points count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aya_lib.picture import INK
from aya_lib.vectors.index import Family, Index
from aya_lib.vectors.result import Choice, Comparison, Point


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
LEFT = (0.0, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # where an axis of recall may begin
Spot = tuple[float, float]  # recall and searches per second


def named(index: Index) -> str:
    """An index for a person: ``IVFFlat lists=600``."""
    return " ".join([STYLE[index.family].word, *(f"{name}={value}" for name, value in index.options)])


def counts(number: int, word: str) -> str:
    """``1 index``, ``2 indexes``."""
    return f"{number:,} {word}{'' if number == 1 else 'es' if word.endswith('x') else 's'}"


def settled(c: Comparison) -> list[Point]:
    """One point for each setting, measured with one client: the verified one where there are more."""
    kept: dict[tuple[Index, int], tuple[int, Point]] = {}
    verified = [(3, choice.point) for choice in choices(c)]
    for rank, point in [(RANK.get(point.queries, 0), point) for point in c.points if point.clients == 1] + verified:
        key = (point.index, point.value)
        if math.isfinite(point.qps) and point.qps > 0 and (key not in kept or rank >= kept[key][0]):
            kept[key] = (rank, point)
    return [point for _, point in kept.values()]


def choices(c: Comparison) -> list[Choice]:
    """Today's and the best of each family, the fastest first, none twice."""
    unique = {(choice.index, choice.value): choice for choice in [*([c.today] if c.today else []), *c.best.values()]}
    return sorted(unique.values(), key=lambda choice: -choice.point.qps)


def front(spots: Iterable[Spot]) -> list[Spot]:
    """Those that no other beats in both numbers (Pareto), by the first number ascending."""
    kept: list[Spot] = []
    for spot in sorted(set(spots), reverse=True):
        if not kept or spot[1] > kept[-1][1]:
            kept.append(spot)
    return kept[::-1]


def beginning(least: float, target: float) -> float:
    """Where the axis of recall begins: what lies far below the target is left out."""
    worth = min(target - 0.03, max(least, 0.5))
    return max(tick for tick in LEFT if tick <= max(0.0, worth))


def spot_of(point: Point) -> Spot:
    return point.recall.value, point.qps
