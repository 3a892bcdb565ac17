"""Which archived files a standby needs to bridge the gap to its primary's oldest WAL, across timelines too."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aya_lib.cluster.archive import Archive, parse_listing
from aya_lib.cluster.judge.replication import Bridge, needed
from aya_lib.cluster.server import Cluster, Switch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEGMENT = 16 * 1024 * 1024


def archive(oldest: str, size: int = SEGMENT) -> Archive:
    return Archive("BETA", "/archive", {}, size, oldest)


def leader(timeline: int = 1, *history: Switch) -> Cluster:
    return Cluster("ALPHA", "7", False, "18.1", timeline, "9/0", None, history)


@pytest.mark.parametrize(
    ("lsn", "oldest", "names"),
    [
        ("0/3000000", "000000010000000000000003", []),
        ("0/3FFFFFF", "000000010000000000000004", ["000000010000000000000003"]),
        ("0/4000000", "000000010000000000000006", ["000000010000000000000004", "000000010000000000000005"]),
        (
            "0/FE000028",
            "000000010000000100000001",
            ["0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000"],
        ),
        ("0/9000000", "000000010000000000000003", []),
    ],
)
def test_from_the_segment_of_its_position_to_the_one_before_the_oldest(lsn: str, oldest: str, names: list[str]) -> None:
    assert list(needed(archive(oldest), leader(), 1, lsn)) == names


def test_other_segment_sizes_are_counted_in_their_own_way() -> None:
    big = archive("000000010000000100000001", 1024 * 1024 * 1024)
    assert needed(big, leader(), 1, "0/C0000000") == ("000000010000000000000003", "000000010000000100000000")


def test_across_a_switch_each_segment_is_on_the_timeline_that_was_valid_there() -> None:
    after = leader(3, Switch(1, "0/5000100"), Switch(2, "0/7000000"))
    assert needed(archive("000000030000000000000009"), after, 1, "0/4000000") == (
        "000000010000000000000004",
        "000000020000000000000005",
        "000000020000000000000006",
        "000000030000000000000007",
        "000000030000000000000008",
        "00000002.history",
        "00000003.history",
    )
    assert needed(archive("000000030000000000000009"), after, 3, "0/8000000") == ("000000030000000000000008",)


def test_a_bridge_holds_with_every_file_and_a_standby_that_reads_them_or_is_down() -> None:
    assert Bridge("d", ("a", "b"), (), True).holds
    assert Bridge("d", ("a", "b"), (), None).holds
    assert not Bridge("d", ("a", "b"), ("b",), True).holds
    assert not Bridge("d", ("a", "b"), (), False).holds


def test_a_listing_is_read_alike_on_linux_and_macos() -> None:
    linux = (
        "total 32784\n-rw------- 1 107 115 16777216 Nov 25 02:06 000000010000000000000003\ndrwx------ 2 0 0 4096 Nov 25 02:06 x\n"
    )
    macos = "total 65536\n-rw-------@ 1 216  216  41 Nov 25  2025 00000002.history\n"
    assert parse_listing(linux) == {"000000010000000000000003": 16777216}
    assert parse_listing(macos) == {"00000002.history": 41}
