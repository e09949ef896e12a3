"""Conversations a chat template would refuse, or show only in part, in a form that it takes.

Clients send what the API allows: several system messages, two messages of a user in a row, an assistant that begins.
Many templates allow less. What a template takes is left as it is; the rest keeps all of its words, in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.text.chat_template import Message
from engine.text.template_capabilities import TemplateCapabilities, Treatment

_BETWEEN = "\n\n"


def repair_roles(messages: Sequence[Message], template: TemplateCapabilities) -> list[Message]:
    """The messages with roles and turns as a template takes them.

    - A developer's message becomes a system message, unless the template knows the role.
    - Further system messages at the beginning join the first one, where only one is shown.
    - A system message the template refuses or leaves out joins the user's message behind it, or becomes one.
    - Messages of one role in a row become one, where roles must alternate. Those that call tools stay apart.
    - An empty message of a user comes first, where an assistant must not, or where there must be one.

    Args:
        messages: in the form of the chat API; left as they are.
        template: what it does with messages.
    """
    if not (template.text_content.taken or template.content_parts):
        return list(messages)
    repaired = [_known_role(message, template) for message in messages]
    repaired = _system_repaired(repaired, template)
    if not template.same_role.taken:
        repaired = _alternating(repaired)
    leading = _leading_systems(repaired)
    assistant_first = any(message["role"] == "assistant" for message in repaired[leading : leading + 1])
    user_missing = all(message["role"] != "user" for message in repaired)
    if (assistant_first and template.assistant_first is Treatment.REFUSED) or (
        user_missing and template.without_user is Treatment.REFUSED
    ):
        repaired.insert(leading, {"role": "user", "content": ""})
    return repaired


def _known_role(message: Message, template: TemplateCapabilities) -> Message:
    known = message["role"] != "developer" or template.developer
    return message if known else {**message, "role": "system"}


def _system_repaired(messages: list[Message], template: TemplateCapabilities) -> list[Message]:
    leading = _leading_systems(messages)
    first, rest = messages[:leading], messages[leading:]
    if leading > 1 and not template.several_systems.taken:
        first = [_joined(first)]
    later = sum(message["role"] == "system" for message in rest)
    if not template.later_system.taken or (len(first) + later > 1 and not template.several_systems.taken):
        rest = _folded(rest)
    users = any(message["role"] == "user" for message in rest)
    kept = template.system is Treatment.SHOWN or (template.system is Treatment.MERGED and users) or not first
    return first + rest if kept else _folded([*first, *rest])


def _leading_systems(messages: Sequence[Message]) -> int:
    return next((index for index, each in enumerate(messages) if each["role"] != "system"), len(messages))


def _folded(messages: Sequence[Message]) -> list[Message]:
    """The messages with each system message in the user's message behind it, or as one where there is none."""
    folded: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append({**message, "role": "user"})
        elif message["role"] == "user":
            folded.append(_joined([*waiting, message]) if waiting else message)
            waiting = []
        else:
            if waiting:
                folded.append(_joined(waiting))
            folded.append(message)
            waiting = []
    return [*folded, _joined(waiting)] if waiting else folded


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """The messages with those of one role in a row joined."""
    joined: list[Message] = []
    for message in messages:
        if joined and _may_join(joined[-1], message):
            joined[-1] = _joined([joined[-1], message])
        else:
            joined.append(message)
    return joined


def _may_join(before: Message, message: Message) -> bool:
    same = before["role"] == message["role"] and message["role"] in ("user", "assistant")
    return same and not before.get("tool_calls") and not message.get("tool_calls")


def _joined(messages: Sequence[Message]) -> Message:
    """One message with the contents of these, and the other fields of the last."""
    contents = [message.get("content") for message in messages]
    given = [content for content in contents if content]
    if all(isinstance(content, str) for content in given):
        return {**messages[-1], "content": _BETWEEN.join(map(str, given))}
    parts: list[Any] = []
    for content in given:
        between = [{"type": "text", "text": _BETWEEN}] if parts else []
        parts += [*between, *([{"type": "text", "text": content}] if isinstance(content, str) else content or ())]
    return {**messages[-1], "content": parts}
