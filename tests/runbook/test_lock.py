"""The site's lock holds from wherever it is asked for, until its holder ends, and whatever happens to the servers meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests_support import make, step, up

from aya_lib import lab as labs
from aya_lib.errors import Locked
from aya_lib.node import hold, wait
from aya_lib.node.node import open_nodes
from aya_lib.operations import failover
from aya_lib.runbook import pair_lock
from aya_lib.runbook.pair_lock import PairLock
from aya_lib.site import Site

HOLD = """
import sys, time
from aya_lib.node.node import open_nodes
from aya_lib.runbook.pair_lock import PairLock
from aya_lib.site import load_site
held = PairLock(open_nodes(load_site(sys.argv[1])), sys.argv[2], attended=False, contents=sys.argv[2] == "ingest")
print(*held.held, sep=", ", flush=True)
sys.stdin.readline()
try:
    held.require()
except Exception as error:
    print(error, flush=True)
"""


@pytest.fixture(scope="module")
def pair(place: Path) -> Iterator[Site]:
    site = make(place, "locked")
    try:
        up(site)
        yield site
    finally:
        labs.delete(site)


@contextmanager
def other(site: Site, folder: Path, runbook: str = "failover") -> Iterator[subprocess.Popen[str]]:
    """Another operator, whose runs are in a folder of his own."""
    command = [sys.executable, "-c", HOLD, site.name, runbook]
    environment = {**os.environ, "AYA_RUNS": str(folder)}
    with subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def ours(site: Site) -> PairLock:
    return PairLock(open_nodes(site), "switchback", attended=False)


def test_it_holds_for_another_folder_is_named_survives_its_servers_and_goes_with_its_process(pair: Site, tmp_path: Path) -> None:
    alpha = open_nodes(pair)["ALPHA"]
    with other(pair, tmp_path) as first:
        everywhere = "the machine of ALPHA, the server of ALPHA, the machine of BETA, the server of BETA"
        assert said(first) == everywhere
        named = rf"site locked is being changed by failover, PID {first.pid} of \S+@\S+, since 20\S+Z \(it holds the machine"
        stepped = step("failover", site=pair.name)
        with pytest.raises(Locked, match=named):
            raise stepped.error or AssertionError("it went on")
        assert (stepped.exit_code, stepped.record["outcome"], stepped.done) == (3, "refused", [])
        assert step("failover", site=pair.name, dry_run=True).error is None
        alpha.supervisor.stop("postgresql")
        with pytest.raises(Locked, match=rf"PID {first.pid} "):
            ours(pair)
        first.kill()
        first.wait()
        wait.until(lambda: free(pair), bool, node="here", what="the lock went with the process", deadline_s=10)
    alpha.supervisor.start("postgresql")


def free(site: Site) -> bool:
    try:
        ours(site).release("the test")
    except Locked:
        return False
    return True


@pytest.mark.parametrize("kind", [hold.Machine, hold.Server])
def test_each_kind_by_itself_refuses_and_names_the_holder(
    pair: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[hold.Hold]
) -> None:
    with other(pair, tmp_path) as first:
        said(first)
        monkeypatch.setattr(pair_lock, "Machine", kind)
        monkeypatch.setattr(pair_lock, "Server", kind)
        with pytest.raises(Locked, match=rf"changed by failover, PID {first.pid} of"):
            ours(pair)


def test_without_perl_flock_holds_it(pair: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "SCRIPT", hold.SCRIPT.replace("command -v perl", "false"))
    mine = hold.Machine(open_nodes(pair)["ALPHA"], "me")
    assert mine.take() is None
    yours = hold.Machine(open_nodes(pair)["ALPHA"], "you")
    assert yours.take() == "me"
    yours.release()
    mine.release()
    assert free(pair)


def load(site: Site) -> PairLock:
    return PairLock(open_nodes(site), "ingest", attended=False, contents=True)


def test_nobody_who_must_act_waits_for_a_load(pair: Site, tmp_path: Path) -> None:
    with other(pair, tmp_path, "ingest") as first:
        assert said(first) == "the server of ALPHA, the server of BETA"
        mine = ours(pair)
        found = failover.look(open_nodes(pair), failover.request(pair))
        named = next(check for check in failover.preconditions(found) if check.status == "failed")
        assert (named.name, f"ingest, PID {first.pid} of" in named.observed) == ("nobody loads into ALPHA", True)
        mine.release("the test")
        with pytest.raises(Locked, match=rf"changed by ingest, PID {first.pid} of"):
            load(pair)


def test_a_load_begins_only_while_nobody_acts(pair: Site, tmp_path: Path) -> None:
    with other(pair, tmp_path) as first:
        said(first)
        with pytest.raises(Locked, match=rf"changed by failover, PID {first.pid} of .* \(it holds the server of ALPHA"):
            load(pair)
    begins = hold.Machine(open_nodes(pair)["BETA"], "failover of a pair that is down")
    assert begins.take() is None
    with pytest.raises(Locked, match="changed by failover of a pair that is down"):
        load(pair)
    begins.release()
    load(pair).release("the test")


def test_who_lost_every_lock_does_nothing_more(pair: Site, tmp_path: Path) -> None:
    mine = ours(pair)
    for one in mine._holds:
        one.release()
    mine._holds.clear()
    with pytest.raises(Locked, match="not held any more: the connection to every locked node was lost"):
        mine.require()


def test_where_no_node_can_be_reached_a_word_says_so_and_the_run_goes_on(pair: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_lock, "Machine", hold.Server)
    labs.down(pair)
    mine = ours(pair)
    assert mine.held == []
    assert mine.missing[0].startswith("ALPHA is down")
    mine.require()
