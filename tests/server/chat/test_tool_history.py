"""Earlier calls in the form that real templates take."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequestError, TemplateError
from engine.text.chat_template import ChatTemplate
from engine.text.template_capabilities import probe
from server.chat.messages import template_messages
from server.chat.prompt import chat_prompt
from server.chat.tool_history import arguments_of_no_object, one_call_each, with_short_ids
from server.schemas.chat import Message, TemplateFields
from server.text import ModelText
from tests.fakes.text import model_text

TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}},
}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_first", "type": "function", "function": {"name": "look", "arguments": '{"at": "qzsea"}'}},
        {"id": "call_second", "type": "function", "function": {"name": "look", "arguments": '{"at": "qzsky"}'}},
    ],
}
RESULTS = [
    {"role": "tool", "tool_call_id": "call_second", "content": "qzblue"},
    {"role": "tool", "tool_call_id": "call_first", "content": "qzgreen"},
]
CONVERSATION = [{"role": "user", "content": "qzask"}, CALLS, *RESULTS]


def wire(messages: list[dict[str, Any]]) -> list[Message]:
    return [Message.model_validate(message) for message in messages]


FAMILIES = [
    "chatml",
    "deepseek-r1-distill",
    "gemma-2",
    "hermes-3-tool-use",
    "llama-2-chat",
    "llama-3.1",
    "mistral-nemo",
    "mistral-v0.1",
    "phi-3.5",
    "qwen2.5",
    "smollm2",
    "tinyllama-chat",
    "zephyr",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_real_template_shows_tools_calls_and_results_in_order(shared: Path, tmp_path: Path, family: str) -> None:
    folder = shared / "data" / "chat-templates"
    golden = json.loads((folder / f"{family}.golden.json").read_text())
    template = ChatTemplate((folder / f"{family}.jinja").read_text(), golden["bos_token"], golden["eos_token"])
    real = model_text(tmp_path)
    text = ModelText(real.tokenizer, template, real.defaults)
    prompt = asyncio.run(
        chat_prompt(wire(CONVERSATION), TemplateFields(), text, max_tokens=10**6, repair_roles=True, tools=[TOOL])
    ).text
    assert "Looks." in prompt
    words = ["qzask", "qzsea", "qzsky", "qzgreen", "qzblue"]
    if family == "llama-3.1":  # which takes one call at a time
        words = ["qzask", "qzsea", "qzgreen", "qzsky", "qzblue"]
    places = [prompt.rindex(word) for word in words]
    assert places == sorted(places)


def rendered(template: ChatTemplate, directory: Path, arguments: str | None, tool_format: str = "auto") -> str:
    """The prompt of a conversation with one call."""
    call = {"id": "call_first", "type": "function", "function": {"name": "look", "arguments": arguments}}
    history = [CONVERSATION[0], {"role": "assistant", "tool_calls": [call]}, RESULTS[1]]
    real = model_text(directory)
    text = ModelText(real.tokenizer, template, real.defaults, tool_format)
    options = TemplateFields()
    return asyncio.run(
        chat_prompt(wire(history), options, text, max_tokens=10**6, repair_roles=True, tools=[TOOL])
    ).text


@pytest.mark.parametrize("family", FAMILIES)
def test_real_templates_show_arguments_that_are_no_json_and_take_none_for_an_empty_object(
    shared: Path, tmp_path: Path, family: str
) -> None:
    folder = shared / "data" / "chat-templates"
    golden = json.loads((folder / f"{family}.golden.json").read_text())
    template = ChatTemplate((folder / f"{family}.jinja").read_text(), golden["bos_token"], golden["eos_token"])
    for arguments in ("qznope", '{"at": "qznope', '["qznope"]'):
        assert "qznope" in rendered(template, tmp_path, arguments)
    plain = rendered(template, tmp_path, "{}")
    assert [rendered(template, tmp_path, arguments) for arguments in ("", " ", None)] == [plain] * 3


BY_NAME = """{% for message in messages %}[{{ message.role }}]{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}{{ call.function.name }}
{%- for name, value in call.function.arguments|items %}<{{ name }}>{{ value }}{% endfor %}{% endfor %}{% endfor -%}
{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""


def test_a_template_that_reads_arguments_by_name_cannot_show_what_is_no_object(tmp_path: Path) -> None:
    template = ChatTemplate(BY_NAME)
    assert "look<at>qzsea" in rendered(template, tmp_path, '{"at": "qzsea"}', "qwen3_coder")
    assert "[assistant]look[tool]" in rendered(template, tmp_path, "", "qwen3_coder")
    for arguments in ("nope", "[1]", "5", '"text"', "[" * 100_000):
        with pytest.raises(InvalidRequestError, match="not the text of a JSON object") as refused:
            rendered(template, tmp_path, arguments, "qwen3_coder")
        place = "messages[1].tool_calls[0].function.arguments"
        assert (refused.value.param, refused.value.code) == (place, "chat_template_error")


def test_other_failures_of_a_template_say_nothing_of_arguments(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as refused:
        rendered(ChatTemplate("{{ raise_exception('no') }}"), tmp_path, "{}")
    assert refused.value.param == "messages"
    assert "JSON" not in refused.value.message


def test_arguments_are_found_in_the_older_form_too() -> None:
    function = {"name": "f", "arguments": "nope"}
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "function_call": function}]
    assert arguments_of_no_object(wire(messages)) == "messages[1].function_call.arguments"
    assert arguments_of_no_object(wire([*messages[:1], CALLS])) is None


def test_calls_are_taken_apart_with_their_results() -> None:
    shown = [
        {"role": "user", "content": "q"},
        {**CALLS, "content": "I look."},
        RESULTS[1],
        RESULTS[0],
        {"role": "user"},
    ]
    apart = one_call_each(shown)
    assert [message["role"] for message in apart] == ["user", "assistant", "tool", "assistant", "tool", "user"]
    assert [message["content"] for message in apart[1:5]] == ["I look.", "qzgreen", "", "qzblue"]
    assert [len(message["tool_calls"]) for message in (apart[1], apart[3])] == [1, 1]


@given(st.text(), st.text())
def test_short_ids_are_nine_letters_and_digits_and_keep_apart_what_differs(one: str, other: str) -> None:
    def short(name: str) -> str:
        call = {"id": name, "type": "function", "function": {"name": "f"}}
        message = with_short_ids({"role": "assistant", "tool_calls": [call], "tool_call_id": name})
        assert message["tool_calls"][0]["id"] == message["tool_call_id"]
        result: str = message["tool_call_id"]
        return result

    assert len(short(one)) == 9
    assert short(one).isascii()
    assert short(one).isalnum()
    assert (short(one) == short(other)) == (one == other)
    assert short(short(one)) == short(one)


def test_ids_stay_where_templates_take_any(shared: Path) -> None:
    folder = shared / "data" / "chat-templates"
    names = {}
    for family in ("qwen2.5", "mistral-nemo"):
        template = ChatTemplate((folder / f"{family}.jinja").read_text(), "<s>", "</s>")
        shown = template_messages(wire(CONVERSATION), probe(template), repair=True)
        names[family] = [message["tool_call_id"] for message in shown[2:]]
    assert names["qwen2.5"] == ["call_first", "call_second"]
    assert all(len(name) == 9 for name in names["mistral-nemo"])
