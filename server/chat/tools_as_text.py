"""Tools in plain words, for models whose chat templates leave out their definitions, calls or results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.text.template_capabilities import TemplateCapabilities
from server.parsing.generic import GenericFormat

_NOTATION = GenericFormat()


def with_tools_as_text(
    messages: Sequence[Mapping[str, Any]], definitions: Sequence[Mapping[str, Any]], template: TemplateCapabilities
) -> list[Mapping[str, Any]]:
    """The conversation with words in place of what the template would not show.

    Args:
        messages: as templates expect them.
        definitions: of the tools that the template is not given. The model is told how to call them, and so all
            calls must be in that notation.
        template: what it does with calls and results.
    """
    shown = list(messages)
    if definitions or not template.tool_calls.taken:
        shown = [_call_as_text(message) for message in shown]
    if definitions or not template.tool_results.taken:
        shown = [_result_as_text(message) for message in shown]
    if definitions:
        instructions = _NOTATION.instructions([each["function"] for each in definitions])
        if shown[0]["role"] in ("system", "developer"):
            shown[0] = {**shown[0], "content": _joined(shown[0]["content"], f"\n{instructions}")}
        else:
            content = [{"type": "text", "text": instructions}] if template.needs_parts else instructions
            shown.insert(0, {"role": "system", "content": content})
    return shown


def _call_as_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    functions = [call["function"] for call in calls]
    written = [_NOTATION.written(each["name"], each.get("arguments") or "{}") for each in functions]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": _joined(message["content"], "\n".join(written))}


def _result_as_text(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result as a message of the user."""
    if message["role"] != "tool":
        return message
    content = message["content"]
    if isinstance(content, str):
        return {"role": "user", "content": _NOTATION.response(content)}
    text = _NOTATION.response("\n".join(part["text"] for part in content))
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def _joined(content: Any, text: str) -> Any:
    """A text on a line of its own behind the content, in the form that the content has."""
    if isinstance(content, list):
        return [*content, {"type": "text", "text": f"\n{text}"}]
    return f"{content}\n{text}" if content else text
