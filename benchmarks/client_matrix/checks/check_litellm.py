"""litellm: one function for all providers, of which ours are `openai/…` and `hosted_vllm/…`."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a list of prices

import litellm
import pytest
from asked import ANSWER, PERSON, PERSON_REQUEST, QUESTION, STORY, SUM, TEXTS, TOO_LONG, WEATHER, WEATHER_REQUEST
from conftest import Server

MESSAGES = [{"role": "user", "content": QUESTION}]


def ask(server: Server, messages: list[dict[str, Any]], provider: str = "openai", **settings: Any) -> Any:
    return litellm.completion(
        model=f"{provider}/{server.model}",
        api_base=server.url,
        messages=messages,
        num_retries=0,
        timeout=500,
        **{"api_key": server.key, "temperature": 0, **settings},
    )


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_plain_chat(server: Server, provider: str) -> None:
    answer = ask(server, MESSAGES, provider)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage.completion_tokens > 0


def test_streaming_with_usage(server: Server) -> None:
    chunks = list(ask(server, MESSAGES, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    rebuilt = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert rebuilt.choices[0].message.content == ANSWER
    assert rebuilt.usage.completion_tokens > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_required(server: Server, streamed: bool) -> None:
    messages = [{"role": "user", "content": WEATHER_REQUEST}]
    answer = ask(server, messages, tools=[WEATHER], tool_choice="required", stream=streamed)
    if streamed:
        answer = litellm.stream_chunk_builder(list(answer), messages=messages)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert answer.choices[0].finish_reason == "tool_calls"


def test_structured_schema(server: Server) -> None:
    answer = ask(
        server,
        [{"role": "user", "content": PERSON_REQUEST}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
    )
    assert json.loads(answer.choices[0].message.content).keys() == {"name", "age"}


def test_logprobs_of_chat(server: Server) -> None:
    answer = ask(server, MESSAGES, logprobs=True, top_logprobs=2)
    entries = answer.choices[0].logprobs.content
    assert "".join(entry["token"] if isinstance(entry, dict) else entry.token for entry in entries) == ANSWER


def test_errors_have_their_classes(server: Server) -> None:
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(server, [{"role": "user", "content": TOO_LONG}])
    with pytest.raises(litellm.BadRequestError):
        ask(server, MESSAGES, top_p=7)
    with pytest.raises(litellm.AuthenticationError):
        ask(server, MESSAGES, api_key="wrong")


def test_cancel_by_closing_a_stream(server: Server) -> None:
    messages = [{"role": "user", "content": STORY}]
    with server.one_more_abort():
        stream = ask(server, messages, stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.completion_stream.close()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_reasoning_apart_from_content(server: Server, streamed: bool) -> None:
    messages = [{"role": "user", "content": SUM}]
    answer = ask(server, messages, stream=streamed, extra_body={"enable_thinking": True})
    if streamed:
        answer = litellm.stream_chunk_builder(list(answer), messages=messages)
    message = answer.choices[0].message
    assert message.reasoning_content
    assert message.content
    assert "think>" not in message.content


def test_embeddings_as_numbers(server: Server) -> None:
    vectors = litellm.embedding(
        model=f"openai/{server.model}", api_base=server.url, api_key=server.key, input=TEXTS, encoding_format="float"
    )
    assert [vector["index"] for vector in vectors.data] == [0, 1]
    assert sum(number * number for number in vectors.data[0]["embedding"]) == pytest.approx(1, abs=1e-3)
