"""Which node is the primary, from what was seen and what was agreed."""

from __future__ import annotations

import pytest

from aya_lib.cluster import roles, state
from aya_lib.cluster.state import Fence, State
from aya_lib.errors import Unreachable
from aya_lib.knowledge.store import Store
from aya_lib.node.node import open_nodes
from aya_lib.site import Site

FENCED = {"ALPHA": Fence("ALPHA", "2026-01-01", "somebody", "confirmed", "its power was cut")}


@pytest.mark.parametrize(
    ("known", "writable", "primary"),
    [
        (State(), ["ALPHA"], "ALPHA"),
        (State(), ["BETA"], "BETA"),  # the servers' own word goes before the site's
        (State(), [], "ALPHA"),
        (State(), ["ALPHA", "BETA"], "ALPHA"),
        (State(), ["AIR"], "ALPHA"),  # a laptop is never the primary
        (State(primary="BETA"), [], "BETA"),
        (State(primary="BETA"), ["ALPHA", "BETA"], "BETA"),
        (State(fenced=FENCED), ["ALPHA", "BETA"], "BETA"),
        (State(primary="BETA", fenced=FENCED), ["ALPHA"], "BETA"),
    ],
)
def test_the_one_that_accepts_writes_and_is_not_fenced_else_the_one_that_was_agreed(
    lab_site: Site, known: State, writable: list[str], primary: str
) -> None:
    assert roles.chosen(lab_site, known, writable) == primary


def test_the_agreed_one_is_read_from_the_sites_state(bare: Site) -> None:
    assert roles.agreed(bare) == "ALPHA"
    state.change(bare, primary="BETA")
    try:
        assert roles.agreed(bare) == "BETA"
    finally:
        state.path(bare).unlink()


BEGUN = {"kind": "emergency", "old": "ALPHA", "new": "BETA", "by": ""}


def test_a_load_ends_with_one_line_when_its_node_is_given_up_and_takes_no_notice_of_what_was_before(bare: Site) -> None:
    before = state.stamp()
    state.change(bare, under_way={**BEGUN, "began": before})
    store = Store(open_nodes(bare)["ALPHA"])
    try:
        assert state.given_up(bare, state.stamp()) == ""
        state.change(bare, under_way={**BEGUN, "began": (began := state.stamp())})
        with pytest.raises(Unreachable, match=f"ALPHA is given up for BETA, since {began} by nobody named"):
            store.remove([1])
        state.change(bare, under_way={**BEGUN, "began": began, "kind": "rejoin"})
        assert state.given_up(bare, before) == ""
        state.fence(bare, Fence("ALPHA", began, "Ada", "none", "BETA was made the primary"))
        assert state.given_up(bare, before) == f"ALPHA was given up {began} by Ada (none): BETA was made the primary"
    finally:
        state.path(bare).unlink()
