"""Structured outputs at the API: what reaches the engine, and what is refused before anything does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.types import GrammarKind, GrammarSpec
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GBNF = '# a comment\nroot ::= "a" | "b"'
LARK = 'start: "a" | "::="'
TAG = {"structures": [{"begin": "<f>", "schema": {"type": "integer"}, "end": "</f>"}], "triggers": ["<f"]}
MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}, "required": ["b"]}


@pytest.fixture(scope="module")
def app_and_engine(text: ModelText) -> Iterator[tuple[TestClient, FakeEngine]]:
    """One app for all tests here, since its process that tries grammars takes a moment to start."""
    engine = FakeEngine()
    app = create_app(engine, text, ServerConfig())
    yield TestClient(app, base_url="http://127.0.0.1"), engine
    app.state.services.grammars.close()


@pytest.fixture
def engine(app_and_engine: tuple[TestClient, FakeEngine]) -> FakeEngine:
    engine = app_and_engine[1]
    engine.requests.clear()
    return engine


@pytest.fixture
def client(app_and_engine: tuple[TestClient, FakeEngine], engine: FakeEngine) -> TestClient:
    return app_and_engine[0]


def json_schema(schema: Any = SCHEMA, **more: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}}


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": None, "structured_outputs": {}}, None),
        ({"structured_outputs": {"disable_fallback": False, "disable_any_whitespace": False, "new": None}}, None),
        ({"response_format": {"type": "json_object"}}, GrammarSpec(GrammarKind.JSON_OBJECT)),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)),
        ),
        (json_schema(), GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))),
        (json_schema(strict=True, description="d"), GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))),
        (json_schema(True, strict=False), GrammarSpec(GrammarKind.JSON_SCHEMA, "true")),
        ({"structured_outputs": {"json": SCHEMA}}, GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))),
        (
            {"structured_outputs": {"json": json.dumps(SCHEMA)}},
            GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)),
        ),
        ({"structured_outputs": {"json_object": True}}, GrammarSpec(GrammarKind.JSON_OBJECT)),
        (
            {"guided_json": SCHEMA, "response_format": {"type": "text"}},
            GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)),
        ),
        ({"structured_outputs": {"regex": "a+"}}, GrammarSpec(GrammarKind.REGEX, "a+")),
        ({"structured_outputs": {"choice": ["a", "é"]}}, GrammarSpec(GrammarKind.CHOICE, '["a", "é"]')),
        ({"structured_outputs": {"grammar": LARK}}, GrammarSpec(GrammarKind.LARK, LARK)),
        ({"structured_outputs": {"grammar": GBNF}}, GrammarSpec(GrammarKind.GBNF, GBNF)),
        ({"structured_outputs": {"structural_tag": TAG}}, GrammarSpec(GrammarKind.STRUCTURAL_TAG, json.dumps(TAG))),
        (
            {"structured_outputs": {"structural_tag": json.dumps(TAG)}},
            GrammarSpec(GrammarKind.STRUCTURAL_TAG, json.dumps(TAG)),
        ),
        (
            {"response_format": {"type": "structural_tag", **TAG}},
            GrammarSpec(GrammarKind.STRUCTURAL_TAG, json.dumps(TAG)),
        ),
        ({"guided_regex": "a+"}, GrammarSpec(GrammarKind.REGEX, "a+")),
        ({"guided_choice": ["a"]}, GrammarSpec(GrammarKind.CHOICE, '["a"]')),
        ({"guided_grammar": LARK}, GrammarSpec(GrammarKind.LARK, LARK)),
        ({"grammar": GBNF}, GrammarSpec(GrammarKind.GBNF, GBNF)),
    ],
)
def test_what_reaches_the_engine(client: TestClient, engine: FakeEngine, fields: Any, spec: GrammarSpec | None) -> None:
    for path, body in ((CHAT, {"messages": MESSAGES}), (COMPLETIONS, {"prompt": "Hi"})):
        response = client.post(path, json={**body, **fields})
        assert response.status_code == 200, response.text
        assert engine.requests[-1].sampling.grammar == spec
        assert "x-quire-ignored-fields" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {}}, "response_format.type", "response_format.type"),
        ({"response_format": "json_object"}, "response_format", "object"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"name": "a", "schema": {}}}},
            "response_format.type",
            "json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "schema": {}, "json_schema": {"name": "a", "schema": {}}}},
            "response_format.schema",
            "response_format.json_schema.schema",
        ),
        (json_schema({"type": "array", "uniqueItems": True}), "response_format.json_schema.schema", "uniqueItems"),
        (json_schema({"type": "text"}), "response_format.json_schema.schema", "text"),
        (json_schema({"$ref": "http://example.com/"}), "response_format.json_schema.schema", "http://example.com/"),
        (json_schema(False), "response_format.json_schema.schema", "object"),
        (json_schema({"default": float("nan")}), "response_format.json_schema.schema", "NaN"),
        ({"structured_outputs": {"json": {"not": {}}}}, "structured_outputs.json", "not"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json", "JSON"),
        ({"structured_outputs": {"jsonn": {}}}, "structured_outputs.jsonn", "is none of json, regex, choice"),
        ({"guided_json": {"type": "string", "format": "regex"}}, "guided_json", "regex"),
        ({"guided_json": {}, **json_schema()}, "guided_json", "response_format.json_schema.schema"),
        ({"structured_outputs": {"json": {}, "json_object": True}}, "structured_outputs.json_object", "Only one"),
        ({**json_schema(), "ignore_eos": True}, "ignore_eos", "ignore_eos"),
        ({"guided_json": {"description": "x" * 200_000}}, "guided_json", "bytes"),
        (
            {"structured_outputs": {"json": {}, "whitespace_pattern": " ?"}},
            "structured_outputs.whitespace_pattern",
            "supported",
        ),
        (
            {"structured_outputs": {"json": {}, "disable_any_whitespace": True}},
            "structured_outputs.disable_any_whitespace",
            "supported",
        ),
        ({"guided_json": {}, "guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern", "supported"),
        ({"guided_regex": "a("}, "guided_regex", "a("),
        ({"guided_regex": ""}, "guided_regex", "empty"),
        ({"structured_outputs": {"regex": "(?=a)b"}}, "structured_outputs.regex", "look-around"),
        ({"guided_choice": []}, "guided_choice", "one item"),
        ({"guided_choice": [""]}, "guided_choice", "empty"),
        ({"structured_outputs": {"choice": "ab"}}, "structured_outputs.choice", "an array"),
        ({"guided_grammar": 'start: "a" b'}, "guided_grammar", "b"),
        ({"grammar": 'root ::= "a" b'}, "grammar", "'b'"),
        ({"grammar": "root ::= <think>"}, "grammar", "tokens"),
        ({"structured_outputs": {"structural_tag": {}}}, "structured_outputs.structural_tag", "structures"),
        ({"response_format": {"type": "structural_tag"}}, "response_format", "structures"),
        ({"response_format": {"type": "structural_tag", "format": {}}}, "response_format", "format"),
        ({"response_format": {"type": "json_object", **TAG}}, "response_format.type", "structural_tag"),
        ({"grammar": LARK, "guided_regex": "a"}, "grammar", "Only one"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name_before_the_first_byte(
    client: TestClient, engine: FakeEngine, fields: Any, param: str, named: str, stream: bool
) -> None:
    body = json.dumps({"messages": MESSAGES, "stream": stream, **fields})  # which writes NaN as Python does
    error = error_of(client.post(CHAT, content=body, headers={"Content-Type": "application/json"}))
    assert error["param"] == param
    assert named in error["message"]
    assert not engine.requests


def test_a_verdict_is_remembered(
    app_and_engine: tuple[TestClient, FakeEngine], client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = json_schema({"type": "never seen"})
    first = error_of(client.post(CHAT, json={"messages": MESSAGES, **bad}))
    good = client.post(CHAT, json={"messages": MESSAGES, **json_schema()})
    assert good.status_code == 200
    monkeypatch.setattr("server.grammar_checks.GrammarChecks._verdict", None)
    assert error_of(client.post(CHAT, json={"messages": MESSAGES, **bad})) == first
    assert client.post(CHAT, json={"messages": MESSAGES, **json_schema()}).status_code == 200


def test_the_openapi_document_describes_the_fields(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for body in ("ChatCompletionRequest", "CompletionRequest"):
        assert {"response_format", "structured_outputs", "guided_json", "guided_regex", "grammar"} <= schemas[body][
            "properties"
        ].keys()
    assert "schema" in schemas["JsonSchemaFormat"]["properties"]
    types = ["text", "json_object", "json_schema", "structural_tag"]
    assert schemas["ResponseFormat"]["properties"]["type"]["enum"] == types
