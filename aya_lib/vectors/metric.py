"""The three distances that pgvector's indexes serve: its operator, its operator class, and the same in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aya_lib.errors import UsageError


@dataclass(frozen=True)
class Metric:
    """``operator`` as SQL has it; ``ops``: the middle of an operator class, as in ``vector_cosine_ops``."""

    name: str
    operator: str
    ops: str

    def prepare(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors as the distance sees them: for cosine of length 1 (zero vectors stay zero)."""
        if self.name != "cosine":
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(norms == 0, 1, norms), np.float32)

    def distances(self, queries: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distances of prepared queries (q, d) to prepared vectors (n, d), shape (q, n), as pgvector's operator gives them.

        l2 is computed as |q|^2 - 2qv + |v|^2 in float32: near 0 it is exact to about 1e-3 of the vectors' length.
        """
        products = queries @ vectors.T
        if self.name == "ip":
            return -products
        if self.name == "cosine":
            return 1 - products
        squares = (queries**2).sum(axis=1)[:, None] - 2 * products + (vectors**2).sum(axis=1)[None, :]
        return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)

    def paired(self, query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances of one query (d,) to some vectors (n, d), in float64 and without cancellation."""
        one, others = query.astype(np.float64), vectors.astype(np.float64)
        if self.name == "l2":
            return np.asarray(np.linalg.norm(others - one, axis=1))
        return np.asarray((1.0 if self.name == "cosine" else 0.0) - others @ one)


METRICS = {
    "cosine": Metric("cosine", "<=>", "cosine"),
    "l2": Metric("l2", "<->", "l2"),
    "ip": Metric("ip", "<#>", "ip"),
}


def metric(name: str) -> Metric:
    """The metric called so; :class:`UsageError` names those there are."""
    if name not in METRICS:
        raise UsageError(f"metric '{name}': allowed are {', '.join(METRICS)}")
    return METRICS[name]
