"""Ask a node's embedding service for vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aya_lib.embedding.encoder import InputType, Vectors
from aya_lib.errors import AyaError, DeadlinePassed, Unreachable
from aya_lib.node import http
from aya_lib.node.node import Node, Nodes

FIRST, MOST = 8, 128  # texts of the first request, and of the largest
AIM_S = 3.0  # work of one request: long enough to fill batches, short enough that a deadline means something
TRY_AGAIN_S = 0.5


class Pace:
    """How many texts a request holds, so that it takes about ``AIM_S`` whatever the encoder's speed."""

    def __init__(self) -> None:
        self.size = FIRST

    def took(self, texts: int, seconds: float) -> None:
        """After a request: towards the aim, at most twice as many as before. A short last request says little and is passed."""
        if texts >= self.size:
            self.size = max(1, min(MOST, 2 * self.size, int(texts * AIM_S / max(seconds, 0.001))))

    def halve(self) -> bool:
        """After a deadline that passed; False when one text alone was too much for it."""
        several = self.size > 1
        self.size = max(1, self.size // 2)
        return several


@dataclass(frozen=True)
class Served:
    """What a service says it runs. ``fingerprint`` names weights, vocabulary and pooling."""

    node: str
    model: str
    fingerprint: str
    dimension: int


class Client:
    """A service that answered as healthy. ``patience_s``: how long a service that is away is waited for."""

    def __init__(self, node: Node, *, timeout_s: float = 120, patience_s: float = 20) -> None:
        assert node.embedding_url
        self.at, self.node, self.url = node, node.name, node.embedding_url
        self.timeout_s, self.patience_s, self.pace = timeout_s, patience_s, Pace()

    def served(self) -> Served:
        """What it runs. :class:`Unreachable` when it is not healthy."""
        status, said = self._ask("GET", "/health", min(self.timeout_s, 10))
        if status != 200:
            raise Unreachable(self.node, f"GET {self.url}/health", str(said.get("error") or said.get("status")))
        return self._served(said)

    def vectors(self, texts: Sequence[str], input_type: InputType = "passage") -> Vectors:
        """Unit vectors, shape (len(texts), dimension). A text longer than the model reads is refused, never cut."""
        parts, start = [], 0
        while start < len(texts):
            part = list(texts[start : start + self.pace.size])
            began = time.monotonic()
            try:
                said = self._vectors("/embed/batch", {"texts": part, "input_type": input_type})
            except DeadlinePassed:
                self.served()  # else it is frozen, and that is said
                if not self.pace.halve():
                    raise
                continue  # the service keeps what it has finished: it goes on from there
            self.pace.took(len(part), time.monotonic() - began)
            parts.append(np.array(said["embeddings"], dtype=np.float32))
            start += len(part)
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)

    def query(self, text: str) -> tuple[Vectors, Served]:
        """The vector of a query, and by which model; a query longer than the model reads is cut."""
        said = self._vectors("/embed", {"text": text, "input_type": "query", "truncate": True})
        return np.array(said["embedding"], dtype=np.float32), self._served(said)

    def _served(self, said: dict[str, Any]) -> Served:
        """:class:`Unreachable` when another service is what answers on the port."""
        if missing := {"model", "dimension"} - said.keys():
            told = f"not an answer of the embedding service: it says no {' and no '.join(sorted(missing))}"
            raise Unreachable(self.node, self.url, told, hint="Another program holds its port: see aya status")
        return Served(self.node, str(said["model"]), str(said.get("fingerprint")), int(said["dimension"]))

    def _ask(self, method: str, path: str, timeout_s: float, body: object = None) -> tuple[int, dict[str, Any]]:
        url = f"{self.url}{path}"
        return http.ask(self.node, method, url, timeout_s=timeout_s, body=body, tunnel_socket=self.at.embedding_socket)

    def _vectors(self, path: str, body: object) -> dict[str, Any]:
        """The answer; while the service is away, starting or too busy, it is asked again for ``patience_s``."""
        give_up = time.monotonic() + self.patience_s
        while True:
            try:
                status, said = self._ask("POST", path, self.timeout_s, body)
                error = Unreachable(self.node, f"POST {self.url}{path}", f"status {status}: {said.get('detail')}")
            except DeadlinePassed:
                raise
            except Unreachable as unreachable:
                status, said, error = 503, {}, unreachable
            if status == 200:
                return said
            if status != 503:
                raise AyaError(f"{self.node}: the embedding service refused: {said.get('detail')}")
            if time.monotonic() >= give_up:
                raise error
            time.sleep(TRY_AGAIN_S)


def encoder(nodes: Nodes, *, near: str, patience_s: float = 20) -> tuple[Client, Served]:
    """A healthy embedding service, that of ``near`` before others, and what it runs; waited for, for ``patience_s``."""
    serving = [node for node in sorted(nodes.values(), key=lambda node: node.name != near) if node.config.embedding]
    give_up = time.monotonic() + patience_s
    while True:
        reasons = []
        for node in serving:
            client = Client(node, patience_s=patience_s)
            try:
                return client, client.served()
            except Unreachable as error:
                reasons.append(f"{node.name}: {error.reason}")
        if time.monotonic() >= give_up or not serving:
            told = "; ".join(reasons) or "the site asks for none"
            raise Unreachable(near, "embed a text", f"no embedding service is healthy ({told})", hint="Run restore")
        time.sleep(0.3)
