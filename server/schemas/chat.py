"""The body of POST /v1/chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from engine.types import MAX_LOGPROBS
from server.schemas.base import WHOLE, GenerationFields, PositiveInt, WireModel, example
from server.schemas.reasoning import ReasoningFields, ReasoningSwitchFields
from server.schemas.structured import StructuredFields
from server.schemas.tools import ToolFields
from server.schemas.truncation import TruncationFields

Role = Literal["developer", "system", "user", "assistant", "tool", "function"]


class ContentPart(WireModel):
    """A piece of a message; which types are taken is decided in `server/chat/messages.py`."""

    type: str = Field(description="text, or refusal in an assistant's message")
    text: str | None = Field(None, description="with type text")
    refusal: str | None = Field(None, description="with type refusal")
    prompt_cache_breakpoint: Any = Field(None, description="accepted; equal prompt beginnings are reused anyway")


class FunctionCall(WireModel):
    """What an assistant called, as it is sent back with the history."""

    name: str = Field(description="of the function")
    arguments: str | None = Field(None, description="the text of a JSON object")


class ToolCall(WireModel):
    """One call of an assistant message in the history."""

    id: str | None = Field(None, description="which its result names")
    type: str = Field("function", description="function")
    function: FunctionCall = Field(description="what was called")


class Message(WireModel):
    """One turn of the conversation."""

    role: Role = Field(description="whose turn it was")
    content: str | list[ContentPart] | None = Field(None, description="what was said; may be absent beside calls")
    name: str | None = Field(None, description="handed to the template, which may show it")
    refusal: str | None = Field(None, description="stands for the content of an assistant that has none")
    tool_calls: list[ToolCall] | None = Field(None, description="what an assistant called")
    tool_call_id: str | None = Field(None, description="with role tool: the call that it answers")
    function_call: FunctionCall | None = Field(None, description="older form of tool_calls, with role function")
    annotations: list[Any] | None = Field(None, description="accepted; of an earlier answer, without effect")
    reasoning_content: str | None = Field(None, description="thoughts of an earlier answer, handed to the template")
    reasoning: str | None = Field(None, description="another name of reasoning_content, which wins")


class TemplateFields(ReasoningSwitchFields):
    """Fields that steer how messages become a prompt."""

    add_generation_prompt: bool | None = Field(None, description="open the assistant's turn; default true")
    continue_final_message: bool | None = Field(None, description="leave the last message open, to be continued")
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="variables for the chat template")


class ChatCompletionRequest(
    GenerationFields, StructuredFields, TemplateFields, ToolFields, TruncationFields, ReasoningFields
):
    """Messages to be answered."""

    model_config = example(
        {"messages": [{"role": "user", "content": "Name three primes."}], "max_completion_tokens": 50}
    )

    messages: Annotated[list[Message], Field(min_length=1)] = Field(description="the conversation so far")
    best_of: PositiveInt | None = Field(None, description="accepted if it equals n")
    max_completion_tokens: PositiveInt | None = Field(None, description="default is up to the end of the context")
    max_tokens: PositiveInt | None = Field(None, description="older name; max_completion_tokens wins")
    logprobs: bool | None = Field(None, description="report the log-probability of each token of the content")
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE] | None = Field(None, description="needs logprobs")

    store: bool | None = Field(None, description="accepted; nothing is stored")
    safety_identifier: str | None = Field(None, description="accepted; has no effect")
    prompt_cache_key: str | None = Field(None, description="accepted; equal prompt beginnings are reused anyway")
    prompt_cache_options: Any = Field(None, description="accepted; has no effect")
    prompt_cache_retention: str | None = Field(None, description="accepted; has no effect")
    prediction: Any = Field(None, description="accepted; it can only change speed")

    @property
    def answer_tokens(self) -> int | None:
        """Most tokens of the answer, as far as the request says."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer shows log-probabilities."""
        return bool(self.logprobs)
