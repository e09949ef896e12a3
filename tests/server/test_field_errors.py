"""Every error that pydantic can find with our schemas is told in the words of the OpenAI API."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import InvalidRequestError
from server.field_errors import explain, spell
from server.schemas.admin import CancelRequest, LoadRequest, UnloadRequest
from server.schemas.base import FieldPath, WireModel
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.schemas.embeddings import EmbeddingRequest
from server.schemas.tokenize import DetokenizeRequest, TokenizeRequest

MESSAGES = [{"role": "user", "content": "Hi"}]

COMPLETE: dict[type[WireModel], dict[str, Any]] = {
    ChatCompletionRequest: {
        "messages": [
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "a"}],
                "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                "function_call": {"name": "f", "arguments": "{}"},
            }
        ],
        "logit_bias": {"5": 1},
        "stream_options": {"include_usage": True},
        "stop": ["a"],
        "stop_token_ids": [1],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "structured_outputs": {"choice": ["a"]},
        "guided_choice": ["a"],
        "reasoning": {"effort": "low"},
        "thinking": {"type": "enabled"},
        "truncation": {"side": "left", "max_tokens": 3},
    },
    CompletionRequest: {"prompt": [[1, 2]], "stop": "a"},
    EmbeddingRequest: {"input": ["a"]},
    TokenizeRequest: {"messages": MESSAGES},
    DetokenizeRequest: {"tokens": [1]},
    LoadRequest: {"model": "a"},
    UnloadRequest: {},
    CancelRequest: {},
}

BAD: tuple[Any, ...] = (
    *(None, True, 5, -(10**30), 10**30, 1.5, float("nan"), float("inf"), "", "a b", "1", [], [None], [5, "a"], {}),
    *([[]], {"a": None}, [{}], ["a", 5], [[5], ["a"]], [[], 5]),
)

PYDANTIC_SAYS = ("Input ", "should ", "valid dictionary", "instance", "validation", "Field required", "Value error")


def places(value: Any, path: FieldPath = ()) -> Iterator[FieldPath]:
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in steps:
        yield from places(child, (*path, step))


def put(body: dict[str, Any], path: FieldPath, value: Any) -> Any:
    if not path:
        return value
    changed: Any = copy.deepcopy(body)
    node = changed
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return changed


def explained(schema: type[WireModel], body: Any) -> InvalidRequestError | None:
    """As FastAPI has a body validated."""
    try:
        schema.model_validate(body)
    except ValidationError as error:
        findings = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        return explain(findings, body)
    return None


@pytest.mark.parametrize("schema", COMPLETE)
def test_the_bodies_the_others_begin_with_are_right(schema: type[WireModel]) -> None:
    assert explained(schema, COMPLETE[schema]) is None


@pytest.mark.parametrize("schema", COMPLETE)
def test_whatever_stands_in_whatever_field(schema: type[WireModel]) -> None:
    body = COMPLETE[schema]
    top = [(field.alias or name,) for name, field in schema.model_fields.items()]
    for path in dict.fromkeys((*places(body), *top)):
        for value in BAD:
            error = explained(schema, put(body, path, value))
            if error is None:
                continue
            case = f"{spell(path)} = {value!r}: {error.message}"
            assert not any(words in error.message for words in PYDANTIC_SAYS), case
            assert error.code in ("invalid_type", "invalid_value", "missing_required_parameter"), case
            assert error.message.startswith(("Invalid ", "Missing required parameter: ")), case
            assert not error.message.startswith("Invalid value") or "Supported values" in error.message, case
            if path:
                assert error.param is not None, case
                assert error.param.startswith(spell(path)), case
                assert f"'{error.param}'" in error.message, case


def chat(**fields: Any) -> dict[str, Any]:
    return {"messages": MESSAGES, **fields}


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (
            {"messages": [{"role": "user", "content": 5}]},
            "Invalid type for 'messages[0].content': expected one of a string or an array, but got an integer instead.",
            "invalid_type",
        ),
        (
            {"messages": "Hi"},
            "Invalid type for 'messages': expected an array, but got a string instead.",
            "invalid_type",
        ),
        ({"messages": None}, "Invalid type for 'messages': expected an array, but got null instead.", "invalid_type"),
        (
            {"messages": []},
            "Invalid 'messages': expected an array of at least one item, but got 0.",
            "invalid_value",
        ),
        ({"messages": [{}]}, "Missing required parameter: 'messages[0].role'.", "missing_required_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": 5}]}]},
            "Invalid type for 'messages[0].content[0].type': expected a string, but got an integer instead.",
            "invalid_type",
        ),
        (
            {"messages": [{"role": "robot", "content": "a"}]},
            "Invalid value for 'messages[0].role': 'robot'. Supported values are: 'developer', 'system', 'user', "
            "'assistant', 'tool' or 'function'.",
            "invalid_value",
        ),
        (
            chat(temperature="hot"),
            "Invalid type for 'temperature': expected a number, but got a string instead.",
            "invalid_type",
        ),
        (
            chat(max_tokens=1.5),
            "Invalid type for 'max_tokens': expected an integer, but got a decimal number instead.",
            "invalid_type",
        ),
        (
            chat(stream="true"),
            "Invalid type for 'stream': expected a boolean, but got a string instead.",
            "invalid_type",
        ),
        (
            chat(logit_bias=[1]),
            "Invalid type for 'logit_bias': expected an object, but got an array instead.",
            "invalid_type",
        ),
        (
            chat(response_format="json"),
            "Invalid type for 'response_format': expected an object, but got a string instead.",
            "invalid_type",
        ),
        (
            chat(stop=["a", 5]),
            "Invalid type for 'stop[1]': expected a string, but got an integer instead.",
            "invalid_type",
        ),
        (chat(n=0), "Invalid 'n': below the minimum. Expected a value >= 1, but got 0 instead.", "invalid_value"),
        (
            chat(n=129),
            "Invalid 'n': above the maximum. Expected a value <= 128, but got 129 instead.",
            "invalid_value",
        ),
        (
            chat(timeout=0),
            "Invalid 'timeout': below the minimum. Expected a value > 0.0, but got 0 instead.",
            "invalid_value",
        ),
        (
            chat(top_p=float("nan")),
            "Invalid 'top_p': expected a finite number, but got NaN instead.",
            "invalid_value",
        ),
        (
            chat(tool_choice="any"),
            "Invalid value for 'tool_choice': 'any'. Supported values are: 'none', 'auto' or 'required'. An object is "
            "taken, too.",
            "invalid_value",
        ),
        (
            chat(response_format={"type": "json_schema", "json_schema": {"name": "", "schema": {}}}),
            "Invalid 'response_format.json_schema.name': empty string. Expected a string of at least one character.",
            "invalid_value",
        ),
        (
            chat(request_id="a b"),
            "Invalid 'request_id': 'a b' does not match the pattern ^[A-Za-z0-9._:-]{1,128}$.",
            "invalid_value",
        ),
        ([], "Invalid request body: expected a JSON object.", "invalid_type"),
        (None, "Invalid request body: expected a JSON object.", "invalid_type"),
    ],
)
def test_messages(body: Any, message: str, code: str) -> None:
    error = explained(ChatCompletionRequest, body)
    assert error is not None
    assert (error.message, error.code) == (message, code)


@pytest.mark.parametrize(
    ("prompt", "param", "expected"),
    [
        (["a", 5], "prompt[1]", "expected a string"),
        ([5, "a"], "prompt[1]", "expected an integer"),
        ([[5], ["a"]], "prompt[1][0]", "expected an integer"),
        ([[5], "a"], "prompt[1]", "expected an array"),
        ({}, "prompt", "expected one of a string or an array"),
        ([-1], "prompt[0]", "Expected a value >= 0, but got -1 instead."),
    ],
)
def test_the_form_that_fits_furthest_is_the_one_meant(prompt: Any, param: str, expected: str) -> None:
    error = explained(CompletionRequest, {"prompt": prompt})
    assert error is not None
    assert error.param == param
    assert expected in error.message
    assert "too" not in error.message


def test_long_values_are_not_told_whole() -> None:
    error = explained(ChatCompletionRequest, chat(service_tier="a", reasoning_effort="x" * 1000, n=1))
    assert error is not None
    assert len(error.message) < 300


def test_what_a_later_version_of_pydantic_may_find_is_told_without_its_words() -> None:
    finding = {"type": "something_new", "loc": ("body", "n"), "msg": "Input should be new", "input": 5}
    error = explain([finding], {"n": 5})
    assert (error.message, error.param) == ("Invalid value for 'n': 5.", "n")
