"""SIGTERM (a shutdown) and SIGHUP (a dropped ssh session) as SIGINT: what runs is stopped in order, and says how far it came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object]


@contextmanager
def handled(handler: Handler, numbers: tuple[signal.Signals, ...] = ENDING) -> Iterator[None]:
    """Give signals to ``handler`` meanwhile. One that is ignored stays ignored: so nohup asks for it."""
    before: dict[signal.Signals, object] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)  # type: ignore[arg-type]


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler that makes of a signal what a key does."""
    raise KeyboardInterrupt(signal.Signals(number).name)
