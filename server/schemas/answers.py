"""Answers as they look on the wire, for the OpenAPI document; they are written by `server/chat/formats.py`.

Nothing is sent that does not stand here: the tests hold real answers to it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ChatFinish = Literal["stop", "length", "tool_calls"]
TextFinish = Literal["stop", "length"]
STOP_REASON = "the stop string or token id that matched; null for the model's own end"
PROMPT_LOGPROBS = "as in vLLM, where it was asked for: of each token of the prompt, by id"


class Documented(BaseModel):
    """An object without any other fields."""

    model_config = ConfigDict(extra="forbid")


class PromptTokensDetails(Documented):
    """What is to be said of a prompt's tokens."""

    cached_tokens: int = Field(description="not computed again")
    audio_tokens: Literal[0]
    truncated_tokens: int = Field(default=0, description="left out of the prompts, where the request allows that")


class CompletionTokensDetails(Documented):
    """What is to be said of an answer's tokens."""

    reasoning_tokens: int
    audio_tokens: Literal[0]
    accepted_prediction_tokens: Literal[0]
    rejected_prediction_tokens: Literal[0]


class UsageAnswer(Documented):
    """Tokens of a request."""

    prompt_tokens: int = Field(description="of all prompts, each counted once whatever n")
    completion_tokens: int = Field(description="of all choices")
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class Envelope(Documented):
    """What every answer and every chunk begins with."""

    id: str
    created: int = Field(description="Unix seconds")
    model: str
    system_fingerprint: str = Field(description="changes with model, format, kernels and version")


class LikelyToken(Documented):
    """A token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int] = Field(description="exact, where the token is part of a character")


class ChatLogprob(LikelyToken):
    """A token of the answer."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Documented):
    """Log-probabilities of the content."""

    content: list[ChatLogprob]
    refusal: None


class FunctionOfCall(Documented):
    """What is called."""

    name: str
    arguments: str = Field(description="the text of a JSON object")


class CallOfTool(Documented):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionOfCall


class ChatMessage(Documented):
    """The model's turn."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str = Field(default="", description="thoughts, where the model had some")
    reasoning: str = Field(default="", description="the same, by the name reasoning_format asked for")
    refusal: None
    annotations: list[Any] = Field(description="always empty")
    tool_calls: list[CallOfTool] = Field(default=[], description="absent without calls")


class ChatChoice(Documented):
    """One of n answers."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinish
    stop_reason: str | int | None = Field(description=STOP_REASON)


class ChatCompletion(Envelope):
    """A whole answer."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: UsageAnswer
    prompt_logprobs: list[dict[str, Any] | None] = Field(default=[], description=PROMPT_LOGPROBS)


class FunctionDelta(Documented):
    """More of a call."""

    name: str = Field(default="", description="in the call's first chunk alone")
    arguments: str


class CallDelta(Documented):
    """More of the call with this index."""

    index: int
    id: str = Field(default="", description="in the call's first chunk alone")
    type: Literal["function"] = Field(default="function", description="in the call's first chunk alone")
    function: FunctionDelta


class ChatDelta(Documented):
    """What is to be added to a message; empty in the last chunk of a choice."""

    role: Literal["assistant"] = Field(default="assistant", description="in the choice's first chunk alone")
    content: str | None = None
    refusal: None = None
    reasoning_content: str = ""
    reasoning: str = ""
    tool_calls: list[CallDelta] = []


class ChatChunkChoice(Documented):
    """More of one choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinish | None
    stop_reason: str | int | None = Field(default=None, description=STOP_REASON)


class ChatCompletionChunk(Envelope):
    """The JSON of one event of a stream; after the last one comes the text `[DONE]`."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: UsageAnswer | None = Field(default=None, description="with include_usage, in a last chunk without choices")


class TextLogprobs(Documented):
    """Four lists of equal length; null for the first token of an echoed prompt."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int] = Field(description="in characters, from the beginning of the text")


class TextChunkChoice(Documented):
    """More of one choice."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: TextFinish | None
    stop_reason: str | int | None = Field(default=None, description=STOP_REASON)


class TextChoice(TextChunkChoice):
    """One of the continuations."""

    finish_reason: TextFinish
    prompt_logprobs: list[dict[str, Any] | None] = Field(default=[], description=PROMPT_LOGPROBS)


class TextCompletion(Envelope):
    """A whole answer."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: UsageAnswer


class TextCompletionChunk(Envelope):
    """The JSON of one event of a stream; after the last one comes the text `[DONE]`."""

    object: Literal["text_completion"]
    choices: list[TextChunkChoice]
    usage: UsageAnswer | None = Field(default=None, description="with include_usage, in a last chunk without choices")


STREAMED: tuple[type[Documented], ...] = (ChatCompletionChunk, TextCompletionChunk)
"""What event streams are made of; no route answers with one of these alone."""
