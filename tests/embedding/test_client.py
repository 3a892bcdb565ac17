"""The client of the embedding service, and what it says of a program that is none."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from facts import NODES

from aya_lib.embedding.client import Client
from aya_lib.errors import Unreachable


class Other(BaseHTTPRequestHandler):
    """Answers every request with JSON that is not the embedding service's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, *words: object) -> None:
        pass


def test_another_service_on_the_port_is_said_to_be_one() -> None:
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = Client(NODES["ALPHA"], timeout_s=5)
        client.url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(Unreachable, match="not an answer of the embedding service: it says no dimension and no model"):
            client.served()
        server.shutdown()
