"""Calls and results in the form the API had before tools, as the calls and results of tools that they were."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import InvalidRequestError
from server.schemas.chat import Message, ToolCall


def with_tools_for_functions(messages: Sequence[Message]) -> list[Message]:
    """The messages, with `function_call` of an assistant as its one tool call and the role `function` as `tool`.

    Raises:
        InvalidRequestError: a result has no name, or none of a function that the assistant has just called.
    """
    changed: list[Message] = []
    call: ToolCall | None = None  # that a result may answer
    for index, message in enumerate(messages):
        if message.role == "function":
            changed.append(_result(message, call, f"messages[{index}]"))
        elif message.role == "assistant" and message.function_call is not None:
            call = _call(message, index)
            changed.append(message.model_copy(update={"tool_calls": [call], "function_call": None}))
        else:
            call = None
            changed.append(message)
    return changed


def _call(message: Message, index: int) -> ToolCall:
    if message.function_call is None or message.tool_calls:
        raise InvalidRequestError(
            f"'messages[{index}]' has 'function_call' beside 'tool_calls', which replaced it. Send one of them.",
            param=f"messages[{index}].function_call",
        )
    return ToolCall(id=f"call_function_{index}", function=message.function_call)


def _result(message: Message, call: ToolCall | None, path: str) -> Message:
    if call is None or call.function.name != message.name:
        raise InvalidRequestError(
            f"'{path}' is the result of a function that the message before it does not call. Set 'name' to that of its "
            "'function_call', or use tools.",
            param=f"{path}.name",
        )
    return message.model_copy(update={"role": "tool", "tool_call_id": call.id})
