"""A pair to be failed over: a lab without embedding services, which would only cost their start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import reconfigured
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib.site import Site


@pytest.fixture(scope="module")
def pair(place: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A lab of the module's own whose nodes have no embedding service."""
    name = str(request.module.__name__).rsplit(".", 1)[-1].replace("test_", "pair-").replace("_", "-")
    site = reconfigured(make(place, name), lambda config: [node.pop("embedding", None) for node in config["nodes"].values()])
    try:
        up(site)
        yield site
    finally:
        labs.delete(site)
