"""Whatever is wrong with a request is said in OpenAI's form, naming the field."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    KernelArgumentError,
    OverloadedError,
    RequestFailedError,
)
from engine.logs import FIELDS, JsonFormatter
from engine.text.tokenizer import Tokenizer
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.fakes.engine import FakeEngine
from tests.fakes.http import events

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]
NAN, INFINITY = float("nan"), float("inf")


def error_of(response: Any, status: int = 400) -> Any:
    """The error object of an answer that must be in OpenAI's form."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert "x-request-id" in response.headers
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": NAN}, "temperature"),
        ({"temperature": INFINITY}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": NAN}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": "2"}, "n"),
        ({"best_of": True}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": "x" * 20000}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [1000]}, "stop_token_ids"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1000": 1}}, "logit_bias"),
        ({"logit_bias": {"5": NAN}}, "logit_bias.5"),
        ({"logit_bias": [5]}, "logit_bias"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": INFINITY}, "timeout"),
        ({"user": 5}, "user"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_bad_parameters(client: TestClient, engine: FakeEngine, path: str, fields: Any, param: str) -> None:
    body = {"messages": MESSAGES} if path == CHAT else {"prompt": "Hi"}
    response = client.post(path, content=json.dumps({**body, **fields}), headers={"Content-Type": "application/json"})
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert not engine.requests


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ("Hi", "messages"),
        ([5], "messages[0]"),
        ([{"content": "Hi"}], "messages[0].role"),
        ([{"role": "robot", "content": "Hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([*MESSAGES, {"role": "user", "content": [{"type": "text"}]}], "messages[1].content[0].text"),
        ([{"role": "user", "content": [{"text": "Hi"}]}], "messages[0].content[0].type"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}],
            "messages[0].content[1]",
        ),
        ([{"role": "assistant", "tool_calls": [{"id": 5}]}], "messages[0].tool_calls[0].id"),
    ],
)
def test_bad_messages(client: TestClient, messages: Any, param: str) -> None:
    assert error_of(client.post(CHAT, json={"messages": messages}))["param"] == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"regex": "a"}, "regex"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"verbosity": "low"}, "verbosity"),
    ],
)
def test_fields_that_come_later_are_refused_by_name(client: TestClient, fields: Any, param: str) -> None:
    error = error_of(client.post(CHAT, json={"messages": MESSAGES, **fields}))
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")
    assert param in error["message"]


@pytest.mark.parametrize("fields", [{"suffix": "end"}])
def test_completion_fields_that_come_later(client: TestClient, fields: Any) -> None:
    error = error_of(client.post(COMPLETIONS, json={"prompt": "Hi", **fields}))
    assert (error["param"], error["code"]) == (next(iter(fields)), "unsupported_parameter")


def test_values_that_ask_for_nothing_special_are_taken(client: TestClient) -> None:
    fields = {
        "tools": [],
        "tool_choice": "none",
        "function_call": "auto",
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "audio": None,
        "verbosity": "medium",
        "store": True,
        "metadata": {"a": "b"},
        "service_tier": "auto",
        "safety_identifier": "x",
        "prompt_cache_key": "x",
        "prompt_cache_options": {"mode": "implicit"},
        "prompt_cache_retention": "24h",
        "parallel_tool_calls": True,
        "prediction": {"type": "content", "content": "x"},
        "user": "me",
        "stop": None,
        "logit_bias": None,
        "top_logprobs": None,
        "stream": None,
        "stream_options": None,
    }
    response = client.post(CHAT, json={"messages": MESSAGES, **fields})
    assert response.status_code == 200, response.text
    assert "x-quire-ignored-fields" not in response.headers


def test_unknown_fields_are_named(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    body = {"messages": MESSAGES, "cache_salt": "x", "a b\n": 1}
    for stream in (False, True):
        response = client.post(CHAT, json={**body, "stream": stream})
        assert response.status_code == 200
        assert response.headers["x-quire-ignored-fields"] == "cache_salt, a%20b%0A"
    assert caplog.text.count("cache_salt") == 1


def test_unknown_fields_are_named_where_they_are(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    call = {"id": "1", "index": 0, "function": {"name": "f", "arguments": "{}", "parsed": {}}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "Yes?", "tool_calls": [call], "annotations": [], "audio": None},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
    ]
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True, "pace": 1}}
    assert client.post(CHAT, json=body).headers["x-quire-ignored-fields"].split(", ") == [
        "stream_options.pace",
        "messages[0].content[0].cache_control",
        "messages[1].tool_calls[0].index",
        "messages[1].tool_calls[0].function.parsed",
        "messages[2].content[0].cache_control",
    ]
    assert caplog.text.count("cache_control") == 1


@pytest.mark.parametrize(("path", "body"), [("/tokenize", {"messages": MESSAGES}), ("/detokenize", {"tokens": [70]})])
def test_other_bodies_refuse_and_name_fields_too(client: TestClient, path: str, body: Any) -> None:
    for field, value in (("functions", [{"name": "f"}]), ("documents", [{}]), ("chat_template", "{{ 1 }}")):
        error = error_of(client.post(path, json={**body, field: value}))
        assert (error["param"], error["code"]) == (field, "unsupported_parameter")
    response = client.post(path, json={**body, "documents": [], "temperature": 1})
    assert response.headers["x-quire-ignored-fields"] == "temperature"


def test_calls_of_functions_are_those_of_tools(client: TestClient) -> None:
    function = {"name": "f", "arguments": "{}"}
    old = [
        {"role": "assistant", "content": "", "function_call": function},
        {"role": "function", "name": "f", "content": "result"},
    ]
    new = [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "name": "f", "content": "result", "tool_call_id": "1"},
    ]
    same = [client.post("/tokenize", json={"messages": [*MESSAGES, *each]}).json()["tokens"] for each in (old, new)]
    assert same[0] == same[1]
    error = error_of(client.post("/tokenize", json={"messages": [*MESSAGES, old[1]]}))
    assert error["param"] == "messages[1].name"


def test_top_logprobs_needs_logprobs(client: TestClient) -> None:
    assert error_of(client.post(CHAT, json={"messages": MESSAGES, "top_logprobs": 2}))["param"] == "top_logprobs"
    response = client.post(CHAT, json={"messages": MESSAGES, "logprobs": True, "top_logprobs": 21})
    assert error_of(response)["param"] == "top_logprobs"
    assert error_of(client.post(CHAT, json={"messages": MESSAGES, "logprobs": 1}))["param"] == "logprobs"


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        ([], "prompt"),
        ([[]], "prompt"),
        ([[5], []], "prompt[1]"),
        ([1, "a"], "prompt[1]"),
        ([-1], "prompt[0]"),
        ([1000], "prompt"),
        (5, "prompt"),
        (None, "prompt"),
    ],
)
def test_bad_prompts(client: TestClient, prompt: Any, param: str) -> None:
    assert error_of(client.post(COMPLETIONS, json={"prompt": prompt}))["param"] == param


def test_missing_prompt(client: TestClient) -> None:
    error = error_of(client.post(COMPLETIONS, json={}))
    assert (error["param"], error["code"]) == ("prompt", "missing_required_parameter")


def test_prompt_too_long_gives_both_numbers(client: TestClient) -> None:
    for response, param in (
        (client.post(COMPLETIONS, json={"prompt": [5] * 300}), "prompt"),
        (client.post(CHAT, json={"messages": [{"role": "user", "content": "x" * 281}], "stream": True}), "messages"),
    ):
        error = error_of(response)
        assert error["code"] == "context_length_exceeded"
        assert (error["n_prompt_tokens"], error["n_ctx"]) == (300, 256)
        assert "maximum context length is 256 tokens" in error["message"]
        assert "300 tokens" in error["message"]
        assert error["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"\xff\xfe{}",
        b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"messages": ' + b"[" * 150 + b"]" * 150 + b"}",
        b'{"n": ' + b"1" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    ],
)
def test_malformed_bodies(client: TestClient, body: bytes) -> None:
    for path in (CHAT, COMPLETIONS, "/tokenize", "/detokenize"):
        error = error_of(client.post(path, content=body, headers={"Content-Type": "application/json"}))
        assert error["type"] == "invalid_request_error"


def test_other_content_types(client: TestClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = client.post(CHAT, content=b'{"messages": []}', headers={"Content-Type": kind})
        assert error_of(response, 415)["code"] == "unsupported_media_type"


def test_compressed_bodies_are_refused_as_such(client: TestClient) -> None:
    body = gzip.compress(json.dumps({"messages": MESSAGES}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert "Content-Encoding" in error_of(client.post(CHAT, content=body, headers=headers), 415)["message"]
    as_it_is = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    assert client.post(CHAT, content=json.dumps({"messages": MESSAGES}), headers=as_it_is).status_code == 200


def test_body_limit(make_client: MakeClient) -> None:
    client = make_client(max_body_bytes=100)
    body = json.dumps({"prompt": "x" * 100}).encode()
    headers = {"Content-Type": "application/json"}
    assert error_of(client.post(COMPLETIONS, content=body, headers=headers), 413)["code"] == "request_too_large"
    pieces = (body[start : start + 10] for start in range(0, len(body), 10))  # no Content-Length
    assert error_of(client.post(COMPLETIONS, content=pieces, headers=headers), 413)["code"] == "request_too_large"


def test_unknown_routes_and_methods(client: TestClient) -> None:
    assert (
        error_of(client.get("/v1/nothing"), 404)["message"]
        == "Unknown URL: GET /v1/nothing. See /docs for what there is."
    )
    assert "base URL" in error_of(client.post("/chat/completions", json={"messages": MESSAGES}), 404)["message"]
    response = client.get(CHAT)
    assert "GET" in error_of(response, 405)["message"]
    assert response.headers["allow"] == "POST"


def test_unknown_model(client: TestClient) -> None:
    for response in (
        client.post(CHAT, json={"model": "gpt-5", "messages": MESSAGES}),
        client.post(COMPLETIONS, json={"model": "gpt-5", "prompt": "Hi"}),
        client.get("/v1/models/gpt-5"),
    ):
        error = error_of(response, 404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "gpt-5" in error["message"]
        assert "fake-model" in error["message"]


def test_template_that_raises(make_client: MakeClient) -> None:
    client = make_client(repair_roles=False)
    error = error_of(client.post(CHAT, json={"messages": [{"role": "developer", "content": "x"}]}))
    assert error["code"] == "chat_template_error"
    assert "unknown role developer" in error["message"]
    assert "line 2" in error["message"]


def test_model_without_template(make_client: MakeClient, text: ModelText) -> None:
    client = make_client(ModelText(text.tokenizer, None, text.defaults))
    error = error_of(client.post(CHAT, json={"messages": MESSAGES}))
    assert error["code"] == "no_chat_template"
    assert "/v1/completions" in error["message"]
    assert client.post(COMPLETIONS, json={"prompt": "Hi"}).status_code == 200


def test_dead_engine(client: TestClient, engine: FakeEngine) -> None:
    engine.healthy = False
    for stream in (False, True):
        response = client.post(CHAT, json={"messages": MESSAGES, "stream": stream})
        assert error_of(response, 503)["type"] == "server_error"
        assert int(response.headers["retry-after"]) > 0
    assert client.get("/health").status_code == 503


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (RequestFailedError("It failed."), 500, "server_error"),
        (OverloadedError("Too much.", retry_after=3), 429, "rate_limit_exceeded"),
        (DeadlineExceededError("Too late."), 408, "server_error"),
        (InvalidRequestError("Never fits.", param="prompt"), 400, "invalid_request_error"),
        (RuntimeError("a secret"), 500, "server_error"),
        (KernelArgumentError("a secret of [3, 5] in /opt"), 500, "server_error"),
    ],
)
def test_engine_errors(client: TestClient, engine: FakeEngine, failure: Exception, status: int, kind: str) -> None:
    engine.failure = failure
    error = error_of(client.post(CHAT, json={"messages": MESSAGES}), status)
    assert error["type"] == kind
    assert "secret" not in error["message"]
    assert "Traceback" not in error["message"]


def test_errors_after_the_first_byte_are_events(client: TestClient, engine: FakeEngine) -> None:
    engine.failure, engine.fail_after = RequestFailedError("It failed."), 2
    response = client.post(CHAT, json={"messages": MESSAGES, "stream": True})
    assert response.status_code == 200
    *chunks, last = events(response.text)
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "Hello there,"
    error = {"message": "It failed.", "type": "server_error", "param": None, "code": "request_failed"}
    assert last == {"error": error}


def test_unexpected_errors_in_a_stream_keep_their_insides(client: TestClient, engine: FakeEngine) -> None:
    engine.failure, engine.fail_after = RuntimeError("a secret"), 1
    response = client.post(COMPLETIONS, json={"prompt": "Hi", "stream": True})
    assert "secret" not in response.text
    assert events(response.text)[-1]["error"]["code"] == "internal_error"


@pytest.mark.parametrize("stream", [True, False])
def test_unexpected_errors_are_logged_under_the_requests_id(
    client: TestClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    engine.failure = RuntimeError("a secret")
    client.post(CHAT, json={"messages": MESSAGES, "stream": stream}, headers={"x-request-id": "mine"})
    (record,) = [each for each in caplog.records if each.getMessage() == "request failed unexpectedly"]
    assert getattr(record, FIELDS) == {"request_id": "mine"}
    written = JsonFormatter().format(record)
    assert "builtins.RuntimeError" in written
    assert "a secret" not in written


def test_deterministic_failures_are_not_to_be_repeated(client: TestClient, engine: FakeEngine) -> None:
    engine.failure = RuntimeError("bug")
    response = client.post(CHAT, json={"messages": MESSAGES})
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "x" * 10**6}]}, "messages"),
        (COMPLETIONS, {"prompt": "x" * 10**6}, "prompt"),
        ("/tokenize", {"prompt": "x" * 10**6}, "prompt"),
        ("/tokenize", {"messages": [{"role": "user", "content": "x" * 10**6}]}, "messages"),
    ],
)
def test_a_text_far_too_long_is_refused_unencoded(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, path: str, fields: dict[str, Any], param: str
) -> None:
    client = make_client()
    monkeypatch.delattr(Tokenizer, "encode")
    error = error_of(client.post(path, json=fields))
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")
    assert "at least" in error["message"]


@pytest.mark.parametrize("field", [{"tools": [1]}, {"tool_choice": "required"}, {"thinking_budget": 5}])
def test_what_only_chats_take_is_refused_with_where_to_send_it(client: TestClient, field: dict[str, Any]) -> None:
    error = error_of(client.post(COMPLETIONS, json={"prompt": "a", **field}))
    assert error["param"] == next(iter(field))
    assert "except by /v1/chat/completions" in error["message"]


@pytest.mark.parametrize("field", [{"tool_choice": "any"}, {"chat_template_kwargs": 1}, {"response_format": "json"}])
def test_messages_speak_of_json_and_not_of_python(client: TestClient, field: dict[str, Any]) -> None:
    error = error_of(client.post(CHAT, json={"messages": MESSAGES, **field}))
    assert error["param"] == next(iter(field))
    assert "an object" in error["message"].lower()
    assert "dictionary" not in error["message"]


def test_numbers_without_a_fraction_are_integers(client: TestClient, engine: FakeEngine) -> None:
    """As in JSON Schema, by which the OpenAPI document promises it; JavaScript, R and Lua know one type of number."""
    fields = {"n": 2.0, "max_tokens": 5.0, "top_k": 3.0, "seed": -7.0, "logprobs": True, "top_logprobs": 1.0}
    answer = client.post(CHAT, json={"messages": MESSAGES, **fields})
    assert len(answer.json()["choices"]) == 2
    sampling = engine.requests[-1].sampling
    assert (sampling.max_tokens, sampling.top_k, sampling.seed, sampling.logprobs) == (5, 3, -7, 1)
    assert error_of(client.post(CHAT, json={"messages": MESSAGES, "n": 1.5}))["code"] == "invalid_type"


def test_a_top_p_of_0_is_taken_as_at_openai(client: TestClient, engine: FakeEngine) -> None:
    assert client.post(CHAT, json={"messages": MESSAGES, "top_p": 0}).status_code == 200
    assert engine.requests[-1].sampling.top_p == 0
    assert error_of(client.post(CHAT, json={"messages": MESSAGES, "top_p": -0.1}))["param"] == "top_p"


def test_an_empty_name_of_a_model_is_as_good_as_none(client: TestClient) -> None:
    assert client.post(CHAT, json={"messages": MESSAGES, "model": ""}).json()["model"] == "fake-model"
