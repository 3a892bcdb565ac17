"""BERT in MLX: the encoder for Apple Silicon, from any folder with a BERT's safetensors.

The network is that of Devlin et al., "BERT" (NAACL 2019), layer norm after each residual; pooling and the final L2 norm
follow the model's own sentence-transformers files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from aya_lib.embedding.encoder import ON_CPU, ON_GPU, Vectors, padded
from aya_lib.embedding.files import ModelFiles
from aya_lib.errors import AyaError

ACTIVATIONS = {"gelu": nn.gelu, "relu": nn.relu}
MODULES = {"Transformer", "Pooling", "Normalize"}
OTHERWISE = "Set embedding.backend to sentence-transformers"


class MlxEncoder:
    backend = "mlx"

    def __init__(self, files: ModelFiles) -> None:
        config = json.loads((files.folder / "config.json").read_text(encoding="utf-8"))
        _understood(files, config)
        self.device = str(mx.default_device())
        self.metal = bool(mx.metal.is_available())
        self.batch_tokens = ON_GPU if self.metal else ON_CPU
        self.dimension = int(config["hidden_size"])
        self.pooling = files.pooling
        self.layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self.activation = ACTIVATIONS[config.get("hidden_act", "gelu")]
        self.weights = _weights(files)
        expected = f"encoder.layer.{self.layers - 1}.output.dense.weight"
        if expected not in self.weights or "embeddings.word_embeddings.weight" not in self.weights:
            raise AyaError(f"the model {files.folder} has no tensor {expected}: its weights are not a BERT's", hint=OTHERWISE)

    def vectors(self, ids: Sequence[Sequence[int]]) -> Vectors:
        tokens, mask = map(mx.array, padded(ids))
        unit = self._pooled(self._forward(tokens, mask), mask)
        unit = unit / mx.maximum(mx.linalg.norm(unit, axis=-1, keepdims=True), 1e-12)
        mx.eval(unit)
        vectors: Vectors = np.array(unit, dtype=np.float32)
        return vectors

    def _forward(self, tokens: Any, mask: Any) -> Any:
        w = self.weights
        hidden = w["embeddings.word_embeddings.weight"][tokens]
        hidden = hidden + w["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        hidden = self._norm(hidden + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(self.layers):
            layer = f"encoder.layer.{number}."
            hidden = self._norm(hidden + self._attention(hidden, mask, layer), layer + "attention.output.LayerNorm")
            inner = self.activation(self._dense(hidden, layer + "intermediate.dense"))
            hidden = self._norm(hidden + self._dense(inner, layer + "output.dense"), layer + "output.LayerNorm")
        return hidden

    def _attention(self, hidden: Any, mask: Any, layer: str) -> Any:
        rows, length, width = hidden.shape
        size = width // self.heads

        def part(name: str) -> Any:
            whole = self._dense(hidden, f"{layer}attention.self.{name}")
            return whole.reshape(rows, length, self.heads, size).transpose(0, 2, 1, 3)

        attended = mx.fast.scaled_dot_product_attention(
            part("query"), part("key"), part("value"), scale=size**-0.5, mask=mask[:, None, None, :]
        )
        return self._dense(attended.transpose(0, 2, 1, 3).reshape(rows, length, width), layer + "attention.output.dense")

    def _pooled(self, hidden: Any, mask: Any) -> Any:
        if self.pooling == "cls":
            return hidden[:, 0]
        weight = mask[:, :, None].astype(hidden.dtype)
        return (hidden * weight).sum(axis=1) / weight.sum(axis=1)

    def _dense(self, hidden: Any, name: str) -> Any:
        bias, weight = self.weights[name + ".bias"], self.weights[name + ".weight"]
        if self.metal:
            return mx.addmm(bias, hidden, weight)
        return mx.array(np.asarray(hidden) @ np.asarray(weight)) + bias  # MLX's own takes thirty times as long on a processor

    def _norm(self, hidden: Any, name: str) -> Any:
        return mx.fast.layer_norm(hidden, self.weights[name + ".weight"], self.weights[name + ".bias"], self.epsilon)


def _understood(files: ModelFiles, config: dict[str, Any]) -> None:
    """Refuse, before anything is loaded, what this network would compute wrongly."""
    found = {
        "model_type": (config.get("model_type"), ("bert",)),
        "hidden_act": (config.get("hidden_act", "gelu"), ACTIVATIONS),
        "position_embedding_type": (config.get("position_embedding_type", "absolute"), ("absolute",)),
        "pooling": (files.pooling, ("cls", "mean")),
    }
    for name, (value, allowed) in found.items():
        if value not in allowed:
            line = f"the model {files.folder} has {name} {value}; the MLX encoder knows {', '.join(allowed)}"
            raise AyaError(line, hint=OTHERWISE)
    if unknown := set(files.modules) - MODULES:
        raise AyaError(f"the model {files.folder} has a module {', '.join(sorted(unknown))}, unknown to MLX", hint=OTHERWISE)


def _weights(files: ModelFiles) -> dict[str, Any]:
    """The tensors by their bare BERT names, as float32: checkpoints put ``bert.`` before, old ones say gamma and beta.

    Weights of dense layers are turned round once, here: without Metal a product with a transposed matrix takes twice as long.
    """
    loaded: dict[str, Any] = {}
    for path in sorted(files.folder.glob("*.safetensors")):
        tensors: Any = mx.load(str(path))
        loaded |= tensors
    named = {}
    for name, tensor in loaded.items():
        name = name.removeprefix("bert.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        tensor = tensor.astype(mx.float32) if mx.issubdtype(tensor.dtype, mx.floating) else tensor
        named[name] = mx.contiguous(tensor.T) if name.startswith("encoder.") and tensor.ndim == 2 else tensor
    mx.eval(named)
    return named
