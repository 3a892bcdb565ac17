"""The encoder that the site asks for, with its tokenizer: files verified first, dimension checked afterwards."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
from tokenizers import normalizers

from aya_lib.embedding.encoder import Encoder, InputType, Vectors
from aya_lib.embedding.files import ModelFiles, open_files
from aya_lib.errors import AyaError
from aya_lib.site import Embedding

BATCH = 8  # texts that go through the network together where no service makes batches


class Tokenizer:
    """The model's own. ``max_tokens``: what the model reads, special tokens included; nothing is cut unless asked."""

    def __init__(self, files: ModelFiles) -> None:
        self.max_tokens = files.max_tokens
        path = files.folder / "tokenizer.json"
        try:
            self.raw = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise AyaError(f"the model's file {path} cannot be read: {error}") from None
        self.raw.no_truncation()
        self.raw.no_padding()
        if files.lower_case:
            steps = [normalizers.Lowercase(), *([self.raw.normalizer] if self.raw.normalizer else [])]
            self.raw.normalizer = normalizers.Sequence(steps)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The whole token ids of each text, special tokens included."""
        return [encoding.ids for encoding in self.raw.encode_batch_fast(list(texts))]

    def unknown(self, texts: Sequence[str]) -> list[float]:
        """The share of each text's characters, spaces apart, that the model knows no token for: 1 is a script it never saw."""
        name = getattr(self.raw.model, "unk_token", None)
        unk = self.raw.token_to_id(name) if name else None
        strange = [unk is not None and unk in ids for ids in self.ids(texts)]
        spans = iter(self.raw.encode_batch([text for text, one in zip(texts, strange, strict=True) if one]))
        return [_share(text, next(spans), unk) if one else 0.0 for text, one in zip(texts, strange, strict=True)]

    def cut(self, ids: list[int]) -> list[int]:
        """As the model reads it: the first ``max_tokens``, the closing special token kept."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]


def _share(text: str, encoding: tokenizers.Encoding, unk: int | None) -> float:
    lost = sum(end - start for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True) if number == unk)
    return lost / max(1, len("".join(text.split())))


@dataclass(frozen=True)
class Model:
    """A loaded encoder with its tokenizer."""

    files: ModelFiles
    tokenizer: Tokenizer
    encoder: Encoder

    def prepared(self, texts: Sequence[str], input_type: InputType = "passage") -> list[list[int]]:
        """Token ids, uncut; before a query stands the instruction that the model asks for."""
        instruction = self.files.query_instruction if input_type == "query" else ""
        return self.tokenizer.ids([instruction + text for text in texts] if instruction else texts)

    def encode(self, texts: Sequence[str], input_type: InputType = "passage") -> Vectors:
        """One unit vector a text, in the texts' order; shape (len(texts), dimension). A text too long for the model is cut."""
        ids = [self.tokenizer.cut(each) for each in self.prepared(texts, input_type)]
        vectors = np.empty((len(ids), self.encoder.dimension), dtype=np.float32)
        order = sorted(range(len(ids)), key=lambda position: len(ids[position]))  # of like length: little is padded
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            vectors[part] = self.encoder.vectors([ids[position] for position in part])
        return vectors


def load(config: Embedding) -> Model:
    """The configured model. Raises :class:`AyaError` when a file is not the one that was named, or the dimension differs."""
    files = open_files(config)
    encoder = _encoder(files, config)
    if encoder.dimension != config.dimension:
        raise AyaError(
            f"the model {config.model} gives {encoder.dimension} dimensions, the site asks for {config.dimension}",
            hint="Correct embedding.model or embedding.dimension in site.yaml; the column must have that dimension too",
        )
    return Model(files, Tokenizer(files), encoder)


def _encoder(files: ModelFiles, config: Embedding) -> Encoder:
    if backend(config) == "mlx":
        from aya_lib.embedding.mlx_encoder import MlxEncoder

        return MlxEncoder(files)
    from aya_lib.embedding.torch_encoder import TorchEncoder

    return TorchEncoder(files, config.device)


def backend(config: Embedding) -> str:
    """``auto`` is MLX on Apple Silicon and sentence-transformers elsewhere."""
    if config.backend != "auto":
        return config.backend
    return "mlx" if sys.platform == "darwin" and platform.machine() == "arm64" else "sentence-transformers"


def metal() -> bool:
    """Whether MLX has Metal on this machine; where MLX is not installed there is none for it."""
    try:
        import mlx.core as mx
    except ImportError:
        return False
    return bool(mx.metal.is_available())
