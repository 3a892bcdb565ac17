"""Services of a node: the process its supervisor shows, who holds the port, and what the service itself answers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from aya_lib.errors import Unreachable
from aya_lib.node import http
from aya_lib.node.node import Node
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Missing, Unseen, looking, seen


@dataclass(frozen=True)
class Health:
    """GET /health of the embedding service: HTTP status and what it said."""

    http: int
    status: str
    error: str | None = None


@dataclass(frozen=True)
class Embedding:
    """A node's embedding service, from three sides that must agree."""

    node: str
    port: int
    process: ServiceState | Missing
    listener: Listener | Missing | None
    health: Health | Missing
    runs: str = "always"  # or only while the node is the primary, or laptop: once it is set up


@dataclass(frozen=True)
class Vector:
    """A vector that the service returned for a sentence: its dimension, its L2 norm, and how long it took (ms)."""

    node: str
    dimension: int
    norm: float
    milliseconds: float


def look_process(node: Node, service: str) -> ServiceState | Missing:
    return seen(node.name, f"state of {service}", lambda: node.supervisor.state(service))


def look_listener(node: Node, port: int) -> Listener | Missing | None:
    return seen(node.name, f"who listens on port {port}", lambda: node.listener(port))


def look_embedding(node: Node, lost: Unseen | None = None) -> Embedding | None:
    """The embedding service of a node; None when the site asks for none there. ``lost``: why no command reaches the node."""
    if node.config.embedding is None or node.embedding_url is None:
        return None
    port = node.config.embedding.port
    return Embedding(
        node.name,
        port,
        lost or look_process(node, "embedding"),
        lost or look_listener(node, port),
        lost if lost and node.config.tunnel else look_health(node, node.embedding_url),
        "laptop" if node.config.role == "laptop" else node.config.embedding.runs,
    )


@looking("GET {url}/health")
def look_health(node: Node, url: str) -> Health:
    limit = node.site.deadlines.http_s
    status, answer = http.ask(node.name, "GET", f"{url}/health", timeout_s=limit, tunnel_socket=node.embedding_socket)
    return Health(status, str(answer.get("status")), answer.get("error"))


@looking("POST {node.embedding_url}/embed")
def look_vector(node: Node, text: str = "Is the standby up to date?") -> Vector:
    """Have the service embed a sentence."""
    tried, started, limit_s = f"{node.embedding_url}/embed", time.perf_counter(), node.site.deadlines.http_s
    body, socket = {"text": text}, node.embedding_socket
    status, answer = http.ask(node.name, "POST", tried, timeout_s=limit_s, body=body, tunnel_socket=socket)
    milliseconds = (time.perf_counter() - started) * 1000
    if status != 200 or "embedding" not in answer:
        raise Unreachable(node.name, f"POST {tried}", f"status {status}: {answer.get('detail', answer)}")
    vector = answer["embedding"]
    return Vector(node.name, len(vector), math.sqrt(sum(x * x for x in vector)), milliseconds)
