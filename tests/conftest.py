"""Labs for tests: own folder, own ports, own runs; nothing of a developer's lab is ever touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from pairs import reconfigured
from tests_support import make, up
from xdist.scheduler import LoadScopeScheduling

from aya_lib import lab as labs
from aya_lib.runbook import lock
from aya_lib.site import LAB_MARKER, Site, read_yaml

HERE = Path(__file__).resolve().parent.parent
ENOUGH = 8 * 2**30  # bytes; the labs of four workers take less than half of it
NEW_S = 30.0  # what a module is taken to need that has not been measured yet
SPREAD = ("notebooks/test_nbval.py",)
TOGETHER = tuple(f"knowledge/test_{name}.py" for name in ("search", "words", "ingest", "evaluate"))
FIRST, ROOM, ROOMS = 20_000, 500, 24  # ports from the first on: so many for a test process, for so many processes


class ByModule(LoadScopeScheduling):  # type: ignore[misc]
    """A module's tests run in one worker, because they share a lab, and so do the modules of :data:`TOGETHER`, whose lab holds
    documents that take minutes to embed; those of :data:`SPREAD` run each where there is room."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::", 1)[0]
        if module.endswith(TOGETHER):
            return "together"
        return nodeid if module.endswith(SPREAD) else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule:
    """How ``make test`` spreads the tests over its workers."""
    return ByModule(config, log)


def _fast() -> str | None:
    """A file system in memory when it and the memory have room for the labs: a disk that has to keep what it is given costs most
    of the time of a lab. None: the usual place."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) > ENOUGH:
        return str(memory)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: first the modules that took longest the last time, or none would be left to work beside the last of them."""
    if hasattr(config, "workerinput"):
        seconds = json.loads((HERE / "benchmarks" / "tests.json").read_text())["modules"]
        items.sort(key=lambda item: -seconds.get(item.nodeid.split("::", 1)[0], NEW_S))


@pytest.fixture(scope="session")
def room() -> Iterator[range]:
    """Ports that no other test process of this machine uses meanwhile: the first one, held open, says that they are taken."""
    for first in range(FIRST, FIRST + ROOM * ROOMS, ROOM):
        with socket.socket() as sign:
            try:
                sign.bind(("127.0.0.1", first))
            except OSError:
                continue
            yield range(first + 1, first + ROOM)
            return
    pytest.fail(f"{ROOMS} test processes run on this machine already")


@pytest.fixture(scope="session", autouse=True)
def place(room: range) -> Iterator[Path]:
    """A folder that PostgreSQL's account can enter too, with parameters and runs of its own; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="aya-test-", dir=_fast()))
    folder.chmod(0o755)
    model = folder / "parameters" / "model" / "site.yaml"
    model.parent.mkdir(parents=True)
    content = read_yaml(HERE / "parameters" / "lab" / "site.yaml") | {"name": "model", "directory": str(folder / "model")}
    # Short deadlines: a deaf peer costs them, and here nothing is far away.
    content["deadlines"] |= {"connect_s": 2, "statement_s": 3, "http_s": 3}
    # MLX is there in half a second of the processor's time, torch in six; the vectors are the same.
    content["embedding"]["backend"] = "mlx"
    model.write_text(yaml.safe_dump(content, sort_keys=False))
    before = dict(os.environ)
    places = {"AYA_PARAMETERS": "parameters", "AYA_RUNS": "runs", "AYA_CACHE": "cache"}
    # A job in the background of a shell ignores SIGINT, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {name: str(folder / where) for name, where in places.items()} | {"NO_COLOR": "1"}
    os.environ.pop("COLUMNS", None)
    os.environ["AYA_LAB_PORTS"] = f"{room[0]}-{room[-1]}"
    yield folder
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
    os.environ.clear()
    os.environ.update(before)
    shutil.rmtree(folder)
    assert not left, f"processes were left behind: {left}"


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """A runbook that a test left before its verdict gives its site back."""
    yield
    lock.let_go()


@pytest.fixture(scope="session")
def lab(place: Path) -> Iterator[Site]:
    """A whole lab, the one called ``lab``, shared by the tests that leave it as they found it."""
    site = make(place, "lab")
    try:
        up(site, embedding=True)
        yield site
    finally:
        labs.delete(site)


@pytest.fixture(scope="module")
def bare(place: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A lab of the module's own, without the embedding service: to be broken."""
    site = make(place, str(request.module.__name__).rsplit(".", 1)[-1].replace("test_", "bare-"))
    try:
        up(site)
        yield site
    finally:
        labs.delete(site)


@pytest.fixture(scope="module")
def pair(place: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A lab of the module's own whose nodes have no embedding service, which every look at the site would ask for."""
    name = str(request.module.__name__).rsplit(".", 1)[-1].replace("test_", "pair-").replace("_", "-")
    site = reconfigured(make(place, name), lambda config: [node.pop("embedding", None) for node in config["nodes"].values()])
    try:
        up(site)
        yield site
    finally:
        labs.delete(site)


@pytest.fixture(scope="session")
def lab_site(place: Path) -> Site:
    """The lab called ``lab``, as one that was made and need not run."""
    site = make(place, "lab")
    site.root.mkdir(exist_ok=True)
    (site.root / LAB_MARKER).touch()
    return site
