"""A comparison made by hand, with numbers that were measured at 17,000 x 384 generated vectors, for tests of what shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aya_lib.vectors.index import EXACT, Family, Index, hnsw, ivfflat
from aya_lib.vectors.ivf_model import Cost
from aya_lib.vectors.result import Choice, Comparison, Point, Skipped, Twin
from aya_lib.vectors.sandbox import Built, Server
from aya_lib.vectors.truth import Recall

Row = tuple[Index, int, str, int, tuple[float, float, float, int], float, tuple[float, float, float]]
GRAPH, BITS, HALF = hnsw(), hnsw(kind="bit"), ivfflat(520, "halfvec")
# index, knob, queries, clients, recall with its interval and queries, searches/s, p50 p95 p99
MEASURED: list[Row] = [
    (EXACT, 0, "verify", 1, (1.0, 1.0, 1.0, 484), 121.0, (8.1327, 8.6952, 12.3395)),
    (ivfflat(100), 5, "choose", 1, (0.8779, 0.8697, 0.8862, 1714), 1759.4, (0.5516, 0.8317, 0.9757)),
    (ivfflat(100), 8, "choose", 1, (0.9343, 0.9285, 0.9401, 1714), 1150.6, (0.8351, 1.5496, 1.8617)),
    (ivfflat(100), 10, "choose", 1, (0.9550, 0.9502, 0.9598, 1714), 865.9, (1.0018, 2.1505, 4.9487)),
    (ivfflat(100), 10, "verify", 1, (0.9578, 0.9515, 0.9640, 857), 984.5, (0.9844, 1.4128, 1.6435)),
    (ivfflat(100), 10, "verify", 2, (0.9578, 0.9515, 0.9640, 857), 1801.3, (0.9957, 1.5913, 1.852)),
    (ivfflat(260), 1, "verify", 1, (0.4992, 0.4778, 0.5206, 857), 9384.4, (0.1004, 0.153, 0.1777)),
    (ivfflat(260), 3, "verify", 1, (0.7470, 0.7300, 0.7641, 857), 5091.6, (0.18, 0.2765, 0.3324)),
    (ivfflat(260), 8, "verify", 1, (0.9029, 0.8930, 0.9128, 857), 2588.8, (0.3781, 0.5579, 0.6621)),
    (ivfflat(260), 18, "verify", 1, (0.9677, 0.9624, 0.9729, 857), 1400.1, (0.7155, 0.9284, 1.0105)),
    (ivfflat(260), 38, "verify", 1, (0.9917, 0.9894, 0.9940, 857), 679.1, (1.4757, 1.7755, 2.043)),
    (ivfflat(520), 1, "verify", 1, (0.4683, 0.4477, 0.4888, 857), 8901.0, (0.1071, 0.1493, 0.1802)),
    (ivfflat(520), 3, "verify", 1, (0.7089, 0.6910, 0.7267, 857), 6602.4, (0.1446, 0.2061, 0.2508)),
    (ivfflat(520), 8, "verify", 1, (0.8728, 0.8615, 0.8841, 857), 3915.4, (0.2478, 0.3438, 0.396)),
    (ivfflat(520), 17, "verify", 1, (0.9474, 0.9406, 0.9542, 857), 2100.9, (0.4455, 0.6186, 0.7094)),
    (ivfflat(520), 18, "verify", 1, (0.9545, 0.9484, 0.9606, 857), 1982.2, (0.4778, 0.7695, 0.8983)),
    (ivfflat(520), 38, "verify", 1, (0.9869, 0.9839, 0.9899, 857), 1249.8, (0.7781, 1.0771, 1.4289)),
    (ivfflat(600), 10, "choose", 1, (0.9019, 0.8950, 0.9088, 1714), 2554.4, (0.3734, 0.5512, 0.6429)),
    (ivfflat(600), 19, "verify", 1, (0.9517, 0.9455, 0.9579, 857), 2187.2, (0.4533, 0.6249, 0.7083)),
    (HALF, 9, "choose", 1, (0.8899, 0.8825, 0.8973, 1714), 2315.0, (0.3986, 0.618, 0.8535)),
    (HALF, 18, "verify", 1, (0.9529, 0.9463, 0.9594, 857), 1809.5, (0.5286, 0.7096, 0.8236)),
    (GRAPH, 10, "verify", 1, (0.9246, 0.9158, 0.9335, 857), 4730.4, (0.2015, 0.2874, 0.3454)),
    (GRAPH, 15, "choose", 1, (0.9560, 0.9511, 0.9609, 1714), 3773.9, (0.259, 0.3736, 0.442)),
    (GRAPH, 15, "verify", 1, (0.9524, 0.9455, 0.9593, 857), 3541.2, (0.2693, 0.4185, 0.5451)),
    (GRAPH, 15, "verify", 2, (0.9524, 0.9455, 0.9593, 857), 3754.8, (0.3884, 0.9521, 3.9381)),
    (GRAPH, 40, "verify", 1, (0.9891, 0.9862, 0.9921, 857), 2362.4, (0.4136, 0.596, 0.7809)),
    (GRAPH, 160, "verify", 1, (0.9992, 0.9986, 0.9998, 857), 862.6, (1.1264, 1.6743, 2.1357)),
    (BITS, 40, "choose", 1, (0.8651, 0.8584, 0.8717, 1714), 2274.6, (0.4147, 0.6234, 0.7017)),
    (BITS, 80, "verify", 1, (0.9519, 0.9465, 0.9574, 857), 1800.8, (0.5502, 0.6998, 0.8354)),
]
# Quantiles 0, 5 ... 100 % of latencies, as shares of the median.
SHAPE = (
    0.47,
    0.69,
    0.75,
    0.80,
    0.83,
    0.85,
    0.88,
    0.92,
    0.95,
    0.97,
    1,
    1.03,
    1.07,
    1.10,
    1.14,
    1.19,
    1.24,
    1.30,
    1.39,
    1.55,
    2.38,
)
BUILT = {
    ivfflat(100): Built(1.08, 28_352_512, 67_108_864, 2),
    ivfflat(260): Built(1.729, 29_155_328, 67_108_864, 2),
    ivfflat(520): Built(4.352, 30_425_088, 88_014_784, 2),
    ivfflat(600): Built(3.062, 30_916_608, 101_766_720, 2),
    HALF: Built(4.099, 16_400_384, 67_108_864, 2),
    GRAPH: Built(3.173, 34_824_192, 67_108_864, 2),
    BITS: Built(2.549, 5_939_200, 67_108_864, 2),
    EXACT: Built(),
}
TWINS = (
    Twin(
        320,
        tuple(
            zip(
                (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 320),
                (0.469, 0.6365, 0.7256, 0.825, 0.893, 0.9427, 0.9711, 0.988, 0.9955, 0.9988, 0.9998, 1.0),
                (72.8, 143.0, 212.8, 348.7, 549.8, 874.8, 1384.3, 2174.0, 3394.6, 5258.9, 8066.9, 17000.0),
                strict=True,
            )
        ),
        16,
        651.5,
    ),
    Twin(
        520,
        tuple(
            zip(
                (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 520),
                (0.4441, 0.6105, 0.6998, 0.8005, 0.8708, 0.9257, 0.9611, 0.9803, 0.9918, 0.9971, 0.9995, 0.9999, 1.0),
                (45.1, 89.2, 131.9, 216.3, 340.5, 542.2, 858.9, 1356.6, 2123.8, 3289.9, 5047.4, 7711.7, 17000.0),
                strict=True,
            )
        ),
        19,
        578.0,
    ),
    Twin(
        830,
        tuple(
            zip(
                (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 830),
                (0.403, 0.5688, 0.6673, 0.7707, 0.8489, 0.9051, 0.9455, 0.9739, 0.9885, 0.9946, 0.9978, 0.9995, 1.0),
                (31.4, 61.1, 91.3, 149.2, 233.6, 371.2, 584.7, 919.6, 1436.6, 2224.5, 3408.6, 5172.7, 17000.0),
                strict=True,
            )
        ),
        24,
        594.4,
    ),
)


def point(row: Row) -> Point:
    index, value, queries, clients, recall, qps, (p50, p95, p99) = row
    quantiles = tuple(round(share * p50, 4) for share in SHAPE)
    return Point(index, value, queries, clients, Recall(*recall), qps, p50, p95, p99, p50 * 0.7, recall[3], 0, quantiles)


POINTS = tuple(point(row) for row in MEASURED)


def choice(index: Index, value: int, target: float = 0.95, predicted: float | None = None) -> Choice:
    """The verified setting of an index, as the tuner gives it."""
    own = [one for one in POINTS if (one.index, one.value, one.queries) == (index, value, "verify")]
    many = next((one for one in own if one.clients == 2), None)
    found = replace(next(one for one in own if one.clients == 1), predicted=predicted)
    create = f"CREATE INDEX ON chunks USING {index.method} (embedding)" if index.method else ""
    return Choice(index, value, found, many, BUILT[index], found.recall.value >= target, create, "SELECT id FROM chunks")


def comparison(points: Sequence[Point] = POINTS, target: float = 0.95, **changes: Any) -> Comparison:
    """The whole comparison, or one with other ``points`` and whatever else is changed."""
    settings = [(EXACT, 0, None), (ivfflat(600), 19, 0.9498), (HALF, 18, 0.9509), (GRAPH, 15, None), (BITS, 80, None)]
    best: dict[Family, Choice] = {index.family: choice(index, value, target, twin) for index, value, twin in settings}
    made: dict[str, Any] = {
        "corpus": "generated:20000x384",
        "asked": "3000 rows held out of it",
        "rows": 17_000,
        "dimension": 384,
        "metric": "cosine",
        "k": 10,
        "target": target,
        "server": Server("ALPHA", "18.1", "0.8.5", 4 * 2**30, 64 * 2**20, 2, 2),
        "points": tuple(points),
        "builds": dict(BUILT),
        "best": best,
        "today": choice(ivfflat(100), 10, target, 0.9502),
        "recommendation": best["hnsw"],
        "twins": TWINS,
        "cost": Cost(0.22, 0.44, 120.0),
        "cost_error": 0.08,
        "skipped": (Skipped("ivfflat lists=65, ivfflat.probes = 64", "the planner chose a seq scan"),),
        "seconds": {"load": 0.2, "build": 21.7, "time": 64.0},
        "at": "2026-11-24T22:24:49+00:00",
        "fingerprint": "31a50de992892695792ee34e6b1640d8",
    }
    return Comparison(**(made | changes))


def without(**changes: Any) -> Comparison:
    """A comparison of which nothing was measured, save what is given."""
    nothing: dict[str, Any] = {
        "points": (),
        "builds": {},
        "best": {},
        "today": None,
        "recommendation": None,
        "twins": (),
    }
    return comparison(**(nothing | changes))
