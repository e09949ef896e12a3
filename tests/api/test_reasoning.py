"""Reasoning before an answer: where it is shown, what the prompt says of it, and what the engine is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.reasoning import ReasoningSpec
from engine.types import GenerationRequest
from server.text import load_model_text
from tests.api.conftest import MakeClient
from tests.fakes.engine import FakeEngine, Script, always, script
from tests.fakes.http import events
from tests.fakes.text import model_text, write_model_text

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
CONVERSATION = """{% for message in messages %}<{{ message.role }}>
{%- if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}
{%- endfor %}{% if add_generation_prompt %}<assistant>"""
WRITES = CONVERSATION + "{% endif %}"  # the model opens the block itself
OPENS = CONVERSATION + "<think>\n{% endif %}"
SWITCHES = CONVERSATION + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
LEVELS = CONVERSATION + "[{{ reasoning_effort or 'low' }}]<think>\n{% endif %}"
SPECIAL = CONVERSATION.replace("<think>", "[THINK]").replace("</think>", "[/THINK]") + "{% endif %}"

THINKS = script([b"<think>", b"\nI ", b"see.\n", b"</think>", b"\n\n", b"It is ", b"4."])
GOES_ON = script([b"I ", b"see.\n", b"</think>", b"\n\n", b"It is ", b"4."])


def served(make_client: MakeClient, directory: Path, template: str, **settings: Any) -> TestClient:
    return make_client(model_text(directory, template), **settings)


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post("/v1/chat/completions", json={"messages": MESSAGES, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, **fields: Any) -> Any:
    response = client.post("/v1/chat/completions", json={"messages": MESSAGES, **fields})
    assert response.status_code == 400, response.text
    return response.json()["error"]


def message(client: TestClient, **fields: Any) -> Any:
    return ask(client, **fields)["choices"][0]["message"]


def streamed(client: TestClient, **fields: Any) -> dict[str, str]:
    """What the deltas of a streamed answer join to, by field."""
    body = {"messages": MESSAGES, "stream": True, **fields}
    joined: dict[str, str] = {}
    for event in events(client.post("/v1/chat/completions", json=body).text):
        for choice in event["choices"]:
            for name, text in choice["delta"].items():
                joined[name] = joined.get(name, "") + (text or "")
    return joined


def asked(engine: FakeEngine) -> ReasoningSpec | None:
    return engine.requests[-1].sampling.reasoning


def test_reasoning_stands_apart_from_content(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer = always(THINKS)
    client = served(make_client, tmp_path, WRITES)
    answer = ask(client)
    choice = answer["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": "It is 4.",
        "reasoning_content": "I see.",
        "refusal": None,
        "annotations": [],
    }
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4
    assert streamed(client) == {
        "role": "assistant",
        "content": "It is 4.",
        "reasoning_content": "I see.",
        "refusal": "",
    }


@pytest.mark.parametrize("per_delta", [1, 2, 3, 7])
def test_streamed_usage_is_that_of_the_whole_answer(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, per_delta: int
) -> None:
    engine.answer = always(script([data for _, data in THINKS.tokens], per_delta=per_delta))
    client = served(make_client, tmp_path, WRITES)
    body = {"messages": MESSAGES, "n": 3, "stream": True, "stream_options": {"include_usage": True}}
    last = events(client.post("/v1/chat/completions", json=body).text)[-1]
    assert last["usage"] == ask(client, n=3)["usage"]
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == 12


def test_a_template_may_open_the_block(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer = always(GOES_ON)
    client = served(make_client, tmp_path, OPENS)
    answer = message(client)
    assert (answer["reasoning_content"], answer["content"]) == ("I see.", "It is 4.")
    spec = asked(engine)
    assert spec is not None
    assert spec.begun
    assert spec.budget is None


def test_a_users_words_open_nothing(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer = always(script("It is a tag."))
    client = served(make_client, tmp_path, WRITES)
    answer = message(client, messages=[{"role": "user", "content": "What is <think>"}])
    assert answer["content"] == "It is a tag."
    assert "reasoning_content" not in answer


def test_a_block_that_is_cut_off_is_all_reasoning(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer = always(GOES_ON)
    answer = ask(served(make_client, tmp_path, OPENS), max_tokens=2)
    choice = answer["choices"][0]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("I see.", "")
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2


def test_models_without_reasoning_are_left_alone(make_client: MakeClient, engine: FakeEngine) -> None:
    engine.answer = always(THINKS)
    answer = message(make_client())
    assert answer["content"].startswith("<think>")
    assert asked(engine) is None


def test_markers_that_are_special_tokens_are_seen(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    text = model_text(tmp_path, SPECIAL, ("[THINK]", "[/THINK]"))
    start, end = (text.tokenizer.token_to_id(each) or 0 for each in ("[THINK]", "[/THINK]"))
    tokens = ((start, b"[THINK]"), (70, b"I see."), (end, b"[/THINK]"), (71, b"It is 4."), (1, b"<s>"))
    engine.answer = always(Script(tokens, special=frozenset({1, start, end})))
    answer = message(make_client(text))
    assert (answer["reasoning_content"], answer["content"]) == ("I see.", "It is 4.")
    spec = asked(engine)
    assert spec is not None
    assert spec.start_token_ids == (start,)
    assert spec.closing_token_ids[-1] == end


@pytest.mark.parametrize(
    ("fields", "content", "apart"),
    [
        ({}, "It is 4.", {"reasoning_content": "I see."}),
        ({"reasoning_format": "auto"}, "It is 4.", {"reasoning_content": "I see."}),
        ({"reasoning_format": "deepseek"}, "It is 4.", {"reasoning_content": "I see."}),
        ({"reasoning_format": "parsed"}, "It is 4.", {"reasoning": "I see."}),
        ({"reasoning_format": "hidden"}, "It is 4.", {}),
        ({"include_reasoning": False}, "It is 4.", {}),
        ({"include_reasoning": False, "reasoning": {"exclude": True}}, "It is 4.", {}),
        ({"reasoning_format": "raw"}, "<think>\nI see.\n</think>\n\nIt is 4.", {}),
        ({"reasoning_format": "none"}, "<think>\nI see.\n</think>\n\nIt is 4.", {}),
        ({"separate_reasoning": False}, "<think>\nI see.\n</think>\n\nIt is 4.", {}),
        ({"separate_reasoning": True, "include_reasoning": True}, "It is 4.", {"reasoning_content": "I see."}),
    ],
)
def test_where_the_reasoning_is_shown(
    make_client: MakeClient,
    engine: FakeEngine,
    tmp_path: Path,
    fields: dict[str, Any],
    content: str,
    apart: dict[str, str],
) -> None:
    engine.answer = always(THINKS)
    client = served(make_client, tmp_path, WRITES)
    answer = message(client, **fields)
    assert answer["content"] == content
    names = ("reasoning_content", "reasoning")
    assert {name: answer[name] for name in names if name in answer} == apart
    deltas = streamed(client, **fields)
    assert deltas["content"] == content
    assert {name: deltas[name] for name in names if name in deltas} == apart
    usage = ask(client, **fields)["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 4  # wherever it is shown


def test_the_server_may_be_set_to_the_other_field(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer = always(THINKS)
    client = served(make_client, tmp_path, WRITES, reasoning_field="reasoning")
    assert message(client)["reasoning"] == "I see."
    assert message(client, reasoning_format="deepseek")["reasoning_content"] == "I see."


def test_log_probabilities_are_those_of_the_content(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path
) -> None:
    engine.answer = always(THINKS)
    answer = ask(served(make_client, tmp_path, WRITES), logprobs=True)
    assert [each["token"] for each in answer["choices"][0]["logprobs"]["content"]] == ["It is ", "4."]


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking_token_budget": 5},
        {"reasoning_budget_tokens": 5},
        {"thinking_budget_tokens": 5},
        {"thinking_budget": 5},
        {"reasoning": {"max_tokens": 5}},
        {"thinking": {"type": "enabled", "budget_tokens": 5}},
        {"thinking_token_budget": 5, "thinking_budget": 5},
    ],
)
def test_a_budget_goes_to_the_engine(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, fields: dict[str, Any]
) -> None:
    text = model_text(tmp_path, WRITES)
    ask(make_client(text, reasoning_budget_message="Enough."), **fields)
    spec = asked(engine)
    assert spec is not None
    assert spec.budget == 5
    assert text.tokenizer.decode(spec.closing_token_ids) == "Enough.\n</think>"
    assert text.tokenizer.decode(spec.start_token_ids) == "<think>"


@pytest.mark.parametrize("fields", [{}, {"thinking_token_budget": -1}])
def test_any_number_of_tokens_is_no_budget(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, fields: dict[str, Any]
) -> None:
    ask(served(make_client, tmp_path, WRITES), **fields)
    spec = asked(engine)
    assert spec is not None
    assert spec.budget is None


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"enable_thinking": False},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_reasoning_is_switched_off_by_the_template(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, fields: dict[str, Any]
) -> None:
    client = served(make_client, tmp_path, SWITCHES)
    ask(client, **fields)
    spec = asked(engine)
    assert spec is not None
    assert (spec.begun, spec.start_token_ids) == (False, ())  # the block is closed in the prompt
    rendered = client.post("/v1/chat/completions/render", json={"messages": MESSAGES, **fields}).json()
    assert rendered["data"][0]["prompt"].endswith("<assistant><think>\n\n</think>\n\n")
    assert rendered["data"][0]["token_ids"] == list(engine.requests[-1].prompt_token_ids)


@pytest.mark.parametrize("fields", [{"enable_thinking": False}, {"enable_thinking": False, "thinking_token_budget": 0}])
@pytest.mark.parametrize("written", [b"</think>", b"<think>\n</think>", b"\n\n</think>"])
def test_markers_written_behind_a_block_that_the_prompt_has_closed_are_no_content(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, fields: dict[str, Any], written: bytes
) -> None:
    engine.answer = always(script([written, b"\n\n", b"It is ", b"4."]))
    client = served(make_client, tmp_path, SWITCHES)
    answer = message(client, **fields)
    assert (answer["content"], answer.get("reasoning_content")) == ("It is 4.", None)
    assert streamed(client, **fields)["content"] == "It is 4."


@pytest.mark.parametrize("fields", [{"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}])
def test_where_the_template_cannot_the_engine_closes_the_block(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, fields: dict[str, Any]
) -> None:
    ask(served(make_client, tmp_path, OPENS), **fields)
    spec = asked(engine)
    assert spec is not None
    assert (spec.begun, spec.budget) == (True, 0)


def test_efforts_go_to_the_template(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    client = served(make_client, tmp_path, LEVELS)

    def rendered(**fields: Any) -> Any:
        body = {"messages": MESSAGES, **fields}
        return client.post("/v1/chat/completions/render", json=body).json()["data"][0]["prompt"]

    assert rendered(reasoning_effort="high").endswith("<assistant>[high]<think>\n")
    assert rendered(reasoning={"effort": "xhigh"}).endswith("<assistant>[xhigh]<think>\n")
    both = {"reasoning_effort": "high", "chat_template_kwargs": {"reasoning_effort": "mine"}}
    assert rendered(**both).endswith("<assistant>[mine]<think>\n")
    assert ask(client, **both)["choices"]


def test_any_effort_is_taken_by_a_model_that_reasons(make_client: MakeClient, tmp_path: Path) -> None:
    client = served(make_client, tmp_path, OPENS)
    assert [ask(client, reasoning_effort=each)["object"] for each in ("minimal", "medium")] == ["chat.completion"] * 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"enable_thinking": True}, "enable_thinking"),
        ({"thinking_budget": 100}, "thinking_budget"),
        ({"thinking": {"type": "disabled", "budget_tokens": 7}}, "thinking.budget_tokens"),
    ],
)
def test_what_would_have_no_effect_is_refused(client: TestClient, fields: dict[str, Any], param: str) -> None:
    error = refused(client, **fields)
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")
    assert "reasoning_format" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"enable_thinking": False},
        {"include_reasoning": False},
        {"thinking_budget": -1},
        {"thinking_budget": 0},
    ],
)
def test_a_model_that_does_not_reason_can_do_so_on_request(client: TestClient, fields: dict[str, Any]) -> None:
    assert message(client, **fields)["content"] == "Hello there, world!"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thinking_budget": 5, "thinking_token_budget": 6}, "thinking_budget"),
        ({"reasoning_effort": "none", "enable_thinking": True}, "reasoning_effort"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"reasoning_format": "raw", "include_reasoning": False}, "include_reasoning"),
        ({"reasoning_effort": "some"}, "reasoning_effort"),
        ({"thinking_budget": -2}, "thinking_budget"),
        ({"reasoning_format": "xml"}, "reasoning_format"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    make_client: MakeClient, tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    assert refused(served(make_client, tmp_path, WRITES), **fields)["param"] == param


def test_they_are_refused_by_models_without_reasoning_too(client: TestClient) -> None:
    assert (
        refused(client, stream=True, separate_reasoning=False, include_reasoning=False)["param"] == "separate_reasoning"
    )


@pytest.mark.parametrize("field", ["thinking_token_budget", "thinking_budget", "reasoning_effort"])
def test_completions_have_no_reasoning(client: TestClient, field: str) -> None:
    value = "high" if field == "reasoning_effort" else 5
    response = client.post("/v1/completions", json={"prompt": "Hi", field: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_earlier_reasoning_goes_to_the_template(make_client: MakeClient, tmp_path: Path, field: str) -> None:
    history = [*MESSAGES, {"role": "assistant", "content": "4.", field: "I see."}, *MESSAGES]
    client = served(make_client, tmp_path, WRITES)
    rendered = client.post("/v1/chat/completions/render", json={"messages": history}).json()["data"][0]["prompt"]
    assert "<assistant><think>I see.</think>4." in rendered
    assert ask(client, messages=history)["choices"]


@pytest.mark.parametrize(
    ("content", "begun"),
    [("<think>I", True), ("<think>I</think>It", None), ("It is", None), ("", False)],
)
def test_a_final_message_may_be_continued_within_its_reasoning(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, content: str, begun: bool | None
) -> None:
    client = served(make_client, tmp_path, WRITES)
    history = [*MESSAGES, {"role": "assistant", "content": content}]
    ask(client, messages=history, continue_final_message=True, add_generation_prompt=False)
    spec = asked(engine)
    assert (None if spec is None else spec.begun) == begun


def test_a_grammar_and_stop_strings_are_told_of_the_reasoning(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path
) -> None:
    client = served(make_client, tmp_path, OPENS)
    ask(client, response_format={"type": "json_object"}, stop=["x"])
    request: GenerationRequest = engine.requests[-1]
    assert request.sampling.grammar is not None
    assert request.sampling.reasoning is not None


@pytest.mark.parametrize(
    ("name", "shown", "content"), [("auto", "none", "<thought>I see.</thought>4."), ("thought", "thought", "4.")]
)
def test_a_model_may_be_set_to_a_form(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, name: str, shown: str, content: str
) -> None:
    engine.answer = always(script([b"<thought>I see.", b"</thought>", b"4."]))
    text = model_text(tmp_path, CONVERSATION.replace("think>", "other>") + "{% endif %}")
    client = make_client(replace(text, reasoning_format_name=name))
    assert message(client)["content"] == content
    assert client.get("/v1/models").json()["data"][0]["meta"]["reasoning_format"] == shown


def test_a_model_may_be_set_to_have_none(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer = always(THINKS)
    write_model_text(tmp_path, WRITES)
    assert message(make_client(load_model_text(tmp_path)))["content"] == "It is 4."
    assert message(make_client(load_model_text(tmp_path, reasoning_format="none")))["content"].startswith("<think>")
