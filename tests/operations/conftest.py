"""A pair to be failed over: a lab without embedding services, which would only cost their start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests_support import make, up

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.site import Site, load_site, read_yaml


@pytest.fixture(scope="module")
def pair(place: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A lab of the module's own whose nodes wish no embedding service."""
    name = str(request.module.__name__).rsplit(".", 1)[-1].replace("test_", "pair-").replace("_", "-")
    make(place, name)
    path = settings.parameters() / name / "site.yaml"
    content = read_yaml(path)
    for node in content["nodes"].values():
        node.pop("embedding", None)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    site = load_site(name)
    try:
        up(site)
        yield site
    finally:
        labs.delete(site)
