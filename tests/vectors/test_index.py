"""An index as data: its statements, its limits, what its build needs."""

from __future__ import annotations

import pytest

from aya_lib.errors import UsageError
from aya_lib.vectors.index import EXACT, Index, Table, hnsw, ivfflat, parts
from aya_lib.vectors.metric import METRICS, metric

TABLE = Table("chunks", "embedding", "id", 768, METRICS["cosine"])


def plain(index: Index) -> str:
    return index.create(TABLE, "i").as_string().replace('"', "")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (ivfflat(100), "CREATE INDEX i ON chunks USING ivfflat (embedding vector_cosine_ops) WITH (lists = 100)"),
        (
            ivfflat(7, "halfvec"),
            "CREATE INDEX i ON chunks USING ivfflat ((embedding::halfvec(768)) halfvec_cosine_ops) WITH (lists = 7)",
        ),
        (hnsw(), "CREATE INDEX i ON chunks USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)"),
        (
            hnsw(kind="bit"),
            "CREATE INDEX i ON chunks USING hnsw ((binary_quantize(embedding)::bit(768)) bit_hamming_ops)"
            " WITH (m = 16, ef_construction = 64)",
        ),
    ],
)
def test_a_statement_builds_the_index(index: Index, said: str) -> None:
    assert plain(index) == said


def test_an_index_is_built_concurrently_when_told_to() -> None:
    assert ivfflat(9).create(TABLE, "i", concurrently=True).as_string().startswith("CREATE INDEX CONCURRENTLY ")


def test_exact_search_has_no_index() -> None:
    with pytest.raises(UsageError, match="no index to create"):
        EXACT.create(TABLE, "i")
    assert EXACT.settings(5) == {}
    assert EXACT.build_bytes(TABLE, 1000) == 0


def test_searching_bits_ranks_as_many_candidates_again_as_the_knob_says_and_never_fewer_than_k() -> None:
    index = hnsw(kind="bit")
    assert "LIMIT 80) AS near" in index.search(TABLE, 10, 80).as_string()
    assert "LIMIT 10) AS near" in index.search(TABLE, 10, 4).as_string()
    assert index.search(TABLE, 10, 80).as_string().endswith("LIMIT 10")


def test_what_is_searched_is_what_is_indexed() -> None:
    assert '"embedding"::halfvec(768) <=> $1::vector::halfvec(768)' in ivfflat(5, "halfvec").search(TABLE, 10, 1).as_string()
    assert '"embedding" <-> $1::vector' in ivfflat(5).search(Table("t", "embedding", "id", 3, metric("l2")), 10, 1).as_string()


@pytest.mark.parametrize(
    ("index", "dimension", "rows", "why"),
    [
        (ivfflat(100), 768, 99, "100 lists are more than 99 rows"),
        (ivfflat(40_000), 768, 10**6, "pgvector's limit of 32768"),
        (ivfflat(10), 2001, 10**6, "at most 2000 of vector"),
        (hnsw(kind="halfvec"), 4001, 10**6, "at most 4000 of halfvec"),
        (hnsw(), 2000, 1, ""),
        (EXACT, 16_000, 1, ""),
    ],
)
def test_limits_are_told_before_anything_is_built(index: Index, dimension: int, rows: int, why: str) -> None:
    said = index.fits(Table("t", "v", "id", dimension, METRICS["l2"]), rows)
    assert why in said
    assert bool(said) == bool(why)


def test_memory_of_a_build_is_about_what_the_formula_of_the_field_says() -> None:
    lists, size = 1000, 768
    assert ivfflat(lists).build_bytes(TABLE, 100_000) == pytest.approx(200 * lists**2 + 50 * lists * (4 * size + 8), rel=0.05)


@pytest.mark.parametrize("name", ["chunks; DROP TABLE x", "a.b.c", 'chunks"', "", "1st"])
def test_a_table_is_a_plain_name(name: str) -> None:
    with pytest.raises(UsageError, match="allowed is a name"):
        parts(name)


def test_a_metric_is_one_of_three() -> None:
    with pytest.raises(UsageError, match="cosine, l2, ip"):
        metric("hamming")
