"""The bodies of POST /tokenize and POST /detokenize."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from server.schemas.base import ModelChoice, TokenId, example
from server.schemas.chat import Message, TemplateFields
from server.schemas.tools import ToolFields


class TokenizeRequest(ModelChoice, TemplateFields, ToolFields):
    """A text or a conversation to be turned into token ids."""

    model_config = example({"prompt": "Hello there"})

    prompt: str | None = Field(None, description="text; give this or messages")
    messages: Annotated[list[Message], Field(min_length=1)] | None = Field(None, description="a conversation")
    add_special_tokens: bool | None = Field(
        None, description="begin as the model expects (BOS); default true for a text, false for messages"
    )


class DetokenizeRequest(ModelChoice):
    """Token ids to be turned into text."""

    model_config = example({"tokens": [1, 2, 3]})

    tokens: list[TokenId] = Field(description="token ids")
    skip_special_tokens: bool | None = Field(None, description="leave special tokens out; default false")
