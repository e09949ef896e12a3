"""The body of POST /v1/completions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from engine.types import MAX_CHOICES, MAX_LOGPROBS
from server.schemas.base import WHOLE, CountFromZero, GenerationFields, TokenId, example
from server.schemas.structured import StructuredFields
from server.schemas.truncation import TruncationFields

DEFAULT_MAX_TOKENS = 16
"""Length of an answer that the request says nothing about."""

Prompt = str | list[str] | list[TokenId] | list[list[TokenId]]


class CompletionRequest(GenerationFields, StructuredFields, TruncationFields):
    """One or several prompts to be continued."""

    model_config = example({"prompt": "Once upon a time", "max_tokens": 50, "stop": ["\n\n"]})

    prompt: Prompt = Field(description="text or token ids, one prompt or a list of them")
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = Field(
        None, description="make so many choices per prompt and return the n likeliest; default n"
    )
    max_tokens: CountFromZero | None = Field(None, description="default 16; 0 generates nothing")
    echo: bool | None = Field(None, description="begin with the prompt, its log-probabilities included")
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE] | None = Field(
        None, description="report each token's log-probability and this many alternatives"
    )
    suffix: str | None = Field(None, description="text behind the gap to be filled, where the model was taught that")
    add_special_tokens: bool | None = Field(None, description="begin a text as the model expects (BOS); default true")

    @property
    def answer_tokens(self) -> int:
        """Most tokens of the answer."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer shows log-probabilities."""
        return self.logprobs is not None

    @property
    def candidates(self) -> int:
        """Choices that are made of each prompt, of which `n` are returned."""
        return max(self.n or 1, self.best_of or 1)
