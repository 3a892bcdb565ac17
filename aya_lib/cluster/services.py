"""Services of a node: the process its supervisor shows, who holds the port, and what the service itself answers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from aya_lib.cluster import server, state
from aya_lib.errors import Unreachable
from aya_lib.node import http
from aya_lib.node.node import Node, Nodes
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Missing, Unseen, seen


@dataclass(frozen=True)
class Health:
    """GET /health of the embedding service: HTTP status and what it said."""

    http: int
    status: str
    model: str | None
    dimension: int | None
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
    """The embedding service of a node; None when the site wishes none there. ``lost``: why no command reaches the node."""
    if node.wish.embedding is None or node.embedding_url is None:
        return None
    port = node.wish.embedding.port
    return Embedding(
        node.name,
        port,
        lost or look_process(node, "embedding"),
        lost or look_listener(node, port),
        lost if lost and node.wish.tunnel else look_health(node, node.embedding_url),
        "laptop" if node.wish.role == "laptop" else node.wish.embedding.runs,
    )


def look_health(node: Node, url: str) -> Health | Missing:
    def ask() -> Health:
        limit = node.site.deadlines.http_s
        status, said = http.ask(node.name, "GET", f"{url}/health", timeout_s=limit, tunnel_socket=node.embedding_socket)
        return Health(status, str(said.get("status")), said.get("model"), said.get("dimension"), said.get("error"))

    return seen(node.name, f"GET {url}/health", ask)


def look_primary_vector(nodes: Nodes) -> Vector | Missing:
    """A vector from the service of the node that is the primary."""
    site = nodes.site
    able = [name for name in site.pair if _accepts_writes(nodes[name])]
    return look_vector(nodes[able[0] if len(able) == 1 else state.read(site).primary or site.primary])


def _accepts_writes(node: Node) -> bool:
    found = server.look(node)
    return isinstance(found, server.Cluster) and not found.in_recovery


def look_vector(node: Node, text: str = "Is the standby up to date?") -> Vector | Missing:
    """Have the service embed a sentence."""
    tried = f"{node.embedding_url}/embed"

    def ask() -> Vector:
        started = time.perf_counter()
        body = {"text": text}
        limit = node.site.deadlines.http_s
        status, said = http.ask(node.name, "POST", tried, timeout_s=limit, body=body, tunnel_socket=node.embedding_socket)
        milliseconds = (time.perf_counter() - started) * 1000
        if status != 200 or "embedding" not in said:
            raise Unreachable(node.name, f"POST {tried}", f"status {status}: {said.get('detail', said)}")
        vector = said["embedding"]
        return Vector(node.name, len(vector), math.sqrt(sum(x * x for x in vector)), milliseconds)

    return seen(node.name, f"POST {tried}", ask)
