"""Text to token ids with the model's own tokenizer, never cut unless the caller asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers import normalizers

from aya_lib.embedding.files import ModelFiles
from aya_lib.errors import AyaError


class Tokenizer:
    """The model's tokenizer. ``max_tokens``: what the model reads, special tokens included."""

    def __init__(self, files: ModelFiles) -> None:
        self.max_tokens = files.max_tokens
        self.raw = _open(files.folder / "tokenizer.json", files.lower_case)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The whole token ids of each text, special tokens included."""
        return [found.ids for found in self.raw.encode_batch_fast(list(texts))]

    def cut(self, ids: list[int]) -> list[int]:
        """As the model reads it: the first ``max_tokens``, the closing special token kept."""
        return ids if len(ids) <= self.max_tokens else [*ids[: self.max_tokens - 1], ids[-1]]


def _open(path: Path, lower_case: bool) -> tokenizers.Tokenizer:
    try:
        found = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise AyaError(f"the model's file {path} cannot be read: {error}") from None
    found.no_truncation()
    found.no_padding()
    if lower_case:
        steps = [normalizers.Lowercase(), *([found.normalizer] if found.normalizer else [])]
        found.normalizer = normalizers.Sequence(steps)
    return found
