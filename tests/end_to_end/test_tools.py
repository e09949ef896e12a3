"""The demo model calls tools: because it wants to, because it has to, and with what comes back."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam, ChatCompletionToolParam

from tests.end_to_end.conftest import Server

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
LAMP: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "set_lamp",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": ["amber", "violet"]}, "percent": {"type": "integer", "maximum": 7}},
            "required": ["colour", "percent"],
            "additionalProperties": False,
        },
    },
}
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Oslo?"}]
OFF_TOPIC: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a story about a fox."}]
GREEDY: dict[str, Any] = {"model": "quire-demo", "temperature": 0, "max_tokens": 120}


@pytest.fixture(scope="module")
def client(demo_server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=demo_server.url, api_key="none", max_retries=0, timeout=600, _strict_response_validation=True
    )


def calls_of(message: ChatCompletionMessage) -> list[tuple[str, Any]]:
    """Names and arguments."""
    calls = [call.function for call in message.tool_calls or [] if call.type == "function"]
    return [(call.name, json.loads(call.arguments)) for call in calls]


def both_ways(client: openai.OpenAI, **fields: Any) -> ChatCompletionMessage:
    """The answer, which is the same whole and streamed, and is made of calls."""
    whole = client.chat.completions.create(**GREEDY, **fields).choices[0]
    with client.chat.completions.stream(**GREEDY, **fields) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert whole.finish_reason == streamed.finish_reason == "tool_calls"
    assert calls_of(whole.message) == calls_of(streamed.message)
    assert (whole.message.content or "") == (streamed.message.content or "")
    return whole.message


def test_a_round_trip(client: openai.OpenAI) -> None:
    message = both_ways(client, messages=QUESTION, tools=[WEATHER], tool_choice="required")
    assert calls_of(message) == [("get_weather", {"city": "Oslo"})]
    result: ChatCompletionMessageParam = {
        "role": "tool",
        "tool_call_id": (message.tool_calls or [])[0].id,
        "content": '{"temperature": 4, "conditions": "snow"}',
    }
    history: Any = [*QUESTION, message, result]
    answer = client.chat.completions.create(**GREEDY, messages=history, tools=[WEATHER]).choices[0]
    assert answer.finish_reason == "stop"
    assert "4" in (answer.message.content or "")


def test_it_calls_by_itself(client: openai.OpenAI) -> None:
    message = both_ways(client, messages=QUESTION, tools=[WEATHER])
    assert calls_of(message) == [("get_weather", {"city": "Oslo"})]


def test_one_call_or_several(client: openai.OpenAI) -> None:
    question: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the weather in Oslo and in Rome?"}
    ]
    both = both_ways(client, messages=question, tools=[WEATHER])
    assert calls_of(both) == [("get_weather", {"city": city}) for city in ("Oslo", "Rome")]
    one = both_ways(client, messages=question, tools=[WEATHER], parallel_tool_calls=False)
    assert calls_of(one) == [("get_weather", {"city": "Oslo"})]


def test_it_thinks_before_it_calls(client: openai.OpenAI) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    for choice in ("auto", "required"):
        message = both_ways(client, messages=QUESTION, tools=[WEATHER], tool_choice=choice, extra_body=thinking)
        assert calls_of(message) == [("get_weather", {"city": "Oslo"})]
        assert message.content is None
        assert (message.model_extra or {})["reasoning_content"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "set_lamp"}}])
def test_it_calls_because_it_has_to(client: openai.OpenAI, choice: Any) -> None:
    message = both_ways(client, messages=OFF_TOPIC, tools=[LAMP], tool_choice=choice, parallel_tool_calls=False)
    ((name, arguments),) = calls_of(message)
    assert name == "set_lamp"
    assert set(arguments) == {"colour", "percent"}
    assert arguments["colour"] in ("amber", "violet")
    assert isinstance(arguments["percent"], int)
    assert arguments["percent"] <= 7


def test_hot_calls_are_valid_too(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        **{**GREEDY, "temperature": 2}, messages=OFF_TOPIC, tools=[WEATHER, LAMP], tool_choice="required", n=8, seed=3
    )
    whole = [choice for choice in answer.choices if choice.finish_reason == "tool_calls"]
    assert whole
    for choice in whole:
        for name, arguments in calls_of(choice.message):
            wanted = {"get_weather": {"city"}, "set_lamp": {"colour", "percent"}}[name]
            assert wanted <= set(arguments)
