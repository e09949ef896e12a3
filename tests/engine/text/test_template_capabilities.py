from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.text.chat_template import ChatTemplate
from engine.text.template_capabilities import CallForm, TemplateCapabilities, Treatment, open_thinking_tag, probe

OPENING = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
CHATML = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}" + OPENING
ONLY_USERS = "{% for m in messages if m.role == 'user' %}<|user|>{{ m.content }}{% endfor %}" + OPENING
PARTS = "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}" + OPENING
EITHER = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}" + OPENING
)
FOLDING = (
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set s = '' %}{% endif %}{% for m in messages %}<turn>{{ m.role }}\n"
    "{{ s if loop.first else '' }}{{ m.content }}</turn>\n{% endfor %}" + OPENING
)
STRICT = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('alternate!') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}" + OPENING
)

SHOWN, MERGED, DROPPED, REFUSED = Treatment
EXPECTED: dict[str, dict[str, Treatment]] = {
    "chatml": {"system": SHOWN, "same_role": REFUSED, "tools": DROPPED},
    "deepseek-r1-distill": {
        **{"system": SHOWN, "later_system": SHOWN, "several_systems": DROPPED, "same_role": SHOWN, "tools": DROPPED},
        **{"tool_calls": SHOWN, "call_arguments": CallForm.TEXT, "call_needs_null": True, "opens_thinking": "<think>"},
    },
    "gemma-2": {"system": REFUSED, "same_role": REFUSED, "assistant_first": REFUSED, "tool_results": REFUSED},
    "hermes-3-tool-use": {"system": SHOWN, "tools": SHOWN, "needs_tools": True, "tool_results": SHOWN},
    "llama-2-chat": {"system": MERGED, "later_system": REFUSED, "same_role": REFUSED},
    "llama-3.1": {
        **{"system": SHOWN, "later_system": SHOWN, "tools": SHOWN, "tool_calls": SHOWN, "tool_results": SHOWN},
        **{"parallel_tool_calls": REFUSED, "call_arguments": CallForm.OBJECT, "call_needs_null": False},
    },
    "mistral-nemo": {
        **{"system": MERGED, "same_role": REFUSED, "tools": SHOWN, "parallel_tool_calls": SHOWN},
        "short_call_ids": True,
    },
    "mistral-v0.1": {"system": SHOWN, "later_system": REFUSED, "same_role": REFUSED},
    "phi-3.5": {"system": SHOWN, "tools": DROPPED, "tool_results": DROPPED, "same_role": SHOWN},
    "qwen2.5": {"system": SHOWN, "tools": SHOWN, "parallel_tool_calls": SHOWN, "short_call_ids": False},
    "smollm2": {"system": SHOWN, "later_system": SHOWN, "tools": DROPPED, "text_content": SHOWN},
    "tinyllama-chat": {"system": SHOWN, "answer_opening": "</s>\n<|assistant|>\n", "tool_results": DROPPED},
    "zephyr": {"system": SHOWN, "same_role": REFUSED, "continues_final_message": True, "content_parts": False},
}


def capabilities(source: str) -> TemplateCapabilities:
    return probe(ChatTemplate(source, "<s>", "</s>"))


@pytest.mark.parametrize("family", EXPECTED)
def test_real_templates(shared: Path, family: str) -> None:
    folder = shared / "data" / "chat-templates"
    golden = json.loads((folder / f"{family}.golden.json").read_text())
    template = ChatTemplate((folder / f"{family}.jinja").read_text(), golden["bos_token"], golden["eos_token"])
    report = probe(template).report()
    assert {name: report[name] for name in EXPECTED[family]} == EXPECTED[family]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CHATML, {"system": SHOWN, "later_system": SHOWN, "same_role": SHOWN, "assistant_first": SHOWN}),
        (CHATML, {"answer_opening": "<|end|>\n<|assistant|>\n", "opens_thinking": None, "tools": DROPPED}),
        (ONLY_USERS, {"system": DROPPED, "tool_results": DROPPED, "assistant_first": DROPPED, "same_role": SHOWN}),
        (ONLY_USERS, {"continues_final_message": False}),
        (FOLDING, {"system": MERGED, "later_system": SHOWN, "several_systems": SHOWN}),
        (STRICT, {"system": REFUSED, "same_role": REFUSED, "assistant_first": REFUSED, "text_content": SHOWN}),
        (CHATML, {"text_content": SHOWN, "content_parts": False}),
        (EITHER, {"text_content": SHOWN, "content_parts": True}),
        (PARTS, {"text_content": DROPPED, "content_parts": True, "system": SHOWN, "same_role": SHOWN}),
        (CHATML.replace("m.content", "m.content ~ (m.reasoning_content or '')"), {"thoughts": SHOWN}),
        ("{{ raise_exception('no') }}", {"text_content": REFUSED, "system": REFUSED, "answer_opening": ""}),
    ],
)
def test_templates_of_every_kind(source: str, expected: dict[str, object]) -> None:
    report = capabilities(source).report()
    assert {name: report[name] for name in expected} == expected


def test_content_must_be_parts_only_where_strings_do_not_come_out() -> None:
    assert [capabilities(source).needs_parts for source in (CHATML, EITHER, PARTS)] == [False, False, True]


@pytest.mark.parametrize(
    ("source", "known"),
    [
        (CHATML, False),  # would write any word for a role
        (CHATML + "{# developer #}", True),
        ("{% for m in messages if m.role != 'developer' %}{{ m.content }}{% endfor %}", False),
    ],
)
def test_the_developer_is_known_where_the_template_names_and_shows_it(source: str, known: bool) -> None:
    assert capabilities(source).developer is known


def test_switches_are_the_variables_that_change_the_prompt() -> None:
    thinking = CHATML + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    effort = CHATML + "{{ reasoning_effort }}"
    unused = CHATML + "{# thinking, enable_thinking #}"
    assert [capabilities(each).switches for each in (thinking, effort, unused)] == [
        ("enable_thinking",),
        ("reasoning_effort",),
        (),
    ]


@pytest.mark.parametrize(
    ("prompt", "tag"),
    [
        ("<|assistant|>", None),
        ("<|assistant|><think>\n", "<think>"),
        ("<think>before</think><|assistant|>", None),
        ("<think>before</think><|assistant|><think>", "<think>"),
        ("[THINK]a[/THINK] <think>", "<think>"),
    ],
)
def test_the_tag_a_prompt_ends_inside_of(prompt: str, tag: str | None) -> None:
    assert open_thinking_tag(prompt) == tag


def test_the_summary_says_what_is_unusual() -> None:
    assert capabilities(CHATML).summary() == "system messages shown, tools dropped"
    unusual = STRICT.replace("<|assistant|>", "<think>{{ enable_thinking }}")
    assert capabilities(unusual).summary() == (
        "system messages refused, tools dropped, roles must alternate, answers begin inside <think>, "
        "listens to enable_thinking"
    )
