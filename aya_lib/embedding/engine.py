"""The one model instance of a service, with the queue before it and the cache beside it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from cachetools import LRUCache

from aya_lib import __version__
from aya_lib.embedding.batcher import Batcher, QueueFull
from aya_lib.embedding.encoder import InputType, Vectors
from aya_lib.embedding.measures import Measures
from aya_lib.embedding.model import Model, load, metal
from aya_lib.errors import AyaError
from aya_lib.site import Embedding, EmbeddingService

MAX_CHARACTERS = 1_000_000
MAX_TEXTS = 1024
STALLED_S = 60  # one batch takes no longer on any machine this is meant for
LONG = 20_000  # characters; tokenizing more than this is not done on the event loop


class Refused(Exception):
    """A request that is answered with an HTTP status and one line."""

    def __init__(self, status: int, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after_s = status, detail, retry_after_s


@dataclass(frozen=True)
class Embedded:
    """Vectors in the texts' order, the tokens of each text, and the positions of those that were cut."""

    vectors: list[Vectors]
    tokens: list[int]
    truncated: list[int]
    model: Model


class Engine:
    """Loads in the background; answers 503 until it is there."""

    def __init__(self, config: Embedding, service: EmbeddingService) -> None:
        self.config = config
        self.model: Model | None = None
        self.error: str | None = None
        self.metal = False
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        self.measures = Measures(lambda: len(self.batcher), lambda: float(self.health()["status"] == "healthy"))
        self.batcher = Batcher(
            self.worker,
            self.measures.batch,
            texts=service.batch_texts,
            wait_s=service.wait_ms / 1000,
            limit=service.waiting_texts,
        )
        self.cache: LRUCache[bytes, tuple[Vectors, int]] = LRUCache(service.cache_texts)

    async def run(self) -> None:
        """Load the model, encode once so that the first request finds it warm, then serve until closed."""
        model = await asyncio.get_running_loop().run_in_executor(self.worker, self._load)
        if model is None:
            return
        self.measures.info.info({"model": model.files.name, "backend": model.encoder.backend, "device": model.encoder.device})
        self.model = model
        try:
            await self.batcher.run(model.encoder.vectors, model.encoder.batch_tokens)
        except Exception as error:  # nobody serves the queue any more: that must be seen, not waited for
            self.error = f"the queue broke off: {type(error).__name__}: {error}"
            self.model = None
            raise

    def _load(self) -> Model | None:
        try:
            model = load(self.config)
            model.encode(["warm"])
            self.metal = metal()
        except (AyaError, ImportError, RuntimeError, ValueError) as error:
            self.error = str(error).splitlines()[0]
            return None
        return model

    async def embed(self, texts: Sequence[str], input_type: InputType, truncate: bool) -> Embedded:
        """Vectors of the texts. :class:`Refused`: 503 no model or queue full, 413 too much, 422 an empty text."""
        model = self._ready()
        _limits(texts)
        keys = [_key(text, input_type) for text in texts]
        known = {key: self.cache[key] for key in set(keys) if key in self.cache}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        unseen = list(new.values())
        long_work = sum(map(len, unseen)) >= LONG
        ids = await asyncio.to_thread(model.prepared, unseen, input_type) if long_work else model.prepared(unseen, input_type)
        lengths = {key: len(one) for key, one in zip(new, ids, strict=True)} | {key: known[key][1] for key in known}
        most, nothing = model.tokenizer.max_tokens, len(model.prepared([""], input_type)[0])
        for position, key in enumerate(keys):
            if lengths[key] <= nothing:  # white space of any kind, signs of no width
                raise Refused(422, f"text {position} is empty: a vector of nothing would match anything")
        long = [position for position, key in enumerate(keys) if lengths[key] > most]
        if long and not truncate:
            first = long[0]
            line = f"text {first} has {lengths[keys[first]]} tokens, {model.files.name} reads {most} (special tokens included)"
            raise Refused(413, f"{line}: split it into chunks, or send truncate: true")
        keep = [partial(self._keep, key, lengths[key]) for key in new]
        vectors = await self._encoded([model.tokenizer.cut(one) for one in ids], keep)
        known |= {key: (vector, lengths[key]) for key, vector in zip(new, vectors, strict=True)}
        self.measures.answered(len(texts), len(texts) - len(new), len(long))
        tokens = [min(lengths[key], most) for key in keys]
        return Embedded([known[key][0] for key in keys], tokens, long, model)

    def health(self) -> dict[str, Any]:
        """Honest values: ``healthy`` only when the last batch was encoded and none is stuck."""
        busy_s = time.monotonic() - since if (since := self.batcher.busy_since) else 0.0
        error, model = self.error or self.batcher.error, self.model
        if busy_s > STALLED_S:
            error = f"the encoder has not answered for {busy_s:.0f} s"
        health: dict[str, Any] = {
            "status": "failed" if error else "healthy" if model else "loading",
            "metal_available": self.metal,
            "model_loaded": model is not None,
            "model": model.files.name if model else self.config.model,
            "fingerprint": model.files.fingerprint if model else None,
            "dimension": model.encoder.dimension if model else self.config.dimension,
            "max_tokens": model.tokenizer.max_tokens if model else None,
            "backend": model.encoder.backend if model else None,
            "device": model.encoder.device if model else None,
            "waiting_texts": len(self.batcher),
            "version": __version__,
            "uptime_s": self.measures.uptime_s,
        }
        return health | ({"error": error} if error else {})

    def _ready(self) -> Model:
        if self.model is None:
            raise Refused(503, f"the model cannot be loaded: {self.error}" if self.error else "the model is loading", 2)
        return self.model

    def _keep(self, key: bytes, length: int, vector: Vectors) -> None:
        """Remember a vector, also when the request it was for has gone: who asks again finds it."""
        if self.cache.maxsize:
            self.cache[key] = (vector, length)

    async def _encoded(self, ids: list[list[int]], keep: Sequence[Callable[[Vectors], None]]) -> list[Vectors]:
        try:
            return await self.batcher.vectors(ids, keep)
        except QueueFull as error:
            raise Refused(503, f"too busy: {error}", 1) from None
        except RuntimeError as error:
            raise Refused(503, f"the encoder failed: {error}", 1) from None


def _key(text: str, input_type: InputType) -> bytes:
    """What the cache knows a text by; a service has one model all its life."""
    return hashlib.blake2b(f"{input_type} {text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _limits(texts: Sequence[str]) -> None:
    if len(texts) > MAX_TEXTS:
        raise Refused(413, f"{len(texts)} texts at once, at most {MAX_TEXTS}: send them in parts")
    for position, text in enumerate(texts):
        if len(text) > MAX_CHARACTERS:
            raise Refused(413, f"text {position} has {len(text):,} characters, at most {MAX_CHARACTERS:,}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            line = f"text {position} holds half of a surrogate pair at character {error.start}, which is no text"
            raise Refused(422, line) from None
