"""Fields that say whether and how much a model is to reason before its answer, and where that is shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from server.schemas.base import WHOLE, WireModel

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Budget = Annotated[int, Field(ge=-1, le=2**31 - 1), WHOLE]


class ReasoningOptions(WireModel):
    """OpenRouter's field."""

    effort: Effort | None = Field(None, description="as reasoning_effort")
    max_tokens: Budget | None = Field(None, description="as thinking_token_budget")
    enabled: bool | None = Field(None, description="as enable_thinking")
    exclude: bool | None = Field(None, description="true leaves the reasoning out of the answer")


class ThinkingOptions(WireModel):
    """Anthropic's field, which others have taken over."""

    type: Literal["enabled", "disabled"] = Field(description="as enable_thinking")
    budget_tokens: Budget | None = Field(None, description="as thinking_token_budget")


class ReasoningSwitchFields(WireModel):
    """Fields about reasoning that the chat template may be told of."""

    reasoning_effort: Effort | None = Field(None, description="none switches reasoning off")
    enable_thinking: bool | None = Field(None, description="switches reasoning on or off")
    reasoning: ReasoningOptions | None = Field(None, description="as in OpenRouter")
    thinking: ThinkingOptions | None = Field(None, description="as in the APIs of GLM and DeepSeek")


class ReasoningFields(WireModel):
    """Fields about reasoning that do not change the prompt."""

    thinking_token_budget: Budget | None = Field(
        None, description="most tokens of reasoning; 0 for none, -1 for any number"
    )
    reasoning_budget_tokens: Budget | None = Field(None, description="another name of thinking_token_budget")
    thinking_budget_tokens: Budget | None = Field(None, description="another name of thinking_token_budget")
    thinking_budget: Budget | None = Field(None, description="another name of thinking_token_budget")
    reasoning_format: Literal["auto", "deepseek", "parsed", "none", "raw", "hidden"] | None = Field(
        None,
        description="deepseek: as reasoning_content; parsed: as reasoning; none and raw: within the content; "
        "hidden: left out; auto: as the server is set",
    )
    include_reasoning: bool | None = Field(None, description="false leaves the reasoning out of the answer")
    separate_reasoning: bool | None = Field(None, description="false leaves the reasoning in the content")
