"""The HTTP service around the engine. The port answers at once; until the model is loaded it answers 503."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aya_lib import __version__
from aya_lib.embedding.bodies import MAX_BODY, OpenAI, Text, Texts
from aya_lib.embedding.engine import Engine, Refused
from aya_lib.errors import AyaError, UsageError
from aya_lib.node.listeners import local_listener
from aya_lib.node.shell import Local
from aya_lib.site import Embedding, EmbeddingService, Site

FINISH_S = 60  # how long a service that is told to stop goes on with the requests it has


def create_app(wish: Embedding, service: EmbeddingService) -> FastAPI:
    """The application; its model loads in the background from start-up on."""
    engine = Engine(wish, service)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(engine.run())
        yield
        engine.batcher.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, FINISH_S)
        engine.worker.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="AYA embedding service", version=__version__, lifespan=lifespan)
    app.add_middleware(Measured, engine=engine)

    @app.get("/health", response_model=None)
    async def health() -> Response:
        said = engine.health()
        return _json(said, 200 if said["status"] == "healthy" else 503)

    @app.get("/stats", response_model=None)
    async def stats() -> Response:
        return _json(engine.measures.stats())

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        return Response(engine.measures.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/embed", response_model=None)
    async def embed(body: Text) -> Response:
        return _json((await engine.embed([body.text], body.input_type, body.truncate)).single())

    @app.post("/embed/batch", response_model=None)
    async def batch(body: Texts) -> Response:
        return _json((await engine.embed(body.texts, body.input_type, body.truncate)).batch())

    @app.post("/v1/embeddings", response_model=None)
    async def openai(body: OpenAI) -> Response:
        texts = [body.input] if isinstance(body.input, str) else body.input
        _is_ours(engine, body)
        return _json((await engine.embed(texts, body.input_type, body.truncate)).openai(body.encoding_format))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _refusal(request.url.path, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        return _refusal(request.url.path, Refused(422, said))

    return app


def _is_ours(engine: Engine, body: OpenAI) -> None:
    model = engine.model
    if model and body.model and body.model not in (model.name, model.name.rsplit("/", 1)[-1]):
        raise Refused(404, f"this service runs {model.name}, not {body.model}")
    if model and body.dimensions not in (None, model.dimension):
        raise Refused(422, f"{model.name} gives {model.dimension} dimensions, not {body.dimensions}")


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def _refusal(path: str, error: Refused) -> Response:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    openai = {"error": {"message": error.detail, "type": kind, "param": None, "code": None}}
    response = _json(openai if path.startswith("/v1/") else {"detail": error.detail}, error.status)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


class Measured:
    """Counts and times each POST, and refuses a body that is too large while it arrives, not after."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app, self.engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        started, path, status, size = time.perf_counter(), scope["path"], 500, 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message if size <= MAX_BODY else {"type": "http.disconnect"}

        async def watched(message: Message) -> None:
            nonlocal status
            if size <= MAX_BODY:
                status = message.get("status", status)
                await send(message)

        try:
            await self.app(scope, counted, watched)
            if size > MAX_BODY:
                status = 413
                line = f"the body is larger than {MAX_BODY // 1024 // 1024} MB: send it in parts"
                await _refusal(path, Refused(status, line))(scope, receive, send)
        finally:
            known = path if path in ("/embed", "/embed/batch", "/v1/embeddings") else "other"
            self.engine.measures.request(known, status, time.perf_counter() - started)


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
    app = create_app(site.embedding, wish)
    uvicorn.run(app, host=wish.host, port=wish.port, log_level="warning", timeout_graceful_shutdown=FINISH_S)
