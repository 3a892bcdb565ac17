"""Every fault that the lab knows: restore mends it or refuses it rightly, and verify_replication fails when it should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aya_lib import lab as labs
from aya_lib.errors import UsageError
from aya_lib.lab.faults import FAULTS, inject
from aya_lib.runbook.run import RunResult, run
from aya_lib.site import Site

# fault -> does verify_replication fail while it lasts
MENDED = {
    "embedding-down": False,
    "stale-pid": False,
    "alpha-down": True,
    "beta-down": True,
    "slot-dropped": True,
    "replication-paused": True,
}
# fault -> the check of restore's gate that says why it refuses; a check of verify_replication, and its status
REFUSED = {
    "standby-signal-missing": ("BETA would start as a standby", "BETA is a standby", "failed"),
    "wal-lost": ("slot beta_slot still holds the WAL", "slot beta_slot", "failed"),
    "peer-deaf": ("BETA port {port} for PostgreSQL", "BETA is a standby", "unknown"),
    "frozen": ("state of BETA is known", "BETA is a standby", "unknown"),
    "two-primaries": ("no second primary", "BETA is a standby", "failed"),
    "diverged": ("ALPHA was not passed over", "ALPHA has not diverged", "failed"),
}


def test_every_fault_is_tested() -> None:
    assert {*MENDED, *REFUSED, "port-taken", "walreceiver-silent"} == set(FAULTS)


@pytest.mark.parametrize("fault", MENDED)
def test_restore_mends(lab: Site, fault: str) -> None:
    assert inject(lab, fault)
    assert run("verify_replication", {}).exit_code == (1 if MENDED[fault] else 0)
    mended = run("restore", {})
    assert mended.exit_code == 0, mended.record["error"]
    assert changes(mended)
    assert run("verify_replication", {}).exit_code == 0


def test_a_foreign_process_on_the_port_is_left_alone_until_we_are_told(lab: Site) -> None:
    inject(lab, "port-taken")
    refused = run("restore", {})
    assert refused.exit_code == 1
    assert not changes(refused)
    wish = lab.nodes["ALPHA"].embedding
    assert wish is not None
    assert "http.server" in status(refused, f"ALPHA port {wish.port} for the embedding service")["observed"]
    told = run("restore", {"stop_port_holder": True})
    assert told.exit_code == 0, told.record["error"]
    assert any("Stop the process" in change["title"] for change in changes(told))


@pytest.mark.parametrize("fault", REFUSED)
def test_restore_refuses_and_changes_nothing(bare: Site, fault: str) -> None:
    gate, check, expected = REFUSED[fault]
    inject(bare, fault)
    try:
        verified = run("verify_replication", {"site": bare.name})
        refused = run("restore", {"site": bare.name})
    finally:
        labs.reset(bare, embedding=False)
    assert verified.exit_code == 1
    assert status(verified, check)["status"] == expected
    assert refused.exit_code == 1
    assert not changes(refused)
    reason = status(refused, gate.format(port=bare.nodes["BETA"].postgresql.port))
    assert reason["status"] in ("failed", "unknown")
    assert reason["hint"]
    if expected == "unknown":
        assert status(verified, check)["unseen"]["node"] == "BETA"
        assert verified.record["seconds"] < 60  # its limit is 180; only a hang comes near


def test_a_silent_link_is_seen_although_the_state_says_streaming(bare: Site) -> None:
    inject(bare, "walreceiver-silent")
    try:
        seen = run("verify_replication", {"site": bare.name})
    finally:
        labs.reset(bare, embedding=False)
    assert status(seen, "one stream to the standby")["status"] == "passed"
    assert status(seen, "last reply from the standby")["status"] == "failed"
    assert status(seen, "marked rows arrive")["status"] in ("failed", "unknown")


def test_an_unknown_fault_names_those_there_are(bare: Site) -> None:
    with pytest.raises(UsageError, match=r"unknown fault 'x'.*beta-down"):
        inject(bare, "x")


def changes(result: RunResult) -> list[Mapping[str, Any]]:
    return [step for step in result.record["steps"] if step["kind"] == "change"]


def status(result: RunResult, name: str) -> Mapping[str, Any]:
    found = [step for step in result.record["steps"] if step["kind"] == "check" and step["name"] == name]
    assert found, f"no check {name}"
    last: Mapping[str, Any] = found[-1]
    return last
