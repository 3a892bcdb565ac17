"""What the embedding service counts, for ``GET /metrics`` (Prometheus text format) and ``GET /stats``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import mean, quantiles
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)
WINDOW = 1000  # requests whose latency /stats remembers


class Measures:
    """Counters of one service; no global registry, so that several services live in one process."""

    def __init__(self, waiting: Callable[[], float], ready: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        here: dict[str, Any] = {"namespace": "aya_embedding", "registry": self.registry}
        self.requests = Counter("requests", "Requests for vectors, by path and HTTP status", ["path", "status"], **here)
        self.seconds = Histogram("request_seconds", "From a request's arrival to its answer", ["path"], buckets=SECONDS, **here)
        self.texts = Counter("texts", "Texts that were answered with a vector", **here)
        self.truncated = Counter("truncated_texts", "Texts that were cut because the caller asked for it", **here)
        self.hits = Counter("cache_hits", "Texts answered from the cache", **here)
        self.misses = Counter("cache_misses", "Texts that had to be encoded", **here)
        self.tokens = Counter("tokens", "Tokens that went through the network, padding not counted", **here)
        self.batch_texts = Histogram("batch_texts", "Texts encoded together", buckets=TEXTS, **here)
        self.encode_seconds = Histogram("encode_seconds", "Time in the network, by batch", buckets=SECONDS, **here)
        self.info = Info("model", "The model that is loaded", **here)
        Gauge("waiting_texts", "Texts that wait for the network", **here).set_function(waiting)
        Gauge("ready", "1 when the service is healthy", **here).set_function(ready)
        self.started = time.time()
        self.latency_ms: deque[float] = deque(maxlen=WINDOW)

    def batch(self, texts: int, tokens: int, seconds: float) -> None:
        self.batch_texts.observe(texts)
        self.encode_seconds.observe(seconds)
        self.tokens.inc(tokens)

    def answered(self, texts: int, hits: int, truncated: int) -> None:
        self.texts.inc(texts)
        self.hits.inc(hits)
        self.misses.inc(texts - hits)
        self.truncated.inc(truncated)

    def request(self, path: str, status: int, seconds: float) -> None:
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)
        if status < 400:
            self.latency_ms.append(seconds * 1000)

    @property
    def uptime_s(self) -> float:
        return round(time.time() - self.started, 3)

    def stats(self) -> dict[str, Any]:
        """The counters without their labels, and the latency of the last requests in ms."""
        counters = {"requests": self.requests, "texts": self.texts, "tokens": self.tokens, "cache_hits": self.hits}
        sums = {name: _total(counter) for name, counter in (counters | {"truncated": self.truncated}).items()}
        errors = _total(self.requests, lambda labels: int(labels["status"]) >= 400)
        taken = list(self.latency_ms)
        cuts = quantiles(taken, n=20, method="inclusive") if len(taken) > 1 else taken * 19
        latency = {"mean": mean(taken), "p50": cuts[9], "p95": cuts[18], "of": len(taken)} if taken else None
        started = datetime.fromtimestamp(self.started, UTC).isoformat()
        return {**sums, "errors": errors, "latency_ms": latency, "started_at": started, "uptime_s": self.uptime_s}

    def exposition(self) -> bytes:
        return generate_latest(self.registry)


def _total(counter: Counter, counts: Callable[[dict[str, str]], bool] = lambda _: True) -> int:
    """A counter's sum over those of its labels that count."""
    samples = [sample for family in counter.collect() for sample in family.samples if sample.name.endswith("_total")]
    return int(sum(sample.value for sample in samples if counts(sample.labels)))
