"""A lab with real documentation in it: pages of PostgreSQL's manual (PostgreSQL Licence, Debian's postgresql-doc-15)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib.knowledge.ingest import ingest
from aya_lib.node.node import Nodes, open_nodes

HTML = Path("/usr/share/doc/postgresql-doc-15/html")
PAGES = ("wal*", "backup*", "warm*", "sql-vacuum*")


@pytest.fixture(scope="session")
def manual(place: Path) -> Path:
    """A folder with some fifteen pages of the manual."""
    if not HTML.is_dir():
        pytest.skip(f"no {HTML}: install the package postgresql-doc-15")
    folder = place / "manual"
    folder.mkdir()
    for pattern in PAGES:
        for path in HTML.glob(f"{pattern}.html"):
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def empty_library(place: Path) -> Iterator[Nodes]:
    """A lab with its embedding service, as it is after ``aya lab up``."""
    site = make(place, "library", backend="auto")
    try:
        up(site, embedding=True)
        yield open_nodes(site)
    finally:
        labs.delete(site)


@pytest.fixture(scope="session")
def library(empty_library: Nodes, manual: Path) -> Nodes:
    """The lab with the manual in it."""
    report = ingest(empty_library, [manual], category="manual")
    assert not report.tally.failed
    return empty_library
