"""The HTTP service around the engine. The port answers at once; until the model is loaded it answers 503."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field, field_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aya_lib import __version__
from aya_lib.embedding.encoder import InputType
from aya_lib.embedding.engine import MAX_TEXTS, Embedded, Engine, Refused
from aya_lib.errors import AyaError, UsageError
from aya_lib.node.listeners import local_listener
from aya_lib.node.shell import Local
from aya_lib.site import Embedding, EmbeddingService, Site

FINISH_S = 60  # how long a service that is told to stop goes on with the requests it has
MAX_BODY = 64 * 1024 * 1024  # bytes


class Options(BaseModel):
    input_type: Annotated[InputType, Field(description="query: the model's query instruction is put before the text")] = "passage"
    truncate: Annotated[bool, Field(description="cut a text longer than the model reads, and say so; else it is a 413")] = False


class Text(Options):
    text: Annotated[str, Field(description="what is to be embedded")]


class Texts(Options):
    texts: Annotated[list[str], Field(description=f"at most {MAX_TEXTS}")]


class OpenAI(Options):
    """The body of OpenAI's ``POST /v1/embeddings``; ``input_type`` and ``truncate`` are additions."""

    input: Annotated[str | list[str], Field(description=f"a text, or at most {MAX_TEXTS} of them")]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _no_tokens(cls, value: object) -> object:
        if isinstance(value, list) and any(isinstance(each, int | list) for each in value):
            raise ValueError("token numbers are another model's: send the texts themselves")
        return value


def create_app(config: Embedding, service: EmbeddingService) -> FastAPI:
    """The application; its model loads in the background from start-up on."""
    engine = Engine(config, service)

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
        health = engine.health()
        return _json(health, 200 if health["status"] == "healthy" else 503)

    @app.get("/stats", response_model=None)
    async def stats() -> Response:
        return _json(engine.measures.stats())

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        return Response(engine.measures.exposition(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/embed", response_model=None)
    async def embed(body: Text) -> Response:
        answer = await engine.embed([body.text], body.input_type, body.truncate)
        own = {"embedding": answer.vectors[0], "tokens": answer.tokens[0], "truncated": bool(answer.truncated)}
        return _json(own | _by(answer))

    @app.post("/embed/batch", response_model=None)
    async def batch(body: Texts) -> Response:
        answer = await engine.embed(body.texts, body.input_type, body.truncate)
        own = {"embeddings": answer.vectors, "count": len(answer.vectors), "tokens": sum(answer.tokens)}
        return _json(own | {"truncated": answer.truncated} | _by(answer))

    @app.post("/v1/embeddings", response_model=None)
    async def openai(body: OpenAI) -> Response:
        texts = [body.input] if isinstance(body.input, str) else body.input
        _is_ours(engine, body)
        return _openai(await engine.embed(texts, body.input_type, body.truncate), body.encoding_format)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _refusal(request.url.path, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
        return _refusal(request.url.path, Refused(422, said.replace("Value error, ", "")))

    return app


def _is_ours(engine: Engine, body: OpenAI) -> None:
    if engine.model is None:
        return
    name, dimension = engine.model.files.name, engine.model.encoder.dimension
    if body.model and body.model not in (name, name.rsplit("/", 1)[-1]):
        raise Refused(404, f"this service runs {name}, not {body.model}")
    if body.dimensions not in (None, dimension):
        raise Refused(422, f"{name} gives {dimension} dimensions, not {body.dimensions}")


def _by(answer: Embedded) -> dict[str, Any]:
    files, encoder = answer.model.files, answer.model.encoder
    return {"dimension": encoder.dimension, "model": files.name, "fingerprint": files.fingerprint}


def _openai(answer: Embedded, encoding: str | None) -> Response:
    """In OpenAI's form; base64 is of little-endian float32, as its clients decode it."""
    vectors: list[Any] = answer.vectors
    if encoding == "base64":
        vectors = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = dict.fromkeys(("prompt_tokens", "total_tokens"), sum(answer.tokens))
    of_model = {"model": answer.model.files.name, "usage": usage, "truncated": answer.truncated}
    return _json({"object": "list", "data": data} | of_model)


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
    """Counts and times each POST, refuses a body that is too large while it arrives, not after, and drops the work of a client
    that has hung up."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app, self.engine = app, engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        started, path, status, size = time.perf_counter(), scope["path"], 500, 0
        arrived = asyncio.Event()

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                return {"type": "http.disconnect"}
            if not message.get("more_body"):
                arrived.set()
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if size <= MAX_BODY:
                status = message.get("status", status)
                await send(message)

        async def hung_up() -> None:
            await arrived.wait()
            while (await receive())["type"] != "http.disconnect":
                pass

        try:
            answering, gone = asyncio.ensure_future(self.app(scope, counted, watched)), asyncio.ensure_future(hung_up())
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                status = 499 if status == 500 else status  # as nginx calls it; else the answer was on its way out
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering
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
        having = [name for name, config in site.nodes.items() if config.embedding]
        raise UsageError(f"site {site.name} asks for no embedding service on '{node}'", hint=f"It does on {', '.join(having)}")
    config = site.nodes[node].embedding
    assert config is not None
    holder = local_listener(Local(node), config.port)
    if holder:
        held = f"port {config.port} is held by PID {holder.pid or 'unknown'}: {holder.command}"
        raise AyaError(held, hint="Stop that process, or set another port in site.yaml")
    app = create_app(site.embedding, config)
    uvicorn.run(app, host=config.host, port=config.port, log_level="warning", timeout_graceful_shutdown=FINISH_S)
