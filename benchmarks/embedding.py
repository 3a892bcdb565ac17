"""The embedding service under 32 clients, beside one call of sentence-transformers and beside a service without batching.

All in one run, as ratios. Texts are paragraphs of PostgreSQL's documentation (Debian's package postgresql-doc-15) in the
lengths that people write; the other measurement uses their first words, as long as questions are.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

HTML = Path("/usr/share/doc/postgresql-doc-15/html")
CLIENTS = 32


def paragraphs(count: int, seed: int = 7) -> list[str]:
    """Different paragraphs of 5 to 120 words."""
    from bs4 import BeautifulSoup

    found: dict[str, None] = {}
    for path in sorted(HTML.glob("*.html"))[::6]:
        for node in BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").find_all("p"):
            text = " ".join(node.get_text(" ").split())
            if 5 <= len(text.split()) <= 120:
                found[text] = None
    texts = list(found)
    random.Random(seed).shuffle(texts)
    return texts[:count]


def questions(texts: list[str], seed: int = 7) -> list[str]:
    """The first 4 to 12 words of each text."""
    rng = random.Random(seed)
    return [" ".join(re.findall(r"\w+", text)[: rng.randint(4, 12)]) for text in texts]


@contextmanager
def service(kind: str, port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, __file__, "--serve", kind, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                ask(http.client.HTTPConnection("127.0.0.1", port, timeout=5), "warm")
                break
            except (OSError, ValueError):
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def ask(connection: http.client.HTTPConnection, text: str) -> None:
    connection.request("POST", "/embed", json.dumps({"text": text, "truncate": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if not response.read().startswith(b'{"embedding":[') or response.status != 200:
        raise ValueError(f"no vector: status {response.status}")


def clients(port: int, texts: list[str]) -> float:
    """Seconds that 32 clients, each with one connection and one text at a time, need for all texts."""

    def one(part: list[str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for text in part:
            ask(connection, text)

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(one, [texts[number::CLIENTS] for number in range(CLIENTS)]))
    return time.perf_counter() - started


def serve(kind: str, port: int) -> None:
    import uvicorn

    from aya_lib.site import EmbeddingService, load_site

    config = load_site("lab").embedding
    if kind == "ours":
        from aya_lib.embedding.service import create_app

        app: Any = create_app(config, EmbeddingService(port=port, cache_texts=0))
    else:
        app = plain(kind)
    uvicorn.run(app, port=port, log_level="warning")


def plain(kind: str) -> Any:
    """The service of the text book: each request calls the model by itself (``threads``), or waits for its turn (``turns``)."""
    from threading import Lock

    from fastapi import Body, FastAPI

    app, model, turn = FastAPI(), transformer(), Lock()

    def encode(text: str) -> dict[str, list[float]]:
        return {"embedding": model.encode(text, normalize_embeddings=True, show_progress_bar=False).tolist()}

    @app.post("/embed")
    def embed(text: str = Body(embed=True)) -> dict[str, list[float]]:
        if kind == "threads":
            return encode(text)
        with turn:
            return encode(text)

    return app


def transformer() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer

    from aya_lib.embedding.files import locate
    from aya_lib.site import load_site

    return SentenceTransformer(str(locate(load_site("lab").embedding)))


def measure(texts: list[str], rounds: int) -> dict[str, float]:
    """Texts a second of each way, medians over the rounds; the ways take turns so that a noisy machine is noisy for all."""
    ports = {kind: free_port() for kind in ("ours", "threads", "turns")}
    model = transformer()
    model.encode(texts[:32], show_progress_bar=False)
    rates: dict[str, list[float]] = {kind: [] for kind in ("one call", *ports)}

    def timed(kind: str, run: Callable[[], float]) -> None:
        rates[kind].append(len(texts) / run())

    def one_call() -> float:
        started = time.perf_counter()
        model.encode(sorted(texts, key=len), normalize_embeddings=True, show_progress_bar=False)
        return time.perf_counter() - started

    for _ in range(rounds):
        timed("one call", one_call)
        for kind, port in ports.items():
            with service(kind, port):
                timed(kind, lambda port=port: clients(port, texts))  # type: ignore[misc]
    return {kind: round(median(found), 1) for kind, found in rates.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(count: int = 640, rounds: int = 3) -> dict[str, Any]:
    texts = paragraphs(count)
    result: dict[str, Any] = {}
    for name, some in (("paragraphs", texts), ("questions", questions(texts))):
        rates = measure(some, rounds)
        words = sorted(len(text.split()) for text in some)
        result[name] = {
            "texts": len(some),
            "median_words": words[len(words) // 2],
            "texts_per_s": rates,
            "of_one_sorted_call": round(rates["ours"] / rates["one call"], 2),
            "times_each_by_itself_threads": round(rates["ours"] / rates["threads"], 2),
            "times_each_by_itself_turns": round(rates["ours"] / rates["turns"], 2),
        }
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=["ours", "threads", "turns"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--texts", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve, chosen.port)
    else:
        found = json.dumps(run(chosen.texts, chosen.rounds), indent=1)
        Path(__file__).with_suffix(".json").write_text(found + "\n")
        print(found)
