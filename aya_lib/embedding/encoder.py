"""What every encoder is, and what its vectors are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # of shape (texts, dimension); one of them: (dimension,)
InputType = Literal["query", "passage"]

ON_CPU = 384  # padded tokens: more at once leave the processor's cache, fewer leave its cores idle (benchmarks/embedding.py)
ON_GPU = 16_384


class Encoder(Protocol):
    """A network on a device. One instance, used by one thread at a time. ``batch_tokens``: padded tokens it likes at once."""

    backend: str
    device: str
    dimension: int
    batch_tokens: int

    def vectors(self, ids: Sequence[Sequence[int]]) -> Vectors:
        """One L2-normalised float32 vector for each list of token ids; shape (len(ids), dimension). One padded batch."""


def padded(ids: Sequence[Sequence[int]]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The token ids as one rectangle, shorter ones filled with 0, and where they are tokens."""
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.zeros(mask.shape, dtype=np.int32)
    tokens[mask] = np.concatenate([np.asarray(row, dtype=np.int32) for row in ids])
    return tokens, mask
