"""The OpenAI SDK for Python, with strict validation: an answer whose types are not OpenAI's raises."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from asked import ANSWER, PERSON_REQUEST, QUESTION, STORY, SUM, TEXTS, TOO_LONG, WEATHER, WEATHER_REQUEST
from conftest import Server
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]

NAMED = {"type": "function", "function": {"name": "get_weather"}}


class Person(BaseModel):
    """What the SDK makes a strict schema of."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


@pytest.fixture
def client(server: Server) -> OpenAI:
    return OpenAI(base_url=server.url, api_key=server.key, max_retries=0, timeout=500, _strict_response_validation=True)


def test_plain_chat(client: OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(model=server.model, messages=MESSAGES, temperature=0)
    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_plain_completions_of_two_prompts(client: OpenAI, server: Server) -> None:
    answer = client.completions.create(
        model=server.model, prompt=["Once upon a time", "The fox"], max_tokens=5, n=2, temperature=1, seed=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


def test_plain_models(client: OpenAI, server: Server) -> None:
    assert server.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(server.model).owned_by == "quire"


def test_plain_raw_response_with_request_id(client: OpenAI, server: Server) -> None:
    raw = client.chat.completions.with_raw_response.create(model=server.model, messages=MESSAGES, max_tokens=1)
    assert raw.headers["x-request-id"]
    assert raw.parse().choices[0].finish_reason == "length"


def test_streaming_chat_of_two_choices_with_usage(client: OpenAI, server: Server) -> None:
    chunks = list(
        client.chat.completions.create(
            model=server.model,
            messages=MESSAGES,
            temperature=0,
            n=2,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    for index in range(2):
        deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(deltas) == ANSWER
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 16


def test_streaming_through_the_accumulator(client: OpenAI, server: Server) -> None:
    with client.chat.completions.stream(model=server.model, messages=MESSAGES, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert kinds >= {"chunk", "content.delta", "content.done"}
    assert final.choices[0].message.content == ANSWER


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_round_trip(client: OpenAI, server: Server, streamed: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": WEATHER_REQUEST}]

    def ask() -> ChatCompletion:
        if not streamed:
            return client.chat.completions.create(model=server.model, messages=messages, tools=[WEATHER], temperature=0)
        with client.chat.completions.stream(
            model=server.model, messages=messages, tools=[WEATHER], temperature=0
        ) as stream:
            return stream.get_final_completion()

    asking = ask()
    assert asking.choices[0].finish_reason == "tool_calls"
    (call,) = asking.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    messages += [asking.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny in Oslo"}]
    assert "Oslo" in (ask().choices[0].message.content or "")


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "by name"])
def test_tools_that_must_be_called(client: OpenAI, server: Server, choice: Any) -> None:
    answer = client.chat.completions.create(
        model=server.model, messages=MESSAGES, tools=[WEATHER], tool_choice=choice, max_tokens=100
    )
    (call, *_) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments).keys() == {"city"}


def test_structured_parse(client: OpenAI, server: Server) -> None:
    answer = client.chat.completions.parse(
        model=server.model,
        messages=[{"role": "user", "content": PERSON_REQUEST}],
        response_format=Person,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_structured_stream(client: OpenAI, server: Server) -> None:
    with client.chat.completions.stream(
        model=server.model,
        messages=[{"role": "user", "content": PERSON_REQUEST}],
        response_format=Person,
        temperature=0,
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Person)


def test_structured_json_object(client: OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(
        model=server.model,
        messages=[{"role": "user", "content": PERSON_REQUEST}],
        response_format={"type": "json_object"},
        temperature=0,
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_logprobs_of_chat(client: OpenAI, server: Server, streamed: bool) -> None:
    if streamed:
        chunks = client.chat.completions.create(
            model=server.model, messages=MESSAGES, temperature=0, logprobs=True, top_logprobs=3, stream=True
        )
        parts = [choice.logprobs for chunk in chunks for choice in chunk.choices]
    else:
        answer = client.chat.completions.create(
            model=server.model, messages=MESSAGES, temperature=0, logprobs=True, top_logprobs=3
        )
        parts = [answer.choices[0].logprobs]
    entries = [entry for part in parts if part is not None for entry in part.content or []]
    assert "".join(entry.token for entry in entries) == ANSWER
    assert all(len(entry.top_logprobs) == 3 for entry in entries)
    assert all(entry.logprob == entry.top_logprobs[0].logprob for entry in entries)


def test_logprobs_of_completions(client: OpenAI, server: Server) -> None:
    answer = client.completions.create(
        model=server.model, prompt="Once upon a time", max_tokens=5, logprobs=2, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == answer.choices[0].text


def test_errors_have_their_classes(client: OpenAI, server: Server) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=server.model, messages=MESSAGES, temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=server.model, messages=[{"role": "user", "content": TOO_LONG}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_errors_before_a_stream_begins(client: OpenAI, server: Server) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=server.model, messages=[{"role": "user", "content": TOO_LONG}], stream=True
        )


def test_cancel_by_closing_a_stream(client: OpenAI, server: Server) -> None:
    with server.one_more_abort():
        stream = client.chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": STORY}],
            max_tokens=1500,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        stream.close()


def test_cancel_by_a_timeout_of_the_client(client: OpenAI, server: Server) -> None:
    with server.one_more_abort(), pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": STORY}],
            max_tokens=1500,
            extra_body={"ignore_eos": True},
        )


def test_reasoning_apart_from_content(client: OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(
        model=server.model,
        messages=[{"role": "user", "content": SUM}],
        temperature=0,
        extra_body={"chat_template_kwargs": {"enable_thinking": True}},
    )
    message = answer.choices[0].message
    assert (message.model_extra or {})["reasoning_content"]
    assert message.content
    assert "think>" not in message.content


def test_embeddings_as_numbers(client: OpenAI, server: Server) -> None:
    vectors = client.embeddings.create(model=server.model, input=TEXTS, encoding_format="float")
    assert [vector.index for vector in vectors.data] == [0, 1]
    assert sum(number * number for number in vectors.data[0].embedding) == pytest.approx(1, abs=1e-3)
