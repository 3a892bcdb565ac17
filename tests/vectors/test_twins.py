"""Twins, the cost model, and the search for a setting: all without a server."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aya_lib.vectors import ivf_model, truth
from aya_lib.vectors.corpus import Corpus
from aya_lib.vectors.explorer import Explorer
from aya_lib.vectors.index import EXACT, Table, ivfflat
from aya_lib.vectors.ivf_model import Cost, Timed
from aya_lib.vectors.metric import METRICS
from aya_lib.vectors.result import Point
from aya_lib.vectors.truth import Recall, Truth
from aya_lib.vectors.tuner import reaches, rising, smallest

MODEL = Cost(0.44, 0.88, 100)


@pytest.fixture(scope="module")
def known(small: Corpus) -> Truth:
    return truth.exact(small.base, small.choose, small.metric, 10)


def test_recall_over_probes_is_what_probing_those_lists_gives(small: Corpus, known: Truth) -> None:
    centres = ivf_model.centroids(small.base, 40, small.metric)
    found = ivf_model.curve(small.base, small.choose, known, centres, small.metric)
    lists_of = ivf_model.nearest(small.base, centres, spherical=True)
    for probes in (1, 3, 10, 40):
        recalls, scanned = [], []
        for query, rows in zip(small.choose, known.rows, strict=True):
            near = set(np.argsort(-(centres @ query))[:probes])
            recalls.append(np.mean([lists_of[row] in near for row in rows]))
            scanned.append(sum((lists_of == one).sum() for one in near))
        assert found.recall(probes).value == pytest.approx(np.mean(recalls), abs=1e-6)
        assert found.scans(probes) == pytest.approx(np.mean(scanned))


def test_all_probes_find_everything_and_scan_everything(small: Corpus, known: Truth) -> None:
    found = ivf_model.twin(small.base, small.choose, known, 25, small.metric)
    assert found.recalls[-1] == pytest.approx(1)
    assert found.scans(25) == small.rows
    assert found.sizes.sum() == small.rows
    assert found.skew > 1
    assert (np.diff(found.recalls) >= -1e-9).all()


def test_the_fewest_probes_are_the_fewest_and_a_margin_asks_for_more(small: Corpus, known: Truth) -> None:
    found = ivf_model.twin(small.base, small.choose, known, 60, small.metric)
    probes = found.probes(0.95)
    assert probes is not None
    assert found.recalls[probes - 1] >= 0.95 > found.recalls[probes - 2]
    wary = found.probes(0.95, 2.5)
    assert wary is not None
    assert wary > probes
    judged = found.probes(0.95, 2.5, others=20)
    assert judged is not None
    assert judged > wary


@pytest.mark.parametrize("name", ["l2", "ip"])
def test_twins_of_the_other_distances_find_everything_in_the_end(name: str) -> None:
    base = np.random.default_rng(2).normal(size=(2000, 8)).astype(np.float32)
    known = truth.exact(base, base[:50], METRICS[name], 5)
    found = ivf_model.twin(base, base[:50], known, 20, METRICS[name])
    assert found.recalls[0] > 0.2
    assert found.recalls[-1] == pytest.approx(1)


def test_more_centroids_than_rows_that_differ_do_not_break_the_k_means() -> None:
    base = np.repeat(np.eye(4, dtype=np.float32), 50, axis=0)
    assert ivf_model.centroids(base, 10, METRICS["cosine"]).shape == (10, 4)


def test_the_fit_finds_the_cost_that_made_the_timings() -> None:
    true = Cost(0.2, 0.5, 60)
    timed = [Timed(n, scanned, true.us(n, scanned)) for n in (100, 400, 900) for scanned in (50, 300, 2000, 6000)]
    found = ivf_model.fit_cost(timed, ivf_model.prior_cost(384))
    assert found.per_row == pytest.approx(0.5, rel=0.1)
    assert found.per_list == pytest.approx(0.2, rel=0.35)
    assert ivf_model.cost_error(found, timed) < 0.05


def test_without_timings_the_prior_stays_and_one_timing_moves_its_scale() -> None:
    before = ivf_model.prior_cost(768)
    assert ivf_model.fit_cost([], before) == before
    found = ivf_model.fit_cost([Timed(100, 5000, 2 * before.us(100, 5000))], before)
    assert found.us(100, 5000) == pytest.approx(2 * before.us(100, 5000), rel=0.1)
    assert found.per_list == pytest.approx(2 * before.per_list, rel=0.15)
    assert found.fixed == pytest.approx(2 * before.fixed, rel=0.15)


def test_the_best_lists_cost_the_same_to_rank_and_to_scan() -> None:
    assert MODEL.best_lists(100_000, 9) == pytest.approx(math.sqrt(2 * 9 * 100_000), rel=0.01)
    lists = MODEL.best_lists(100_000, 9)
    assert MODEL.per_list * lists == pytest.approx(MODEL.per_row * 9 * 100_000 / lists, rel=0.01)


def test_the_fewest_lists_cost_what_is_allowed_and_no_less_lists_do() -> None:
    lists, probes, rows = MODEL.best_lists(100_000, 9), 9, 100_000
    scanned = probes * rows / lists
    fewer = MODEL.fewest_lists(lists, scanned, 0.03)
    assert 0.7 * lists < fewer < lists
    assert MODEL.us(fewer, probes * rows / fewer) == pytest.approx(1.03 * MODEL.us(lists, scanned), rel=0.002)
    assert MODEL.fewest_lists(lists, scanned, 0.0) == pytest.approx(lists, rel=0.01)


def test_what_is_scanned_for_a_target_lies_between_whole_probes(small: Corpus, known: Truth) -> None:
    curve = ivf_model.twin(small.base, small.choose, known, 100, small.metric)
    probes = curve.probes(0.9, 1.0)
    assert probes
    assert probes > 2
    found = [curve.scans_for(target, 1.0) or 0.0 for target in (0.9, 0.905, 0.91)]
    assert found == sorted(found)
    assert curve.scans(probes - 1) <= found[0] <= curve.scans(probes)
    assert curve.scans_for(0.01) == curve.scans(1)


def test_exploring_goes_downhill_and_makes_few_twins(small: Corpus, known: Truth) -> None:
    explorer = Explorer(small, known, 0.95, 1.0)
    explorer.explore(MODEL)
    best = explorer.ranked(MODEL)[0]
    assert len(explorer.curves) <= 8
    for lists in (15, 40, 700):
        assert explorer.us(best, MODEL) <= explorer.us(lists, MODEL) * 1.02
    shown = {twin.lists: twin for twin in explorer.twins(MODEL)}
    assert shown[best].curve[-1][0] == best
    assert shown[best].curve[-1][1] == pytest.approx(1)


def test_exploring_stays_below_what_the_budget_allows(small: Corpus, known: Truth) -> None:
    explorer = Explorer(small, known, 0.95, 1.0)
    explorer.explore(MODEL, most=30)
    assert max(explorer.curves) <= 30


def point(value: int, recall: float) -> Point:
    said = Recall(recall, recall - 0.01, recall + 0.01, 100)
    return Point(EXACT, value, "choose", 1, said, 1, 1, 1, 1, 1, 1, 0, ())


@pytest.mark.parametrize("needed", [1, 2, 7, 40, 41, 163, 999, 1000])
@pytest.mark.parametrize("start", [1, 40, 1000])
def test_the_smallest_setting_is_found_within_a_few_percent(needed: int, start: int) -> None:
    asked: list[int] = []

    def measure(value: int) -> Point:
        asked.append(value)
        return point(value, 1.0 if value >= needed else 0.5)

    found = smallest(measure, lambda recall: recall.value >= 0.95, start, 1, 1000)
    assert found is not None
    assert needed <= found <= needed * 1.07 + 1
    assert len(asked) <= 20


def test_a_target_that_no_setting_reaches_is_none() -> None:
    assert smallest(lambda value: point(value, 0.5), lambda recall: recall.value > 0.9, 40, 10, 1000) is None
    assert smallest(lambda value: None, lambda recall: True, 40, 10, 1000) is None


@pytest.mark.parametrize(
    ("values", "most", "tried"),
    [
        ([4, 4, 4], 30, [4, 5, 6]),
        ([4, 9, 7], 30, [4, 9, 10]),
        ([4, None, 6], 30, [4, 6]),
        ([29, 30, 30], 30, [29, 30]),
        ([50], 30, [30]),
        ([None, None], 30, []),
    ],
)
def test_each_further_try_is_another_setting_within_the_limit(values: list[int | None], most: int, tried: list[int]) -> None:
    assert rising(values, most) == tried


def test_a_margin_is_in_standard_errors() -> None:
    said = Recall(0.955, 0.955 - 1.96 * 0.004, 0.955 + 1.96 * 0.004, 100)
    assert reaches(said, 0.95, 1.0)
    assert not reaches(said, 0.95, 1.5)
    assert reaches(Recall(1, 1, 1, 10), 1.0, 3)


def test_the_estimate_of_a_build_grows_with_lists() -> None:
    table = Table("t", "v", "id", 768, METRICS["cosine"])
    assert ivfflat(2000).build_seconds(table, 100_000) > 2 * ivfflat(500).build_seconds(table, 100_000)
