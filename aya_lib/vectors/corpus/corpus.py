"""What is measured: the vectors that are searched, queries that choose, and queries that choose nothing and only verify.

Held out of the corpus, or taken from a query set; either way the two sets of queries are disjoint, and a held-out query
is not in the corpus.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aya_lib.errors import UsageError
from aya_lib.vectors.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHOOSE, VERIFY = 2000, 1500  # queries held out, when the corpus is large enough
HELD_OUT = 0.15  # at most this share of the corpus
LEAST_ROWS = 100  # with fewer, neither a search nor its recall can be measured
BLOCK = 50_000  # rows looked at together


@dataclass(frozen=True)
class Corpus:
    """``base`` (n, d), ``choose`` (a, d) and ``verify`` (b, d) are float32, prepared for the metric.

    ``name``: where it came from, in words. ``asked``: where the queries came from. ``keys``: of the rows of ``base`` in
    the table they were read from, None for a file. ``fingerprint``: of all vectors, metric included.
    """

    name: str
    asked: str
    metric: Metric
    base: NDArray[np.float32]
    choose: NDArray[np.float32]
    verify: NDArray[np.float32]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.base)

    @property
    def dimension(self) -> int:
        return int(self.base.shape[1])

    def part(self, rows: int, seed: int = 1) -> Corpus:
        """The same with ``rows`` rows drawn at random; the queries stay."""
        import numpy as np

        chosen = np.sort(np.random.default_rng(seed).permutation(self.rows)[:rows])
        return replace(self, base=self.base[chosen], fingerprint=f"{self.fingerprint}:{rows}:{seed}")


def corpus(
    name: str,
    vectors: NDArray[np.float32],
    metric: Metric,
    queries: NDArray[np.float32] | None = None,
    *,
    asked: str = "",
    seed: int = 1,
    k: int = 10,
    choose: int = CHOOSE,
    verify: int = VERIFY,
    notes: tuple[str, ...] = (),
) -> Corpus:
    """A corpus from raw vectors (n, d), with its queries drawn by ``seed``.

    :class:`UsageError` for an empty one, too few rows for k, NaN, infinite or (under cosine) zero vectors, and queries of
    another dimension.
    """
    import numpy as np

    _refuse(name, vectors, metric)
    draw = np.random.default_rng(seed)
    if queries is None:
        taken = draw.permutation(len(vectors))
        wanted = min(choose + verify, int(len(vectors) * HELD_OUT))
        held, kept = taken[:wanted], np.sort(taken[wanted:])
        questions, base = vectors[held], vectors[kept]
        asked = asked or f"{wanted} rows held out of it"
    else:
        _refuse(asked or "the queries", queries, metric, least=2)
        if queries.shape[1] != vectors.shape[1]:
            raise UsageError(f"{asked or 'the queries'}: {queries.shape[1]} dimensions, {name} has {vectors.shape[1]}")
        questions, base = queries[draw.permutation(len(queries))[: choose + verify]], vectors
    if k >= len(base):
        raise UsageError(f"k = {k}: {name} has {len(base)} rows to search", hint="Take a smaller k, or more rows")
    base, questions = metric.prepare(base), metric.prepare(questions)
    middle = len(questions) * choose // (choose + verify)
    print_ = _fingerprint(metric, base, questions)
    return Corpus(name, asked, metric, base, questions[:middle], questions[middle:], print_, notes)


def _refuse(name: str, vectors: NDArray[np.float32], metric: Metric, least: int = LEAST_ROWS) -> None:
    import numpy as np

    if len(vectors) < least:
        raise UsageError(
            f"{name} has {len(vectors)} vectors; at least {least} are needed to measure anything",
            hint="An index pays from some thousand rows on. To see the tool at work: --corpus generated:20000x384",
        )
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        broken = ~np.isfinite(block).all(axis=1)
        if broken.any():
            first = start + int(broken.argmax())
            raise UsageError(f"{name}: vector {first} has a value that is NaN or infinite", hint="Correct or leave out that row")
        empty = ~block.any(axis=1)
        if metric.name == "cosine" and empty.any():
            first = start + int(empty.argmax())
            raise UsageError(
                f"{name}: vector {first} is zero: it has no cosine distance, and pgvector leaves it out of the index",
                hint="Embed that row again or leave it out, or measure with --metric l2",
            )


def _fingerprint(metric: Metric, *arrays: NDArray[np.float32]) -> str:
    found = hashlib.blake2b(metric.name.encode(), digest_size=16)
    for array in arrays:
        found.update(repr(array.shape).encode())
        for start in range(0, len(array), BLOCK):
            found.update(array[start : start + BLOCK].tobytes())
    return found.hexdigest()
