"""Answers about prompts, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class RenderedPrompt(BaseModel):
    """One prompt as the model would get it."""

    index: int = Field(description="which of the request's prompts")
    prompt: str = Field(description="its text, special tokens included")
    token_ids: list[int]
    prompt_tokens: int = Field(description="how many these are")


class RenderedPrompts(BaseModel):
    """All prompts of a request."""

    object: Literal["list"]
    data: list[RenderedPrompt]
    max_model_len: int = Field(description="tokens of prompt and answer the model takes")


class InputTokens(BaseModel):
    """Length of the prompts of a request."""

    object: Literal["chat.completion.input_tokens", "text_completion.input_tokens"]
    input_tokens: int


class TokenList(BaseModel):
    """Token ids of a text or conversation."""

    tokens: list[int]
    count: int
    max_model_len: int = Field(description="tokens of prompt and answer the model takes")


class TokenText(BaseModel):
    """Text of token ids."""

    prompt: str


class TokenizerInfo(BaseModel):
    """What clients that tokenize themselves, or through this server, need to know; null for what the model lacks."""

    model: str
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None
    sep_token: str | None
    cls_token: str | None
    mask_token: str | None
    vocab_size: int = Field(description="one more than the largest token id")
    model_max_length: int = Field(description="tokens of prompt and answer the model takes")
    chat_template: str | None = Field(description="the jinja source")
