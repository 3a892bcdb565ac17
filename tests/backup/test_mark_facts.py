"""What a mark says of sequences, and what a restored server may say of them."""

from __future__ import annotations

import pytest

from aya_lib.backup.mark import _other

SEQUENCE = "aya_rag: sequence public.documents_id_seq"


@pytest.mark.parametrize(("now", "same"), [("33 33", True), ("9 33", True), ("0 33", True), ("-1 33", False), ("900 33", True)])
def test_a_sequence_is_never_further_back_than_wal_was_ahead_of_it(now: str, same: bool) -> None:
    assert (_other(SEQUENCE, "33 33", now) == "") is same


def test_a_sequence_that_is_gone_and_any_other_fact_that_differs_are_said() -> None:
    assert _other(SEQUENCE, "33 33", None) == f"{SEQUENCE}: 33 33 at the mark, nothing restored"
    assert (
        _other("aya_rag: extensions", "vector 0.8", "vector 0.7")
        == "aya_rag: extensions: vector 0.8 at the mark, vector 0.7 restored"
    )
