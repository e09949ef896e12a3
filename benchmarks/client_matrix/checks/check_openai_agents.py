"""The OpenAI Agents SDK over chat completions."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from agents.items import ReasoningItem, ToolCallItem
from asked import ANSWER, PERSON_REQUEST, QUESTION, STORY, SUM, TOO_LONG, WEATHER_REQUEST
from conftest import Server
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel, ConfigDict, Field

set_tracing_disabled(True)


class Person(BaseModel):
    """A person."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


@function_tool
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"sunny in {city}"


def agent(server: Server, key: str | None = None, settings: Any = None, **more: Any) -> Agent[None]:
    client = AsyncOpenAI(base_url=server.url, api_key=key or server.key, max_retries=0, timeout=500)
    return Agent(
        name="demo",
        model=OpenAIChatCompletionsModel(model=server.model, openai_client=client),
        model_settings=settings or ModelSettings(temperature=0),
        **more,
    )


def test_plain_chat(server: Server) -> None:
    assert asyncio.run(Runner.run(agent(server), QUESTION)).final_output == ANSWER


def test_streaming_events(server: Server) -> None:
    async def streamed() -> str:
        run = Runner.run_streamed(agent(server), QUESTION)
        return "".join(
            [
                event.data.delta
                async for event in run.stream_events()
                if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
            ]
        )

    assert asyncio.run(streamed()) == ANSWER


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_round_trip(server: Server, streamed: bool) -> None:
    async def run() -> Any:
        with_tool = agent(server, tools=[get_weather])
        if not streamed:
            return await Runner.run(with_tool, WEATHER_REQUEST)
        running = Runner.run_streamed(with_tool, WEATHER_REQUEST)
        async for _ in running.stream_events():
            pass
        return running

    result = asyncio.run(run())
    calls = [item.raw_item for item in result.new_items if isinstance(item, ToolCallItem)]
    assert [call.name for call in calls] == ["get_weather"]
    assert "Oslo" in result.final_output


def test_structured_output_type(server: Server) -> None:
    result = asyncio.run(Runner.run(agent(server, output_type=Person), PERSON_REQUEST))
    assert isinstance(result.final_output, Person)


def test_logprobs_of_a_streamed_chat(server: Server) -> None:
    async def streamed() -> Any:
        settings = ModelSettings(temperature=0, top_logprobs=2, extra_args={"logprobs": True})
        run = Runner.run_streamed(agent(server, settings=settings), QUESTION)
        async for _ in run.stream_events():
            pass
        return run.raw_responses[-1].output[-1].content[-1]

    part = asyncio.run(streamed())
    assert "".join(entry.token for entry in part.logprobs) == ANSWER


def test_errors_have_their_classes(server: Server) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        asyncio.run(Runner.run(agent(server), TOO_LONG))
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        asyncio.run(Runner.run(agent(server, key="wrong"), QUESTION))


def test_cancel_of_the_task(server: Server) -> None:
    async def cancelled() -> None:
        settings = ModelSettings(max_tokens=1500, extra_body={"ignore_eos": True})
        await server.cancel(asyncio.create_task(Runner.run(agent(server, settings=settings), STORY)))

    with server.one_more_abort():
        asyncio.run(cancelled())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_reasoning_as_an_item_of_its_own(server: Server, streamed: bool) -> None:
    async def run() -> Any:
        thinking = agent(server, settings=ModelSettings(temperature=0, extra_body={"enable_thinking": True}))
        if not streamed:
            return await Runner.run(thinking, SUM)
        running = Runner.run_streamed(thinking, SUM)
        async for _ in running.stream_events():
            pass
        return running

    result = asyncio.run(run())
    (item,) = [each.raw_item for each in result.new_items if isinstance(each, ReasoningItem)]
    assert item.summary[0].text
    assert "think>" not in result.final_output


@pytest.mark.skip(reason="it makes no embeddings")
def test_embeddings() -> None:
    """Not applicable."""
