"""What is said of streams, of those who read WAL beside the standby, and of clocks that are apart; without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facts import SITE

from aya_lib.check import Check
from aya_lib.cluster.judge import replication
from aya_lib.cluster.replication import Login, Receiver, Sender, Slot, Stream, by_one_clock
from aya_lib.node.unseen import Unseen
from aya_lib.operations.rejoin.judge import left_behind
from aya_lib.operations.rejoin.staging import parse_slots

SLOT = Slot("beta_slot", True, 12, "reserved", 10**8)
STREAM = Stream("beta", "127.0.0.1", 12, "streaming", "async", 0, 0.1, None)
RECEIVER = Receiver("BETA", "streaming", "beta_slot", "h", 1, 0.1, "not paused", True, 10.0, ahead_s=0.0)
DELTA = Slot("delta", True, 13, "reserved", None)
DEBEZIUM = Slot("debezium", True, 14, "reserved", None, logical=True, database="shop")
GAMMA = replace(STREAM, application_name="gamma", pid=13, reply_age_s=99.0, bytes_behind=10**9)


def sender(*streams: Stream, slots: tuple[Slot, ...] = (SLOT,)) -> Sender:
    return Sender("ALPHA", streams, slots, ahead_s=0.0)


@pytest.mark.parametrize(
    ("streams", "status", "observed"),
    [
        ([STREAM], "passed", "1: beta streaming"),
        ([GAMMA, STREAM], "passed", "1: beta streaming; beside it gamma streaming"),
        ([GAMMA], "failed", "0: none; beside it gamma streaming"),
        ([replace(STREAM, pid=99)], "passed", "1: beta streaming"),  # known by its name
        ([replace(STREAM, state="catchup"), GAMMA], "failed", "1: beta catchup; beside it gamma streaming"),
        ([], "failed", "0: none"),
    ],
)
def test_the_standbys_own_stream_counts_and_others_are_no_failure(streams: list[Stream], status: str, observed: str) -> None:
    side = sender(*streams, slots=(SLOT, DELTA))
    found = replication.stream(SITE, side, "BETA")
    assert (found.status, found.observed) == (status, observed)
    if status == "passed":
        assert replication.lag(SITE, side, RECEIVER).observed == "0 bytes, 0 s"
        assert replication.silence(SITE, side, RECEIVER)[0].observed == "0.1 s ago"


def reply(age_s: float, apart_s: float | None) -> Check:
    ahead = replace(RECEIVER, ahead_s=apart_s) if apart_s is not None else Unseen("BETA", "SQL", "deaf")
    side = sender(replace(STREAM, reply_age_s=age_s))
    return replication.silence(SITE, by_one_clock(SITE, side, ahead) or side, ahead)[0]


@pytest.mark.parametrize(
    ("age_s", "apart_s", "status", "observed"),
    [
        (0.2, 0.05, "passed", "0.2 s ago"),
        (3600.2, -3600.0, "warning", "0.2 s ago; BETA's clock is 3,600 s behind ALPHA's"),
        (-3599.8, 3600.0, "warning", "0.2 s ago; BETA's clock is 3,600 s ahead of ALPHA's"),
        (-3540.0, 3600.0, "failed", "60.0 s ago; BETA's clock is 3,600 s ahead of ALPHA's"),
        (60.0, None, "failed", "60.0 s ago"),
        (-60.0, None, "unknown", "60 s in the future by the standby's clock, which could not be asked"),
    ],
)
def test_a_reply_is_not_judged_by_another_machines_clock(age_s: float, apart_s: float, status: str, observed: str) -> None:
    found = reply(age_s, apart_s)
    assert (found.status, found.observed) == (status, observed)
    assert ("clock" in found.hint) == (status in ("warning", "unknown"))


def test_bytes_are_believed_when_the_reply_is_fresh_by_one_clock() -> None:
    late = sender(replace(STREAM, bytes_behind=1000, replay_lag_s=0.1, reply_age_s=3600.0))
    same = by_one_clock(SITE, late, replace(RECEIVER, ahead_s=-3600.0))
    assert same is not None
    assert [replication.lag(SITE, side, RECEIVER).status for side in (late, same)] == ["failed", "passed"]


def test_a_deliberate_delay_is_named_with_the_lag_that_it_makes() -> None:
    side, delayed = sender(replace(STREAM, bytes_behind=104, replay_lag_s=9.0)), replace(RECEIVER, delay_s=3600.0)
    found = replication.lag(SITE, side, delayed)
    assert (found.status, found.observed) == ("failed", "104 bytes, 9.000 s; recovery_min_apply_delay = 3600 s")
    assert "on BETA: ALTER SYSTEM RESET recovery_min_apply_delay" in found.hint
    assert "delay" not in replication.lag(SITE, side, RECEIVER).observed


@pytest.mark.parametrize(
    ("said", "observed", "hint"),
    [
        ("", "rep is let in by BETA", ""),
        ('FATAL: password authentication failed for user "rep"', "SQLSTATE 28P01", "password of rep into /pw on ALPHA"),
        ("fe_sendauth: no password supplied", "SQLSTATE 28P01", "password of rep into /pw on ALPHA"),
        ("FATAL: no pg_hba.conf entry for replication connection", "SQLSTATE 28000", "pg_hba.conf on BETA"),
        ("FATAL: permission denied to start WAL sender", "SQLSTATE 42501", "ALTER ROLE rep REPLICATION"),
        ("FATAL: sorry, too many clients already", "SQLSTATE not known", "log of BETA"),
    ],
)
def test_a_refused_login_is_told_by_its_sqlstate_the_node_and_the_file(said: str, observed: str, hint: str) -> None:
    found = replication.login("ALPHA", Login("ALPHA", "BETA", "rep", "/pw", said))
    assert found.status == ("failed" if said else "passed")
    assert observed in found.observed
    assert hint in found.hint


def test_whose_slots_come_back_and_who_is_left_behind() -> None:
    assert left_behind("ALPHA", "BETA", (), (SLOT,)) == []
    back, gone = left_behind("ALPHA", "BETA", (DELTA, DEBEZIUM), (SLOT,))
    assert (back.status, back.observed) == ("passed", "made again once ALPHA streams: delta")
    assert (gone.status, gone.observed) == ("warning", "left behind: debezium")
    assert "failover = true" in gone.hint
    assert left_behind("ALPHA", "BETA", (DEBEZIUM,), (SLOT, DEBEZIUM)) == []


def test_slots_on_disk_are_told_by_kind_without_temporary_ones_and_the_sites_own() -> None:
    text = "delta          0          0\nbeta_slot 0 0\ndebezium      16385          0\npg_basebackup_7 0 2\nbroken \n"
    assert [str(slot) for slot in parse_slots(text, "beta_slot")] == ["delta (physical)", "debezium (logical)"]
