"""Labs of three clusters whose laptop is set up for synchronisation: one for all tests that can put it back, and new ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from air_work import ask, one_round, prepare, same
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.schema import create_index


@contextmanager
def set_up(place: Path, name: str) -> Iterator[Nodes]:
    """A lab whose schemas are prepared; nothing is copied yet."""
    site = make(place, name)
    try:
        up(site)
        nodes = open_nodes(site)
        prepare(nodes)
        with nodes["ALPHA"].session(write=True) as alpha:
            create_index(alpha)  # a new machine's lab without a service has no documents, and so no index yet
        yield nodes
    finally:
        labs.delete(site)


@pytest.fixture(scope="session")
def shared(place: Path) -> Iterator[Nodes]:
    with set_up(place, "with-air") as nodes:
        yield nodes


@pytest.fixture
def pair(shared: Nodes) -> Iterator[Nodes]:
    """Primary, standby and laptop of a lab that many modules share: both sides equal, nothing queued, nothing lost. In the end
    both must be equal again."""
    ask(shared, "AIR", "BEGIN; SET LOCAL aya.applying = 'on'; DELETE FROM documents WHERE id < 0; COMMIT")
    ask(shared, "AIR", "DELETE FROM write_queue WHERE NOT synced")
    one_round(shared)
    if same(shared):  # what a test that failed left
        ask(shared, "AIR", "UPDATE aya_sync.laptop SET snapshot = NULL")
        one_round(shared)
    ask(shared, "AIR", "TRUNCATE aya_sync.conflicts")
    assert same(shared) == []
    yield shared
    assert same(shared) == [], "both sides differ after the test"


@pytest.fixture(scope="module")
def own(place: Path, request: pytest.FixtureRequest) -> Iterator[Nodes]:
    """A new lab of the module's own, for what cannot be put back."""
    with set_up(place, str(request.module.__name__).rsplit(".", 1)[-1].replace("test_", "air-")) as nodes:
        yield nodes
