"""From an index to its setting: the smallest knob that reaches the target on the queries that choose, then verified."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from aya_lib.vectors.result import Point
from aya_lib.vectors.truth import CONFIDENCE_Z, Recall

CLOSE = 1.06  # a knob within so much of the smallest that reaches the target is near enough


def reaches(recall: Recall, target: float, margin: float) -> bool:
    """Whether a recall lies at the target or above it, by so many standard errors; a perfect one always does."""
    error = (recall.high - recall.low) / (2 * CONFIDENCE_Z)
    return recall.value >= 1.0 or recall.value - margin * error >= target


def smallest(
    measure: Callable[[int], Point | None], good: Callable[[Recall], bool], start: int, least: int, most: int
) -> int | None:
    """The smallest value, nearly, whose point is good: doubling until it is, then halving the gap (recall rises with it).

    None when even ``most`` is not good, or the planner stops using the index before.
    """
    low, value, high = least - 1, max(least, min(start, most)), 0
    while not high:
        point = measure(value)
        if point is None or (value >= most and not good(point.recall)):
            return None
        if good(point.recall):
            high = value
        else:
            low, value = value, min(most, value * 2)
    while high - low > 1 and high > low * CLOSE:
        middle = int(math.sqrt(max(1, low) * high)) if low else high // 2
        value = min(max(low + 1, middle), high - 1)
        point = measure(value)
        if point is not None and good(point.recall):
            high = value
        else:
            low = value
    return high


def rising(values: Iterable[int | None], most: int) -> list[int]:
    """Settings to try in turn, each above the one before it, none above ``most``: a try that repeats one decides nothing."""
    tries: list[int] = []
    for value in values:
        if value is not None and not (tries and tries[-1] >= most):
            tries.append(min(most, max(value, tries[-1] + 1 if tries else 1)))
    return tries
