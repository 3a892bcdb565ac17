"""Exact neighbours, ties, intervals, and the cache of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aya_lib.errors import AyaError, UsageError
from aya_lib.vectors import truth
from aya_lib.vectors.corpus import corpus
from aya_lib.vectors.metric import METRICS, Metric

Vectors = NDArray[np.float32]
DRAW = np.random.default_rng(5)
BASE = DRAW.normal(size=(20_000, 12)).astype(np.float32)
QUERIES = DRAW.normal(size=(40, 12)).astype(np.float32)


def as_a_slow_search(query: Vectors, base: Vectors, metric: Metric, own: int | None, rows: Any, distances: Any) -> bool:
    slow = metric.paired(query, base)
    if own is not None:
        slow[own] = np.inf
    near = np.argsort(slow, kind="stable")[:7]
    return bool((rows == near).all()) and distances == pytest.approx(slow[near])


@pytest.mark.parametrize("name", METRICS)
def test_exact_neighbours_are_those_of_a_slow_search(name: str) -> None:
    metric = METRICS[name]
    base, queries = metric.prepare(BASE), metric.prepare(QUERIES)
    found = truth.exact(base, queries, metric, 7)
    for query, rows, distances in zip(queries, found.rows, found.distances, strict=True):
        assert as_a_slow_search(query, base, metric, None, rows, distances)


@pytest.mark.parametrize("name", METRICS)
def test_rows_that_come_in_blocks_have_the_same_neighbours_each_without_itself(name: str) -> None:
    metric = METRICS[name]
    base, own = metric.prepare(BASE), np.arange(0, 20_000, 500)
    neighbours = truth.Neighbours(base[own], metric, 7, own)
    for start in range(0, len(base), 3001):
        neighbours.add(base[start : start + 3001])
    for row, rows, distances in zip(own, neighbours.truth.rows, neighbours.truth.distances, strict=True):
        assert as_a_slow_search(base[row], base, metric, int(row), rows, distances)


def test_neighbours_that_lie_close_together_far_from_the_origin_are_told_apart() -> None:
    base = np.full((300, 4), 10_000, np.float32)
    base[:, 0] += np.arange(300, dtype=np.float32) / 4
    found = truth.exact(base, base[100:101] + np.float32(0.06), METRICS["l2"], 3)
    assert list(found.rows[0]) == [100, 101, 99]


@pytest.mark.parametrize(
    ("answers", "recall"),
    [([2, 1], 1), ([2, 3], 0.5), ([2, -1], 0.5), ([2, 2], 0.5)],
    ids=["a tie, whichever row was returned", "one miss", "one row only", "one row twice"],
)
def test_a_hit_is_a_distance_and_a_row_counts_once(answers: list[int], recall: float) -> None:
    metric, query = METRICS["l2"], np.zeros((1, 2), np.float32)
    base = np.array([[0, 1], [0, -1], [1, 0], [5, 5]], np.float32)
    known = truth.exact(base, query, metric, 2)
    assert truth.hits(base, query, metric, known, np.array([answers]))[0] == recall


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    values = [truth.interval(DRAW.binomial(10, 0.9, size=400) / 10) for _ in range(300)]
    inside = np.mean([one.low <= 0.9 <= one.high for one in values])
    assert 0.9 < inside < 0.99


def test_an_interval_of_perfect_recall_ends_at_one() -> None:
    said = truth.interval(np.ones(50))
    assert (said.value, said.low, said.high) == (1, 1, 1)


def test_what_was_computed_is_read_again_and_a_broken_file_is_computed_anew() -> None:
    metric = METRICS["l2"]
    first, known = truth.cached(BASE, QUERIES, metric, 5, "a-key")
    again, then = truth.cached(BASE, QUERIES, metric, 5, "a-key")
    assert (known, then) == (False, True)
    assert (first.rows == again.rows).all()
    (path,) = (truth.folder() / "truth").glob("a-key*")
    path.write_bytes(b"half a file")
    third, there = truth.cached(BASE, QUERIES, metric, 5, "a-key")
    assert not there
    assert (third.rows == first.rows).all()


def test_exact_distances_that_the_server_sees_otherwise_are_an_error() -> None:
    ours = np.array([[0.5, 0.6], [0.1, 0.2]])
    truth.agree(ours, ours * 1.0001)
    with pytest.raises(AyaError, match="query 1, neighbour 2"):
        truth.agree(ours, np.array([[0.5, 0.6], [0.1, 0.3]]))


def test_held_out_queries_are_not_in_the_corpus_and_the_two_sets_share_none() -> None:
    made = corpus("x", BASE, METRICS["l2"], choose=100, verify=50)
    rows = {row.tobytes() for row in made.base}
    choose, verify = ({row.tobytes() for row in part} for part in (made.choose, made.verify))
    assert (len(choose), len(verify)) == (100, 50)
    assert not rows & choose
    assert not rows & verify
    assert not choose & verify


def test_a_corpus_is_known_by_its_content() -> None:
    one = corpus("x", BASE, METRICS["l2"])
    assert one.fingerprint == corpus("y", BASE, METRICS["l2"]).fingerprint
    changed = BASE.copy()
    changed[7, 3] += 1
    assert one.fingerprint != corpus("x", changed, METRICS["l2"]).fingerprint
    assert one.fingerprint != corpus("x", BASE, METRICS["ip"]).fingerprint
    assert one.fingerprint != corpus("x", BASE, METRICS["l2"], seed=2).fingerprint


def broken(row: int, value: float) -> Vectors:
    found = BASE[:500].copy()
    found[row] = value
    return found


@pytest.mark.parametrize(
    ("vectors", "metric", "k", "said"),
    [
        (BASE[:0], "l2", 10, "has 0 vectors; at least 100"),
        (BASE[:99], "l2", 10, "has 99 vectors"),
        (broken(7, np.nan), "l2", 10, "vector 7 has a value that is NaN"),
        (broken(8, np.inf), "l2", 10, "vector 8 has a value that is NaN or infinite"),
        (broken(9, 0), "cosine", 10, "vector 9 is zero"),
        (BASE[:500], "l2", 450, "k = 450"),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(vectors: Vectors, metric: str, k: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        corpus("x", vectors, METRICS[metric], k=k)


def test_a_zero_vector_has_a_place_under_l2_and_queries_of_another_dimension_have_none() -> None:
    assert corpus("x", broken(9, 0), METRICS["l2"]).rows == 425
    with pytest.raises(UsageError, match="5 dimensions, x has 12"):
        corpus("x", BASE, METRICS["l2"], np.ones((10, 5), np.float32), asked="q.npy")
