"""Both encoders against sentence-transformers itself, on texts that people and machines really send."""

from __future__ import annotations

import json
import os
import random
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aya_lib.embedding import files, model
from aya_lib.errors import AyaError
from aya_lib.site import Embedding

LAB = Embedding(model="lab", dimension=384)
BACKENDS = ["sentence-transformers", "mlx"]
WORDS = ["the", "standby", "lags", "behind", "primary", "because", "slot", "inactive", "and", "WAL", "restart", "laptop"]


def texts() -> list[str]:
    """Sixty: empty, blank, very long, emoji, CJK, code, unknown tokens, accents, and plain sentences."""
    rng = random.Random(20)
    odd = ["", "   ", "\n\t", "😀", "😀🎉🚀 deployed", "你好", "世界和平", "複製延遲", "Привет", "žluťoučký kůň", "CAFÉ naïve"]
    odd += ["\u13a0\u13a1 \u13a2", "ꙮꙮ", "\ue000\ue001", "{}", "-1e9", "def f(x):\n    return x[0] + 1"]
    odd += ["SELECT * FROM t WHERE id = $1;", " ".join(rng.choices(WORDS, k=400)), "lag " * 300, "a" * 300, "x" * 5000]
    return odd + [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(60 - len(odd))]


@pytest.fixture(scope="module")
def random_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with 768 dimensions and CLS pooling, saved as sentence-transformers saves one."""
    import torch
    from transformers import BertConfig, BertModel

    folder, lab = tmp_path_factory.mktemp("bert"), files.locate(LAB)
    torch.manual_seed(5)
    shape: dict[str, Any] = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 1024}
    BertModel(BertConfig(vocab_size=30522, max_position_embeddings=96, **shape)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json"):
        shutil.copy(lab / name, folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 768, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 96, "do_lower_case": False}))
    return folder


def changed(folder: Path, to: Path, name: str, content: object) -> Path:
    """The model in ``folder`` once more, with another file ``name``; the others are the same on the disk."""
    shutil.copytree(folder, to, copy_function=os.link)
    (to / name).unlink(missing_ok=True)
    (to / name).write_text(json.dumps(content))
    return to


@cache
def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder)).encode(texts(), batch_size=8, normalize_embeddings=True, show_progress_bar=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_agree_with_sentence_transformers(backend: str, random_bert: Path) -> None:
    """The lab's model, which pools the mean, and one of 768 dimensions with CLS pooling."""
    for config, pooling, reads in ((LAB, "mean", 256), (Embedding(model=str(random_bert), dimension=768), "cls", 96)):
        loaded = model.load(config.model_copy(update={"backend": backend}))
        assert (loaded.encoder.backend, loaded.files.pooling, loaded.tokenizer.max_tokens) == (backend, pooling, reads)
        assert float(np.abs(loaded.encode(texts()) - reference(loaded.files.folder)).max()) < 1e-5
        loaded.encoder.metal = True  # type: ignore[attr-defined]  # MLX's own product, slow without Metal: a part of the texts
        assert float(np.abs(loaded.encode(texts()[5:20:3]) - reference(loaded.files.folder)[5:20:3]).max()) < 1e-5


def test_old_names_and_a_prefix_in_a_checkpoint_give_the_same_vectors(random_bert: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    old_names = changed(random_bert, tmp_path / "old", "model.safetensors", None)
    tensors = load_file(random_bert / "model.safetensors")
    renamed = {f"bert.{n.replace('LayerNorm.weight', 'LayerNorm.gamma')}": t for n, t in tensors.items()}
    save_file(renamed, old_names / "model.safetensors")
    configs = [Embedding(model=str(folder), dimension=768, backend="mlx") for folder in (random_bert, old_names)]
    new, old = (model.load(config).encode(["the standby lags"]) for config in configs)
    assert np.array_equal(new, old)


def test_auto_is_mlx_on_apple_silicon_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert model.backend(LAB) == "mlx"
    assert model.backend(LAB.model_copy(update={"backend": "sentence-transformers"})) == "sentence-transformers"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert model.backend(LAB) == "sentence-transformers"


def test_the_instruction_stands_before_queries_and_not_before_passages() -> None:
    loaded = model.load(LAB.model_copy(update={"query_instruction": "Find this: ", "backend": "mlx"}))
    assert np.array_equal(loaded.encode(["lag"], "query"), loaded.encode(["Find this: lag"]))
    assert not np.array_equal(loaded.encode(["lag"], "query"), loaded.encode(["lag"]))


def test_bge_models_get_the_instruction_that_their_makers_ask_for(random_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bge-base-en-v1.5").symlink_to(random_bert)
    bge = Embedding(model=str(tmp_path / "bge-base-en-v1.5"), dimension=768)
    assert files.open_files(bge).query_instruction == "Represent this sentence for searching relevant passages: "
    assert files.open_files(bge.model_copy(update={"query_instruction": ""})).query_instruction == ""
    assert files.open_files(LAB).query_instruction == ""


def test_the_fingerprint_names_weights_and_pooling(random_bert: Path, tmp_path: Path) -> None:
    pooling = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    mean = changed(random_bert, tmp_path / "mean", "1_Pooling/config.json", pooling)
    configs = [LAB, *(Embedding(model=str(folder), dimension=768) for folder in (random_bert, mean))]
    assert len({files.open_files(config).fingerprint for config in configs}) == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", {"model_type": "roberta", "hidden_size": 768}, "has model_type roberta; the MLX encoder knows bert"),
        ("config.json", {"model_type": "bert", "hidden_act": "silu"}, "has hidden_act silu; the MLX encoder knows gelu, relu"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "has pooling max; the MLX encoder knows cls, mean"),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "b.Dense"}], "has a module Dense, unknown to MLX"),
    ],
)
def test_what_mlx_would_compute_wrongly_is_refused(
    name: str, content: object, says: str, random_bert: Path, tmp_path: Path
) -> None:
    other = changed(random_bert, tmp_path / "other", name, content)
    with pytest.raises(AyaError, match=says):
        model.load(Embedding(model=str(other), dimension=768, backend="mlx"))


def test_a_folder_without_weights_and_a_name_that_is_nothing_are_refused(random_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(random_bert, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(AyaError, match="has no weights"):
        model.load(Embedding(model=str(tmp_path / "bare"), dimension=768))
    with pytest.raises(AyaError, match="neither a folder nor a hub name"):
        model.load(Embedding(model="/nowhere/model", dimension=768))
