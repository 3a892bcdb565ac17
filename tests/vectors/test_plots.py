"""Each plot is really drawn, says its number, keeps its labels apart, and is a quiet note where there is nothing to draw."""

from __future__ import annotations

import functools
import io
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_comparison import BUILT, GRAPH, HALF, POINTS, comparison, without
from made_comparison import choice as chosen
from matplotlib.collections import PathCollection
from matplotlib.text import Text
from PIL import Image

from aya_lib.picture import INK, Picture, canvas, spread, ticks, unspread
from aya_lib.show import Note
from aya_lib.vectors.index import EXACT, hnsw, ivfflat
from aya_lib.vectors.plots import PLOTS
from aya_lib.vectors.plots_ivfflat import field_of, predictions
from aya_lib.vectors.result import Comparison, Twin
from aya_lib.vectors.sandbox import Built
from aya_lib.vectors.style import STYLE, choices, front, settled

CASES: dict[str, Comparison] = {
    "whole": comparison(),
    "one point": without(points=POINTS[:1], best={"exact": chosen(EXACT, 0)}, builds={EXACT: Built()}),
    "nothing met": comparison(recommendation=None, target=0.9999, best={"hnsw": chosen(GRAPH, 160, 0.9999)}),
    "no twins": comparison(twins=()),
    "no today": comparison(today=None),
    "today is the best": comparison(recommendation=chosen(ivfflat(100), 10)),
    "one family": without(
        points=[one for one in POINTS if one.index == GRAPH],
        best={"hnsw": chosen(GRAPH, 15)},
        recommendation=chosen(GRAPH, 15),
        builds={GRAPH: BUILT[GRAPH]},
    ),
}
NOTES = {
    ("one point", "lists_probes"): "No heat map: fewer than two numbers of lists were looked at.",
    ("one point", "builds"): "No plot of builds: no index was built.",
    ("one point", "predicted"): "No plot of predictions: no IVFFlat setting was both predicted and measured.",
    ("one family", "lists_probes"): "No heat map: fewer than two numbers of lists were looked at.",
    ("one family", "predicted"): "No plot of predictions: no IVFFlat setting was both predicted and measured.",
}
CAPTIONS = {
    "recall_qps": "HNSW: 3,541 searches per second at recall 0.952, 3.6 times today's index. 25 settings of 8 indexes;"
    " the fastest at some recall: exact search, IVFFlat, HNSW.",
    "lists_probes": "IVFFlat reaches recall 0.95 fastest at lists=600, probes=19 (star): 2,187 searches per second. Colour:"
    " recall, by twins, else measured, in dots as measured; thick line: 0.95; thin: searches per second by the cost model.",
    "builds": "HNSW m=16 ef_construction=64 is built in 3.2 s and takes 33 MB; today's index: 1.1 s, 27 MB. All that were built,"
    " 7 indexes: 20 s.",
    "latencies": "HNSW answers 95 % of searches within 0.42 ms; today's index needs 1.41 ms. Box: middle half; line: median;"
    " whiskers: 5 % to p99; numbers: p50, p95, p99.",
    "predicted": "Predicted recall is within 0.024 of the measured at 6 IVFFlat settings, 0.008 at the chosen (filled);"
    " furthest off: IVFFlat lists=520, probes=1, +0.024.",
}
DRAWN = {  # a plot is drawn where a case changes it
    "whole": tuple(PLOTS),
    "one point": tuple(PLOTS),
    "nothing met": ("recall_qps", "builds"),
    "no twins": ("lists_probes", "predicted"),
    "no today": ("builds", "latencies"),
    "today is the best": ("recall_qps",),
    "one family": tuple(PLOTS),
}


@functools.cache
def drawn(case: str, name: str) -> Picture | Note:
    return PLOTS[name](CASES[case])


def texts(picture: Picture) -> list[tuple[str, Any]]:
    """What is written in a figure, with its place in pixels (a label without the line that leads to it)."""
    picture.figure.draw_without_rendering()
    renderer = picture.figure._get_renderer()  # type: ignore[attr-defined]
    off: set[int] = set()  # labels of ticks beyond the ends of an axis, and of axes that are not drawn
    for axes in picture.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            seen = {id(tick.label1) for tick in axis._update_ticks()} if axes.axison else set()  # type: ignore[union-attr]
            off |= {id(one) for one in axis.findobj(Text)} - seen - ({id(axis.label)} if axes.axison else set())
    shown = [one for one in picture.figure.findobj(Text) if one.get_visible() and one.get_text().strip() and id(one) not in off]
    return [(one.get_text(), Text.get_window_extent(one, renderer)) for one in shown]


@pytest.mark.parametrize(("case", "name"), [(case, name) for case, names in DRAWN.items() for name in names])
def test_a_plot_is_drawn_with_its_words_apart_or_says_quietly_why_not(case: str, name: str) -> None:
    found = drawn(case, name)
    if (case, name) in NOTES:
        assert isinstance(found, Note)
        assert (found.text, found.tone) == (NOTES[case, name], "quiet")
        return
    assert isinstance(found, Picture)
    image = np.asarray(Image.open(io.BytesIO(found.png(dpi=40))).convert("RGBA"))
    assert 0.02 < (image[:, :, 3] > 0).mean() < 0.98, "some is drawn, and the page shines through"
    assert (image[0, :, 3] == 0).all(), "nothing runs out of the figure"
    written, edge = texts(found), found.figure.bbox
    assert written
    for text, box in written:
        assert min(box.x0, box.y0, edge.x1 - box.x1, edge.y1 - box.y1) >= -1, f"{text} runs out of the figure"
    for (one, a), (other, b) in itertools.combinations(written, 2):
        apart = a.x1 - 1 <= b.x0 or b.x1 - 1 <= a.x0 or a.y1 - 1 <= b.y0 or b.y1 - 1 <= a.y0
        assert apart, f"{one!r} and {other!r}"


@pytest.mark.parametrize("name", PLOTS)
def test_the_caption_says_the_finding(name: str) -> None:
    found = drawn("whole", name)
    assert isinstance(found, Picture)
    assert found.caption == CAPTIONS[name]
    title = found.figure.get_suptitle().replace("\n", " ")
    assert found.caption.startswith(title.rstrip(".")), "the title over the figure is the caption's beginning"


def test_where_nothing_was_measured_every_plot_is_a_note() -> None:
    for name, plot in PLOTS.items():
        assert isinstance(plot(without()), Note), name


def test_where_no_index_reaches_the_target_the_title_says_so() -> None:
    found = drawn("nothing met", "recall_qps")
    assert isinstance(found, Picture)
    assert found.figure.get_suptitle() == "No index reaches recall 0.9999"
    assert not any("recommended" in text for text, _ in texts(found))


def test_the_recommendation_and_todays_index_are_named_in_the_plot() -> None:
    found = drawn("whole", "recall_qps")
    assert isinstance(found, Picture)
    written = [text for text, _ in texts(found)]
    best = "\u2605 recommended: HNSW m=16 ef_construction=64, ef_search=15, 3,541 searches/s at recall 0.952"
    assert f"{best}\n\u25cb today: IVFFlat lists=100, probes=10, 984 searches/s at recall 0.958" in written
    assert {"IVFFlat", "HNSW", "HNSW bit", "IVFFlat halfvec", "exact search", "target 0.95"} <= set(written)


def test_the_map_shows_measured_recall_where_it_was_measured_and_names_the_speeds() -> None:
    found = drawn("whole", "lists_probes")
    assert isinstance(found, Picture)
    axes = found.figure.axes[0]
    dots: Any = next(part for part in axes.collections if isinstance(part, PathCollection))
    measured = {tuple(place): float(recall) for place, recall in zip(dots.get_offsets(), dots.get_array(), strict=True)}
    assert measured[3, 260] == 0.7470
    assert measured[10, 100] == 0.9578, "the verified one"
    assert len(measured) == sum(point.index.family == "ivfflat" for point in settled(comparison()))
    assert {text for text, _ in texts(found)} >= {"2,000/s", "1,000/s", "500/s"}


def test_the_speeds_of_the_map_are_those_of_the_twin_by_the_cost_model() -> None:
    c, probes, lists = comparison(), np.array([13.0, 55.0]), np.array([320.0, 520.0])
    recall, qps = field_of(c, {twin.lists: tuple((p, r) for p, r, _ in twin.curve) for twin in c.twins}, probes, lists)
    assert recall[1] == pytest.approx([0.9257, 0.9918])
    assert qps[1] == pytest.approx([1e6 / c.cost.us(520, 542.2), 1e6 / c.cost.us(520, 2123.8)])
    assert qps[0] == pytest.approx([1e6 / c.cost.us(320, 874.8), 1e6 / c.cost.us(320, 3394.6)], rel=0.1), "of another twin"


def test_the_map_has_nothing_where_nothing_is_known() -> None:
    """Without twins the row of 100 lists is known from 5 probes on: left of that no colour is made up."""
    found = drawn("no twins", "lists_probes")
    assert isinstance(found, Picture)
    mesh: Any = next(iter(found.figure.axes[0].collections))
    values = np.ma.filled(mesh.get_array(), np.nan)
    x, y = found.figure.axes[0].get_xlim(), found.figure.axes[0].get_ylim()
    probes, lists = np.geomspace(*x, values.shape[1]), np.geomspace(*y, values.shape[0])
    assert np.isnan(values[np.searchsorted(lists, 110), np.searchsorted(probes, 2)])
    assert values[np.searchsorted(lists, 110), np.searchsorted(probes, 10)] == pytest.approx(0.955, abs=0.01)


def test_of_a_setting_that_was_measured_twice_the_verified_point_counts() -> None:
    for points in (POINTS, POINTS[::-1]):
        kept = [one for one in settled(without(points=points)) if (one.index, one.value) == (ivfflat(100), 10)]
        assert [(one.queries, one.clients) for one in kept] == [("verify", 1)]
    unverified = [one for one in settled(comparison()) if (one.index, one.value) == (ivfflat(100), 5)]
    assert [one.queries for one in unverified] == ["choose"]


def test_the_point_of_a_choice_counts_before_the_round_it_was_chosen_from() -> None:
    c = comparison()
    assert c.today is not None
    c = replace(c, today=replace(c.today, point=replace(c.today.point, qps=924.0)))
    assert [one.qps for one in settled(c) if (one.index, one.value) == (ivfflat(100), 10)] == [924.0]


def test_the_fastest_choice_stands_first_and_none_twice() -> None:
    c = comparison(today=chosen(ivfflat(600), 19))
    assert [one.index for one in choices(c)] == [GRAPH, ivfflat(600), HALF, hnsw(kind="bit"), EXACT]


def test_the_front_is_what_no_other_point_beats() -> None:
    points = [(0.9, 100.0), (0.95, 90.0), (0.95, 80.0), (0.94, 85.0), (0.99, 10.0), (0.5, 100.0)]
    assert front(points) == [(0.9, 100.0), (0.95, 90.0), (0.99, 10.0)]
    assert front([]) == []


def test_a_prediction_is_that_of_the_point_else_that_of_the_twin_with_as_many_lists() -> None:
    c = comparison(twins=(Twin(260, ((8, 0.91, 500.0),), None, None),))
    found = {(str(point.index), point.value): foreseen for foreseen, point in predictions(c)}
    assert found == {
        ("ivfflat lists=260", 8): 0.91,
        ("ivfflat lists=100", 10): 0.9502,
        ("ivfflat lists=600", 19): 0.9498,
        ("ivfflat_halfvec lists=520", 18): 0.9509,
    }


def test_colours_read_on_a_light_and_on_a_dark_page_and_no_two_families_look_alike() -> None:
    def light(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for colour in (INK, *(style.colour for style in STYLE.values())):
        assert 1.05 / (light(colour) + 0.05) >= 3, f"{colour} on white"
        assert (light(colour) + 0.05) / (light("#0d1117") + 0.05) >= 3, f"{colour} on a dark page"
    assert len({(style.colour, style.marker) for style in STYLE.values()}) == len(STYLE)
    assert len({style.marker for style in STYLE.values()}) == len(STYLE)


def test_the_scale_gives_room_near_one_and_can_be_undone() -> None:
    shares = np.array([0.0, 0.5, 0.9, 0.99, 0.999, 1.0])
    places = spread(shares)
    assert unspread(places) == pytest.approx(shares)
    assert (np.diff(places) > 0.25).all()
    assert places[3] - places[2] > 0.9 * (places[2] - places[0]), "0.9 to 0.99 has as much room as 0 to 0.9"
    assert ticks(0.5) == [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0]
    assert ticks(0.9, apart=0.3) == [0.9, 0.99, 1.0]


def test_a_picture_shows_itself() -> None:
    figure = canvas(2, 1)
    shown = Picture(figure, "what it says")
    assert shown._repr_png_().startswith(b"\x89PNG")
    assert shown.png(dpi=50) != shown.png()
