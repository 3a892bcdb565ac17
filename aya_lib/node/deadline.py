"""A deadline on a socket that the peer cannot stretch, whether it is deaf, frozen, or sends a byte now and then."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg


class Watch:
    """Shuts its own handle of the socket when the deadline has passed, so that whatever waits on it returns.

    ``fired`` tells afterwards whether the deadline, and not the peer, ended the connection.
    """

    def __init__(self, descriptor: int, deadline_s: float) -> None:
        self.fired = False
        self._deadline_s = deadline_s
        self._due = time.monotonic() + deadline_s
        self._ended = threading.Event()
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def renew(self, more_s: float = 0.0) -> None:
        """The deadline begins anew, ``more_s`` later than usual for something large; after such a one the next is kept up to
        ``deadline_s`` late. Cheap: it may be called for every row."""
        self._due = time.monotonic() + self._deadline_s + more_s

    def _wait(self) -> None:
        while (left := self._due - time.monotonic()) > 0:
            if self._ended.wait(min(left, self._deadline_s)):
                return
        self.fired = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # the peer was faster: nothing is left to shut
            self.fired = False

    def end(self) -> None:
        """Twice is harmless."""
        self._ended.set()
        self._thread.join()
        self._socket.close()


@contextmanager
def cancelled_after(connection: psycopg.Connection[Any], seconds: float) -> Iterator[threading.Event]:
    """Cancel what the session does after so many seconds, and say so by the event. A commit that waits for a standby returns
    then, and has happened on the primary only; without it the server would wait on, with its locks, for a client that left."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=seconds)

    timer = threading.Timer(seconds, give_up)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
