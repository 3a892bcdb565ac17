"""The encoder that the site wishes: its files verified first, its dimension checked afterwards."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aya_lib.embedding.encoder import Encoder, InputType, Vectors
from aya_lib.embedding.files import ModelFiles, open_files
from aya_lib.embedding.tokens import Tokenizer
from aya_lib.errors import AyaError
from aya_lib.site import Embedding

BATCH = 32  # texts that go through the network together when nobody says otherwise


@dataclass(frozen=True)
class Model:
    """A loaded encoder with its tokenizer."""

    files: ModelFiles
    tokenizer: Tokenizer
    encoder: Encoder

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def dimension(self) -> int:
        return self.encoder.dimension

    def prepared(self, texts: Sequence[str], input_type: InputType = "passage") -> list[list[int]]:
        """Token ids, uncut; before a query stands the instruction that the model asks for."""
        instruction = self.files.query_instruction if input_type == "query" else ""
        return self.tokenizer.ids([instruction + text for text in texts] if instruction else texts)

    def encode(self, texts: Sequence[str], input_type: InputType = "passage") -> Vectors:
        """One unit vector a text, in the texts' order; shape (len(texts), dimension). A text too long for the model is cut."""
        return self.encode_ids([self.tokenizer.cut(ids) for ids in self.prepared(texts, input_type)])

    def encode_ids(self, ids: Sequence[Sequence[int]], batch: int = BATCH) -> Vectors:
        """As :meth:`encode`, of token ids: batches of like length, so that little is padded."""
        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda position: len(ids[position]))
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            vectors[part] = self.encoder.vectors([ids[position] for position in part])
        return vectors


def load(wish: Embedding) -> Model:
    """The wished model. Raises :class:`AyaError` when a file is not the one that was named, or the dimension differs."""
    files = open_files(wish)
    encoder = _encoder(files, wish)
    if encoder.dimension != wish.dimension:
        raise AyaError(
            f"the model {wish.model} gives {encoder.dimension} dimensions, the site wishes {wish.dimension}",
            hint="Correct embedding.model or embedding.dimension in site.yaml; the column must have that dimension too",
        )
    return Model(files, Tokenizer(files), encoder)


def _encoder(files: ModelFiles, wish: Embedding) -> Encoder:
    if backend(wish) == "mlx":
        from aya_lib.embedding.mlx_encoder import MlxEncoder

        return MlxEncoder(files)
    from aya_lib.embedding.torch_encoder import TorchEncoder

    return TorchEncoder(files, wish.device)


def backend(wish: Embedding) -> str:
    """``auto`` is MLX on Apple Silicon and sentence-transformers elsewhere."""
    if wish.backend != "auto":
        return wish.backend
    return "mlx" if sys.platform == "darwin" and platform.machine() == "arm64" else "sentence-transformers"


def metal() -> dict[str, Any]:
    """What MLX says of this machine; where MLX is not installed there is no Metal for it."""
    try:
        import mlx.core as mx
    except ImportError:
        return {"metal_available": False}
    return {"metal_available": bool(mx.metal.is_available())}
