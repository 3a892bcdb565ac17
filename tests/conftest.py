"""Labs for tests: own folder, own ports, own runs; nothing of a developer's lab is ever touched."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from tests_support import make

from aya_lib import lab as labs
from aya_lib.site import LAB_MARKER, Site, read_yaml

HERE = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def place() -> Iterator[Path]:
    """A folder that PostgreSQL's account can enter too, with parameters and runs of its own; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="aya-test-"))
    folder.chmod(0o755)
    model = folder / "parameters" / "model" / "site.yaml"
    model.parent.mkdir(parents=True)
    content = read_yaml(HERE / "parameters" / "lab" / "site.yaml") | {"name": "model", "directory": str(folder / "model")}
    # Short deadlines: a deaf peer costs them, and here nothing is far away.
    content["deadlines"] |= {"connect_s": 2, "statement_s": 3, "http_s": 3}
    model.write_text(yaml.safe_dump(content, sort_keys=False))
    before = dict(os.environ)
    places = {"AYA_PARAMETERS": "parameters", "AYA_RUNS": "runs", "AYA_CACHE": "cache"}
    # A job in the background of a shell ignores SIGINT, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {name: str(folder / where) for name, where in places.items()} | {"NO_COLOR": "1"}
    yield folder
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]
    os.environ.clear()
    os.environ.update(before)
    shutil.rmtree(folder)
    assert not left, f"processes were left behind: {left}"


@pytest.fixture(scope="session")
def lab(place: Path) -> Iterator[Site]:
    """A whole lab, the one called ``lab``, shared by the tests that leave it as they found it."""
    site = make(place, "lab")
    try:
        labs.up(site)
        yield site
    finally:
        labs.delete(site)


@pytest.fixture(scope="module")
def bare(place: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A lab of the module's own, without the embedding service: to be broken."""
    site = make(place, str(request.module.__name__).rsplit(".", 1)[-1].replace("test_", "bare-"))
    try:
        labs.up(site, embedding=False)
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
