"""SIGTERM (a shutdown) and SIGHUP (a dropped ssh session) as SIGINT: what runs is stopped in order, and says how far it came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object]


@contextmanager
def handled(handler: Handler) -> Iterator[None]:
    """Give signals to ``handler`` meanwhile. One that is ignored stays ignored: so nohup asks for it."""
    before: dict[signal.Signals, object] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)  # type: ignore[arg-type]


def once() -> Handler:
    """A handler that makes of the first signal what a key does. Those that follow are swallowed: a shutdown sends one to every
    process, which pass it on to each other, and what is being undone must not be broken off by the second."""
    asked: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise KeyboardInterrupt(signal.Signals(number).name)

    return handler
