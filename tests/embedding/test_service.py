"""The embedding service as a real process: honest while it loads, right when it answers, clear when it refuses.

One service for all: the first test sees it load, and the one that tells it to stop is the last that asks it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests_support import make

from aya_lib import settings
from aya_lib.embedding import files, model
from aya_lib.embedding.client import Pace
from aya_lib.embedding.service import serve
from aya_lib.errors import AyaError, DeadlinePassed, UsageError
from aya_lib.node import http as node_http
from aya_lib.node import wait
from aya_lib.site import Embedding, load_site, read_yaml

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LAB = Embedding(model="lab", dimension=384, backend="mlx")
LONG = "replication " * 400
WAITING = 150  # texts that the service lets wait


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    command: list[str]
    url: str


@contextmanager
def serving(place: Path, name: str, node: dict[str, object], **embedding: object) -> Iterator[Service]:
    """A service of its own, described by a site of its own, once it listens: it is still loading then."""
    path = settings.parameters() / make(place, name).name / "site.yaml"
    content = read_yaml(path)
    content["nodes"]["ALPHA"]["embedding"] |= node
    content["embedding"] |= embedding
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    port = content["nodes"]["ALPHA"]["embedding"]["port"]
    command = [sys.executable, "-m", "aya_lib", "serve", "embedding", "--site", str(path)]
    process = subprocess.Popen(command)
    try:
        wait.until(lambda: listens(port), bool, node="ALPHA", what="it listens", deadline_s=60)
        yield Service(process, command, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def started(place: Path) -> Iterator[Service]:
    config = {"query_instruction": "Find this: "}
    with serving(place, "embedding", {"waiting_texts": WAITING}, **config) as service:
        yield service


@pytest.fixture(scope="module")
def url(started: Service) -> str:
    """The service's address, once its model is loaded."""
    loaded(started.url, "healthy")
    return started.url


def loaded(url: str, status: str) -> dict[str, Any]:
    said = wait.until(
        lambda: health(url)[1],
        lambda said: said["status"] != "loading",
        node="ALPHA",
        what="it has loaded or failed to load",
        deadline_s=60,
    )
    assert said["status"] == status
    return said


def health(url: str) -> tuple[int, dict[str, Any]]:
    return node_http.ask("ALPHA", "GET", f"{url}/health", timeout_s=20)


def ask(url: str, body: object) -> tuple[int, dict[str, Any]]:
    return node_http.ask("ALPHA", "POST", url, timeout_s=60, body=body)


def response(url: str, method: str, path: str, body: Any = None, **options: Any) -> http.client.HTTPResponse:
    """What came back, with its headers; a body that is refused before all of it was sent is no error."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Transfer-Encoding": "chunked"} if options else {})
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, path, body, headers=headers, **options)
    return connection.getresponse()


def metric(url: str, name: str) -> float:
    families = text_string_to_metric_families(response(url, "GET", "/metrics").read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == f"aya_embedding_{name}")


def until_texts_wait(url: str) -> None:
    wait.until(lambda: metric(url, "waiting_texts"), bool, node="ALPHA", what="texts wait", deadline_s=60)


def test_while_loading_it_says_so_and_refuses_to_embed(started: Service) -> None:
    status, said = health(started.url)
    assert (status, said["status"], said["model_loaded"]) == (503, "loading", False)
    status, said = ask(f"{started.url}/embed", {"text": "x"})
    assert (status, said["detail"]) == (503, "the model is loading")


def test_when_loaded_it_is_healthy_and_honest_about_metal(url: str) -> None:
    status, said = health(url)
    assert (status, said["status"], said["model_loaded"], said["dimension"]) == (200, "healthy", True, 384)
    assert said["metal_available"] is (sys.platform == "darwin")
    assert metric(url, "ready") == 1


def test_vectors_are_unit_vectors_and_near_for_what_is_near(url: str) -> None:
    texts = ["The standby lags behind the primary.", "Replication is delayed.", "Apple pie needs butter."]
    said = ask(f"{url}/embed/batch", {"texts": texts})[1]
    assert (said["count"], said["dimension"]) == (3, 384)
    one, near, far = np.array(said["embeddings"])
    assert math.isclose(one @ one, 1, abs_tol=1e-5)
    assert one @ near > one @ far + 0.2
    assert np.allclose(ask(f"{url}/embed", {"text": texts[0]})[1]["embedding"], one, atol=1e-5)
    assert ask(f"{url}/embed/batch", {"texts": []})[1]["embeddings"] == []


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("embed", {}, 422, "body.text: Field required"),
        ("embed", {"text": 7}, 422, "body.text: Input should be a valid string"),
        ("embed/batch", {"texts": "x"}, 422, "body.texts: Input should be a valid list"),
        ("embed/batch", {"texts": ["a", "  "]}, 422, "text 1 is empty: a vector of nothing would match anything"),
        ("embed", {"text": "\u200b\u200d\ufe0f"}, 422, "text 0 is empty: a vector of nothing would match anything"),
        ("embed", {"text": "Party \ud83c"}, 422, "text 0 holds half of a surrogate pair at character 6, which is no text"),
        ("embed", {"text": "x" * 1_000_001}, 413, "text 0 has 1,000,001 characters, at most 1,000,000"),
        ("embed/batch", {"texts": ["x"] * 1025}, 413, "1025 texts at once, at most 1024: send them in parts"),
    ],
)
def test_bad_requests_are_refused_clearly(url: str, path: str, body: object, status: int, detail: str) -> None:
    assert ask(f"{url}/{path}", body) == (status, {"detail": detail})


def test_openais_own_client_gets_the_same_vectors_in_both_encodings(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    expected = ask(f"{url}/embed/batch", {"texts": ["the standby lags", "WAL"]})[1]["embeddings"]
    plain = client.embeddings.create(model=MODEL, input=["the standby lags", "WAL"], encoding_format="float")
    packed = client.embeddings.create(model=MODEL, input=["the standby lags", "WAL"])
    status, said = ask(f"{url}/v1/embeddings", {"input": "x", "encoding_format": None, "dimensions": None, "model": None})
    assert (status, len(said["data"][0]["embedding"])) == (200, 384)
    for answer in (plain, packed):
        assert np.allclose([each.embedding for each in answer.data], expected, atol=1e-6)
    assert (packed.model, packed.usage.prompt_tokens) == (MODEL, 7 + 3)


def test_openais_own_client_understands_the_refusals(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="this service runs sentence-transformers/all-MiniLM-L6-v2, not ada"):
        client.embeddings.create(model="ada", input="x")
    with pytest.raises(openai.UnprocessableEntityError, match="gives 384 dimensions, not 512"):
        client.embeddings.create(model=MODEL, input="x", dimensions=512)
    with pytest.raises(openai.UnprocessableEntityError, match=r"body\.input: token numbers are another model's: send the texts"):
        client.embeddings.create(model=MODEL, input=[[101, 102]])
    with pytest.raises(openai.APIStatusError, match=r"402 tokens, .* reads 256") as refused:
        client.embeddings.create(model=MODEL, input=LONG)
    assert refused.value.status_code == 413


def test_a_text_too_long_is_cut_only_when_asked_and_then_said(url: str) -> None:
    line = f"text 1 has 402 tokens, {MODEL} reads 256 (special tokens included): split it into chunks, or send truncate: true"
    assert ask(f"{url}/embed/batch", {"texts": ["short", LONG]}) == (413, {"detail": line})
    assert ask(f"{url}/embed/batch", {"texts": ["short", LONG], "truncate": True})[1]["truncated"] == [1]
    assert ask(f"{url}/embed", {"text": LONG, "truncate": True})[1]["truncated"] is True
    assert ask(f"{url}/embed", {"text": LONG})[0] == 413  # also when its vector is in the cache


@pytest.mark.parametrize("options", [{}, {"encode_chunked": True}], ids=["whole", "chunked"])
def test_a_body_of_more_than_64_mb_is_refused(url: str, options: dict[str, bool]) -> None:
    body = b'{"text": "' + b"x" * 65 * 1024 * 1024
    parts = iter([body[start : start + 1_000_000] for start in range(0, len(body), 1_000_000)])
    refused = response(url, "POST", "/embed", parts if options else body, **options)
    assert (refused.status, json.loads(refused.read())) == (413, {"detail": "the body is larger than 64 MB: send it in parts"})


def test_requests_that_arrive_together_are_encoded_together_and_come_out_right(url: str) -> None:
    texts = [f"standby {number} lags {'far ' * (number % 7)}behind" for number in range(64)]
    names = ("batch_texts_count", "batch_texts_sum")
    before = [metric(url, name) for name in names]
    with ThreadPoolExecutor(32) as pool:
        vectors = list(pool.map(lambda text: ask(f"{url}/embed", {"text": text})[1]["embedding"], texts))
    batches, encoded = (metric(url, name) - was for name, was in zip(names, before, strict=True))
    assert encoded == 64
    assert batches <= 32
    assert np.allclose(vectors, model.load(LAB).encode(texts), atol=1e-5)


def test_the_cache_knows_a_text_again_but_not_a_query_for_a_passage(url: str) -> None:
    first = ask(f"{url}/embed", {"text": "remember me"})[1]
    before = metric(url, "cache_hits_total")
    assert ask(f"{url}/embed", {"text": "remember me"})[1] == first
    assert metric(url, "cache_hits_total") == before + 1
    assert ask(f"{url}/embed", {"text": "remember me", "input_type": "query"})[1]["embedding"] != first["embedding"]
    assert metric(url, "cache_hits_total") == before + 1


def test_only_known_texts_leave_the_queue_alive(url: str) -> None:
    for _ in range(3):
        assert ask(f"{url}/embed/batch", {"texts": ["known", "known"]})[0] == 200
    assert ask(f"{url}/embed", {"text": "and a new one after them"})[0] == 200


def test_statistics_count_what_was_done(url: str) -> None:
    before = statistics(url)
    assert ask(f"{url}/embed/batch", {"texts": ["counted", LONG], "truncate": True})[0] == 200
    assert [ask(f"{url}/embed", {"text": text})[0] for text in ("counted", "")] == [200, 422]
    after = statistics(url)
    counted = {name: after[name] - before[name] for name in ("requests", "texts", "errors", "truncated")}
    assert counted == {"requests": 3, "texts": 3, "errors": 1, "truncated": 1}
    assert after["cache_hits"] > before["cache_hits"]
    assert after["latency_ms"]["p95"] >= after["latency_ms"]["p50"] > 0


def statistics(url: str) -> dict[str, Any]:
    return node_http.ask("ALPHA", "GET", f"{url}/stats", timeout_s=20)[1]


def test_a_search_does_not_wait_for_a_bulk_load(url: str) -> None:
    ended: list[str] = []

    def bulk() -> None:
        ask(f"{url}/embed/batch", {"texts": [f"passage {number} " + "word " * 30 for number in range(120)]})
        ended.append("bulk")

    loading = threading.Thread(target=bulk)
    loading.start()
    until_texts_wait(url)
    assert ask(f"{url}/embed", {"text": "a search in between"})[0] == 200
    ended.append("search")
    loading.join()
    assert ended == ["search", "bulk"]


def test_what_a_client_that_hung_up_asked_for_is_not_encoded(url: str) -> None:
    texts = [f"sentence {number} " + "word " * 200 for number in range(WAITING)]
    before = metric(url, "batch_texts_sum")
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("POST", "/embed/batch", json.dumps({"texts": texts}), {"Content-Type": "application/json"})
    until_texts_wait(url)
    connection.close()
    wait.until(lambda: metric(url, "waiting_texts"), lambda n: not n, node="ALPHA", what="the queue is empty", deadline_s=60)
    encoded = metric(url, "batch_texts_sum") - before
    assert encoded < WAITING
    hits = metric(url, "cache_hits_total")
    assert ask(f"{url}/embed/batch", {"texts": texts[: int(encoded)]})[0] == 200
    assert metric(url, "cache_hits_total") > hits or not encoded  # what was finished is kept


def test_a_request_holds_what_the_encoder_does_in_seconds() -> None:
    pace = Pace()
    sizes = []
    for per_text in (0.001, 0.001, 0.001, 0.001, 0.001, 1.0, 1.0, 10.0, 10.0, 0.001):
        sizes.append(pace.size)
        pace.took(pace.size, pace.size * per_text)
    assert sizes == [8, 16, 32, 64, 128, 128, 3, 3, 1, 1]
    pace.took(1, 0.001)
    assert (pace.size, pace.halve(), pace.halve()) == (2, True, False)


def test_a_full_queue_is_503_with_when_to_come_back(url: str) -> None:
    refused = response(url, "POST", "/embed/batch", json.dumps({"texts": [f"t{n}" for n in range(WAITING + 1)]}))
    assert (refused.status, refused.getheader("Retry-After")) == (503, "1")
    assert json.loads(refused.read())["detail"] == f"too busy: 0 texts are waiting, at most {WAITING} may"
    assert ask(f"{url}/embed/batch", {"texts": ["a", "b"]})[0] == 200


def test_a_taken_port_is_one_line_with_the_holder(started: Service) -> None:
    done = subprocess.run(started.command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("aya: port ")
    assert f"is held by PID {started.process.pid}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_told_to_stop_it_finishes_what_it_has(url: str, started: Service) -> None:
    with ThreadPoolExecutor(1) as pool:
        texts = [f"leaflet {number} " + "word " * 20 for number in range(80)]
        answer = pool.submit(ask, f"{url}/embed/batch", {"texts": texts})
        until_texts_wait(url)
        started.process.send_signal(signal.SIGTERM)
        status, said = answer.result()
        assert (status, said["count"]) == (200, 80)
        assert started.process.wait(30) in (0, -signal.SIGTERM)


def test_a_model_that_cannot_be_loaded_is_said_on_every_path(place: Path) -> None:
    with serving(place, "mismatch", {}, dimension=768) as service:
        said = loaded(service.url, "failed")
        assert (health(service.url)[0], said["model_loaded"]) == (503, False)
        assert "gives 384 dimensions, the site asks for 768" in said["error"]
        assert ask(f"{service.url}/embed", {"text": "x"})[0] == 503
        assert metric(service.url, "ready") == 0
        assert service.process.poll() is None


def test_a_peer_that_drips_costs_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(DeadlinePassed, match="no answer within 1 s"):
        node_http.ask("ALPHA", "GET", f"http://127.0.0.1:{deaf.getsockname()[1]}/health", timeout_s=1)


def test_a_changed_file_of_the_model_is_never_loaded(place: Path, tmp_path: Path) -> None:
    shutil.copy(files.locate(LAB) / "tokenizer.json", tmp_path)
    with (tmp_path / "tokenizer.json").open("r+b") as file:
        file.write(b"[")
    sums = {"tokenizer.json": load_site("model").embedding.sha256["tokenizer.json"]}
    with pytest.raises(AyaError, match=r"tokenizer\.json was changed: sha256 is \w+, the site names be50"):
        model.load(Embedding(model=str(tmp_path), dimension=384, sha256=sums))


def test_another_dimension_than_the_site_names_is_refused() -> None:
    with pytest.raises(AyaError, match="gives 384 dimensions, the site asks for 768"):
        model.load(LAB.model_copy(update={"dimension": 768}))


def test_a_node_without_the_service_is_named() -> None:
    with pytest.raises(UsageError, match=r"asks for no embedding service on 'GAMMA'\. It does on ALPHA"):
        serve(load_site("model"), "GAMMA")
