"""Vectors made by a recipe, meant to be as hard to search as embeddings of text, to try an index where there is no data.

In 48 latent dimensions, whose spread falls with i^-0.5 (as the spectrum of text embeddings falls), 60 topics are drawn;
around them 2,000 sub-clusters, of which the i-th has a share that goes with i^-0.75 (Zipf-like); around these the vectors.
All three spread equally, so that clusters overlap. A fixed random matrix projects the latent vectors into the full
dimension, noise three quarters as long as one such spread is added there, and the result is brought to length 1.

Measured on generated:20000x384, 500 held-out queries, cosine: k-means with 100 lists gives recall@10 of 0.545 at 1 probe,
0.696 at 2, 0.833 at 4, 0.926 at 8, 0.974 at 16; the 10th neighbour is at 0.376 of the mean distance of any two vectors.
At 100,000 rows and 1,000 lists recall@10 reaches 0.95 at 17 probes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import psutil
from numpy.typing import NDArray

from aya_lib.errors import UsageError

LATENT, TOPICS, SUBCLUSTERS = 48, 60, 2000
FALL, SKEW, NOISE = 0.5, 0.75, 0.75
ROWS, DIMENSION = 10_000_000, 16_000  # the most of each; 16,000 is what pgvector's vector takes
BLOCK = 2**22  # values that are made at a time: 16 MiB
FORM = "generated:ROWSxDIMENSION or generated:ROWSxDIMENSION:SEED"


@dataclass(frozen=True)
class Recipe:
    """How many vectors, of how many dimensions, and the seed. Raises :class:`UsageError` outside of the allowed ranges."""

    rows: int
    dimension: int
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= ROWS:
            raise UsageError(f"'{self}': {self.rows} rows; allowed are 1 to {ROWS}")
        if not 1 <= self.dimension <= DIMENSION:
            raise UsageError(f"'{self}': dimension {self.dimension}; allowed is 1 to {DIMENSION}")
        if self.seed < 0:
            raise UsageError(f"'{self}': seed {self.seed}; allowed is 0 and above")

    def __str__(self) -> str:
        return f"generated:{self.rows}x{self.dimension}" + (f":{self.seed}" if self.seed != 1 else "")


def parse(text: str) -> Recipe:
    """The recipe that ``generated:ROWSxDIMENSION[:SEED]`` names (the seed is 1 by default); else :class:`UsageError`."""
    recipe = re.fullmatch(r"generated:([0-9]{1,18})x([0-9]{1,18})(?::([0-9]{1,18}))?", text)
    if not recipe:
        raise UsageError(
            f"'{text}' is no recipe: allowed is {FORM}, rows 1 to {ROWS}, dimension 1 to {DIMENSION}",
            hint="For example generated:20000x384",
        )
    rows, dimension, seed = recipe.groups(default="1")
    return Recipe(int(rows), int(dimension), int(seed))


def generate(recipe: Recipe) -> NDArray[np.float32]:
    """Vectors of length 1, shape (rows, dimension); :class:`UsageError` when they do not fit into memory.

    The same recipe gives the same vectors, and with more rows the first ones stay as they were (to float32's rounding).
    """
    fixed, which, latent, full = (np.random.default_rng(seed) for seed in np.random.SeedSequence(recipe.seed).spawn(4))
    spread = np.arange(1, LATENT + 1) ** -FALL
    spread *= np.sqrt(LATENT / (spread**2).sum())
    topics = fixed.standard_normal((TOPICS, LATENT))
    centres = topics[fixed.integers(TOPICS, size=SUBCLUSTERS)] + fixed.standard_normal((SUBCLUSTERS, LATENT))
    projection = spread[:, None] * fixed.standard_normal((LATENT, recipe.dimension)) / np.sqrt(recipe.dimension)
    centres, projection = centres.astype(np.float32), projection.astype(np.float32)
    shares = np.cumsum(np.arange(1, SUBCLUSTERS + 1) ** -SKEW)

    made = empty(recipe.rows, recipe.dimension, str(recipe))
    noise_size = np.float32(NOISE * np.sqrt(LATENT / recipe.dimension))
    step = max(1, BLOCK // max(recipe.dimension, LATENT))
    for start in range(0, recipe.rows, step):
        block = made[start : start + step]
        chosen = np.searchsorted(shares, which.random(len(block)) * shares[-1], side="right")
        points = centres[chosen] + latent.standard_normal((len(block), LATENT), dtype=np.float32)
        np.matmul(points, projection, out=block)
        block += noise_size * full.standard_normal(block.shape, dtype=np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        block[lengths == 0, 0] = lengths[lengths == 0] = 1  # happens in one dimension only, and even there hardly ever
        block /= lengths[:, None]
    return made


def empty(rows: int, dimension: int, what: str) -> NDArray[np.float32]:
    """Room for so many vectors; :class:`UsageError` where the machine has less memory free than they take."""
    needed, free = 4e-9 * rows * dimension, 1e-9 * psutil.virtual_memory().available
    if needed > free:
        size = f"{rows} vectors of {dimension} dimensions"
        raise UsageError(f"{what}: {size} take {needed:.1f} GB of memory, {free:.1f} GB are free", hint="Ask for fewer rows")
    return np.empty((rows, dimension), dtype=np.float32)
