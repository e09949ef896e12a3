"""Whatever JSON comes, the answer is an answer or an error in OpenAI's form, never a 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.app import create_app
from server.config import ServerConfig
from server.schemas.base import WireModel
from server.schemas.chat import ChatCompletionRequest
from server.schemas.completion import CompletionRequest
from server.schemas.embeddings import EmbeddingRequest
from server.schemas.fields import REFUSED
from server.schemas.tokenize import DetokenizeRequest, TokenizeRequest
from server.text import ModelText
from tests.fakes.engine import MODEL, FakeEngine
from tests.fakes.http import events

SCHEMAS: dict[str, type[WireModel]] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/chat/completions/render": ChatCompletionRequest,
    "/v1/chat/completions/input_tokens": ChatCompletionRequest,
    "/v1/completions": CompletionRequest,
    "/v1/completions/render": CompletionRequest,
    "/v1/completions/input_tokens": CompletionRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(["", "a", "auto", "text", "user", "\x00", "\ud800", "é☃", "5", "-1"])
    | st.text(max_size=8)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
part = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["text", "refusal", "image_url"]) | anything, "text": st.text() | anything}
)
name = st.sampled_from(["f", "g", "a b", ""])
schema = st.dictionaries(st.sampled_from(["type", "properties", "required", "enum"]), anything, max_size=2)
function = st.fixed_dictionaries(
    {"name": name}, optional={"parameters": schema | anything, "strict": st.booleans() | anything}
)
tool = st.fixed_dictionaries({"type": st.just("function")}, optional={"function": function | anything})
call = st.fixed_dictionaries({"function": st.fixed_dictionaries({"name": name})}, optional={"id": name | anything})
choice = st.sampled_from(["none", "auto", "required"]) | tool
allowed = st.fixed_dictionaries({"mode": choice}, optional={"tools": st.lists(tool, max_size=2)})
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool", "developer", "function"]) | anything},
    optional={
        "content": st.text(max_size=8) | st.lists(part, max_size=2) | anything,
        "name": st.just("f") | anything,
        "function_call": st.just({"name": "f", "arguments": "{}"}) | anything,
        "tool_calls": st.lists(call, max_size=2) | anything,
        "tool_call_id": name | anything,
        "refusal": anything,
    },
)
likely: dict[str, st.SearchStrategy[Any]] = {
    "messages": st.lists(message, min_size=1, max_size=3) | anything,
    "prompt": st.text(max_size=8) | st.lists(st.integers(-1, 1001), max_size=3) | anything,
    "input": st.text(max_size=8) | st.lists(st.text(max_size=4) | st.integers(-1, 1001), max_size=3) | anything,
    "tokens": st.lists(st.integers(-1, 2**33), max_size=5) | anything,
    "model": st.sampled_from(["fake-model", "other"]) | anything,
    "n": st.integers(1, 4) | anything,
    "best_of": st.integers(1, 4) | anything,
    "truncation": st.fixed_dictionaries({"side": st.sampled_from(["left", "right"]), "max_tokens": st.integers(0, 5)}),
    "truncate_prompt_tokens": st.integers(-2, 5) | anything,
    "truncation_side": st.sampled_from(["left", "right"]) | anything,
    "stream": st.booleans() | anything,
    "temperature": st.floats(0, 2) | anything,
    "seed": st.integers(-(2**63), 2**63 - 1) | anything,
    "logprobs": st.booleans() | st.integers(0, 20) | anything,
    "logit_bias": st.dictionaries(st.integers(0, 1001).map(str), st.floats(-100, 100), max_size=3) | anything,
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}) | anything,
    "tools": st.lists(tool, max_size=2) | anything,
    "tool_choice": choice | st.fixed_dictionaries({"type": st.just("allowed_tools"), "allowed_tools": allowed}),
    "chat_template_kwargs": st.dictionaries(st.sampled_from(["mood", "messages", "bos_token"]), anything) | anything,
}

CHATS = ("/v1/chat/completions",)
with_tools = st.fixed_dictionaries(
    {name: likely[name] for name in ("messages", "tools")},
    optional={name: likely[name] for name in ("tool_choice", "stream", "n")} | {"parallel_tool_calls": st.booleans()},
)


def bodies(path: str) -> st.SearchStrategy[Any]:
    """Bodies whose fields exist and whose values are now likely, now not."""
    names = [*SCHEMAS[path].model_fields, *REFUSED, "best_of", "unknown"]
    required = {"messages", "prompt", "tokens", "input"} & SCHEMAS[path].model_fields.keys()
    fields = {name: likely.get(name, anything) for name in names}
    optional = st.lists(st.sampled_from(names), max_size=4, unique=True)
    some = optional.flatmap(lambda chosen: st.fixed_dictionaries({n: fields[n] for n in {*chosen, *required}}))
    return st.one_of(some, some, with_tools if path in CHATS else some, anything)


@pytest.fixture(scope="module")
def app(text: ModelText) -> FastAPI:
    return create_app(FakeEngine(model=replace(MODEL, max_model_len=4096)), text, ServerConfig())


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("path", SCHEMAS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_body_gets_an_answer_or_an_error_in_shape(
    path: str, data: st.DataObject, app: FastAPI, loop: asyncio.Runner
) -> None:
    content = json.dumps(data.draw(bodies(path)))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, content=content, headers={"Content-Type": "application/json"})

    response = loop.run(ask())
    if response.status_code == 200:
        if response.headers["content-type"].startswith("text/event-stream"):
            assert all("error" not in chunk for chunk in events(response.text))
        else:
            response.json()
        return
    assert response.status_code in (400, 404), response.text
    error = response.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] is None or isinstance(error["code"], str)
