"""Every fault that the lab knows: restore mends it or refuses it rightly, and verify_replication fails when it should."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests_support import Stepped, again, step

from aya_lib.errors import UsageError
from aya_lib.lab.faults import FAULTS, inject
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
    assert step("verify_replication").exit_code == (1 if MENDED[fault] else 0)
    mended = step("restore")
    assert mended.exit_code == 0, mended.error
    assert changes(mended)
    assert step("verify_replication").exit_code == 0


def test_a_foreign_process_on_the_port_is_left_alone_until_we_are_told(lab: Site) -> None:
    inject(lab, "port-taken")
    refused = step("restore")
    assert refused.exit_code == 1
    assert not changes(refused)
    wish = lab.nodes["ALPHA"].embedding
    assert wish is not None
    assert "http.server" in status(refused, f"ALPHA port {wish.port} for the embedding service")["observed"]
    told = step("restore", stop_port_holder=True)
    assert told.exit_code == 0, told.error
    assert any("Stop the process" in change["title"] for change in changes(told))


@pytest.mark.parametrize("fault", REFUSED)
def test_restore_refuses_and_changes_nothing(bare: Site, fault: str) -> None:
    gate, check, expected = REFUSED[fault]
    inject(bare, fault)
    try:
        verified = step("verify_replication", site=bare.name)
        refused = step("restore", site=bare.name)
    finally:
        again(bare)
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
        seen = step("verify_replication", site=bare.name)
    finally:
        again(bare)
    assert status(seen, "one stream to the standby")["status"] == "passed"
    assert status(seen, "last reply from the standby")["status"] == "failed"
    assert status(seen, "marked rows arrive")["status"] in ("failed", "unknown")


def test_an_unknown_fault_names_those_there_are(bare: Site) -> None:
    with pytest.raises(UsageError, match=r"unknown fault 'x'.*beta-down"):
        inject(bare, "x")


def changes(result: Stepped) -> list[Mapping[str, Any]]:
    return [one for one in result.record["steps"] if one["kind"] == "change"]


def status(result: Stepped, name: str) -> Mapping[str, Any]:
    found = [one for one in result.record["steps"] if one["kind"] == "check" and one["name"] == name]
    assert found, f"no check {name}"
    last: Mapping[str, Any] = found[-1]
    return last
