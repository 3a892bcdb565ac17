"""The HTTP service around the model. The port answers at once; until the model is loaded it answers 503."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from statistics import mean, quantiles
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from aya_lib import __version__
from aya_lib.embedding.model import Model, load
from aya_lib.errors import AyaError, UsageError
from aya_lib.node.listeners import local_listener
from aya_lib.node.shell import Local
from aya_lib.site import Site

MAX_CHARACTERS = 1_000_000
MAX_TEXTS = 1024
WINDOW = 1000  # requests whose latency /stats remembers


class Text(BaseModel):
    text: Annotated[str, Field(description="what is to be embedded")]


class Texts(BaseModel):
    texts: Annotated[list[str], Field(description=f"at most {MAX_TEXTS}")]


class Service:
    """The model, one worker thread for it, and what was done so far."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.model: Model | None = None
        self.error: str | None = None
        self.metal = False
        self.started = time.time()
        self.requests = self.texts = self.errors = 0
        self.latency_ms: deque[float] = deque(maxlen=WINDOW)
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")

    def load(self) -> None:
        """Load the model and encode once, so that the first request finds it warm."""
        try:
            model = load(self.site.embedding)
            model.encode(["warm"])
            self.metal = metal_available()
            self.model = model
        except (AyaError, ImportError, RuntimeError) as error:
            self.error = str(error).splitlines()[0]

    async def encode(self, texts: Sequence[str]) -> tuple[Model, list[list[float]]]:
        """Vectors of the texts; HTTP 503 while there is no model, 413 when it is too much at once."""
        self.requests += 1
        if self.model is None:
            self.errors += 1
            raise HTTPException(503, f"the model cannot be loaded: {self.error}" if self.error else "the model is loading")
        if len(texts) > MAX_TEXTS or any(len(text) > MAX_CHARACTERS for text in texts):
            self.errors += 1
            raise HTTPException(413, f"at most {MAX_TEXTS} texts of at most {MAX_CHARACTERS:,} characters each")
        started = time.perf_counter()
        vectors = await asyncio.get_running_loop().run_in_executor(self.worker, self.model.encode, texts)
        self.latency_ms.append((time.perf_counter() - started) * 1000)
        self.texts += len(texts)
        return self.model, vectors

    def health(self) -> JSONResponse:
        status = "healthy" if self.model else "failed" if self.error else "loading"
        said: dict[str, Any] = {
            "status": status,
            "metal_available": self.metal,
            "model_loaded": self.model is not None,
            "model": self.model.name if self.model else self.site.embedding.model,
            "dimension": self.model.dimension if self.model else self.site.embedding.dimension,
            "device": self.model.device if self.model else None,
            "version": __version__,
            "uptime_s": round(time.time() - self.started, 3),
        }
        return JSONResponse(said | ({"error": self.error} if self.error else {}), 200 if self.model else 503)

    def stats(self) -> dict[str, Any]:
        taken = list(self.latency_ms)
        cuts = quantiles(taken, n=20, method="inclusive") if len(taken) > 1 else taken * 19
        return {
            "requests": self.requests,
            "texts": self.texts,
            "errors": self.errors,
            "latency_ms": {"mean": mean(taken), "p50": cuts[9], "p95": cuts[18], "of": len(taken)} if taken else None,
            "started_at": datetime.fromtimestamp(self.started, UTC).isoformat(),
            "uptime_s": round(time.time() - self.started, 3),
        }


def create_app(site: Site) -> FastAPI:
    """The application; its model loads in the background from start-up on."""
    service = Service(site)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = service.worker.submit(service.load)
        yield
        loading.cancel()
        service.worker.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="AYA embedding service", version=__version__, lifespan=lifespan)

    @app.get("/health")
    async def health() -> JSONResponse:
        return service.health()

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return service.stats()

    @app.post("/embed")
    async def embed(body: Text) -> dict[str, Any]:
        model, vectors = await service.encode([body.text])
        return {"embedding": vectors[0], "dimension": model.dimension, "model": model.name}

    @app.post("/embed/batch")
    async def batch(body: Texts) -> dict[str, Any]:
        model, vectors = await service.encode(body.texts)
        return {"embeddings": vectors, "count": len(vectors), "dimension": model.dimension, "model": model.name}

    return app


def serve(site: Site, node: str) -> None:
    """Serve until SIGTERM or SIGINT. :class:`AyaError` when the port is held by another process."""
    if node not in site.nodes or site.nodes[node].embedding is None:
        having = [name for name, wish in site.nodes.items() if wish.embedding]
        raise UsageError(f"site {site.name} wishes no embedding service on '{node}'", hint=f"It does on {', '.join(having)}")
    wish = site.nodes[node].embedding
    assert wish is not None
    holder = local_listener(Local(node), wish.port)
    if holder:
        held = f"port {wish.port} is held by PID {holder.pid or 'unknown'}: {holder.command}"
        raise AyaError(held, hint="Stop that process, or set another port in site.yaml")
    uvicorn.run(create_app(site), host=wish.host, port=wish.port, log_level="warning", timeout_graceful_shutdown=10)


def metal_available() -> bool:
    """What MLX says of this machine; False where MLX is not installed."""
    try:
        import mlx.core as mx
    except ImportError:
        return False
    return bool(mx.metal.is_available())
