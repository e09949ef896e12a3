"""Every field of a request is honoured, changes nothing because it cannot, or is refused by name: none is dropped.

The lists are read from the schemas and from the installed OpenAI SDK, so that a field neither knows yet fails here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from fastapi.testclient import TestClient
from openai.types import completion_create_params as completion_params
from openai.types.chat import (
    ChatCompletionContentPartRefusalParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionMessageParam,
    ChatCompletionStreamOptionsParam,
)
from openai.types.chat import completion_create_params as chat_params
from openai.types.shared_params import ResponseFormatJSONSchema

from server.app import create_app
from server.config import ServerConfig
from server.schemas.base import StreamOptions, WireModel
from server.schemas.chat import ChatCompletionRequest, ContentPart, Message
from server.schemas.completion import CompletionRequest
from server.schemas.fields import REFUSED
from server.schemas.structured import ResponseFormat
from tests.api.test_refusals import error_of
from tests.fakes.engine import MODEL, FakeEngine, always, script
from tests.fakes.http import events
from tests.fakes.text import TEMPLATE, model_text

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SCHEMAS: dict[str, type[WireModel]] = {CHAT: ChatCompletionRequest, COMPLETIONS: CompletionRequest}
SDK: dict[str, tuple[type, type]] = {
    CHAT: (chat_params.CompletionCreateParamsNonStreaming, chat_params.CompletionCreateParamsStreaming),
    COMPLETIONS: (
        completion_params.CompletionCreateParamsNonStreaming,
        completion_params.CompletionCreateParamsStreaming,
    ),
}
BASE: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hello"}], "seed": 7},
    COMPLETIONS: {"prompt": "Hello", "seed": 7},
}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
TOOLS = {"tools": [FUNCTION]}
ASSISTANT_LAST = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "He"}]}


class Class(Enum):
    """What becomes of a field."""

    HONOURED = "honoured"
    ACCEPTED = "accepted without effect"
    REFUSED = "refused by name"


class Sample:
    """A value that would change the meaning, were the field honoured.

    Args:
        value: of the field.
        beside: fields it needs or says something about.
    """

    def __init__(self, value: Any, **beside: Any) -> None:
        self.value, self.beside = value, beside


SAMPLES: dict[str, Sample] = {
    "add_generation_prompt": Sample(False),
    "add_special_tokens": Sample(False),
    "audio": Sample({"voice": "alloy", "format": "wav"}),
    "best_of": Sample(3),
    "chat_template_kwargs": Sample({"mood": "glad"}),
    "continue_final_message": Sample(True, **ASSISTANT_LAST),
    "echo": Sample(True),
    "enable_thinking": Sample(False),
    "frequency_penalty": Sample(0.5),
    "function_call": Sample({"name": "f"}),
    "functions": Sample([{"name": "f"}]),
    "grammar": Sample('root ::= "a"'),
    "guided_choice": Sample(["a"]),
    "guided_grammar": Sample('start: "a"'),
    "guided_json": Sample({"type": "integer"}),
    "guided_regex": Sample("a"),
    "ignore_eos": Sample(True),
    "include_reasoning": Sample(False),
    "include_stop_str_in_output": Sample(True),
    "logit_bias": Sample({"5": 3}),
    "max_completion_tokens": Sample(1),
    "max_tokens": Sample(1),
    "messages": Sample([{"role": "user", "content": "Other"}]),
    "metadata": Sample({"a": "b"}),
    "min_p": Sample(0.5),
    "min_tokens": Sample(2),
    "modalities": Sample(["text", "audio"]),
    "model": Sample("fake-model-too"),
    "moderation": Sample({"model": "omni-moderation-latest"}),
    "n": Sample(2),
    "parallel_tool_calls": Sample(False, **TOOLS, tool_choice="required"),
    "prediction": Sample({"type": "content", "content": "Hello there"}),
    "presence_penalty": Sample(0.5),
    "priority": Sample(3),
    "prompt": Sample("Other"),
    "prompt_cache_key": Sample("k"),
    "prompt_cache_options": Sample({"ttl": "30m"}),
    "prompt_cache_retention": Sample("24h"),
    "prompt_logprobs": Sample(1),
    "reasoning": Sample({"effort": "high"}),
    "reasoning_budget_tokens": Sample(5),
    "reasoning_effort": Sample("high"),
    "reasoning_format": Sample("none"),
    "repetition_penalty": Sample(1.5),
    "request_id": Sample("mine"),
    "response_format": Sample({"type": "json_object"}),
    "safety_identifier": Sample("s"),
    "seed": Sample(8),
    "separate_reasoning": Sample(False),
    "service_tier": Sample("flex"),
    "skip_special_tokens": Sample(False),
    "stop": Sample(["there"]),
    "stop_token_ids": Sample([5]),
    "store": Sample(True),
    "stream": Sample(True),
    "stream_options": Sample({"include_usage": True}, stream=True),
    "structured_outputs": Sample({"regex": "a"}),
    "suffix": Sample("end"),
    "temperature": Sample(0.5),
    "thinking": Sample({"type": "disabled"}),
    "thinking_budget": Sample(5),
    "thinking_budget_tokens": Sample(5),
    "thinking_token_budget": Sample(5),
    "timeout": Sample(5.0),
    "tool_choice": Sample("required", **TOOLS),
    "tools": Sample([FUNCTION]),
    "top_k": Sample(5),
    "top_logprobs": Sample(2, logprobs=True),
    "top_p": Sample(0.5),
    "truncate_prompt_tokens": Sample(3),
    "truncation": Sample({"side": "right", "max_tokens": 3}),
    "truncation_side": Sample("right", truncate_prompt_tokens=3),
    "user": Sample("me"),
    "verbosity": Sample("low"),
    "web_search_options": Sample({}),
}
BY_ROUTE = {(CHAT, "logprobs"): Sample(True), (COMPLETIONS, "logprobs"): Sample(0), (CHAT, "best_of"): Sample(1)}
EXEMPT = {"request_id", "suffix"}
"""Shown elsewhere: the first changes neither prompt nor answer but by which name it is cancelled, the second needs a
model that was taught to fill gaps."""

REASONING = (
    TEMPLATE + "{{ enable_thinking }}{{ reasoning_effort }}{% if tools %}{{ tools | tojson }}{% endif %}"
    "{# <think> thoughts </think> #}"
)
"""A template of a model that reasons, and can be told not to."""


def class_of(route: str, field: str) -> Class | None:
    """What the schemas say of a field; None if they say nothing."""
    known = {known.alias or name: known for name, known in SCHEMAS[route].model_fields.items()}.get(field)
    if known is None:
        return Class.REFUSED if field in REFUSED else None
    return Class.ACCEPTED if (known.description or "").startswith("accepted") else Class.HONOURED


def sdk_fields(route: str) -> list[str]:
    """Fields the installed SDK can send."""
    return sorted({name for params in SDK[route] for name in get_type_hints(params)})


def all_fields(route: str) -> list[str]:
    """These, and all the schema has besides."""
    ours = {known.alias or name for name, known in SCHEMAS[route].model_fields.items()}
    return sorted(ours | set(sdk_fields(route)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, FakeEngine]]:
    """One app for all tests here, since its process that tries grammars takes a moment to start."""
    model = replace(MODEL, max_model_len=2048)  # tools take some room
    engine = FakeEngine(always(script("<think> hm </think> Hello there, world!")), model)
    text = model_text(tmp_path_factory.mktemp("fields"), REASONING)
    app = create_app(engine, text, ServerConfig(served_model_name=("fake-model", "fake-model-too")))
    yield TestClient(app, base_url="http://127.0.0.1"), engine
    app.state.services.grammars.close()


def observed(served: tuple[TestClient, FakeEngine], route: str, **fields: Any) -> Any:
    """What the engine was asked and what the client was told, without what differs between equal requests."""
    client, engine = served
    engine.requests.clear()
    response = client.post(route, json={**BASE[route], **fields})
    assert response.status_code == 200, response.text
    assert "x-quire-ignored-fields" not in response.headers
    kind = response.headers["content-type"]
    told = events(response.text) if kind.startswith("text/event-stream") else [response.json()]
    asked = [replace(request, request_id="") for request in engine.requests]
    return kind, asked, [{**each, "id": "", "created": 0} for each in told]


def pairs() -> list[tuple[str, str]]:
    return [(route, field) for route in SCHEMAS for field in all_fields(route)]


@pytest.mark.parametrize("route", SCHEMAS)
def test_every_field_of_the_sdk_is_known(route: str) -> None:
    assert [field for field in sdk_fields(route) if class_of(route, field) is None] == []


def test_every_field_of_the_sdks_messages_and_options_is_known() -> None:
    """What stands inside others: a message has the fields of all roles."""
    known = {
        **dict.fromkeys(get_args(ChatCompletionMessageParam), Message),
        ChatCompletionContentPartTextParam: ContentPart,
        ChatCompletionContentPartRefusalParam: ContentPart,
        ChatCompletionStreamOptionsParam: StreamOptions,
        ResponseFormatJSONSchema: ResponseFormat,
    }
    for params, schema in known.items():
        fields = {field.alias or name for name, field in schema.model_fields.items()}
        assert set(get_type_hints(params)) - fields - set(REFUSED) == set(), params


@pytest.mark.parametrize(("route", "field"), pairs())
def test_every_field_does_what_is_said_of_it(served: tuple[TestClient, FakeEngine], route: str, field: str) -> None:
    sample = BY_ROUTE.get((route, field)) or SAMPLES[field]
    match class_of(route, field):
        case Class.REFUSED:
            error = error_of(served[0].post(route, json={**BASE[route], **sample.beside, field: sample.value}), 400)
            assert (error["param"], error["code"]) == (field, "unsupported_parameter")
        case Class.ACCEPTED:
            assert observed(served, route, **sample.beside, **{field: sample.value}) == observed(
                served, route, **sample.beside
            )
        case Class.HONOURED if field not in EXEMPT:
            assert observed(served, route, **sample.beside, **{field: sample.value}) != observed(
                served, route, **sample.beside
            )


@pytest.mark.parametrize("field", [field for field in REFUSED if field not in {"tools", "tool_choice", "echo"}])
def test_what_is_refused_is_refused_by_both_routes(served: tuple[TestClient, FakeEngine], field: str) -> None:
    for route in SCHEMAS:
        if class_of(route, field) is Class.REFUSED:
            value = SAMPLES[field].value if field in SAMPLES else ["something"]
            error = error_of(served[0].post(route, json={**BASE[route], field: value}), 400)
            assert (error["param"], error["code"]) == (field, "unsupported_parameter")


def test_every_field_stands_in_the_documentation() -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    missing = {field for route in SCHEMAS for field in all_fields(route) if f"`{field}" not in documentation}
    assert missing == set()
    assert {field for field in REFUSED if f"`{field}" not in documentation} == set()
