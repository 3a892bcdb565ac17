"""What the embedding service is asked and how it answers, in its own form and in OpenAI's."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from aya_lib.embedding.encoder import InputType, Vectors

MAX_CHARACTERS = 1_000_000
MAX_TEXTS = 1024
MAX_BODY = 64 * 1024 * 1024  # bytes

Kind = Annotated[InputType, Field(description="query: the model's query instruction is put before the text")]
Truncate = Annotated[bool, Field(description="cut a text that is longer than the model reads, and say so; else it is a 413")]


class Text(BaseModel):
    text: Annotated[str, Field(description="what is to be embedded")]
    input_type: Kind = "passage"
    truncate: Truncate = False


class Texts(BaseModel):
    texts: Annotated[list[str], Field(description=f"at most {MAX_TEXTS}")]
    input_type: Kind = "passage"
    truncate: Truncate = False


class OpenAI(BaseModel):
    """The body of OpenAI's ``POST /v1/embeddings``; ``input_type`` and ``truncate`` are additions."""

    input: Annotated[str | list[str], Field(description="a text, or at most 1024 of them")]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    input_type: Kind = "passage"
    truncate: Truncate = False


@dataclass(frozen=True)
class Embedded:
    """Vectors in the texts' order, the tokens of each text, and the positions of those that were cut."""

    vectors: list[Vectors]
    tokens: list[int]
    truncated: list[int]
    model: str
    fingerprint: str
    dimension: int

    def single(self) -> dict[str, Any]:
        return {"embedding": self.vectors[0], **self._common(), "tokens": self.tokens[0], "truncated": bool(self.truncated)}

    def batch(self) -> dict[str, Any]:
        said = {"embeddings": self.vectors, "count": len(self.vectors), **self._common()}
        return said | {"tokens": sum(self.tokens), "truncated": self.truncated}

    def openai(self, encoding: str) -> dict[str, Any]:
        data = [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if encoding == "base64" else vector}
            for index, vector in enumerate(self.vectors)
        ]
        usage = {"prompt_tokens": sum(self.tokens), "total_tokens": sum(self.tokens)}
        return {"object": "list", "data": data, "model": self.model, "usage": usage, "truncated": self.truncated}

    def _common(self) -> dict[str, Any]:
        return {"dimension": self.dimension, "model": self.model, "fingerprint": self.fingerprint}


def _base64(vector: Vectors) -> str:
    """Little-endian float32, as OpenAI's clients decode it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
