"""One HTTP request to a node's service, JSON both ways, within a deadline for the whole of it."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aya_lib.errors import DeadlinePassed, Unreachable
from aya_lib.node.deadline import Watch
from aya_lib.node.sql import NotListening


class SocketConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket, such as the end of a tunnel."""

    def __init__(self, path: Path, host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def ask(
    node: str, method: str, url: str, *, timeout_s: float, body: object = None, tunnel_socket: Path | None = None
) -> tuple[int, dict[str, Any]]:
    """The HTTP status and the JSON object that came back. No proxy, no redirect. ``tunnel_socket`` leads to it.

    Raises :class:`NotListening`, :class:`DeadlinePassed`, :class:`Unreachable` (reset, or no JSON object).
    """
    parts, tried = urlsplit(url), f"{method} {url}"
    host, port = parts.hostname or "", parts.port or 80
    connection = (
        SocketConnection(tunnel_socket, host, timeout_s)
        if tunnel_socket
        else http.client.HTTPConnection(host, port, timeout=timeout_s)
    )
    try:
        connection.connect()
    except ConnectionRefusedError:
        raise NotListening(node, tried, "connection refused") from None
    except TimeoutError:
        raise DeadlinePassed(node, tried, f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise Unreachable(node, tried, str(error)) from None
    watch = Watch(connection.sock.fileno(), timeout_s)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, parts.path or "/", body=content, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        said = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        if watch.fired or isinstance(error, TimeoutError):
            raise DeadlinePassed(node, tried, f"no answer within {timeout_s:g} s") from None
        raise Unreachable(node, tried, f"not an answer of this service: {error or type(error).__name__}") from None
    finally:
        watch.end()
        connection.close()
    if not isinstance(said, dict):
        raise Unreachable(node, tried, "not an answer of this service: no JSON object")
    return response.status, said
