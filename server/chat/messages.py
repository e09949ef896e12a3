"""From messages on the wire to messages as chat templates expect them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.errors import InvalidRequestError
from engine.text.role_repair import repair_roles
from engine.text.template_capabilities import TemplateCapabilities
from server.chat.old_functions import with_tools_for_functions
from server.chat.tool_history import arguments_text, in_order_of_calls, one_call_each, with_short_ids
from server.chat.tools_as_text import with_tools_as_text
from server.field_errors import missing
from server.schemas.chat import ContentPart, Message, ToolCall


def template_messages(
    messages: Sequence[Message],
    template: TemplateCapabilities,
    *,
    repair: bool,
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[Mapping[str, Any]]:
    """The conversation as this template takes it.

    Args:
        messages: as the client sent them.
        template: what it does with messages.
        repair: give messages other roles or join them where the template would refuse them or leave them out.
        tools: definitions of those that the template is not given.

    Raises:
        InvalidRequestError: a message has content that cannot be shown to a model, or is the result of no call; or
            there is no place for the tools.
    """
    if tools and not (repair or template.system.taken):
        raise InvalidRequestError(
            "This model's chat template takes neither tools nor a system message that could describe them. Start the "
            "server with repair_roles, which finds a place for them.",
            param="tools",
        )
    ordered = in_order_of_calls(with_tools_for_functions(messages))
    shown = with_tools_as_text(
        [_shown(message, f"messages[{place}]", template) for place, message in ordered], tools, template
    )
    if template.call_needs_null:
        shown = [part for message in shown for part in _words_and_calls(message)]
    if not template.parallel_tool_calls.taken:
        shown = one_call_each(shown)
    if template.short_call_ids:
        shown = [with_short_ids(message) for message in shown]
    return repair_roles(shown, template) if repair else shown


def _shown(message: Message, path: str, template: TemplateCapabilities) -> dict[str, Any]:
    """The message without what it lacks."""
    shown: dict[str, Any] = {"role": message.role, "content": _content(message, path, template)}
    if message.name is not None:
        shown["name"] = message.name
    if message.tool_calls:
        shown["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        shown["tool_call_id"] = message.tool_call_id
    thoughts = message.reasoning if message.reasoning_content is None else message.reasoning_content
    if thoughts is not None:
        shown["reasoning_content"] = thoughts
    return shown


def _call(call: ToolCall) -> dict[str, Any]:
    """What templates are shown of a call: the fields of the schema, not what else a client put there."""
    name = {} if call.id is None else {"id": call.id}
    function = {"name": call.function.name, "arguments": arguments_text(call.function)}
    return {**name, "type": call.type, "function": function}


def _words_and_calls(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A message that calls without content, behind one with what was said beside the calls."""
    if "tool_calls" not in message:
        yield message
        return
    if message["content"]:
        yield {name: value for name, value in message.items() if name != "tool_calls"}
    yield {**message, "content": None}


def _content(message: Message, path: str, template: TemplateCapabilities) -> str | list[dict[str, str]]:
    """The content in the form the template takes: parts only if it joins them itself, or takes nothing else."""
    match message.content:
        case None if message.role == "assistant":
            text = message.refusal or ""
        case None:
            raise missing(f"{path}.content")
        case str():
            text = message.content
        case parts:
            texts = [_part_text(part, f"{path}.content[{index}]") for index, part in enumerate(parts)]
            if template.content_parts:
                return [{"type": "text", "text": each} for each in texts]
            text = "\n".join(texts)
    return [{"type": "text", "text": text}] if template.needs_parts else text


def _part_text(part: ContentPart, path: str) -> str:
    if part.type not in ("text", "refusal"):
        raise InvalidRequestError(
            f"'{path}': this model takes text only, not parts of type '{part.type[:40]}'.",
            param=path,
            code="unsupported_content",
        )
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        raise missing(f"{path}.{part.type}")
    return text
