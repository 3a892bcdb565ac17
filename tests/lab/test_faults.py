"""Every fault that the lab knows: restore mends it or refuses it rightly, and verify_replication fails when it should."""

from __future__ import annotations

import pytest
from pairs import reconfigured
from tests_support import again, passed, step

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


def test_every_fault_is_tested_and_an_unknown_one_names_those_there_are(lab: Site) -> None:
    assert {*MENDED, *REFUSED, "port-taken", "walreceiver-silent"} == set(FAULTS)
    with pytest.raises(UsageError, match=r"unknown fault 'x'.*beta-down"):
        inject(lab, "x")


@pytest.mark.parametrize("fault", MENDED)
def test_restore_mends(lab: Site, fault: str) -> None:
    assert inject(lab, fault)
    assert step("verify_replication").exit_code == (1 if MENDED[fault] else 0)
    assert passed(step("restore")).done
    if MENDED[fault]:  # what restore looked at last is not all of it
        passed(step("verify_replication"))


def test_a_foreign_process_on_the_port_is_left_alone_until_we_are_told(lab: Site) -> None:
    inject(lab, "port-taken")
    refused = step("restore", deadline_s=1)
    assert refused.exit_code == 1
    assert refused.done == []
    config = lab.nodes["ALPHA"].embedding
    assert config is not None
    assert "http.server" in refused.check(f"ALPHA port {config.port} for the embedding service")["observed"]
    told = passed(step("restore", stop_port_holder=True))
    assert any("Stop the process" in title for title in told.done)


def impatient(site: Site) -> None:
    """What does not answer here never will."""
    reconfigured(site, lambda config: config["deadlines"].update(connect_s=1, statement_s=2))


@pytest.mark.parametrize("fault", REFUSED)
def test_restore_leaves_the_pair_as_it_is(pair: Site, fault: str) -> None:
    gate, check, expected = REFUSED[fault]
    impatient(pair)
    inject(pair, fault)
    try:
        verified = step("verify_replication", site=pair.name)
        refused = step("restore", site=pair.name, deadline_s=1)
    finally:
        again(pair)
    assert verified.exit_code == 1
    assert verified.check(check)["status"] == expected
    assert refused.exit_code == 1
    assert refused.done == []
    reason = refused.check(gate.format(port=pair.nodes["BETA"].postgresql.port))
    assert reason["status"] in ("failed", "unknown")
    assert reason["hint"]
    if expected == "unknown":
        assert verified.check(check)["unseen"]["node"] == "BETA"
        assert verified.record["seconds"] < 60  # its limit is 180; only a hang comes near


def test_a_silent_link_is_seen_although_the_state_says_streaming(pair: Site) -> None:
    impatient(pair)
    inject(pair, "walreceiver-silent")  # the last test that needs the lab: it is not made anew
    seen = step("verify_replication", site=pair.name)
    assert seen.check("one stream to the standby")["status"] == "passed"
    assert seen.check("last reply from the standby")["status"] == "failed"
    assert seen.check("marked rows arrive")["status"] in ("failed", "unknown")
