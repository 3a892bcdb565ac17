"""What more rows would need: the fits, their error, and what they say."""

from __future__ import annotations

import math

import pytest
from made_comparison import SCALING

from aya_lib.node.node import Nodes
from aya_lib.show import as_text
from aya_lib.vectors.bench.compare import Wish, compare_indexes
from aya_lib.vectors.bench.scaling import _logarithm, _power
from aya_lib.vectors.corpus.corpus import corpus
from aya_lib.vectors.corpus.generate import generate, parse
from aya_lib.vectors.index import Table
from aya_lib.vectors.metric import METRICS


def test_a_real_corpus_is_fitted_on_three_parts_and_checked_on_the_whole(workshop: Nodes) -> None:
    made = corpus("grows", generate(parse("generated:10000x32")), METRICS["cosine"])
    wish = Wish(budget_s=0.2, clients=1, families=("ivfflat", "hnsw"), today=None, scaling=True)
    found = compare_indexes(workshop["ALPHA"], made, Table("items", "v", "id", 32, made.metric), wish).scaling
    for family in ("ivfflat", "hnsw"):
        assert [size.rows for size in found.of(family, "fitted")] == [made.rows // 8, made.rows // 4, made.rows // 2]
        assert [size.rows for size in found.of(family, "held out")] == [made.rows]
        assert [size.rows for size in found.of(family, "extrapolated")] == [made.rows, 10 * made.rows, 100 * made.rows]
        assert abs(found.error[family]) < 3
    sizes = found.of("ivfflat", "extrapolated")
    assert sizes[0].bytes < sizes[1].bytes < sizes[2].bytes


def test_a_power_and_a_logarithm_are_found_again() -> None:
    rows = [1000, 2000, 4000, 8000]
    power = _power(rows, [3 * n**0.5 for n in rows])
    assert power(800_000) == pytest.approx(3 * 800_000**0.5)
    logarithm = _logarithm(rows, [100 + 7 * math.log(n) for n in rows])
    assert logarithm(800_000) == pytest.approx(100 + 7 * math.log(800_000))


def test_noise_never_makes_more_rows_faster() -> None:
    assert _logarithm([1000, 2000, 4000], [130.0, 120.0, 110.0])(10**6) == pytest.approx(120)


def test_the_advice_names_the_better_family_and_the_size_at_which_the_cache_ends() -> None:
    said = " ".join(SCALING.advice())
    assert "HNSW is the better choice while its index stays cached: 1.3 times as fast at 17,000 rows" in said
    assert "3.0 times as fast at 1,700,000 rows" in said
    assert "its build takes 6 min against 45 min of IVFFlat at 1,700,000 rows" in said
    assert "From 1,700,000 rows on (ivfflat lists=11300, 2,656 MB) the index is larger than shared_buffers (1,024 MB)" in said


def test_the_error_at_the_size_that_was_held_out_is_shown() -> None:
    said = as_text(SCALING.table(), 160)
    assert "the fit was: ivfflat 6% too slow, hnsw 3% too fast" in said
    assert said.count("held out") == 2
