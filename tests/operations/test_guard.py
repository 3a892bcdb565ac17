"""The guard's ruling, from facts alone: who may start as what, and who must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aya_lib.cluster.server import Cluster, Files
from aya_lib.cluster.state import Fence, State
from aya_lib.node.unseen import Down, Unseen
from aya_lib.operations.guard.judge import rule
from aya_lib.operations.guard.look import Guarded

OWN = Files("ALPHA", False, "7", 2, "in production", "0/5")
ALPHA = Guarded("ALPHA", OWN, State(), "BETA", Down("BETA", "connection refused"))
FENCE = Fence("ALPHA", "2026-01-01", "somebody", "confirmed", "its power was cut")


def beta(timeline: int, *, recovery: bool = False, system: str = "7") -> Cluster:
    return Cluster("BETA", system, recovery, "18.1", timeline, "0/5")


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (ALPHA, "as a primary on timeline 2; BETA could not be asked: BETA is down: connection refused"),
        (replace(ALPHA, other=Unseen("BETA", "SQL", "no answer within 2 s")), "BETA could not be asked: "),
        (replace(ALPHA, other=beta(2, recovery=True)), "BETA is a standby on timeline 2"),
        (replace(ALPHA, other=beta(1)), "BETA is a primary on timeline 1"),
        (replace(ALPHA, other=beta(9, system="8")), "BETA holds another database system"),
        (replace(ALPHA, files=replace(OWN, standby_signal=True), other=None), "as a standby"),
        (replace(ALPHA, files=replace(OWN, standby_signal=True), state=State(primary="BETA"), other=None), "as a standby"),
        (replace(ALPHA, peer=None, other=None), "it stands alone"),
        (replace(ALPHA, state=State(fenced={"BETA": replace(FENCE, node="BETA")})), "as a primary"),
    ],
)
def test_it_may_start(seen: Guarded, line: str) -> None:
    ruling = rule(seen)
    assert ruling.may_start, ruling.line
    assert ruling.line.startswith("ALPHA may start: ")
    assert line in ruling.line


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (replace(ALPHA, other=beta(3)), "ends on timeline 2: it was passed over"),
        (replace(ALPHA, other=beta(3, recovery=True)), "BETA is a standby on timeline 3"),
        (replace(ALPHA, other=beta(2)), "it would be a second primary"),
        (replace(ALPHA, state=State(primary="BETA")), "a failover made BETA the primary"),
        (replace(ALPHA, state=State(fenced={"ALPHA": FENCE})), "its power was cut"),
        (replace(ALPHA, files=replace(OWN, fenced="")), "aya.fenced is in its data directory. Run rejoin"),
        (replace(ALPHA, files=replace(OWN, fenced="x\ny", standby_signal=True)), "data directory: x y. Run rejoin"),
        (replace(ALPHA, files=Unseen("ALPHA", "ls", "permission denied")), "its data directory cannot be read"),
        (replace(ALPHA, state=Unseen("ALPHA", "standing.json", "damaged")), "who is fenced cannot be told: damaged"),
    ],
)
def test_it_must_not_start(seen: Guarded, line: str) -> None:
    ruling = rule(seen)
    assert not ruling.may_start
    assert ruling.line.startswith("ALPHA must not start: ")
    assert line in ruling.line
    assert "\n" not in ruling.line
