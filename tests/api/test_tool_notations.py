"""Calls in notations that are not JSON, through the whole server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.types import GrammarKind
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.api.test_refusals import error_of
from tests.engine.constraints.test_grammar import accepts
from tests.fakes.engine import MODEL, FakeEngine, always, script
from tests.fakes.http import events

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Write it."}]
PARAMETERS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "mode": {"type": "integer"}},
}
CONTENT = 'print("x < 1")\n'
ANSWERS = {
    "qwen3_coder": "<tool_call>\n<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=content>\n"
    'print("x < 1")\n\n</parameter>\n<parameter=mode>\n7\n</parameter>\n</function>\n</tool_call>',
    "glm": "<tool_call>write\n<arg_key>path</arg_key>\n<arg_value>a.py</arg_value>\n<arg_key>content</arg_key>\n"
    '<arg_value>print("x < 1")\n</arg_value>\n<arg_key>mode</arg_key>\n<arg_value>7</arg_value>\n</tool_call>',
    "pythonic": """[write(path="a.py", content='print("x < 1")\\n', mode=7)]""",
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write\n```json\n"
    '{"path": "a.py", "content": "print(\\"x < 1\\")\\n", "mode": 7}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "deepseek_v31": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write<｜tool▁sep｜>"
    '{"path": "a.py", "content": "print(\\"x < 1\\")\\n", "mode": 7}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "kimi_k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.write:0<|tool_call_argument_begin|>"
    '{"path": "a.py", "content": "print(\\"x < 1\\")\\n", "mode": 7}<|tool_call_end|><|tool_calls_section_end|>',
    "cohere": '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "write", "parameters": '
    '{"path": "a.py", "content": "print(\\"x < 1\\")\\n", "mode": 7}}\n]<|END_ACTION|>',
    "lfm2": """<|tool_call_start|>[write(path="a.py", content='print("x < 1")\\n', mode=7)]<|tool_call_end|>""",
    "seed_oss": "<seed:tool_call>\n<function=write>\n<parameter=path>a.py</parameter>\n"
    '<parameter=content>print("x < 1")\n</parameter>\n<parameter=mode>7</parameter>\n</function>\n</seed:tool_call>',
    "minimax_m2": '<minimax:tool_call>\n<invoke name="write">\n<parameter name="path">a.py</parameter>\n'
    '<parameter name="content">print("x < 1")\n</parameter>\n<parameter name="mode">7</parameter>\n</invoke>\n'
    "</minimax:tool_call>",
    "harmony": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.write "
    '<|constrain|>json<|message|>{"path": "a.py", "content": "print(\\"x < 1\\")\\n", "mode": 7}',
}


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "write", "parameters": PARAMETERS, **function}}


@pytest.fixture(scope="module", params=ANSWERS)
def served(request: pytest.FixtureRequest, text: ModelText) -> Iterator[tuple[str, TestClient, FakeEngine]]:
    """A server for one notation, and its engine, which answers with a call."""
    name: str = request.param
    data = ANSWERS[name].encode()
    answer = always(script([data[place : place + 3] for place in range(0, len(data), 3)]))
    engine = FakeEngine(answer=answer, model=replace(MODEL, max_model_len=4096))
    app = create_app(engine, ModelText(text.tokenizer, text.template, text.defaults, name), ServerConfig())
    yield name, TestClient(app, base_url="http://127.0.0.1"), engine
    app.state.services.grammars.close()


def test_a_whole_answer(served: tuple[str, TestClient, FakeEngine]) -> None:
    name, client, _ = served
    answered = client.post(CHAT, json={"messages": MESSAGES, "tools": [tool()]}).json()

    choice = answered["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"].get("reasoning_content") == ("Hm." if name == "harmony" else None)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "write"
    assert json.loads(call["function"]["arguments"]) == {"path": "a.py", "content": CONTENT, "mode": 7}


def test_a_streamed_answer_has_the_arguments_as_they_come(served: tuple[str, TestClient, FakeEngine]) -> None:
    _, client, _ = served
    response = client.post(CHAT, json={"messages": MESSAGES, "tools": [tool()], "stream": True})

    deltas = [event["choices"][0]["delta"] for event in events(response.text)]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert [call["function"]["name"] for call in calls if "id" in call] == ["write"]
    pieces = [call["function"].get("arguments", "") for call in calls]
    assert json.loads("".join(pieces)) == {"path": "a.py", "content": CONTENT, "mode": 7}
    written = "".join(pieces).index("print"), "".join(pieces).index(")")
    ends = [len("".join(pieces[: index + 1])) for index in range(len(pieces))]
    assert sum(written[0] < end < written[1] for end in ends) > 2


def test_required_calls_are_held_to_the_notation(served: tuple[str, TestClient, FakeEngine]) -> None:
    name, client, engine = served
    fields = {"messages": MESSAGES, "tools": [tool()], "tool_choice": "required"}
    assert client.post(CHAT, json=fields).status_code == 200

    spec = engine.requests[-1].sampling.grammar
    assert spec is not None
    grammar = json.loads(spec.source)
    assert accepts(GrammarKind.TREE, grammar, ANSWERS[name])
    assert not accepts(GrammarKind.TREE, grammar, ANSWERS[name].replace("write", "read"))
    assert not accepts(GrammarKind.TREE, grammar, "Hello.")


def test_a_strict_tool_is_enforced_or_refused_by_name(served: tuple[str, TestClient, FakeEngine]) -> None:
    name, client, _ = served
    texts = {"type": "object", "properties": {"path": {"type": "string", "pattern": "^[a-z.]+$"}}}
    response = client.post(CHAT, json={"messages": MESSAGES, "tools": [tool(parameters=texts, strict=True)]})

    if name in ("qwen3_coder", "glm", "seed_oss", "minimax_m2"):
        assert response.status_code == 400
        error = error_of(response)
        assert error["param"].startswith("tools")
        assert "The tool 'write' is strict" in error["message"]
        assert "'pattern'" in error["message"]
    else:
        assert response.status_code == 200, response.text
