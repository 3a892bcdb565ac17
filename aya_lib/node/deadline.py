"""A deadline on a socket that the peer cannot stretch, whether it is deaf, frozen, or sends a byte now and then."""

from __future__ import annotations

import os
import socket
import threading


class Watch:
    """Shuts its own handle of the socket when the deadline has passed, so that whatever waits on it returns.

    ``fired`` tells afterwards whether the deadline, and not the peer, ended the connection.
    """

    def __init__(self, descriptor: int, deadline_s: float) -> None:
        self.fired = False
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._timer = threading.Timer(deadline_s, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self.fired = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # the peer was faster: nothing is left to shut
            self.fired = False

    def end(self) -> None:
        self._timer.cancel()
        self._timer.join()
        self._socket.close()
