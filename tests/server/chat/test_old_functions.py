from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InvalidRequestError
from server.chat.old_functions import with_tools_for_functions
from server.schemas.chat import Message

USER = {"role": "user", "content": "Weather?"}
CALL = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"in": "Rome"}'}}
RESULT = {"role": "function", "name": "weather", "content": "Sun."}


def changed(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    made = with_tools_for_functions([Message.model_validate(message) for message in messages])
    return [message.model_dump(exclude_none=True) for message in made]


def test_calls_and_results_become_those_of_tools() -> None:
    call = {"id": "call_function_1", "type": "function", "function": CALL["function_call"]}
    assert changed(USER, CALL, RESULT, USER) == [
        USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "name": "weather", "content": "Sun.", "tool_call_id": "call_function_1"},
        USER,
    ]


def test_other_messages_are_left_alone() -> None:
    tool = {"role": "tool", "content": "x", "tool_call_id": "1"}
    assert changed(USER, tool) == [USER, tool]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([RESULT], "messages[0].name"),
        ([CALL, USER, RESULT], "messages[2].name"),
        ([CALL, {**RESULT, "name": "other"}], "messages[1].name"),
        ([CALL, {**RESULT, "name": None}], "messages[1].name"),
        ([{**CALL, "tool_calls": [{"id": "1", "function": {"name": "f"}}]}], "messages[0].function_call"),
    ],
)
def test_what_does_not_fit_is_refused(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        changed(*messages)
    assert caught.value.param == param
