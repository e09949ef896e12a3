"""LangChain's `ChatOpenAI`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asked import ANSWER, PERSON_REQUEST, QUESTION, STORY, SUM, TEXTS, TOO_LONG, WEATHER_REQUEST
from conftest import Server
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"sunny in {city}"


def model(server: Server, **settings: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=server.url,
        model=server.model,
        max_retries=0,
        timeout=500,
        **{"api_key": server.key, "temperature": 0, **settings},
    )


def folded(chunks: Iterator[Any]) -> AIMessageChunk:
    whole: Any = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def test_plain_chat(server: Server) -> None:
    answer = model(server).invoke(QUESTION)
    assert answer.content == ANSWER
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


def test_plain_batch(server: Server) -> None:
    assert [answer.content for answer in model(server).batch([QUESTION] * 4)] == [ANSWER] * 4


def test_streaming_with_usage(server: Server) -> None:
    whole = folded(model(server, stream_usage=True).stream(QUESTION))
    assert whole.content == ANSWER
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_round_trip(server: Server, streamed: bool) -> None:
    bound = model(server).bind_tools([get_weather], tool_choice="required")
    messages: list[Any] = [HumanMessage(WEATHER_REQUEST)]
    answer: AIMessage = folded(bound.stream(messages)) if streamed else bound.invoke(messages)
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"] == {"city": "Oslo"}
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    final = model(server).bind_tools([get_weather]).invoke([*messages, answer, result])
    assert "Oslo" in str(final.content)


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output(server: Server, method: str) -> None:
    shape: Any = Person if method != "json_mode" else None
    chat = model(server).with_structured_output(shape, method=method)
    answer = chat.invoke(PERSON_REQUEST)
    assert isinstance(answer, Person if shape else dict)


def test_logprobs_of_chat(server: Server) -> None:
    answer = model(server, logprobs=True, top_logprobs=2).invoke(QUESTION)
    assert "".join(entry["token"] for entry in answer.response_metadata["logprobs"]["content"]) == ANSWER


def test_errors_have_their_classes(server: Server) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        model(server).invoke(TOO_LONG)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        model(server, api_key="wrong").invoke(QUESTION)


def test_cancel_by_closing_a_stream(server: Server) -> None:
    with server.one_more_abort():
        stream = model(server, max_tokens=1500, extra_body={"ignore_eos": True}).stream(STORY)
        next(stream)
        stream.close()


def test_reasoning_counted_and_not_in_content(server: Server) -> None:
    """`ChatOpenAI` hands on what OpenAI itself sends; of reasoning that is the count alone."""
    answer = model(server, extra_body={"enable_thinking": True}).invoke(SUM)
    assert answer.usage_metadata["output_token_details"]["reasoning"] > 0
    assert answer.content
    assert "think>" not in answer.content


def test_embeddings_of_texts(server: Server) -> None:
    vectors = OpenAIEmbeddings(
        base_url=server.url, api_key=server.key, model=server.model, check_embedding_ctx_length=False
    ).embed_documents(TEXTS)
    assert len(vectors) == 2
    assert sum(number * number for number in vectors[0]) == pytest.approx(1, abs=1e-3)
