"""ALPHA alive behind a cut link: refused without a fence that holds, and once back it takes no writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from cut_off import Hosts, hosts, lacking
from tests_support import passed, step
from writers import Clients

from aya_lib.cluster import overview, server, state
from aya_lib.cluster.server import Cluster
from aya_lib.node.node import open_nodes
from aya_lib.operations.failover.fencing import condition
from aya_lib.plan.actions import Setting

WRITE = (
    "import sys, psycopg\n"
    "with psycopg.connect(sys.argv[1], autocommit=True) as connection:\n"
    "    print('connected', flush=True)\n"
    "    connection.execute(\"INSERT INTO documents (content, source) VALUES ('behind the cut', 'ALPHA')\")\n"
    "    print('acknowledged', flush=True)\n"
)


@pytest.fixture(scope="module")
def two(place: Path) -> Iterator[Hosts]:
    why = lacking()
    if why:
        pytest.skip(why)
    with hosts(place, "cut-off") as made:
        yield made


def test_cut_off_and_asynchronous_is_refused_and_synchronous_is_held(two: Hosts) -> None:
    site, nodes = two.site, open_nodes(two.site)
    two.cut()
    refused = step("failover", site=site.name, emergency=True)
    assert refused.error is not None
    assert not refused.done
    held = refused.check("ALPHA is fenced")
    assert held["status"] == "failed"
    assert "confirmed_by" in held["hint"]
    assert condition(overview.look(nodes).nodes["ALPHA"]) == "unreachable"
    assert state.read(site) == state.State()

    two.heal()
    Setting("synchronous_standby_names", "beta").run(nodes["ALPHA"])
    state.change(site, mode="synchronous", mode_since=state.stamp(), mode_by="a test")
    two.cut()
    client = two.inside(WRITE, Clients(site).address("ALPHA"))
    done = passed(step("failover", site=site.name, emergency=True))
    assert done.check("ALPHA is fenced")["observed"].startswith("synchronous")
    assert "no acknowledged write" in done.check("what may be lost")["observed"]
    assert state.read(site).fenced["ALPHA"].way == "synchronous"
    time.sleep(1)
    assert client.poll() is None, "the client behind the cut was answered"

    two.heal()
    assert server.look(nodes["ALPHA"]).role == "primary"  # type: ignore[union-attr]
    pair = overview.look(nodes).pair(site)
    assert [node.name for node in pair] == ["BETA", "ALPHA"]
    refused = step("restore", site=site.name, deadline_s=1)
    assert refused.error is not None
    assert not refused.done
    again = passed(step("failover", site=site.name, emergency=True))
    assert "Kill PostgreSQL on ALPHA, which came back" in again.done
    out, _ = client.communicate(timeout=120)
    assert "acknowledged" not in out
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(Clients(site).address("ALPHA"))
    assert isinstance(server.look(nodes["BETA"]), Cluster)
    files = server.look_files(nodes["ALPHA"])
    assert isinstance(files, server.Files)
    assert files.fenced
