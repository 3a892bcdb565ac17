"""A lab of three clusters whose laptop is set up for synchronisation, and ways to write on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from air_work import prepare
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.schema import create_index


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[Nodes]:
    """Primary, standby and a laptop whose schemas are prepared; shared by the tests of a module."""
    site = make(place, "with-air")
    try:
        up(site)
        nodes = open_nodes(site)
        prepare(nodes)
        with nodes["ALPHA"].session(write=True) as alpha:
            create_index(alpha)  # a new machine's lab without a service has no documents, and so no index yet
        yield nodes
    finally:
        labs.delete(site)
