"""A lab without an embedding service, and small vectors that cluster as text embeddings do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.vectors.corpus import Corpus, corpus
from aya_lib.vectors.generated import generate, parse
from aya_lib.vectors.metric import METRICS


@pytest.fixture(scope="session")
def workshop(place: Path) -> Iterator[Nodes]:
    """A lab to measure on; its tables are left as they are."""
    site = make(place, "workshop")
    try:
        up(site)
        yield open_nodes(site)
    finally:
        labs.delete(site)


@pytest.fixture(scope="session")
def small() -> Corpus:
    """5,000 x 96, of which 750 are held out."""
    return corpus("small", generate(parse("generated:5000x96")), METRICS["cosine"])
