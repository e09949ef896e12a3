"""Tool calls at the API: what reaches the model, what comes back, whole and streamed, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from fastapi.testclient import TestClient

from engine.types import Finish, FinishReason, GrammarKind, GrammarSpec
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText, load_model_text
from tests.api.test_refusals import error_of
from tests.engine.constraints.test_grammar import accepts
from tests.fakes.engine import MODEL, FakeEngine, Script, always, script
from tests.fakes.http import events
from tests.fakes.text import TEMPLATE, write_model_text

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Looks out.", "parameters": SCHEMA}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
ONE = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
TWO = ONE + '\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
NATIVE = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>"
    "{% endfor %}</s>{% endfor %}<assistant>"
)
ID = re.compile(r"call_[A-Za-z0-9]{24}")
MARKER = 258
ROOMY = replace(MODEL, max_model_len=4096)


@pytest.fixture(scope="module")
def app_and_engine(text: ModelText) -> Iterator[tuple[TestClient, FakeEngine]]:
    """One app for all tests here, since its process that tries grammars takes a moment to start."""
    engine = FakeEngine(model=ROOMY)
    app = create_app(engine, text, ServerConfig())
    yield TestClient(app, base_url="http://127.0.0.1"), engine
    app.state.services.grammars.close()


@pytest.fixture
def engine(app_and_engine: tuple[TestClient, FakeEngine]) -> FakeEngine:
    engine = app_and_engine[1]
    engine.requests.clear()
    engine.answer = always(script("Hello."))
    return engine


@pytest.fixture
def client(app_and_engine: tuple[TestClient, FakeEngine], engine: FakeEngine) -> TestClient:
    return app_and_engine[0]


def says(text: str, **settings: Any) -> Any:
    """An engine's answer of this text, three bytes at a time."""
    data = text.encode()
    return always(script([data[place : place + 3] for place in range(0, len(data), 3)], **settings))


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post(CHAT, json={"messages": MESSAGES, "tools": TOOLS, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def stream(client: TestClient, **fields: Any) -> list[Any]:
    response = client.post(CHAT, json={"messages": MESSAGES, "tools": TOOLS, "stream": True, **fields})
    assert response.status_code == 200, response.text
    return [event["choices"][0] for event in events(response.text)]


def refused(client: TestClient, **fields: Any) -> dict[str, Any]:
    response = client.post(CHAT, json={"messages": MESSAGES, "tools": TOOLS, **fields})
    assert response.status_code == 400, response.text
    return error_of(response)


def prompt_of(engine: FakeEngine, text: ModelText) -> str:
    return text.tokenizer.decode(engine.requests[-1].prompt_token_ids, skip_special_tokens=False)


def test_calls_of_a_whole_answer(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = says(TWO)
    choice = ask(client)["choices"][0]
    message = choice["message"]
    assert choice["finish_reason"] == "tool_calls"
    assert (message["role"], message["content"], message["refusal"]) == ("assistant", None, None)
    assert "reasoning_content" not in message
    first, second = message["tool_calls"]
    assert first["id"] != second["id"]
    for call, name, arguments in ((first, "weather", '{"city": "Oslo"}'), (second, "clock", "{}")):
        assert ID.fullmatch(call["id"])
        function = {"name": name, "arguments": arguments}
        assert call == {"id": call["id"], "type": "function", "function": function}


def test_calls_of_a_streamed_answer(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = says(f"Let me see.\n{TWO}")
    role, *rest, last = stream(client)
    assert role["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert (last["delta"], last["finish_reason"]) == ({}, "tool_calls")
    assert all(each["finish_reason"] is None for each in rest)
    content = [each["delta"]["content"] for each in rest if "content" in each["delta"]]
    assert "".join(content) == "Let me see.\n"
    calls = [each["delta"]["tool_calls"][0] for each in rest[len(content) :]]
    heads = [each for each in calls if "id" in each]
    assert [each["index"] for each in heads] == [0, 1]
    for head, name in zip(heads, ("weather", "clock"), strict=True):
        assert ID.fullmatch(head["id"])
        assert head == {**head, "type": "function", "function": {"name": name, "arguments": ""}}
    more = [each for each in calls if "id" not in each]
    assert all(set(each) == {"index", "function"} and set(each["function"]) == {"arguments"} for each in more)
    for index, arguments in enumerate(('{"city": "Oslo"}', "{}")):
        assert "".join(each["function"]["arguments"] for each in more if each["index"] == index) == arguments
    assert sum(each["index"] == 0 for each in more) > 3  # they come as they are made


def test_ids_of_calls_differ_between_choices_and_from_those_of_the_conversation(
    client: TestClient, engine: FakeEngine
) -> None:
    own = '<tool_call>\n{"id": "call_1", "name": "clock", "arguments": {}}\n</tool_call>'
    engine.answer = says(own)
    earlier = {"role": "assistant", "tool_calls": [{"id": "call_1", "function": {"name": "clock", "arguments": "{}"}}]}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "noon"}
    given = ask(client, messages=[*MESSAGES, earlier, answer], n=2)
    names = [choice["message"]["tool_calls"][0]["id"] for choice in given["choices"]]
    assert len({*names, "call_1"}) == 3
    assert ask(client)["choices"][0]["message"]["tool_calls"][0]["id"] == "call_1"


def test_an_answer_cut_off_in_a_call_is_cut_off(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = says(ONE[:-18], finish=Finish(FinishReason.LENGTH))
    choice = ask(client)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Os'
    assert stream(client)[-1]["finish_reason"] == "length"


def test_an_answer_without_calls_is_as_ever(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = says("It is <b>noon</b>.")
    choice = ask(client)["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {
        "role": "assistant",
        "content": "It is <b>noon</b>.",
        "refusal": None,
        "annotations": [],
    }


def test_log_probabilities_are_those_of_the_content(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script([b"Look: ", b"<tool_call>", ONE[11:].encode()]))
    whole = ask(client, logprobs=True)["choices"][0]
    assert [entry["token"] for entry in whole["logprobs"]["content"]] == ["Look: "]
    entries = [each["logprobs"] for each in stream(client, logprobs=True) if each["logprobs"]]
    assert entries == [whole["logprobs"]]


def test_none_hides_the_tools_and_leaves_the_text_alone(
    client: TestClient, engine: FakeEngine, text: ModelText
) -> None:
    engine.answer = says(ONE)
    choice = ask(client, tool_choice="none")["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (ONE, "stop")
    assert prompt_of(engine, text) == "<s><user>Hi</s><assistant>"
    assert engine.requests[-1].sampling.grammar is None


@pytest.mark.parametrize("fields", [{}, {"tool_choice": None}, {"tool_choice": "auto", "parallel_tool_calls": True}])
def test_auto_leaves_the_model_free(client: TestClient, engine: FakeEngine, text: ModelText, fields: Any) -> None:
    ask(client, **fields)
    assert engine.requests[-1].sampling.grammar is None
    prompt = prompt_of(engine, text)
    assert json.dumps(WEATHER["function"]) in prompt
    assert '"name": "clock"' in prompt


ALLOWED = [{"type": "function", "function": {"name": "clock"}}]


@pytest.mark.parametrize(
    ("fields", "fits", "fails"),
    [
        ({"tool_choice": "required"}, [ONE, TWO], ["Hello.", "", f"x{ONE}", ONE.replace("city", "town")]),
        ({"tool_choice": "required", "parallel_tool_calls": False}, [ONE], [TWO, ""]),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, [ONE], [TWO, TWO[len(ONE) + 1 :]]),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": ALLOWED}}},
            [TWO[len(ONE) + 1 :]],
            [ONE, TWO, ""],
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ALLOWED}}},
            ["", "Hello.", TWO[len(ONE) + 1 :]],
            [ONE, TWO],
        ),
        ({"parallel_tool_calls": False}, ["Hello.", ONE], [TWO]),
        (
            {"tools": [{"type": "function", "function": {**WEATHER["function"], "strict": True}}, CLOCK]},
            ["Hello.", TWO],
            [ONE.replace("city", "town")],
        ),
        (
            {"response_format": {"type": "json_object"}},
            ['{"a": 1}', TWO],
            ["Hello.", f"Hello.{ONE}"],
        ),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, ["yes", TWO], ["maybe"]),
        ({"structured_outputs": {"regex": "a+"}}, ["aa", TWO], ["b"]),
    ],
)
def test_what_a_grammar_holds_answers_to(
    client: TestClient, engine: FakeEngine, fields: Any, fits: list[str], fails: list[str]
) -> None:
    ask(client, **fields)
    grammar = engine.requests[-1].sampling.grammar
    assert grammar is not None
    assert grammar.kind is GrammarKind.TREE
    assert [accepts(grammar.kind, grammar.source, each) for each in fits] == [True] * len(fits)
    assert [accepts(grammar.kind, grammar.source, each) for each in fails] == [False] * len(fails)


def test_only_one_call_is_given_where_only_one_is_wanted(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = says(TWO)
    message = ask(client, parallel_tool_calls=False)["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["weather"]


NAMED = "tool_choice.function.name"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [CLOCK, {"type": "function"}]}, "tools[1].function"),
        ({"tools": [CLOCK, {"type": "function", "function": {}}]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f\n"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools[0].function.name"),
        ({"tools": [CLOCK, WEATHER, CLOCK]}, "tools[2].function.name"),
        ({"tools": [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)]}, "tools"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "clock"}}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, NAMED),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "any", "tools": ALLOWED}}},
            "tool_choice.allowed_tools.mode",
        ),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}},
            "tool_choice.allowed_tools.tools",
        ),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ALLOWED}},
            },
            "tool_choice.allowed_tools.tools[0].function.name",
        ),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": None, "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"tool_choice": "required", "ignore_eos": True}, "ignore_eos"),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, "structured_outputs.grammar"),
    ],
)
def test_what_is_refused(client: TestClient, engine: FakeEngine, fields: Any, param: str) -> None:
    error = refused(client, **fields)
    assert error["param"] == param
    assert param.partition("[")[0].partition(".")[0] in error["message"]
    assert not engine.requests


def test_a_response_format_is_checked_even_where_no_answer_can_have_it(client: TestClient) -> None:
    wanted = {"type": "json_object", "schema": {"not": {}}}
    error = refused(client, tool_choice="required", response_format=wanted)
    assert error["param"] == "response_format.schema"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["object", "null"]},
        {"properties": []},
        {"properties": {"a": 5}},
        {"required": "a"},
        {"required": [1]},
    ],
)
def test_a_schema_that_cannot_be_one_of_arguments_is_refused(client: TestClient, schema: Any) -> None:
    tools = [CLOCK, {"type": "function", "function": {"name": "f", "parameters": schema}}]
    assert refused(client, tools=tools)["param"] == "tools[1].function.parameters"


def test_a_strict_schema_that_cannot_be_enforced_is_refused_by_name(client: TestClient) -> None:
    odd = {"type": "object", "unevaluatedProperties": False}
    tools = [CLOCK, {"type": "function", "function": {"name": "f", "parameters": odd, "strict": True}}]
    error = refused(client, tools=tools)
    assert (error["param"], error["code"]) == ("tools[1].function.parameters", "invalid_function_parameters")
    assert "'f'" in error["message"]


CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
    ],
}


def result(name: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([*MESSAGES, result("a", "x")], "messages[1].tool_call_id"),
        ([*MESSAGES, CALLS, result("c", "x")], "messages[2].tool_call_id"),
        ([*MESSAGES, CALLS, *MESSAGES, result("a", "x")], "messages[3].tool_call_id"),
        ([*MESSAGES, CALLS, {"role": "tool", "content": "x"}], "messages[2].tool_call_id"),
        ([*MESSAGES, CALLS, result("b", "x"), result("a", [{"type": "image_url"}])], "messages[3].content[0]"),
    ],
)
def test_results_that_answer_nothing_are_refused(client: TestClient, messages: Any, param: str) -> None:
    assert refused(client, messages=messages)["param"] == param


def test_a_model_without_tools_in_its_template_is_told_in_words(
    client: TestClient, engine: FakeEngine, text: ModelText
) -> None:
    parts = [{"type": "text", "text": "sun"}, {"type": "text", "text": "rain"}]
    history = [{"role": "system", "content": "Be brief."}, *MESSAGES, CALLS, result("b", "noon"), result("a", parts)]
    ask(client, messages=history)
    prompt = prompt_of(engine, text)
    system, _, rest = prompt.partition("</s>")
    assert system.startswith("<s><system>Be brief.\n\nYou can call functions.")
    assert json.dumps(WEATHER["function"]) in system
    assert rest == (
        f"<user>Hi</s><assistant>{TWO}</s><user><tool_response>\nsun\nrain\n</tool_response></s>"
        "<user><tool_response>\nnoon\n</tool_response></s><assistant>"
    )


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ModelText:
    """A model whose template shows tools, and whose markers are special tokens."""
    directory = write_model_text(tmp_path_factory.mktemp("native"), NATIVE)
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens(["<tool_call>", "</tool_call>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    return load_model_text(directory)


def test_a_template_that_shows_tools_gets_them(native: ModelText) -> None:
    engine = FakeEngine(model=ROOMY)
    client = TestClient(create_app(engine, native, ServerConfig()), base_url="http://127.0.0.1")
    ask(client, messages=[*MESSAGES, CALLS, result("a", "sun")])
    clock = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
    assert prompt_of(engine, native) == (
        f"<tools>{json.dumps([WEATHER, clock])}</tools><user>Hi</s><assistant>"
        '<tool_call>weather {"city": "Oslo"}</tool_call><tool_call>clock {}</tool_call></s>'
        "<tool>sun</s><assistant>"
    )


def test_a_model_whose_notation_is_not_known_is_told_another_one(tmp_path: Path) -> None:
    odd = NATIVE.replace("<tool_call>", "<invoke>").replace("</tool_call>", "</invoke>")
    text = load_model_text(write_model_text(tmp_path, odd))
    assert text.tool_format.name == "generic"
    engine = FakeEngine(model=ROOMY)
    client = TestClient(create_app(engine, text, ServerConfig()), base_url="http://127.0.0.1")
    ask(client, messages=[*MESSAGES, CALLS, result("a", "sun")])
    prompt = prompt_of(engine, text)
    assert prompt.startswith("<system>You can call functions.")
    assert "<tools>" not in prompt
    assert prompt.endswith(f"<assistant>{TWO}</s><user><tool_response>\nsun\n</tool_response></s><assistant>")


def test_tools_are_refused_where_there_is_no_place_for_them(tmp_path: Path) -> None:
    users = "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    text = load_model_text(write_model_text(tmp_path, users))
    engine = FakeEngine(model=ROOMY)
    for repair in (True, False):
        app = create_app(engine, text, ServerConfig(repair_roles=repair))
        response = TestClient(app, base_url="http://127.0.0.1").post(CHAT, json={"messages": MESSAGES, "tools": TOOLS})
        if repair:
            assert response.status_code == 200
            assert prompt_of(engine, text).startswith("<user>You can call functions.")
        else:
            assert error_of(response)["param"] == "tools"


def test_markers_that_are_special_tokens_are_seen(native: ModelText) -> None:
    special = frozenset({2, MARKER, MARKER + 1})
    body = b'\n{"name": "clock", "arguments": {}}\n'
    answer = Script(((MARKER, b"<tool_call>"), (5, body), (MARKER + 1, b"</tool_call>")), special=special)
    engine = FakeEngine(answer=always(answer), model=ROOMY)
    client = TestClient(create_app(engine, native, ServerConfig()), base_url="http://127.0.0.1")
    assert ask(client)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "clock"
    assert engine.requests[-1].sampling.shown_special_tokens == (MARKER, MARKER + 1)
    ask(client, tool_choice="none")
    assert engine.requests[-1].sampling.shown_special_tokens == ()


def test_answers_with_a_frame_are_read_without_tools_too(text: ModelText) -> None:
    framed = ModelText(text.tokenizer, text.template, text.defaults, "harmony")
    said = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello."
    engine = FakeEngine(answer=says(said))
    app = create_app(engine, framed, ServerConfig())
    client = TestClient(app, base_url="http://127.0.0.1")
    message = ask(client, tools=None)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello.", "Hm.")
    ask(client, tools=None, response_format={"type": "json_object"})
    assert engine.requests[-1].sampling.grammar == GrammarSpec(GrammarKind.JSON_OBJECT)
    app.state.services.grammars.close()


def test_a_setting_names_the_format(tmp_path: Path) -> None:
    directory = write_model_text(tmp_path, TEMPLATE)
    assert load_model_text(directory).tool_format.name == "generic"
    assert load_model_text(directory, "hermes").tool_format.name == "hermes"


def test_counting_and_rendering_know_tools(client: TestClient) -> None:
    body = {"messages": MESSAGES, "tools": TOOLS}
    with_tools = client.post(f"{CHAT}/render", json=body).json()["data"][0]["prompt"]
    assert '"name": "clock"' in with_tools
    hidden = client.post(f"{CHAT}/render", json={**body, "tool_choice": "none"}).json()["data"][0]["prompt"]
    assert hidden == "<s><user>Hi</s><assistant>"
