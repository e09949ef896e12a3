"""The body of POST /v1/embeddings, and its answer for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from server.schemas.base import PositiveInt, RequestFields, example
from server.schemas.completion import Prompt
from server.schemas.truncation import TruncationFields


class EmbeddingRequest(RequestFields, TruncationFields):
    """Texts, or token ids, to be turned into vectors."""

    model_config = example({"input": ["Hello there", "Good morning"]})

    input: Prompt = Field(description="text or token ids, one or a list of them")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="numbers (the default), or their float32 in little-endian order as base64"
    )
    dimensions: PositiveInt | None = Field(
        None, description="keep the first so many and scale to length 1 again; default and most is the model's width"
    )
    pooling: Literal["mean", "last"] | None = Field(
        None, description="of the hidden states of all tokens the mean (the default), or the last one"
    )
    add_special_tokens: bool | None = Field(None, description="begin a text as the model expects (BOS); default true")

    @property
    def answer_tokens(self) -> int:
        """There is no answer but the vector."""
        return 0


class Embedding(BaseModel):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int = Field(description="which of the inputs")
    embedding: list[float] | str = Field(description="of length 1; as base64 a string")


class EmbeddingUsage(BaseModel):
    """Tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors of all inputs, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
