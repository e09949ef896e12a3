"""POST /v1/completions by its raw bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.types import GenerationRequest
from server.text import ModelText
from tests.fakes.engine import FakeEngine, Script, always, script
from tests.fakes.http import events


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post("/v1/completions", json={"prompt": "Once", **fields})
    assert response.status_code == 200, response.text
    return response.json()


def stream(client: TestClient, **fields: Any) -> list[Any]:
    response = client.post("/v1/completions", json={"prompt": "Once", "stream": True, **fields})
    assert response.status_code == 200, response.text
    return events(response.text)


def test_whole_answer(client: TestClient, engine: FakeEngine) -> None:
    answer = ask(client)
    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", answer["id"])
    assert answer["object"] == "text_completion"
    assert answer["model"] == "fake-model"
    assert answer["choices"] == [
        {"index": 0, "text": "Hello there, world!", "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    ]
    assert answer["usage"]["prompt_tokens"] == 5  # BOS and four bytes
    assert answer["usage"]["completion_tokens"] == 3
    assert engine.requests[0].sampling.max_tokens == 16


def test_stream(client: TestClient) -> None:
    *chunks, usage = stream(client, stream_options={"include_usage": True})
    assert [(chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in chunks] == [
        ("Hello", None),
        (" there,", None),
        (" world!", None),
        ("", "stop"),
    ]
    assert {chunk["object"] for chunk in [*chunks, usage]} == {"text_completion"}
    assert {chunk["id"][:5] for chunk in chunks} == {"cmpl-"}
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
    assert all("delta" not in chunk["choices"][0] for chunk in chunks)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 8


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ab", [[0, 67, 68]]),
        (["ab", "a"], [[0, 67, 68], [0, 67]]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5, 6], [7]], [[5, 6], [7]]),
    ],
)
def test_prompt_forms(
    client: TestClient, engine: FakeEngine, text: ModelText, prompt: Any, expected: list[list[int]]
) -> None:
    assert text.tokenizer.encode("ab") == [0, 67, 68]
    ask(client, prompt=prompt)
    prompts = [list(request.prompt_token_ids) for request in engine.requests]
    assert sorted(prompts) == sorted(expected)


def test_choices_are_prompt_major(client: TestClient, engine: FakeEngine) -> None:
    def answer(request: GenerationRequest, choice: int) -> Script:
        return script(f"p{request.prompt_token_ids[0]} k{choice}", cached_tokens=1)

    engine.answer = answer
    whole = ask(client, prompt=[[10], [11, 1], [12]], n=2)
    assert [choice["index"] for choice in whole["choices"]] == list(range(6))
    assert [choice["text"] for choice in whole["choices"]] == [f"p{p} k{k}" for p in (10, 11, 12) for k in (0, 1)]
    assert whole["usage"]["prompt_tokens"] == 4
    assert whole["usage"]["completion_tokens"] == 12
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
    texts = [""] * 6
    for chunk in stream(client, prompt=[[10], [11, 1], [12]], n=2):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_logprobs(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script([b"caf", b"\xc3", b"\xa9", b" x"]))
    logprobs = ask(client, logprobs=1)["choices"][0]["logprobs"]
    assert logprobs == {
        "tokens": ["caf", "bytes:\\xc3", "bytes:\\xa9", " x"],
        "token_logprobs": [-0.25] * 4,
        "top_logprobs": [{"caf": -0.25}, {"bytes:\\xc3": -0.25}, {"bytes:\\xa9": -0.25}, {" x": -0.25}],
        "text_offset": [0, 3, 3, 4],
    }
    none = ask(client, logprobs=0)["choices"][0]["logprobs"]
    assert none["tokens"] == logprobs["tokens"]
    assert none["top_logprobs"][0] == {"caf": -0.25}
    folded: dict[str, list[Any]] = {name: [] for name in logprobs}
    for chunk in stream(client, logprobs=1):
        for name, values in (chunk["choices"][0]["logprobs"] or {}).items():
            folded[name] += values
    assert folded == logprobs


@pytest.mark.parametrize(
    ("fields", "neutral"),
    [({}, {"echo": False, "suffix": None, "best_of": 1, "user": "me"}), ({"n": 2}, {"best_of": 2})],
)
def test_neutral_values_of_fields_that_come_later(
    client: TestClient, engine: FakeEngine, fields: dict[str, Any], neutral: dict[str, Any]
) -> None:
    plain = ask(client, **fields)
    assert {**ask(client, **fields, **neutral), "id": plain["id"], "created": plain["created"]} == plain
    first, second = (replace(each.sampling, seed=None) for each in engine.requests)  # each draws its own
    assert first == second
