"""A probe removes what it wrote: when it ends, when it fails, when it is interrupted, and after it was killed."""

from __future__ import annotations

import signal
import subprocess
import sys

import psycopg
import pytest

from aya_lib import lab as labs
from aya_lib.cluster import canary
from aya_lib.cluster.canary import Leftover, Refusal, Visibility
from aya_lib.node import wait
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.node.unseen import Down, Planned
from aya_lib.site import Site


@pytest.fixture(scope="module")
def nodes(bare: Site) -> Nodes:
    return open_nodes(bare)


def left(nodes: Nodes, name: str = "ALPHA") -> tuple[str, ...]:
    (found,) = canary.leftover(nodes, name)
    assert isinstance(found, Leftover)
    return found.tables


def test_each_row_is_timed_and_nothing_is_left(nodes: Nodes) -> None:
    found = canary.visibility(nodes, "ALPHA", "BETA", 20)
    assert isinstance(found, Visibility)
    assert len(found.seen) == 20
    assert 0 < (found.percentile(50) or 0) <= (found.percentile(95) or 0) <= (found.percentile(100) or 0) == found.seen[-1]
    assert left(nodes) == ()


def test_percentiles_are_nearest_rank() -> None:
    found = Visibility("ALPHA", "BETA", tuple(float(n) for n in range(1, 21)), 2)
    assert [found.percentile(p) for p in (50, 95, 100)] == [10, 19, 20]


def test_a_failure_in_the_middle_leaves_nothing(nodes: Nodes) -> None:
    with pytest.raises(ZeroDivisionError), canary.marked(nodes["ALPHA"], 10):
        raise ZeroDivisionError
    assert left(nodes) == ()


def test_a_broken_session_leaves_nothing(nodes: Nodes) -> None:
    with pytest.raises(Exception, match="terminating connection"), canary.marked(nodes["ALPHA"], 10) as (connection, _):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert left(nodes) == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_or_killed_the_rows_are_gone_after_the_next_run_at_the_latest(
    nodes: Nodes, bare: Site, number: signal.Signals
) -> None:
    code = (
        "import time; from aya_lib.cluster import canary; from aya_lib.site import load_site\n"
        "from aya_lib.node.node import open_nodes\n"
        f"with canary.marked(open_nodes(load_site('{bare.name}'))['ALPHA'], 60): time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait.until(lambda: left(nodes), bool, node="ALPHA", what="the probe's table is there", deadline_s=60)
    process.send_signal(number)
    process.wait(20)
    if number == signal.SIGINT:
        assert left(nodes) == ()
    assert isinstance(canary.visibility(nodes, "ALPHA", "BETA", 1), Visibility)
    assert left(nodes) == ()


def test_a_probe_that_lives_is_not_swept_by_another(nodes: Nodes) -> None:
    with canary.marked(nodes["ALPHA"], 20) as (_, table):
        assert isinstance(canary.visibility(nodes, "ALPHA", "BETA", 1), Visibility)
        assert left(nodes) == (table,)
    assert left(nodes) == ()


def test_with_the_standby_down_the_rows_are_gone_too(nodes: Nodes, bare: Site) -> None:
    nodes["BETA"].supervisor.stop("postgresql")
    try:
        assert isinstance(canary.visibility(nodes, "ALPHA", "BETA", 3), Down)
        assert left(nodes) == ()
    finally:
        labs.up(bare, embedding=False)


def test_a_write_on_the_standby_is_refused_as_read_only_and_on_the_primary_it_is_not(nodes: Nodes) -> None:
    refused, accepted = (canary.refused_write(nodes, name) for name in ("BETA", "ALPHA"))
    assert isinstance(refused, Refusal)
    assert refused.sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate
    assert isinstance(accepted, Refusal)
    assert accepted.sqlstate is None


def test_what_would_be_written_is_said_beforehand() -> None:
    assert canary.writes(canary.visibility).startswith("marked rows")
    assert canary.writes(canary.leftover) == ""
    assert str(Planned("x")) == "x"
