"""air_setup on a lab: from nothing, from half of it, from a cluster that is open; what would do harm is refused."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from air_work import ask, aya, one
from tests_support import Stepped, make, passed, step, up

from aya_lib import lab as labs
from aya_lib import settings
from aya_lib.air import setup, status
from aya_lib.air.setup.actions import password
from aya_lib.air.setup.canary import SOURCE, Trial
from aya_lib.errors import SecretMissing
from aya_lib.node.node import Nodes, open_nodes
from aya_lib.plan.change import Plan, apply
from aya_lib.site import read_yaml


@pytest.fixture(scope="module")
def nodes(place: Path) -> Iterator[Nodes]:
    site = make(place, "air-setup")
    try:
        up(site)
        yield open_nodes(site)
    finally:
        labs.delete(site)


def gone(nodes: Nodes) -> Path:
    """Take the laptop's cluster away."""
    for service in ("sync", "embedding", "postgresql"):
        nodes["AIR"].supervisor.stop(service)
    data = nodes["AIR"].data_directory
    shutil.rmtree(data, ignore_errors=True)
    return data


def run(nodes: Nodes, **values: object) -> Stepped:
    return step("air_setup", site=nodes["AIR"].site.name, **{"prove": False, **values})


def test_what_would_do_harm_is_refused_and_nothing_is_touched(nodes: Nodes) -> None:
    data = gone(nodes)
    data.mkdir()
    (data / "holiday.jpg").write_text("somebody's")
    refused = run(nodes)
    assert refused.check("AIR data directory")["observed"] == "other files are in it"
    assert ((data / "holiday.jpg").read_text(), refused.done) == ("somebody's", [])
    shutil.rmtree(data)
    port = nodes["AIR"].config.postgresql.port
    with socket.create_server(("127.0.0.1", port)):
        refused = run(nodes)
    assert "held by another process" in refused.check(f"AIR port {port} for postgresql")["observed"]
    assert (refused.done, data.exists()) == ([], False)


def test_without_a_password_the_line_says_where_to_put_it(nodes: Nodes) -> None:
    air = nodes["AIR"]
    with pytest.raises(SecretMissing, match=r"no password for role nobody_knows on AIR\. Put 127\.0\.0\.1:") as error:
        password(air, "nobody_knows")
    assert "AYA_AIR_SETUP_NOBODY_KNOWS_PASSWORD" in str(error.value)


def test_a_plan_that_broke_off_anywhere_is_finished_by_the_next_one(nodes: Nodes) -> None:
    gone(nodes)
    incomplete = nodes["AIR"].data_directory.with_name("data.incomplete")
    air = nodes["AIR"]
    air.shell.run(["mkdir", str(incomplete)], account=air.account).checked()
    air.shell.run(["tee", str(incomplete / "PG_VERSION")], account=air.account, stdin="what a killed initdb left").checked()
    titles = [step.title for step in setup.plan(setup.look(nodes)).changes]
    assert titles[0] == "Make the cluster, for local access only"
    assert titles[-1] == "Start the sync daemon"
    for done in range(len(titles)):
        left = setup.plan(setup.look(nodes))
        assert [step.title for step in left.changes] == titles[done:]
        apply(Plan("one", left.changes[:1], unwind=False), nodes, lambda *said: None)
    assert not incomplete.exists()
    assert not setup.plan(setup.look(nodes))


def test_set_up_tried_and_left_as_a_lab_was_found(nodes: Nodes) -> None:
    done = passed(run(nodes, prove=True))
    assert "Kill sync, PID" in " ".join(done.done)
    assert {done.check(name)["status"] for name in ("pull", "push", "offline", "reconnect", "delete")} == {"passed"}
    again = passed(run(nodes, keep=False))
    assert not [title for title in again.done if "by itself" not in title and "keep-alive" not in title]
    for side in ("ALPHA", "AIR"):
        assert one(nodes, side, "SELECT count(*) FROM documents WHERE source = %s", SOURCE) == 0


def test_what_a_killed_trial_left_is_swept_by_the_next(nodes: Nodes) -> None:
    ask(nodes, "ALPHA", "INSERT INTO documents (content, source) VALUES ('left behind', %s)", SOURCE)
    found = setup.trial(nodes, 30)
    assert isinstance(found, Trial), found
    assert found.left == 0
    assert {check.status for check in setup.synchronises(found)} == {"passed"}


def test_paused_it_leaves_the_primary_alone_and_says_so(nodes: Nodes) -> None:
    assert "leaves the primary alone until" in aya(nodes, "air", "pause", "--minutes", "5").stdout
    shown = aya(nodes, "air", "status")
    assert (shown.returncode, "aya air resume" in shown.stdout) == (1, True)
    refused = aya(nodes, "air", "sync-now")
    assert "leaves the primary alone until" in refused.stderr
    assert aya(nodes, "air", "resume").stdout == "AIR synchronises\n"
    assert "the daemon ended a round" in aya(nodes, "air", "sync-now").stdout
    found = status.look(nodes["AIR"].site)
    assert found.daemon
    assert found.daemon.online


def test_a_laptop_that_listens_to_others_is_closed(nodes: Nodes) -> None:
    ask(nodes, "AIR", "ALTER SYSTEM SET listen_addresses = '*'")
    nodes["AIR"].supervisor.restart("postgresql")
    assert one(nodes, "AIR", "SHOW listen_addresses") == "*"
    done = passed(run(nodes))
    assert "Let it listen on its loopback only" in done.done
    assert one(nodes, "AIR", "SHOW listen_addresses") == "localhost"


def test_what_the_laptop_lacks_it_says_itself(nodes: Nodes) -> None:
    path = settings.parameters() / nodes["AIR"].site.name / "site.yaml"
    right = path.read_text()
    content = read_yaml(path)
    content["embedding"] |= {"model": "/no/such/model", "sha256": {}}
    content["nodes"]["AIR"]["aya"] = "/no/such/aya"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        refused = run(nodes)
        assert "/no/such/aya is not there: name the node's aya in site.yaml" in refused.check("AIR aya")["observed"]
        assert refused.done == []
        said = aya(nodes, "air", "ready")
        assert (said.returncode, "/no/such/model" in said.stdout) == (1, True)
    finally:
        path.write_text(right)
    nodes["ALPHA"].supervisor.stop("postgresql")
    try:
        refused = run(nodes)
        assert refused.check("AIR reaches the primary")["status"] == "failed"
        assert refused.check("primary")["status"] == "unknown"
        assert refused.done == []
    finally:
        nodes["ALPHA"].supervisor.start("postgresql")
