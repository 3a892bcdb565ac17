"""What is asked before the old primary is stopped: the promise, the standby, and who reads the primary's WAL. No database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts import NODES, NOW, UP

from aya_lib.cluster.judge import standby
from aya_lib.cluster.overview import NodeSeen, Overview
from aya_lib.cluster.server import SIZES
from aya_lib.cluster.standby import Answer, Login, Ready, Recovery
from aya_lib.node.unseen import Missing, Unseen
from aya_lib.operations import switchback
from aya_lib.operations.failover import fencing, judge
from aya_lib.operations.failover.leaving import Archiver, Leaving, Reader
from aya_lib.operations.failover.look import Found, Request

RECOVERY = Recovery("BETA", True, sizes=dict.fromkeys(SIZES, 8))
LEADS = replace(RECOVERY, node="ALPHA", recovering=False)
FREE: dict[str, int | Missing] = {"/data": 10**12, "/wal": 10**12}
LOGINS: dict[str, Login | Missing] = {"ALPHA": Login("ALPHA", "app"), "BETA": Login("BETA", "app")}
READY = Ready("BETA", "ALPHA", RECOVERY, LEADS, dict.fromkeys(SIZES, 8), None, FREE, LOGINS)
OURS = Reader("beta_slot", "physical slot", pid=7, behind=0, reply_age_s=0.1)
LEAVING = Leaving("ALPHA", frozenset({"beta_slot", "beta"}), (OURS,), archiver=Archiver(0, 0.0, False))
UNSEEN = Unseen("BETA", "SQL", "no answer")


def ready(**recovery: object) -> Ready:
    return replace(READY, recovery=replace(RECOVERY, **recovery))  # type: ignore[arg-type]


def readers(*others: Reader) -> Leaving:
    return replace(LEAVING, readers=(OURS, *others))


@pytest.mark.parametrize(
    ("seen", "name", "planned", "lost", "words"),
    [
        (READY, "BETA has room for ALPHA's sessions", "passed", "passed", "none is"),
        (
            ready(sizes={**dict.fromkeys(SIZES, 8), "max_connections": 7}, pause="paused"),
            "BETA has room for ALPHA's sessions",
            "failed",
            "failed",
            "max_connections = 7, ALPHA has 8",
        ),
        (replace(READY, needs=UNSEEN), "BETA has room for ALPHA's sessions", "unknown", "unknown", "no answer"),
        (ready(targets=["recovery_target_time"]), "BETA replays to the end", "failed", "failed", "recovery_target_time"),
        (ready(pause="paused", backlog_bytes=9), "nothing holds BETA's replay up", "failed", "", "paused; 9 bytes"),
        (ready(pause="pause requested"), "nothing holds BETA's replay up", "failed", "", "pause requested"),
        (ready(held_by="PID 9"), "nothing holds BETA's replay up", "failed", "failed", "held up by PID 9"),
        (ready(delay_s=60), "nothing holds BETA's replay up", "warning", "", "recovery_min_apply_delay = 60 s"),
        (ready(backlog_bytes=10**9), "nothing holds BETA's replay up", "warning", "", "not replayed"),
        (replace(READY, recovery=UNSEEN), "nothing holds BETA's replay up", "unknown", "", "no answer"),
        (replace(READY, answer=Answer("quick", "status 1")), "BETA's restore_command answers", "passed", "", "status 1"),
        (replace(READY, answer=Answer("late", "2 s")), "BETA's restore_command answers", "warning", "", "2 s"),
        (replace(READY, answer=Answer("slow", "5 s")), "BETA's restore_command answers", "failed", "", "5 s"),
        (replace(READY, answer=Answer("broken", "status 127")), "BETA's restore_command answers", "failed", "", "ends the"),
        (replace(READY, free={**FREE, "/wal": 10**6}), "room on BETA's disks", "failed", "failed", "1 MiB at /wal"),
        (replace(READY, free={**FREE, "/wal": UNSEEN}), "room on BETA's disks", "unknown", "unknown", "no answer"),
        (ready(read_only=True), "BETA's default_transaction_read_only", "failed", "", "on"),
        (
            replace(READY, logins={**LOGINS, "BETA": Login("BETA", "app", "no pg_hba.conf entry")}),
            "the application logs in on BETA",
            "failed",
            "",
            "no pg_hba.conf entry",
        ),
        (replace(READY, logins={**LOGINS, "BETA": UNSEEN}), "the application logs in on BETA", "failed", "", "works on ALPHA"),
        (replace(READY, logins={"BETA": UNSEEN}), "the application logs in on BETA", "", "", "no answer"),
    ],
)
def test_what_stops_a_planned_change_of_roles_and_what_a_lost_primary(
    seen: Ready, name: str, planned: str, lost: str, words: str
) -> None:
    """The status of a check that counts; empty: it is shown and stops nothing."""
    for asks, status in ((standby.ready, planned), (standby.urgent, lost)):
        check = next(one for one in asks(seen) if one.name == name)
        assert (check.status if check.required else "", words in check.observed) == (status, True), check
        assert check.hint or check.status in ("passed", "unknown")
    if "max_connections" in words:
        paused = next(one for one in standby.ready(seen) if "paused" in one.observed)
        assert "restore" not in paused.hint, "resumed with too few connections, the recovery ends"


@pytest.mark.parametrize(
    ("leaving", "name", "status", "words"),
    [
        (LEAVING, "ALPHA's receivers let it stop", "passed", "all confirm"),
        (replace(LEAVING, readers=()), "ALPHA's receivers let it stop", "failed", "BETA receives nothing"),
        (
            readers(Reader("barman", "physical slot", pid=9, behind=0, reply_age_s=12)),
            "ALPHA's receivers let it stop",
            "passed",
            "",
        ),
        (readers(Reader("cdc", "logical slot", pid=9, behind=10**9)), "ALPHA's receivers let it stop", "failed", "cdc (PID 9)"),
        (
            readers(Reader("bb", "receiver without a slot", passing=True, pid=9, behind=10**9)),
            "who else reads WAL from ALPHA",
            "passed",
            "",
        ),
        (readers(Reader("cdc", "logical slot")), "who else reads WAL from ALPHA", "warning", "cdc (logical slot)"),
        (
            replace(readers(Reader("cdc", "logical slot")), goes_on=frozenset({"cdc"})),
            "who else reads WAL from ALPHA",
            "passed",
            "",
        ),
        (Unseen("ALPHA", "SQL", "deaf"), "who else reads WAL from ALPHA", "unknown", "deaf"),
        (replace(LEAVING, archiver=Archiver(3, 99.0, True)), "ALPHA's archiver lets it stop", "failed", "3 segments"),
        (replace(LEAVING, archiver=Archiver(3, 99.0, False)), "ALPHA's archiver lets it stop", "warning", "3 segments"),
    ],
)
def test_who_keeps_the_old_primary_from_stopping_and_who_is_left_behind(
    leaving: Leaving | Missing, name: str, status: str, words: str
) -> None:
    checks = [*judge.stops(leaving, "ALPHA", "BETA", 5, 10**6), judge.left_behind("ALPHA", "BETA", leaving)]
    check = next(one for one in checks if one.name == name)
    assert (check.status, words in check.observed) == (status, True), check
    assert check.hint or check.status in ("passed", "unknown")


def test_switchback_names_a_delay_before_and_not_after_it_was_waited_for() -> None:
    nodes = {name: NodeSeen(name, UP, None, UNSEEN, UNSEEN, None, None, None) for name in ("ALPHA", "BETA")}
    found = Found(NODES, Overview(NOW, nodes), Request("ALPHA", "BETA"), UNSEEN, UNSEEN, fencing.Promise(None, ""), READY)
    delayed = replace(READY, leader=replace(LEADS, delay_s=3600.0))
    for seen, status in ((READY, "passed"), (delayed, "failed"), (replace(READY, leader=UNSEEN), "unknown")):
        check = switchback.preconditions(replace(found, ready=seen))[-1]
        assert (check.name, check.status, check.required) == ("ALPHA will follow at once", status, status != "unknown")
        assert ("ALTER SYSTEM RESET recovery_min_apply_delay" in check.hint) is (status == "failed")


@pytest.mark.parametrize(
    ("names", "synchronous"),
    [
        ('FIRST 1 ("beta")', True),
        ("beta", True),
        ("BETA , barman", False),  # a bare list is FIRST 1: without BETA the other one is asked
        ("2 (beta, barman)", True),
        ("ANY 2 (a, beta)", True),
        ("any 1 (beta, a)", False),
        ("FIRST 2 (beta, a, b)", False),
        ("ANY 2 (beta, Beta)", True),  # one name given twice is one receiver
        ("FIRST 2 (a, A, beta)", True),
        ("*", False),
        ("ANY 2 (beta, *)", False),
        ("barman", False),
        ('FIRST 1 ("be""ta")', False),
        ("FIRST 1 (beta", None),
        ("", False),
    ],
)
def test_nothing_is_lost_only_if_every_commit_waited_for_this_standby(names: str, synchronous: bool | None) -> None:
    assert fencing.promise("ALPHA says", names, "on", "beta", ()).synchronous is synchronous
    assert fencing.promise("ALPHA says", names, "local", "beta", ()).synchronous is False
    assert not fencing.promise("ALPHA says", names, "on", "beta", ["app: synchronous_commit=no"]).synchronous
    assert fencing.promise("ALPHA says", names, "on", "beta", (), alike=2).synchronous is False
