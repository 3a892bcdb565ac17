"""What a snapshot sees, and whether a server has what was seen before."""

from __future__ import annotations

import pytest

from aya_lib.air.position import Position, Snapshot, advanced, survives
from aya_lib.air.reconcile import not_of_the_past
from aya_lib.cluster.server import Cluster, Switch

ENDS = (Switch(1, "0/1000"), Switch(2, "0/3000"))
NOW = Cluster("BETA", "7", False, "18.1", 3, "0/5000", None, ENDS)


@pytest.mark.parametrize(
    ("position", "there"),
    [
        (Position("7", 3, "0/5000"), True),
        (Position("7", 3, "0/5001"), False),  # restored without a new timeline, or WAL was lost
        (Position("7", 2, "0/3000"), True),
        (Position("7", 2, "0/3001"), False),  # acknowledged and lost
        (Position("7", 1, "0/0FFF"), True),
        (Position("7", 1, "0/2000"), False),
        (Position("7", 4, "0/0001"), False),  # an old primary
        (Position("8", 3, "0/0001"), False),
    ],
)
def test_a_position_survives_on_the_past_of_the_servers_timeline(position: Position, there: bool) -> None:
    assert survives(position, NOW) is there


def test_a_part_of_what_is_new_is_seen_and_nothing_else() -> None:
    old, now = Snapshot.parse("90:100:90,95"), Snapshot.parse("95:140:95,120")
    taken, left = [90, 100, 110], [115, 130]
    found = advanced(old, now, taken, left)
    assert Snapshot.parse(str(found)) == found
    assert all(found.sees(xid) for xid in [*taken, 50, 91, 99])
    assert not any(found.sees(xid) for xid in [*left, 95, 120, 139])
    assert advanced(old, now, taken, []) == now


def test_what_stays_in_the_middle_of_what_is_taken_stays_unseen() -> None:
    found = advanced(Snapshot.parse("10:20:"), Snapshot.parse("40:40:"), [30], [25, 35])
    assert (found.sees(30), found.sees(25), found.sees(35), found.sees(15)) == (True, False, False, True)


@pytest.mark.parametrize(
    ("ours", "theirs", "kept"),
    [
        ("1 5.0 a x -", None, True),
        (None, "1 5.0 a x -", False),
        ("1 5.0 a x -", "2 5.0 b x -", False),  # an earlier version of the same document
        ("2 5.0 b x -", "1 5.0 a x -", True),  # the version that the primary lost
        ("2 5.0 b x -", "2 5.0 c x -", True),
        ("1 4.0 b x -", "3 5.0 c x -", True),  # another document under the same id
        ("1 4.0 a x -", "3 5.0 a y -", False),  # the same text: nothing is lost
        ("2 5.0 b x p", "2 5.0 b x q", False),  # a column that is compared for the first time
    ],
)
def test_a_text_is_kept_when_it_is_not_of_the_primarys_past(ours: str | None, theirs: str | None, kept: bool) -> None:
    assert not_of_the_past(ours, theirs) is kept


def test_a_rewrite_of_the_rest_is_kept_only_when_it_may_have_been_written_here_unnoted() -> None:
    ours, theirs = "2 5.0 a x -", "2 5.0 a y -"
    assert (not_of_the_past(ours, theirs), not_of_the_past(ours, theirs, noted=True)) == (True, False)
    assert not_of_the_past(ours, "2 5.0 b x -", noted=True)
