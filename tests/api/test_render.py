"""Prompts looked at and counted without generating."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine
from tests.fakes.text import TEMPLATE, model_text

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CONVERSATION = {"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"mood": "glad"}}


def sent(engine: FakeEngine) -> list[list[int]]:
    return [list(request.prompt_token_ids) for request in engine.requests]


@pytest.mark.parametrize(
    ("route", "body", "texts"),
    [
        (CHAT, CONVERSATION, ["<s><user>Hi</s><assistant>[glad]"]),
        (CHAT, {**CONVERSATION, "add_generation_prompt": False}, ["<s><user>Hi</s>"]),
        (COMPLETIONS, {"prompt": "Hi"}, ["<s>Hi"]),
        (COMPLETIONS, {"prompt": ["Hi", "there"], "add_special_tokens": False}, ["Hi", "there"]),
        (COMPLETIONS, {"prompt": [[0, 75, 108]]}, None),
    ],
)
def test_what_is_shown_and_counted_is_what_would_be_sent(
    client: TestClient, engine: FakeEngine, route: str, body: dict[str, Any], texts: list[str] | None
) -> None:
    shown = client.post(f"{route}/render", json=body).json()
    counted = client.post(f"{route}/input_tokens", json=body).json()
    assert engine.requests == []
    assert client.post(route, json=body).status_code == 200
    assert [each["token_ids"] for each in shown["data"]] == sent(engine)
    assert [each["prompt_tokens"] for each in shown["data"]] == list(map(len, sent(engine)))
    assert [each["index"] for each in shown["data"]] == list(range(len(engine.requests)))
    assert counted["input_tokens"] == sum(map(len, sent(engine)))
    assert shown["max_model_len"] == engine.model.max_model_len
    if texts is not None:
        assert [each["prompt"] for each in shown["data"]] == texts


@pytest.mark.parametrize("what", ["render", "input_tokens"])
def test_what_is_too_long_for_an_answer_can_still_be_counted(client: TestClient, what: str) -> None:
    fits, exceeds = {"prompt": "x" * 1000}, {"prompt": "x" * 9000}
    assert error_of(client.post(COMPLETIONS, json=fits), 400)["code"] == "context_length_exceeded"
    assert client.post(f"{COMPLETIONS}/{what}", json=fits).status_code == 200
    error = error_of(client.post(f"{COMPLETIONS}/{what}", json=exceeds), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    assert "8 times" in error["message"]


@pytest.mark.parametrize("what", ["render", "input_tokens"])
def test_fields_are_checked_as_for_an_answer(client: TestClient, what: str) -> None:
    body = {**CONVERSATION, "modalities": ["audio"]}
    assert error_of(client.post(f"{CHAT}/{what}", json=body), 400)["param"] == "modalities"
    unknown = client.post(f"{CHAT}/{what}", json={**CONVERSATION, "surprise": 1})
    assert unknown.headers["x-quire-ignored-fields"] == "surprise"


def test_the_tokenizer_tells_what_evaluation_harnesses_ask(client: TestClient) -> None:
    info = client.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"], info["pad_token"]) == ("<s>", "</s>", None)
    assert (info["chat_template"], info["model_max_length"], info["vocab_size"]) == (TEMPLATE, 256, 259)
    assert info["model"] == "fake-model"
    tokens = client.post("/tokenize", json={"prompt": "test", "add_special_tokens": False}).json()["tokens"]
    assert client.post("/detokenize", json={"tokens": tokens}).json() == {"prompt": "test"}


def test_a_model_may_be_named_and_have_no_template(
    make_client: MakeClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bare: ModelText = model_text(tmp_path_factory.mktemp("bare"), None)
    client = make_client(bare)
    assert client.get("/tokenizer_info?model=fake-model").json()["chat_template"] is None
    assert error_of(client.get("/tokenizer_info?model=other"), 404)["code"] == "model_not_found"


WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [WEATHER]},
        {"tools": [WEATHER], "tool_choice": "none"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False},
    ],
)
def test_a_conversation_with_tools_is_tokenized_as_it_is_rendered(client: TestClient, fields: dict[str, Any]) -> None:
    body = {**CONVERSATION, **fields}
    rendered = client.post(f"{CHAT}/render", json=body).json()["data"][0]
    assert ("weather" in rendered["prompt"]) == (fields.get("tool_choice") != "none")
    assert client.post("/tokenize", json=body).json()["tokens"] == rendered["token_ids"]


def test_wrong_tools_are_refused_when_tokenizing_as_when_answering(client: TestClient) -> None:
    for fields in ({"tools": [{"type": "custom"}]}, {"tool_choice": "required"}):
        refused = [error_of(client.post(route, json={**CONVERSATION, **fields})) for route in (CHAT, "/tokenize")]
        assert refused[0] == refused[1]
