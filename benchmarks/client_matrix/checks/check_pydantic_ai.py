"""Pydantic AI: an agent with tools and typed answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asked import ANSWER, PERSON_REQUEST, QUESTION, STORY, SUM, TEXTS, TOO_LONG, WEATHER_REQUEST
from conftest import Server
from pydantic import BaseModel, Field
from pydantic_ai import Agent, Embedder, NativeOutput, ToolOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ThinkingPart, ToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


def agent(server: Server, output: Any = str, key: str | None = None, **settings: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(base_url=server.url, api_key=key or server.key)
    model = OpenAIChatModel(server.model, provider=provider)
    return Agent(model, output_type=output, retries=0, model_settings={"temperature": 0, "timeout": 120, **settings})


def test_plain_chat(server: Server) -> None:
    run = agent(server).run_sync(QUESTION)
    assert run.output == ANSWER
    assert run.usage.output_tokens > 0


def test_streaming_text(server: Server) -> None:
    async def streamed() -> str:
        async with agent(server).run_stream(QUESTION) as run:
            return "".join([part async for part in run.stream_text(delta=True)])

    assert asyncio.run(streamed()) == ANSWER


def test_tools_round_trip(server: Server) -> None:
    asked: list[str] = []
    with_tool = agent(server)

    @with_tool.tool_plain
    def get_weather(city: str) -> str:
        """Get the current weather in a city."""
        asked.append(city)
        return f"sunny in {city}"

    run = with_tool.run_sync(WEATHER_REQUEST)
    assert asked == ["Oslo"]
    calls = [part for message in run.all_messages() for part in message.parts if isinstance(part, ToolCallPart)]
    assert [call.tool_name for call in calls] == ["get_weather"]
    assert "Oslo" in run.output


def test_structured_by_schema(server: Server) -> None:
    assert isinstance(agent(server, NativeOutput(Person)).run_sync(PERSON_REQUEST).output, Person)


def test_structured_by_tool(server: Server) -> None:
    assert isinstance(agent(server, ToolOutput(Person)).run_sync(PERSON_REQUEST).output, Person)


def test_logprobs_of_chat(server: Server) -> None:
    run = agent(server, openai_logprobs=True, openai_top_logprobs=2).run_sync(QUESTION)
    details = run.all_messages()[-1].provider_details
    assert "".join(entry["token"] for entry in details["logprobs"]) == ANSWER


def test_errors_carry_status_and_body(server: Server) -> None:
    with pytest.raises(ModelHTTPError) as long:
        agent(server).run_sync(TOO_LONG)
    assert long.value.status_code == 400
    assert "context_length_exceeded" in str(long.value.body)
    with pytest.raises(ModelHTTPError) as wrong:
        agent(server, key="wrong").run_sync(QUESTION)
    assert wrong.value.status_code == 401


def test_cancel_of_the_task(server: Server) -> None:
    async def cancelled() -> None:
        endless = agent(server, max_tokens=1500, extra_body={"ignore_eos": True})
        await server.cancel(asyncio.create_task(endless.run(STORY)))

    with server.one_more_abort():
        asyncio.run(cancelled())


def test_reasoning_as_a_part_of_its_own(server: Server) -> None:
    run = agent(server, extra_body={"enable_thinking": True}).run_sync(SUM)
    thoughts = [part.content for part in run.all_messages()[-1].parts if isinstance(part, ThinkingPart)]
    assert thoughts
    assert thoughts[0]
    assert "think>" not in run.output


def test_embeddings_of_texts(server: Server) -> None:
    provider = OpenAIProvider(base_url=server.url, api_key=server.key)
    result = Embedder(OpenAIEmbeddingModel(server.model, provider=provider)).embed_documents_sync(TEXTS)
    assert len(result.embeddings) == 2
    assert sum(number * number for number in result.embeddings[0]) == pytest.approx(1, abs=1e-3)
