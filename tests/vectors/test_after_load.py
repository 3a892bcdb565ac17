"""After a load: when the vector index is built anew, and when it is left alone."""

from __future__ import annotations

import pytest

from aya_lib.vectors.after_load import needed
from aya_lib.vectors.catalog import Built
from aya_lib.vectors.verdict import Facts


def facts(rows: int, built: int | None = None, method: str = "ivfflat", passed_over: bool = False) -> Facts:
    known = Built(built, 0.95, 10, 10) if built else None
    return Facts("idx", method, rows, 0.95, 10, built=known, passed_over=passed_over)


@pytest.mark.parametrize(
    ("found", "written", "anew"),
    [
        (facts(3137), 3114, True),  # built on the 23 rows of before, which nobody wrote down
        (facts(3137, built=23), 3114, True),
        (facts(3137, built=3000), 3114, False),  # the same files again, after a rebuild
        (facts(3137, passed_over=True), 3114, False),  # small, and searched exactly
        (facts(100_000), 3114, False),  # a small part of the rows: the verdict says what it costs
        (facts(900), 890, False),
        (facts(3137, method="hnsw"), 3114, False),  # it has no centres
    ],
)
def test_a_first_large_load_builds_the_index_anew(found: Facts, written: int, anew: bool) -> None:
    assert needed(found, written) is anew
