"""What a request says about reasoning: the fields of many servers in one form.

Fields that mean the same may stand together if they say the same.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from engine.errors import InvalidRequestError
from engine.text.template_capabilities import TemplateCapabilities
from server.config import ReasoningField
from server.schemas.chat import ChatCompletionRequest
from server.schemas.reasoning import ReasoningOptions, ReasoningSwitchFields

T = TypeVar("T")

_EFFORT = "reasoning_effort"
_SWITCHES = ("enable_thinking", "thinking")
_BUDGETS = ("thinking_token_budget", "reasoning_budget_tokens", "thinking_budget_tokens", "thinking_budget")


class Shown(enum.Enum):
    """Where an answer has its reasoning."""

    APART = enum.auto()
    IN_CONTENT = enum.auto()
    NOWHERE = enum.auto()


class Said(NamedTuple, Generic[T]):
    """A value, and the first field that has it."""

    field: str
    value: T


def template_switches(body: ReasoningSwitchFields, capabilities: TemplateCapabilities) -> dict[str, object]:
    """Variables that tell the template what is wanted, of those it reads.

    Raises:
        InvalidRequestError: fields contradict each other.
    """
    effort, on = _effort(body), reasoning_on(body)
    values: dict[str, object] = {} if on is None else dict.fromkeys(_SWITCHES, on.value)
    if effort is not None:
        values[_EFFORT] = effort.value
    return {name: value for name, value in values.items() if name in capabilities.switches}


def listens(capabilities: TemplateCapabilities) -> bool:
    """Whether the template reads any of them."""
    return any(name in capabilities.switches for name in (*_SWITCHES, _EFFORT))


def reasoning_on(body: ReasoningSwitchFields) -> Said[bool] | None:
    """Whether there is to be reasoning; None where that is left open.

    Raises:
        InvalidRequestError: fields contradict each other.
    """
    effort = _effort(body)
    said = {
        "enable_thinking": body.enable_thinking,
        "thinking.type": None if body.thinking is None else body.thinking.type == "enabled",
        "reasoning.enabled": (body.reasoning or ReasoningOptions()).enabled,
    }
    if effort is not None:
        said[effort.field] = effort.value != "none"
    return _agreed(said)


def reasoning_budget(body: ChatCompletionRequest) -> Said[int] | None:
    """Most tokens of reasoning; None for any number.

    Raises:
        InvalidRequestError: fields contradict each other.
    """
    said: dict[str, int | None] = {name: getattr(body, name) for name in _BUDGETS}
    said["reasoning.max_tokens"] = (body.reasoning or ReasoningOptions()).max_tokens
    said["thinking.budget_tokens"] = None if body.thinking is None else body.thinking.budget_tokens
    budget = _agreed(said)
    return None if budget is None or budget.value == -1 else budget


def reasoning_shown(body: ChatCompletionRequest) -> Shown:
    """Where the answer is to have it.

    Raises:
        InvalidRequestError: fields contradict each other.
    """
    shapes = {"deepseek": Shown.APART, "parsed": Shown.APART, "hidden": Shown.NOWHERE}
    shapes |= {"none": Shown.IN_CONTENT, "raw": Shown.IN_CONTENT}
    excluded = (body.reasoning or ReasoningOptions()).exclude
    shown = _agreed(
        {
            "reasoning_format": shapes.get(body.reasoning_format or "auto"),
            "include_reasoning": Shown.NOWHERE if body.include_reasoning is False else None,
            "reasoning.exclude": Shown.NOWHERE if excluded else None,
            "separate_reasoning": Shown.IN_CONTENT if body.separate_reasoning is False else None,
        }
    )
    return Shown.APART if shown is None else shown.value


def thoughts_field(body: ChatCompletionRequest, default: ReasoningField) -> ReasoningField:
    """The field of the answer that has it, where it is shown apart."""
    match body.reasoning_format:
        case "deepseek":
            return "reasoning_content"
        case "parsed":
            return "reasoning"
        case _:
            return default


def _effort(body: ReasoningSwitchFields) -> Said[str] | None:
    said: dict[str, str | None] = {_EFFORT: body.reasoning_effort}
    said["reasoning.effort"] = (body.reasoning or ReasoningOptions()).effort
    return _agreed(said)


def _agreed(said: Mapping[str, T | None]) -> Said[T] | None:
    """What fields of one meaning say; None where none says anything."""
    first: Said[T] | None = None
    for name, value in said.items():
        if value is None:
            continue
        first = first or Said(name, value)
        if value != first.value:
            raise InvalidRequestError(f"'{name}' contradicts '{first.field}'. Leave one of them out.", param=name)
    return first
