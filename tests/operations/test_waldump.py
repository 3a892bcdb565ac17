"""Where two histories part, and what pg_waldump's summed-up lines say, without a server."""

from __future__ import annotations

import pytest

from aya_lib.cluster.lsn import lsn
from aya_lib.cluster.reading import last_position, missing_segment
from aya_lib.cluster.scratch import is_scratch
from aya_lib.cluster.server import Switch
from aya_lib.cluster.wal import name, position, stretch
from aya_lib.operations.rejoin.staging import parse_journal
from aya_lib.operations.rejoin.waldump import (
    NOWHERE,
    Span,
    fork,
    parse,
    spans,
)

ONE, TWO = Switch(1, "0/3000000"), Switch(2, "0/5000000")
History = tuple[int, tuple[Switch, ...]]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((1, ()), (1, ()), None),
        ((2, (ONE,)), (2, (ONE,)), None),
        ((1, ()), (2, (ONE,)), ONE),
        ((1, ()), (3, (ONE, TWO)), ONE),
        ((2, (ONE,)), (3, (ONE, TWO)), TWO),
        ((2, (ONE,)), (1, ()), ONE),  # the node was promoted, and the other one stayed
        ((2, (Switch(1, "0/4000000"),)), (2, (ONE,)), ONE),  # both were promoted, each for itself
        ((3, (ONE, Switch(2, "0/4800000"))), (3, (ONE, TWO)), Switch(2, "0/4800000")),
        ((2, ()), (3, (ONE, TWO)), NOWHERE),  # its history file is gone
    ],
)
def test_histories_part_at_the_earlier_end_of_the_last_common_timeline(old: History, new: History, expected: Switch) -> None:
    assert fork(old, new) == expected


def test_what_a_node_wrote_past_the_fork_goes_on_through_its_own_timelines() -> None:
    assert spans(ONE, 1, ()) == (Span(1, "0/3000000"),)
    assert spans(ONE, 2, (Switch(1, "0/4000000"),)) == (Span(1, "0/3000000", "0/4000000"), Span(2, "0/4000000"))
    assert spans(TWO, 2, (ONE,)) == (Span(2, "0/5000000"),)


def test_commits_subtransactions_and_rows_are_summed_up() -> None:
    text = """\
      1 C 767
      1 C 770; subxacts: 771 772; inval msgs: catcache 80
      4 INSERT 767 1663/16386/16716
      1 DELETE 768 1663/16386/16716
      2 HOT_UPDATE 771 1663/16386/16716
"""
    commits, xids, changes = parse(text)
    assert commits == 2
    assert xids == (767, 770, 771, 772)
    assert changes[(767, "INSERT", 16386, 16716)] == 4
    assert changes[(768, "DELETE", 16386, 16716)] == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "pg_waldump: error: error in WAL record at 0/3078AC0: invalid record length at 0/3078AF8: expected 24, got 0",
            "0/3078AF8",
        ),
        ("pg_waldump: error: could not find a valid record after 0/3074308", "0/3074308"),
        ("", None),
    ],
)
def test_the_end_of_the_wal_is_where_pg_waldump_could_read_no_further(said: str, expected: str | None) -> None:
    assert last_position(said) == expected


def test_a_segment_that_is_not_there_is_told_by_its_name() -> None:
    said = 'pg_waldump: error: could not find file "000000010000000100000002": No such file or directory'
    assert missing_segment(said) == "000000010000000100000002"
    assert lsn(position("000000010000000100000002", 16 << 20)) == "1/2000000"
    assert missing_segment("invalid record length at 0/3078AF8") is None


def test_a_segment_is_named_as_postgresql_names_it() -> None:
    assert name(2, 0x1_2300_0000, 16 << 20) == "000000020000000100000023"
    assert name(1, 0x4000_0000, 1 << 30) == "000000010000000000000001"


def test_a_server_without_network_is_told_by_its_pid_file() -> None:
    lines = ["1", "/data", "1700000000", "5432", "/data", "", "1 2", "ready", ""]
    assert is_scratch("\n".join(lines))
    assert not is_scratch("\n".join([*lines[:5], "127.0.0.1", *lines[6:]]))
    assert not is_scratch("1\n/data\n")
    assert not is_scratch("")


def test_a_damaged_journal_says_nothing() -> None:
    assert parse_journal('{"node": "ALPHA", "meth') is None
    assert parse_journal("{}") is None
    assert parse_journal(None) is None


def test_a_stretch_of_wal_ends_before_a_gap_another_timeline_and_the_end_that_is_given() -> None:
    size = 16 << 20
    here = [name(2, place * size, size) for place in (3, 4, 5, 7)] + [name(3, 6 * size, size)]
    assert stretch(2, lsn(3 * size + 40), here, size) == (here[0], here[2], lsn(6 * size))
    assert stretch(2, lsn(3 * size + 40), here, size, lsn(4 * size + 8)) == (here[0], here[1], lsn(4 * size + 8))
    assert stretch(2, lsn(7 * size), here, size) == (here[3], here[3], lsn(8 * size))
