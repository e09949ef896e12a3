"""The OpenAPI document is valid, says everything of every route, and is true of real answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.api.test_access import SCOPES
from tests.fakes.engine import MODEL, FakeEngine, always, script
from tests.fakes.http import events
from tests.fakes.text import TEMPLATE, model_text

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = [{"role": "user", "content": "Hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = 'Wait. <tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
HERMES = (
    TEMPLATE
    + "{% if tools %}<tools>{{ tools | tojson }}</tools><tool_call></tool_call>{% endif %}{# <think></think> #}"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, FakeEngine]]:
    """A model that thinks and calls tools."""
    engine = FakeEngine(model=replace(MODEL, max_model_len=2048))
    app = create_app(engine, model_text(tmp_path_factory.mktemp("openapi"), HERMES), ServerConfig())
    yield TestClient(app, base_url="http://127.0.0.1"), engine
    app.state.services.grammars.close()


@pytest.fixture(scope="module")
def document(served: tuple[TestClient, FakeEngine]) -> Any:
    return served[0].get("/openapi.json").json()


def conforms(document: Any, schema: Any, value: Any) -> None:
    """Check a value against a schema of the document."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def schema_of(document: Any, method: str, path: str, status: str = "200", kind: str = "application/json") -> Any:
    return document["paths"][path][method]["responses"][status]["content"][kind]["schema"]


def test_the_document_is_valid(document: Any) -> None:
    validate(document)


def test_every_route_is_described(document: Any) -> None:
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    own = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
    assert described == {(method, path.replace(":path}", "}")) for method, path in SCOPES if path not in own}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert all(operation[name] for name in ("summary", "description", "tags")), path
            assert {"200", "4XX", "5XX"} <= operation["responses"].keys()
            for response in operation["responses"].values():
                assert all(content["schema"] for content in response["content"].values()), path
                assert response["description"]
                assert "x-request-id" in response["headers"]
            assert operation.get("security") == ([] if SCOPES.get((method.upper(), path)) == "public" else None)


def test_every_example_is_taken(served: tuple[TestClient, FakeEngine], document: Any) -> None:
    bodies = {
        path: operations["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for path, operations in document["paths"].items()
        if "requestBody" in operations.get("post", {}) and not path.startswith("/admin")
    }
    assert len(bodies) == 9
    for path, name in bodies.items():
        for example in document["components"]["schemas"][name]["examples"]:
            response = served[0].post(path, json=example)
            assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (CHAT, {"messages": USER, "n": 2}, "Hello there"),
        (CHAT, {"messages": USER, "logprobs": True, "top_logprobs": 2}, "Hello there"),
        (CHAT, {"messages": USER, "max_tokens": 1, "stop": "x"}, "Hello there"),
        (CHAT, {"messages": USER}, "<think>hm</think>Hello"),
        (CHAT, {"messages": USER, "reasoning_format": "parsed"}, "<think>hm</think>Hello"),
        (CHAT, {"messages": USER, "tools": TOOLS}, CALL),
        (COMPLETIONS, {"prompt": ["a", "b"]}, "Hello there"),
        (COMPLETIONS, {"prompt": "a", "logprobs": 2, "echo": True}, "Hello there"),
        (COMPLETIONS, {"prompt": "a", "best_of": 3, "n": 2}, "Hello there"),
        (COMPLETIONS, {"prompt": "abc", "truncate_prompt_tokens": 2}, "Hello there"),
    ],
)
def test_answers_are_as_described(
    served: tuple[TestClient, FakeEngine], document: Any, path: str, body: Any, answer: str
) -> None:
    client, engine = served
    engine.answer = always(script(answer))
    whole = client.post(path, json=body)
    assert whole.status_code == 200, whole.text
    conforms(document, schema_of(document, "post", path), whole.json())
    if "best_of" in body:
        return
    for options in ({}, {"stream_options": {"include_usage": True}}):
        streamed = client.post(path, json={**body, "stream": True, **options})
        schema = schema_of(document, "post", path, kind="text/event-stream")
        for event in events(streamed.text):
            conforms(document, schema, event)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_likelihoods_of_prompts_are_as_described(
    served: tuple[TestClient, FakeEngine], document: Any, path: str
) -> None:
    body = {"messages": USER} if path == CHAT else {"prompt": "a"}
    answer = served[0].post(path, json={**body, "prompt_logprobs": 2})
    assert answer.status_code == 200
    conforms(document, schema_of(document, "post", path), answer.json())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/fake-model", None),
        ("GET", "/tokenizer_info", None),
        ("GET", "/health", None),
        ("GET", "/health/ready", None),
        ("GET", "/health/live", None),
        ("GET", "/admin/models", None),
        ("POST", "/admin/models/cancel", {}),
        ("POST", "/v1/embeddings", {"input": ["a", "b"]}),
        ("POST", "/v1/embeddings", {"input": "a", "encoding_format": "base64"}),
        ("POST", "/tokenize", {"prompt": "a"}),
        ("POST", "/detokenize", {"tokens": [70]}),
        ("POST", f"{CHAT}/render", {"messages": USER}),
        ("POST", f"{CHAT}/input_tokens", {"messages": USER}),
        ("POST", f"{COMPLETIONS}/render", {"prompt": "a"}),
        ("POST", f"{COMPLETIONS}/input_tokens", {"prompt": "a"}),
    ],
)
def test_other_answers_are_as_described(
    served: tuple[TestClient, FakeEngine], document: Any, method: str, path: str, body: Any
) -> None:
    response = served[0].request(method, path, json=body)
    assert response.status_code == 200, response.text
    described = path.replace("/fake-model", "/{model_id}")
    conforms(document, schema_of(document, method.lower(), described), response.json())


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, {}), (CHAT, {"messages": USER, "model": "other"}), (COMPLETIONS, {"prompt": "x" * 3000}), ("/none", {})],
)
def test_errors_are_as_described(served: tuple[TestClient, FakeEngine], document: Any, path: str, body: Any) -> None:
    response = served[0].post(path, json=body)
    assert response.status_code in (400, 404)
    conforms(document, schema_of(document, "post", CHAT, "4XX"), response.json())


def test_what_is_shown_without_a_key_is_as_described(
    make_client: MakeClient, document: Any, text: ModelText, tmp_path: Path
) -> None:
    body = make_client(text, api_key=("k",)).get("/health").json()
    assert body == {"status": "ok"}
    conforms(document, schema_of(document, "get", "/health"), body)


def test_a_path_in_front_is_told(make_client: MakeClient) -> None:
    assert make_client(root_path="/llm").get("/openapi.json").json()["servers"] == [{"url": "/llm"}]
