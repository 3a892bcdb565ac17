"""The service under load and at its limits: a real process, real clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests_support import make

from aya_lib import settings
from aya_lib.embedding import model
from aya_lib.errors import AyaError
from aya_lib.node import http as ask_http
from aya_lib.node import wait
from aya_lib.site import Embedding, Site, read_yaml

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LONG = "replication " * 400


def ask(url: str, body: object) -> tuple[int, dict[str, Any]]:
    return ask_http.ask("ALPHA", "POST", url, timeout_s=120, body=body)


@contextmanager
def serving(
    place: Path, name: str, backend: str | None = None, **embedding: object
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service of its own, described by a site of its own, once it listens and has loaded or failed to load."""
    site: Site = make(place, name, backend=backend)
    path = settings.parameters() / site.name / "site.yaml"
    content = read_yaml(path)
    content["nodes"]["ALPHA"]["embedding"] |= {k: v for k, v in embedding.items() if k not in ("dimension", "query_instruction")}
    content["embedding"] |= {k: v for k, v in embedding.items() if k in ("dimension", "query_instruction")}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    process = subprocess.Popen([sys.executable, "-m", "aya_lib", "serve", "embedding", "--site", str(path)])
    url = f"http://127.0.0.1:{content['nodes']['ALPHA']['embedding']['port']}"

    def status() -> str:
        try:
            return str(ask_http.ask("ALPHA", "GET", f"{url}/health", timeout_s=5)[1]["status"])
        except AyaError:
            return "away"

    try:
        wait.until(status, lambda said: said in ("healthy", "failed"), node="ALPHA", what="it has loaded", deadline_s=60)
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def service(place: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One service for all tests; the last one stops it."""
    # Not MLX, which is there sooner: without Metal it takes several times as long for a bulk load.
    with serving(place, "service", "auto", query_instruction="Find this: ", waiting_texts=1000) as running:
        yield running


@pytest.fixture(scope="module")
def url(service: tuple[str, subprocess.Popen[bytes]]) -> str:
    return service[0]


def metric(url: str, name: str) -> float:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/metrics")
    families = text_string_to_metric_families(connection.getresponse().read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_openais_own_client_gets_the_same_vectors_in_both_encodings(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    expected = ask(f"{url}/embed/batch", {"texts": ["the standby lags", "WAL"]})[1]["embeddings"]
    plain = client.embeddings.create(model=MODEL, input=["the standby lags", "WAL"], encoding_format="float")
    found = client.embeddings.create(model=MODEL, input=["the standby lags", "WAL"])
    for one in (plain, found):
        assert np.allclose([each.embedding for each in one.data], expected, atol=1e-6)
    assert (found.model, found.usage.prompt_tokens) == (MODEL, 7 + 3)


def test_openais_own_client_understands_the_refusals(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="this service runs sentence-transformers/all-MiniLM-L6-v2, not ada"):
        client.embeddings.create(model="ada", input="x")
    with pytest.raises(openai.UnprocessableEntityError, match="gives 384 dimensions, not 512"):
        client.embeddings.create(model=MODEL, input="x", dimensions=512)
    with pytest.raises(openai.APIStatusError, match=r"402 tokens, .* reads 256") as refused:
        client.embeddings.create(model=MODEL, input=LONG)
    assert refused.value.status_code == 413


def test_a_text_too_long_is_cut_only_when_asked_and_then_said(url: str) -> None:
    status, said = ask(f"{url}/embed/batch", {"texts": ["short", LONG]})
    assert (status, said["detail"]) == (
        413,
        f"text 1 has 402 tokens, {MODEL} reads 256 (special tokens included): split it into chunks, or send truncate: true",
    )
    assert ask(f"{url}/embed/batch", {"texts": ["short", LONG], "truncate": True})[1]["truncated"] == [1]
    assert ask(f"{url}/embed", {"text": LONG, "truncate": True})[1]["truncated"] is True
    assert ask(f"{url}/embed", {"text": LONG})[0] == 413  # also when its vector is in the cache


def test_an_empty_text_is_refused_by_its_position(url: str) -> None:
    assert ask(f"{url}/embed/batch", {"texts": ["a", "  "]}) == (
        422,
        {"detail": "text 1 is empty: a vector of nothing would match anything"},
    )


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_more_than_64_mb_is_refused(url: str, chunked: bool) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    body = b'{"text": "' + b"x" * 65 * 1024 * 1024
    parts = iter([body[start : start + 1_000_000] for start in range(0, len(body), 1_000_000)])
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be refused before all of it was sent
        connection.request("POST", "/embed", parts if chunked else body, encode_chunked=chunked, headers=_headers(chunked))
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (413, {"detail": "the body is larger than 64 MB: send it in parts"})


def _headers(chunked: bool) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({"Transfer-Encoding": "chunked"} if chunked else {})


def test_requests_that_arrive_together_are_encoded_together_and_come_out_right(url: str) -> None:
    texts = [f"standby {number} lags {'far ' * (number % 7)}behind" for number in range(64)]
    before = [metric(url, f"aya_embedding_batch_texts_{part}") for part in ("count", "sum")]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda text: ask(f"{url}/embed", {"text": text})[1]["embedding"], texts))
    assert metric(url, "aya_embedding_batch_texts_count") - before[0] <= 32
    assert metric(url, "aya_embedding_batch_texts_sum") - before[1] == 64
    alone = model.load(Embedding(model="lab", dimension=384, backend="mlx"))
    assert np.allclose(found, alone.encode(texts), atol=1e-5)


def test_the_cache_knows_a_text_again_but_not_a_query_for_a_passage(url: str) -> None:
    first = ask(f"{url}/embed", {"text": "remember me"})[1]
    before = metric(url, "aya_embedding_cache_hits_total")
    assert ask(f"{url}/embed", {"text": "remember me"})[1] == first
    assert metric(url, "aya_embedding_cache_hits_total") == before + 1
    assert ask(f"{url}/embed", {"text": "remember me", "input_type": "query"})[1]["embedding"] != first["embedding"]
    assert metric(url, "aya_embedding_cache_hits_total") == before + 1


def test_only_known_texts_leave_the_queue_alive(url: str) -> None:
    for _ in range(3):
        assert ask(f"{url}/embed/batch", {"texts": ["known", "known"]})[0] == 200
    assert ask(f"{url}/embed", {"text": "and a new one after them"})[0] == 200


def test_a_search_does_not_wait_for_a_bulk_load(url: str) -> None:
    ended: list[str] = []

    def bulk() -> None:
        ask(f"{url}/embed/batch", {"texts": [f"passage {number} " + "word " * 20 for number in range(300)]})
        ended.append("bulk")

    loading = threading.Thread(target=bulk)
    loading.start()
    wait.until(lambda: metric(url, "aya_embedding_waiting_texts"), bool, node="ALPHA", what="the bulk waits", deadline_s=60)
    assert ask(f"{url}/embed", {"text": "a search in between"})[0] == 200
    ended.append("search")
    loading.join()
    assert ended == ["search", "bulk"]


def test_a_full_queue_is_503_with_when_to_come_back(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("POST", "/embed/batch", json.dumps({"texts": [f"t{n}" for n in range(1001)]}), _headers(False))
    response = connection.getresponse()
    assert (response.status, response.getheader("Retry-After")) == (503, "1")
    assert json.loads(response.read())["detail"] == "too busy: 0 texts are waiting, at most 1000 may"
    assert ask(f"{url}/embed/batch", {"texts": ["a", "b"]})[0] == 200


def test_a_model_that_cannot_be_loaded_is_said_on_every_path(place: Path) -> None:
    with serving(place, "mismatch", dimension=768) as (url, process):
        status, said = ask_http.ask("ALPHA", "GET", f"{url}/health", timeout_s=5)
        assert (status, said["status"], said["model_loaded"]) == (503, "failed", False)
        assert "gives 384 dimensions, the site wishes 768" in said["error"]
        assert ask(f"{url}/embed", {"text": "x"})[0] == 503
        assert metric(url, "aya_embedding_ready") == 0
        assert process.poll() is None


def test_told_to_stop_it_finishes_what_it_has(service: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = service
    texts = [f"passage {number} of the last load " + "word " * 20 for number in range(200)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, f"{url}/embed/batch", {"texts": texts})
        wait.until(lambda: metric(url, "aya_embedding_waiting_texts"), bool, node="ALPHA", what="it works", deadline_s=60)
        process.send_signal(signal.SIGTERM)
        status, said = answer.result()
    assert (status, said["count"]) == (200, 200)
    assert process.wait(30) in (0, -signal.SIGTERM)
