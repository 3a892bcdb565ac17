"""Generated vectors are the same each time, and no easier to search than texts."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from aya_lib.errors import UsageError
from aya_lib.vectors import generated
from aya_lib.vectors.generated import Recipe, generate, parse
from aya_lib.vectors.ivf_model import centroids, nearest
from aya_lib.vectors.metric import METRICS

K = 10


def k_means(vectors: NDArray[np.float32], lists: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The centroids, and the list of each vector."""
    found = centroids(vectors, lists, METRICS["cosine"])
    return found, nearest(vectors, found, spherical=True)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return generate(Recipe(4_000, 64))


def test_the_same_recipe_gives_the_same_vectors_and_another_seed_others(vectors: NDArray[np.float32]) -> None:
    assert np.array_equal(vectors, generate(Recipe(4_000, 64)))
    assert not np.allclose(vectors, generate(Recipe(4_000, 64, seed=2)), atol=0.01)


def test_more_rows_leave_the_first_as_they_were_also_over_several_blocks(
    vectors: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "BLOCK", 999 * 64)
    more = generate(Recipe(5_000, 64))
    assert np.allclose(more[:4_000], vectors, atol=1e-6)
    assert len(np.unique(more, axis=0)) == 5_000


@pytest.mark.parametrize(("rows", "dimension"), [(1, 1), (5, 1), (1, 768), (300, 2), (50, 47), (100, 2_000)])
def test_vectors_have_length_1_whatever_their_number_and_dimension(rows: int, dimension: int) -> None:
    made = generate(Recipe(rows, dimension))
    assert made.shape == (rows, dimension)
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_vectors_are_as_hard_to_search_as_texts_are(vectors: NDArray[np.float32]) -> None:
    queries, base = vectors[:400], vectors[400:]
    centres, of = k_means(base, lists=60)
    nearest = np.argsort(-(queries @ base.T), axis=1)[:, :K]
    ranks = np.argsort(np.argsort(-(queries @ centres.T), axis=1), axis=1)
    needed = np.take_along_axis(ranks, of[nearest], axis=1) + 1
    assert 0.40 < (needed <= 1).mean() < 0.55  # measured: 0.45
    assert 8 <= np.quantile(needed, 0.95) <= 14  # measured: 10


def test_neighbours_are_near_and_none_is_a_duplicate(vectors: NDArray[np.float32]) -> None:
    distances = np.sort(1 - vectors[:400] @ vectors.T, axis=1)
    assert 0.33 < distances[:, K].mean() / distances.mean() < 0.45  # measured: 0.38
    assert distances[:, 1].min() > 0.01


def test_sub_clusters_are_of_skewed_size(vectors: NDArray[np.float32]) -> None:
    _, of = k_means(vectors, lists=60)
    sizes = np.bincount(of, minlength=60)
    assert sizes.max() > 3 * sizes.min()


@pytest.mark.parametrize("text", ["generated:20000x384", "generated:1x1:0", "generated:10000000x16000:7"])
def test_a_recipe_reads_its_own_text_and_has_seed_1_where_none_is_given(text: str) -> None:
    assert str(parse(text)) == text
    assert parse("generated:20000x384") == parse("generated:20000x384:1") == Recipe(20_000, 384, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no recipe"),
        ("generated", "generated:ROWSxDIMENSION or generated:ROWSxDIMENSION:SEED"),
        ("generated:20000", "rows 1 to 10000000, dimension 1 to 16000"),
        ("generated:20000x384:", "is no recipe"),
        ("generated:20000x384:1:2", "is no recipe"),
        ("generated:20000x384:-1", "is no recipe"),
        ("generated:20kx384", "For example generated:20000x384"),
        ("generated:2e4x384", "is no recipe"),
        ("generated:٣x384", "is no recipe"),
        (f"generated:{'9' * 5000}x3", "is no recipe"),
        ("generated:0x384", "0 rows; allowed are 1 to 10000000"),
        ("generated:10000001x384", "10000001 rows; allowed are 1 to 10000000"),
        ("generated:20x0", "dimension 0; allowed is 1 to 16000"),
        ("generated:20x16001", "dimension 16001; allowed is 1 to 16000"),
    ],
)
def test_what_is_no_recipe_is_refused_with_the_form_that_is_one(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="seed -1; allowed is 0 and above"):
        Recipe(1, 1, -1)


def test_more_than_the_memory_that_is_free_is_refused_before_it_is_taken() -> None:
    assert psutil.virtual_memory().available < 640e9
    with pytest.raises(UsageError, match=r"take 640\.0 GB of memory, [\d.]+ GB are free\. Ask for fewer rows"):
        generate(parse("generated:10000000x16000"))
