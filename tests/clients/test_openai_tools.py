"""Tool calls through the OpenAI Python SDK, which joins the chunks of a stream itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pydantic
import pytest
from openai import OpenAI
from openai.lib._tools import pydantic_function_tool
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam, ChatCompletionToolParam

from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.fakes.engine import MODEL, FakeEngine, always, script
from tests.fakes.http import serving
from tests.fakes.text import model_text

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
]
CALLS = "".join(
    f'<tool_call>\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>\n'
    for city in ("Oslo", "Rome")
)


class Weather(pydantic.BaseModel):
    city: str


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    text = f"Let me see. {CALLS}".encode()
    return FakeEngine(
        always(script([text[place : place + 5] for place in range(0, len(text), 5)])),
        replace(MODEL, max_model_len=4096),
    )


@pytest.fixture(scope="module")
def strict(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    text: ModelText = model_text(tmp_path_factory.mktemp("fake-model"))
    app = create_app(engine, text, ServerConfig())
    with serving(app) as root:
        yield OpenAI(base_url=f"{root}/v1", api_key="k", max_retries=0, _strict_response_validation=True)
    app.state.services.grammars.close()


def cities(message: ChatCompletionMessage) -> list[str]:
    calls = message.tool_calls or []
    assert len({call.id for call in calls}) == len(calls)
    assert [call.type for call in calls] == ["function"] * len(calls)
    functions = [call.function for call in calls if call.type == "function"]
    assert {function.name for function in functions} == {"weather"}
    return [json.loads(function.arguments)["city"] for function in functions]


def test_whole(strict: OpenAI) -> None:
    choice = strict.chat.completions.create(model="fake-model", messages=MESSAGES, tools=TOOLS).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see. "
    assert cities(choice.message) == ["Oslo", "Rome"]


def test_the_sdks_accumulator(strict: OpenAI) -> None:
    kinds = set()
    with strict.chat.completions.stream(model="fake-model", messages=MESSAGES, tools=TOOLS, n=2) as stream:
        for event in stream:
            kinds.add(event.type)
        completion = stream.get_final_completion()
    assert {"content.delta", "tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    for choice in completion.choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me see. "
        assert cities(choice.message) == ["Oslo", "Rome"]


def test_parsed_arguments(strict: OpenAI, engine: FakeEngine) -> None:
    tools = [pydantic_function_tool(Weather, name="weather")]  # strict
    whole = strict.chat.completions.parse(model="fake-model", messages=MESSAGES, tools=tools)
    assert engine.requests[-1].sampling.grammar is not None
    with strict.chat.completions.stream(model="fake-model", messages=MESSAGES, tools=tools) as stream:
        streamed = stream.get_final_completion()
    for completion in (whole, streamed):
        calls = completion.choices[0].message.tool_calls or []
        assert [call.function.parsed_arguments for call in calls] == [Weather(city="Oslo"), Weather(city="Rome")]


def test_an_answer_may_be_sent_back_as_it_came(strict: OpenAI, engine: FakeEngine) -> None:
    choice = strict.chat.completions.create(model="fake-model", messages=MESSAGES, tools=TOOLS).choices[0]
    results: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": "sun"} for call in choice.message.tool_calls or []
    ]
    history = [*MESSAGES, choice.message, *results]
    again = strict.chat.completions.create(model="fake-model", messages=history, tools=TOOLS)  # type: ignore[arg-type]
    earlier = {call.id for call in choice.message.tool_calls or []}
    assert earlier.isdisjoint(call.id for call in again.choices[0].message.tool_calls or [])
