"""POST /v1/chat/completions by its raw bytes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.text.defaults import GenerationDefaults
from engine.types import Finish, FinishReason
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.fakes.engine import FakeEngine, always, script
from tests.fakes.http import events

MESSAGES = [{"role": "user", "content": "Hi"}]


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post("/v1/chat/completions", json={"messages": MESSAGES, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def stream(client: TestClient, **fields: Any) -> list[Any]:
    response = client.post("/v1/chat/completions", json={"messages": MESSAGES, "stream": True, **fields})
    assert response.status_code == 200, response.text
    return events(response.text)


def test_whole_answer(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script("Hello there, world!", cached_tokens=16))
    answer = ask(client, model="fake-model")
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", answer.pop("id"))
    assert isinstance(answer.pop("created"), int)
    assert answer.pop("system_fingerprint").startswith("fp_")
    prompt_tokens = len("<user>Hi<assistant>") + 2
    assert answer == {
        "object": "chat.completion",
        "model": "fake-model",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello there, world!",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 3,
            "total_tokens": prompt_tokens + 3,
            "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_stream_order_and_shape(client: TestClient) -> None:
    chunks = stream(client)
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello"},
        {"content": " there,"},
        {"content": " world!"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for name in ("id", "created", "model", "system_fingerprint"):
        assert len({chunk[name] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_chunk_only_when_asked(client: TestClient) -> None:
    *chunks, last = stream(client, stream_options={"include_usage": True, "include_obfuscation": False})
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 3
    assert last["id"] == chunks[0]["id"]


def test_stream_headers(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", json={"messages": MESSAGES, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers
    assert "content-encoding" not in response.headers
    assert response.headers["x-request-id"].startswith("req_")


def test_several_choices_interleave(client: TestClient, engine: FakeEngine) -> None:
    texts = ["one two three", "four", "five six"]
    engine.answer = lambda _request, choice: script(texts[choice])
    chunks = stream(client, n=3, stream_options={"include_usage": True})
    *choices, usage = chunks
    by_index: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    for chunk in choices:
        by_index[chunk["choices"][0]["index"]].append(chunk["choices"][0])
    for index, parts in by_index.items():
        assert parts[0]["delta"]["role"] == "assistant"
        assert "".join(part["delta"].get("content", "") for part in parts) == texts[index]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["stop"]
    order = [chunk["choices"][0]["index"] for chunk in choices]
    assert order != sorted(order)
    assert usage["usage"]["completion_tokens"] == 6
    whole = ask(client, n=3)
    assert [choice["message"]["content"] for choice in whole["choices"]] == texts
    assert whole["usage"] == usage["usage"]


def test_logprobs_with_split_characters(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script([b"caf", b"\xc3", b"\xa9", b" \xe2\x98", b"\x83!"]))
    answer = ask(client, logprobs=True, top_logprobs=2)["choices"][0]
    content = answer["logprobs"]["content"]
    assert answer["logprobs"]["refusal"] is None
    joined = b"".join(bytes(entry["bytes"]) for entry in content)
    assert joined.decode() == answer["message"]["content"] == "café ☃!"
    assert content[0] == {
        "token": "caf",
        "logprob": -0.25,
        "bytes": [99, 97, 102],
        "top_logprobs": [
            {"token": "caf", "logprob": -0.25, "bytes": [99, 97, 102]},
            {"token": "other0", "logprob": -1.0, "bytes": list(b"other0")},
        ],
    }
    chunks = [chunk["choices"][0] for chunk in stream(client, logprobs=True, top_logprobs=2)]
    streamed = [entry for chunk in chunks for entry in (chunk["logprobs"] or {"content": []})["content"]]
    assert streamed == content
    # the two halves of é come with the chunk that shows it
    shown = {chunk["delta"].get("content"): chunk["logprobs"] for chunk in chunks if chunk["delta"].get("content")}
    assert [entry["bytes"] for entry in shown["é"]["content"]] == [[0xC3], [0xA9]]


def test_logprobs_without_alternatives(client: TestClient) -> None:
    content = ask(client, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert [entry["top_logprobs"] for entry in content] == [[], [], []]
    assert ask(client, logprobs=False)["choices"][0]["logprobs"] is None


def test_finish_reasons(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script("a b c", finish=Finish(FinishReason.STOP, "END")))
    choice = ask(client, stop=["END"])["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "END")
    assert ask(client, max_tokens=2)["choices"][0]["finish_reason"] == "length"


def test_empty_answer(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script(""))
    assert ask(client)["choices"][0]["message"]["content"] == ""
    assert [chunk["choices"][0]["delta"] for chunk in stream(client)] == [
        {"role": "assistant", "content": "", "refusal": None},
        {},
    ]


def test_template_brings_the_special_tokens_once(client: TestClient, engine: FakeEngine, text: ModelText) -> None:
    ask(client)
    prompt = text.tokenizer.decode(engine.requests[0].prompt_token_ids, skip_special_tokens=False)
    assert prompt == "<s><user>Hi</s><assistant>"


def test_messages_reach_the_template(client: TestClient, engine: FakeEngine, text: ModelText) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        {"role": "assistant", "refusal": "No."},
    ]
    ask(client, messages=messages, chat_template_kwargs={"mood": "merry"})
    prompt = text.tokenizer.decode(engine.requests[0].prompt_token_ids, skip_special_tokens=False)
    assert prompt == (
        '<s><system>Be brief.</s><user>a\nb</s><assistant><tool_call>\n{"name": "f", "arguments": {}}\n</tool_call></s>'
        "<tool>42</s><assistant>No.</s><assistant>[merry]"
    )


def test_continue_final_message(client: TestClient, engine: FakeEngine, text: ModelText) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "Once upon"}]
    ask(client, messages=messages, continue_final_message=True)
    prompt = text.tokenizer.decode(engine.requests[0].prompt_token_ids, skip_special_tokens=False)
    assert prompt == "<s><user>Hi</s><assistant>Once upon"


@pytest.mark.parametrize("role", ["user", "system"])
def test_the_final_message_that_is_continued_may_be_anybodys(
    client: TestClient, engine: FakeEngine, text: ModelText, role: str
) -> None:
    """As in vLLM and transformers, where models are made to write a user's turn; the SDK's types know one role only."""
    answer = ask(client, messages=[{"role": role, "content": "What is"}], continue_final_message=True)
    assert (
        text.tokenizer.decode(engine.requests[0].prompt_token_ids, skip_special_tokens=False) == f"<s><{role}>What is"
    )
    assert answer["choices"][0]["message"]["role"] == "assistant"


def test_parameters_reach_the_engine(client: TestClient, engine: FakeEngine) -> None:
    given = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": -0.5,
        "frequency_penalty": 1.5,
        "seed": 42,
        "min_tokens": 2,
        "ignore_eos": True,
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
    }
    ask(client, **given, stop="x", stop_token_ids=[5], logit_bias={"7": -100, "8": 2.5}, max_completion_tokens=9)
    sampling = engine.requests[0].sampling
    assert {name: getattr(sampling, name) for name in given} == given
    assert sampling.stop_strings == ("x",)
    assert sampling.stop_token_ids == (5,)
    assert sampling.logit_bias == {7: -100.0, 8: 2.5}
    assert sampling.max_tokens == 9


def test_length_defaults(client: TestClient, engine: FakeEngine) -> None:
    ask(client)
    ask(client, max_tokens=5)
    ask(client, max_tokens=5, max_completion_tokens=7)
    assert [request.sampling.max_tokens for request in engine.requests] == [None, 5, 7]


def test_model_defaults_apply_where_a_field_is_absent(
    make_client: MakeClient, engine: FakeEngine, text: ModelText
) -> None:
    defaults = GenerationDefaults(temperature=0.6, top_k=20, top_p=0.8, min_p=0.05, repetition_penalty=1.05)
    client = make_client(ModelText(text.tokenizer, text.template, defaults))
    ask(client, top_p=1.0)
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.6, 20, 1.0)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.05, 1.05)


def test_names(make_client: MakeClient) -> None:
    client = make_client(served_model_name=("org/first", "second"))
    assert ask(client)["model"] == "org/first"
    assert ask(client, model="second")["model"] == "second"
