"""The embedding service as a real process: honest while it loads, right when it answers, clear when it refuses."""

from __future__ import annotations

import math
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_support import make

from aya_lib import settings
from aya_lib.embedding import files, model
from aya_lib.embedding.service import serve
from aya_lib.errors import AyaError, DeadlinePassed, UsageError
from aya_lib.node import http, wait
from aya_lib.site import Embedding, Site, load_site


def ask(url: str, method: str = "GET", body: object = None) -> tuple[int, dict[str, Any]]:
    return http.ask("ALPHA", method, url, timeout_s=20, body=body)


@pytest.fixture(scope="module")
def site(place: Path) -> Site:
    return make(place, "embedding", backend="auto")


@pytest.fixture(scope="module")
def process(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    path = settings.parameters() / site.name / "site.yaml"
    started = subprocess.Popen([sys.executable, "-m", "aya_lib", "serve", "embedding", "--site", str(path)])
    yield started
    started.kill()
    started.wait()


@pytest.fixture(scope="module")
def url(site: Site, process: subprocess.Popen[bytes]) -> str:
    """The service's address, once it listens: it is still loading then."""
    assert site.nodes["ALPHA"].embedding
    port = site.nodes["ALPHA"].embedding.port
    wait.until(lambda: _listens(port), bool, node="ALPHA", what="it listens", deadline_s=30)
    return f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_while_loading_it_says_so_and_refuses_to_embed(url: str) -> None:
    status, said = ask(f"{url}/health")
    assert (status, said["status"], said["model_loaded"]) == (503, "loading", False)
    status, said = ask(f"{url}/embed", "POST", {"text": "x"})
    assert (status, said["detail"]) == (503, "the model is loading")


def test_when_loaded_it_is_healthy_and_honest_about_metal(url: str, site: Site) -> None:
    wait.until(lambda: ask(f"{url}/health")[0], lambda status: status == 200, node="ALPHA", what="it is healthy", deadline_s=60)
    said = ask(f"{url}/health")[1]
    assert (said["status"], said["model_loaded"], said["dimension"]) == ("healthy", True, 384)
    assert said["metal_available"] is (sys.platform == "darwin")


def test_vectors_are_unit_vectors_and_near_for_what_is_near(url: str) -> None:
    texts = ["The standby lags behind the primary.", "Replication is delayed.", "Apple pie needs butter."]
    said = ask(f"{url}/embed/batch", "POST", {"texts": texts})[1]
    assert (said["count"], said["dimension"]) == (3, 384)
    one, near, far = said["embeddings"]
    assert math.isclose(sum(x * x for x in one), 1, abs_tol=1e-5)
    assert dot(one, near) > dot(one, far) + 0.2
    single = ask(f"{url}/embed", "POST", {"text": texts[0]})[1]["embedding"]
    assert max(abs(a - b) for a, b in zip(single, one, strict=True)) < 1e-5


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_no_texts_give_no_vectors(url: str) -> None:
    assert ask(f"{url}/embed/batch", "POST", {"texts": []})[1]["embeddings"] == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("embed", {}, 422),
        ("embed", {"text": 7}, 422),
        ("embed/batch", {"texts": "x"}, 422),
        ("embed", {"text": "x" * 1_000_001}, 413),
        ("embed/batch", {"texts": ["x"] * 1025}, 413),
    ],
)
def test_bad_requests_are_refused_clearly(url: str, path: str, body: object, status: int) -> None:
    found, said = ask(f"{url}/{path}", "POST", body)
    assert found == status
    assert said["detail"]


def test_statistics_count_what_was_done(url: str) -> None:
    said = ask(f"{url}/stats")[1]
    assert said["texts"] >= 4
    assert said["errors"] >= 1
    assert said["latency_ms"]["p95"] >= said["latency_ms"]["p50"] > 0


def test_a_taken_port_is_one_line_with_the_holder(url: str, site: Site, process: subprocess.Popen[bytes]) -> None:
    with pytest.raises(AyaError, match=rf"^port \d+ is held by PID {process.pid}: .*Stop that process, or set another port"):
        serve(site, "ALPHA")


def test_sigterm_ends_it_in_order(url: str, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM)


def test_a_peer_that_drips_costs_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(DeadlinePassed, match="no answer within 1 s"):
        http.ask("ALPHA", "GET", f"http://127.0.0.1:{deaf.getsockname()[1]}/health", timeout_s=1)


def test_a_changed_file_of_the_model_is_never_loaded(site: Site, tmp_path: Path) -> None:
    source = files.locate(site.embedding)
    assert isinstance(source, Path)
    shutil.copy(source / "tokenizer.json", tmp_path)
    with (tmp_path / "tokenizer.json").open("r+b") as file:
        file.write(b"[")
    sums = {"tokenizer.json": site.embedding.sha256["tokenizer.json"]}
    with pytest.raises(AyaError, match=r"tokenizer\.json was changed: sha256 is \w+, the site names be50"):
        model.load(Embedding(model=str(tmp_path), dimension=384, sha256=sums))


def test_another_dimension_than_the_site_wishes_is_refused() -> None:
    with pytest.raises(AyaError, match="gives 384 dimensions, the site wishes 768"):
        model.load(Embedding(model="lab", dimension=768, backend="mlx"))


def test_a_node_without_the_service_is_named() -> None:
    with pytest.raises(UsageError, match=r"wishes no embedding service on 'GAMMA'\. It does on ALPHA"):
        serve(load_site("model"), "GAMMA")
