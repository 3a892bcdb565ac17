"""sentence-transformers as an encoder: CPU, MPS or CUDA."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from aya_lib.embedding.encoder import ON_CPU, ON_GPU, Vectors, padded
from aya_lib.embedding.files import ModelFiles
from aya_lib.errors import AyaError

ALONE = 64  # tokens: a single text of at most so many is a query, and one thread answers it with a shorter tail than several
CROWDED = 2  # waiting processes for each core: threads that wait for each other then take six times as long as one


class TorchEncoder:
    """The whole sentence-transformers pipeline after its tokenizer, so that any model it can load is served."""

    backend = "sentence-transformers"

    def __init__(self, files: ModelFiles, device: str | None = None) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the files are here: no hub is asked
        from sentence_transformers import SentenceTransformer

        try:
            self.network = SentenceTransformer(str(files.folder), device=device)
        except (OSError, ValueError, RuntimeError) as error:
            raise AyaError(f"the model {files.folder} cannot be loaded: {str(error).splitlines()[0]}") from None
        self.network.eval()
        self.device, self.threads = str(self.network.device), torch.get_num_threads()
        self.batch_tokens = ON_CPU if self.device == "cpu" else ON_GPU
        self.dimension = int(self.network.get_embedding_dimension() or 0)

    def vectors(self, ids: Sequence[Sequence[int]]) -> Vectors:
        tokens, mask = (torch.from_numpy(each).long() for each in padded(ids))
        features = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": torch.zeros_like(tokens)}
        alone = len(ids) == 1 and tokens.shape[1] <= ALONE
        torch.set_num_threads(1 if alone or os.getloadavg()[0] > CROWDED * (os.cpu_count() or 1) else self.threads)
        with torch.inference_mode():
            output = self.network.forward({name: value.to(self.network.device) for name, value in features.items()})
            unit = torch.nn.functional.normalize(output["sentence_embedding"].float(), p=2, dim=1)
        vectors: Vectors = unit.cpu().numpy()
        return vectors
