"""The primary is lost under load, again and again: nothing acknowledged is lost, or no more than was said beforehand."""

from __future__ import annotations

import chaos
import pytest

from aya_lib.cluster import overview, state
from aya_lib.node.node import open_nodes
from aya_lib.site import Site


@pytest.mark.parametrize("synchronous", [True, False])
def test_lost_passed_over_brought_back_and_handed_back(pair: Site, synchronous: bool) -> None:
    found = chaos.one(pair, synchronous=synchronous)
    assert found.both == 0
    if synchronous:
        assert found.lost == 0
    else:
        assert found.bound is not None
        assert found.lost <= found.bound
        assert found.saved == found.lost
    seen = overview.look(open_nodes(pair))
    assert [node.name for node in seen.pair(pair)] == ["ALPHA", "BETA"]
    known = state.read(pair)
    assert (known.primary, known.fenced, known.under_way) == (None, {}, None)
    if synchronous:
        assert known.mode == "synchronous"
