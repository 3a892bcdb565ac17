"""Waiting with a deadline, a poll interval, and an error that says what was waited for and what was last seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from aya_lib.errors import DeadlinePassed

T = TypeVar("T")


def until(
    look: Callable[[], T],
    holds: Callable[[T], bool],
    *,
    node: str,
    what: str,
    deadline_s: float,
    poll_s: float = 0.05,
) -> T:
    """Look until it holds and return what was seen; :class:`DeadlinePassed` with the last thing seen otherwise."""
    end = time.monotonic() + deadline_s
    while True:
        seen = look()
        if holds(seen):
            return seen
        if time.monotonic() >= end:
            raise DeadlinePassed(node, f"waited {deadline_s:g} s until {what}", f"last seen: {seen}")
        time.sleep(min(poll_s, max(0.0, end - time.monotonic())))
