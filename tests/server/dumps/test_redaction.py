"""Bodies keep their shape and their settings, and lose every word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import server.app  # noqa: F401 - brings in the bodies of all routes, whose fields are known
from engine.text.tokenizer import load_tokenizer
from quire.demo_model import demo_model
from server.chat.tool_history import in_order_of_calls
from server.chat.tool_use import wanted_tools
from server.dumps.filler import Filler
from server.dumps.redaction import WORDS, Redactor
from server.field_reference import BODIES
from server.schemas.chat import ChatCompletionRequest

CANARY = "canary-4711"
REDACTOR = Redactor(Filler(load_tokenizer(demo_model())), ("quire-demo",))
JSON = st.recursive(
    st.none() | st.booleans() | st.just(CANARY) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([CANARY, "content", "x"]), inner),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [shape(each) for each in value.values()]
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


@given(JSON)
def test_the_shape_is_kept_and_the_words_are_not(value: Any) -> None:
    redacted = REDACTOR.redacted({"messages": value})
    assert shape(redacted) == shape({"messages": value})
    assert "canary" not in json.dumps(redacted)


def test_a_conversation_with_a_tool() -> None:
    parameters = {"type": "object", "properties": {CANARY: {"type": "string", "enum": [CANARY]}}, "required": [CANARY]}
    body = {
        "model": "quire-demo",
        "messages": [
            {"role": "system", "content": CANARY},
            {"role": "user", "content": [{"type": "text", "text": CANARY}], "name": CANARY},
            {"role": CANARY, "content": "user"},
        ],
        "tools": [{"type": "function", "function": {"name": CANARY, "parameters": parameters}}],
        "temperature": 0.5,
        "seed": 7,
        "stream": True,
        "stop": [CANARY],
        "logit_bias": {"42": 1.5, CANARY: 2},
        "stop_token_ids": [3],
        "metadata": {CANARY: CANARY, "count": 4711},
    }
    redacted = REDACTOR.redacted(body)
    assert "canary" not in json.dumps(redacted)
    for name in ("model", "temperature", "seed", "stream", "stop_token_ids"):
        assert redacted[name] == body[name]
    assert [each["role"] for each in redacted["messages"][:2]] == ["system", "user"]
    assert redacted["messages"][2]["role"] not in WORDS
    assert redacted["messages"][2]["content"] != "user"
    assert redacted["logit_bias"]["42"] == 1.5
    assert 4711 not in redacted["metadata"].values()
    schema = redacted["tools"][0]["function"]["parameters"]
    assert schema["type"] == "object"
    assert list(schema["properties"]) == schema["required"]


def words_of(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Fields of all objects in a schema, each with every word of the API that may stand there."""
    for owner in (schema, *schema.get("$defs", {}).values()):
        for name, field in owner.get("properties", {}).items():
            for each in (field, *field.get("anyOf", ())):
                yield from ((name, word) for word in (*each.get("enum", ()), *filter(None, [each.get("const")])))


@pytest.mark.parametrize("body", BODIES)
def test_words_of_the_api_are_kept(body: str) -> None:
    """Else a request could not be sent again."""
    words = list(words_of(BODIES[body].model_json_schema()))
    assert words or body in ("detokenize", "load", "unload")
    for name, word in words:
        assert REDACTOR.redacted({name: word}) == {name: word}


def test_a_name_of_a_request_is_another_one() -> None:
    redacted = REDACTOR.redacted({"request_id": CANARY, "messages": [{"role": "user", "content": "x"}]})
    assert redacted["request_id"] != CANARY
    ChatCompletionRequest.model_validate(redacted)


def test_a_request_with_tools_can_be_sent_again() -> None:
    name, names = "canary.4711-x", {"type": "function", "function": {"name": "canary.4711-x"}}
    body = {
        "messages": [
            {"role": "user", "content": CANARY},
            {"role": "assistant", "tool_calls": [{"id": CANARY, **names}]},
            {"role": "tool", "tool_call_id": CANARY, "content": CANARY},
        ],
        "tools": [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [names]}},
    }
    redacted = REDACTOR.redacted(body)
    assert "canary" not in json.dumps(redacted)
    request = ChatCompletionRequest.model_validate(redacted)
    use = wanted_tools(request)
    assert use is not None
    assert use.required
    assert [message.role for _, message in in_order_of_calls(request.messages)] == ["user", "assistant", "tool"]


def test_token_ids_of_prompts_are_words_too() -> None:
    for prompt in ([11, 12, 13], [[11, 12], [13]]):
        redacted = REDACTOR.redacted({"prompt": prompt})["prompt"]
        assert shape(redacted) == shape(prompt)
        assert redacted != prompt


def test_inputs_of_embeddings_are_words_too() -> None:
    shown = REDACTOR.redacted({"input": [[5, 6], [7]], "encoding_format": "base64", "pooling": "last", "dimensions": 8})
    assert [len(each) for each in shown["input"]] == [2, 1]
    assert shown["input"] != [[5, 6], [7]]
    assert (shown["encoding_format"], shown["pooling"], shown["dimensions"]) == ("base64", "last", 8)
    assert REDACTOR.redacted({"input": "my secret"})["input"] != "my secret"


def test_a_model_we_do_not_have_may_be_named_by_anybody() -> None:
    assert "canary" not in REDACTOR.redacted({"model": CANARY})["model"]


def test_places_that_errors_name() -> None:
    assert REDACTOR.param("messages[0].content[1].text") == "messages[0].content[1].text"
    assert REDACTOR.param(f"messages[0].{CANARY}") is None
    assert REDACTOR.param(None) is None


def test_how_a_model_is_to_reason_is_kept_and_what_it_thought_is_not() -> None:
    body = {
        "messages": [{"role": "assistant", "content": CANARY, "reasoning_content": CANARY, "reasoning": CANARY}],
        "reasoning_effort": "xhigh",
        "reasoning_format": "parsed",
        "reasoning": {"effort": "max", "exclude": True},
        "thinking": {"type": "enabled", "budget_tokens": 7},
        "thinking_token_budget": 7,
    }
    redacted = REDACTOR.redacted(body)
    assert "canary" not in json.dumps(redacted)
    assert {name: redacted[name] for name in body if name != "messages"} == {
        name: body[name] for name in body if name != "messages"
    }
    ChatCompletionRequest.model_validate(redacted)
