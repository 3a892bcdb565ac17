"""Is the embedding service there, is the port its own, and does it give real vectors?"""

from __future__ import annotations

from aya_lib.check import Check, Judged, evaluate, passed_if
from aya_lib.cluster.services import Embedding, Health, Vector
from aya_lib.node.supervisor import Listener, ServiceState
from aya_lib.node.unseen import Missing
from aya_lib.site import Site


def process(service: Embedding) -> Check:
    """The process is alive and its PID file, where there is one, names it."""

    def rule(state: ServiceState) -> Judged:
        return passed_if(state.status == "running", str(state), "Run restore")

    return evaluate(f"{service.node} embedding process", "running, with a valid PID", service.process, rule)


def port_free(node: str, service: str, port: int, listener: Listener | Missing | None, process: ServiceState | Missing) -> Check:
    """Nobody but the service itself holds its port. A foreign process is named and never touched."""

    def rule(holder: Listener | None) -> Judged:
        if holder is None:
            return Judged("passed", "free")
        own = isinstance(process, ServiceState) and process.status in ("running", "frozen")
        if own and (holder.pid is None or holder.pid == process.pid):  # type: ignore[union-attr]
            return Judged("passed", f"held by the service itself, PID {holder.pid}")
        hint = f"Find out what it is and stop it{_or_let_restore(service)}, or give the service another port in site.yaml"
        return passed_if(False, f"held by another process: PID {holder.pid or 'not visible'}, {holder.command}", hint)

    return evaluate(f"{node} port {port} for {service}", "free, or its own", listener, rule)


def _or_let_restore(service: str) -> str:
    return " (restore does, with -p stop_port_holder=true)" if "embedding" in service else ""


def healthy(service: Embedding) -> Check:
    """GET /health answers 200 and says healthy."""

    def rule(health: Health) -> Judged:
        observed = f"{health.http} {health.status}" + (f": {health.error}" if health.error else "")
        hint = "It is still loading its model" if health.status == "loading" else "Read its log, then run restore"
        return passed_if(health.http == 200 and health.status == "healthy", observed, hint)

    return evaluate(f"{service.node} embedding health", "200 healthy", service.health, rule, hint="Run restore")


def vector(site: Site, node: str, found: Vector | Missing) -> Check:
    """A real sentence comes back as a unit vector of the site's dimension."""

    def rule(came: Vector) -> Judged:
        good = came.dimension == site.embedding.dimension and abs(came.norm - 1) < 1e-3
        observed = f"{came.dimension} dimensions, length {came.norm:.4f}, {came.milliseconds:.0f} ms"
        return passed_if(good, observed, "Another model is loaded than the site names: check embedding.model and dimension")

    expected = f"{site.embedding.dimension} dimensions, length 1"
    return evaluate(f"{node} embeds a sentence", expected, found, rule, hint="Run restore")
