"""Earlier tool calls of a conversation: what their results answer, and in which form templates want them."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from engine.errors import InvalidRequestError
from server.field_errors import missing
from server.schemas.chat import FunctionCall, Message

_ALPHABET = string.digits + string.ascii_letters
_SHORT = 9


def in_order_of_calls(messages: Sequence[Message]) -> list[tuple[int, Message]]:
    """The messages with where they stood, the results of an assistant's calls in the order of the calls: templates that
    do not write ids leave it to their order which is which.

    Raises:
        InvalidRequestError: a result answers no call of the assistant's message before it.
    """
    ordered: list[tuple[int, Message]] = []
    places: dict[str, int] = {}  # of the calls that may be answered here
    results: list[tuple[int, int, Message]] = []
    for index, message in enumerate(messages):
        if message.role == "tool":
            results.append((_place(message, f"messages[{index}].tool_call_id", places), index, message))
            continue
        ordered += _sorted(results)
        results = []
        calls = message.tool_calls or ()
        places = {call.id: place for place, call in enumerate(calls) if call.id is not None}
        ordered.append((index, message))
    return ordered + _sorted(results)


def call_ids(messages: Sequence[Message]) -> Iterator[str]:
    """Ids of all earlier calls."""
    for message in messages:
        for call in message.tool_calls or ():
            if call.id is not None:
                yield call.id


def arguments_of_no_object(messages: Sequence[Message]) -> str | None:
    """Where the first earlier call stands whose arguments are not the text of a JSON object; None if there is none."""
    for index, message in enumerate(messages):
        places = {f"tool_calls[{rank}].function": call.function for rank, call in enumerate(message.tool_calls or ())}
        if message.function_call is not None:
            places["function_call"] = message.function_call
        for place, function in places.items():
            if not _is_object(arguments_text(function)):
                return f"messages[{index}].{place}.arguments"
    return None


def arguments_text(function: FunctionCall) -> str:
    """The arguments of a call; many clients send nothing, or an empty text, for a function that takes none."""
    return function.arguments if function.arguments and not function.arguments.isspace() else "{}"


def with_short_ids(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message with ids of nine letters and digits, the same for the same id, as the templates of Mistral want."""
    changed = dict(message)
    if "tool_call_id" in message:
        changed["tool_call_id"] = _shortened(message["tool_call_id"])
    if "tool_calls" in message:
        changed["tool_calls"] = [{**call, "id": _shortened(call.get("id", ""))} for call in message["tool_calls"]]
    return changed


def one_call_each(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with an assistant's calls in one message each, every one with its result behind it."""
    apart: list[Mapping[str, Any]] = []
    position = 0
    while position < len(messages):
        message, position = messages[position], position + 1
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            apart.append(message)
            continue
        results = list(takewhile(lambda each: each["role"] == "tool", messages[position:]))
        position += len(results)
        empty = type(message["content"])()
        for call in calls:
            apart.append(
                {**message, "content": message["content"] if call is calls[0] else empty, "tool_calls": [call]}
            )
            apart += [each for each in results if each["tool_call_id"] == call.get("id")]
    return apart


def _place(message: Message, param: str, places: Mapping[str, int]) -> int:
    name = message.tool_call_id
    if name is None:
        raise missing(param)
    if name not in places:
        raise InvalidRequestError(
            f"'{param}': '{name[:64]}' is not the id of a call in the assistant's message before it.", param=param
        )
    return places[name]


def _sorted(results: Sequence[tuple[int, int, Message]]) -> list[tuple[int, Message]]:
    return [(index, message) for _, index, message in sorted(results, key=lambda each: each[:2])]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _shortened(name: str) -> str:
    if len(name) == _SHORT and name.isascii() and name.isalnum():
        return name
    number = int.from_bytes(hashlib.sha256(name.encode()).digest())
    letters = []
    for _ in range(_SHORT):
        number, rank = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rank])
    return "".join(letters)
