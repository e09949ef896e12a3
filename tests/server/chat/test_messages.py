from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequestError
from engine.text.chat_template import ChatTemplate
from engine.text.template_capabilities import CallForm, TemplateCapabilities, probe
from server.chat.messages import template_messages
from server.schemas.chat import Message
from tests.engine.text.test_template_capabilities import CHATML, EITHER, FOLDING, PARTS, STRICT

NULL_CALLS = (
    "{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}{% for c in m.tool_calls %}"
    "{{ '<call>' + c.function.name + c.function.arguments }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
)

WITH_TOOLS = "{{ tools | tojson if tools }}" + CHATML.replace("m.content", "m.content ~ (m.tool_calls or '')")


def shown(source: str, *messages: dict[str, Any], repair: bool = True) -> list[Mapping[str, Any]]:
    """The messages as a template of this source gets them."""
    wire = [Message.model_validate(message) for message in messages]
    return template_messages(wire, probe(ChatTemplate(source)), repair=repair)


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "prompt_cache_breakpoint": {"mode": "explicit"}} for text in texts]


def test_a_call_is_shown_with_the_fields_of_the_schema() -> None:
    function = {"name": "f", "arguments": "{}", "parsed": 1}
    message = {"role": "assistant", "tool_calls": [{"id": "1", "index": 0, "function": function}]}
    (assistant,) = shown(WITH_TOOLS, message)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert assistant == {"role": "assistant", "content": "", "tool_calls": [call]}


def test_content_beside_a_call_is_null_where_the_template_wants_that() -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": "{}"}}
    question, silent, talking = (
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
    )
    made = shown(NULL_CALLS, question, silent, talking)
    assert [each["content"] for each in made] == ["q", None, "Let me see.", None]
    assert ["tool_calls" in each for each in made] == [False, True, False, True]


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (CHATML, parts("a", "b"), "a\nb"),
        (CHATML, "ab", "ab"),
        (EITHER, parts("a", "b"), [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        (EITHER, "ab", "ab"),
        (PARTS, parts("a"), [{"type": "text", "text": "a"}]),
        (PARTS, "ab", [{"type": "text", "text": "ab"}]),
    ],
)
def test_parts_go_to_templates_that_join_them_and_are_joined_for_others(
    source: str, content: Any, expected: Any
) -> None:
    assert shown(source, {"role": "user", "content": content}) == [{"role": "user", "content": expected}]


def test_refusals_are_text() -> None:
    messages = [
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
    ]
    assert [each["content"] for each in shown(EITHER, *messages)] == ["No.", [{"type": "text", "text": "Never."}]]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_parts_that_are_no_text_are_refused_by_name(kind: str) -> None:
    content = [{"type": "text", "text": "Look:"}, {"type": kind, kind: {}}]
    with pytest.raises(InvalidRequestError, match=kind) as caught:
        shown(PARTS, {"role": "user", "content": content})
    assert (caught.value.param, caught.value.code) == ("messages[0].content[1]", "unsupported_content")


def test_roles_are_repaired_unless_they_are_to_be_left_alone() -> None:
    messages = [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}]
    assert shown(STRICT, *messages) == [{"role": "user", "content": "d\n\nu"}]
    assert shown(STRICT, *messages, repair=False) == messages
    assert shown(CHATML + "{# developer #}", *messages) == messages


def test_names_and_thoughts_are_handed_on() -> None:
    message = {"role": "assistant", "content": "c", "name": "n", "reasoning_content": "r"}
    assert shown(CHATML, message) == [message]


words = st.text("ab{}\"'\n", max_size=5)
contents = words | st.lists(words.map(lambda text: {"type": "text", "text": text}), max_size=2)
plain = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": contents}
)
function = st.fixed_dictionaries({"name": st.just("f"), "arguments": st.sampled_from(["{}", '{"a": 1}', "no JSON"])})
called = st.tuples(contents | st.none(), function, contents).map(
    lambda drawn: [
        {"role": "assistant", "content": drawn[0], "tool_calls": [{"id": "call-1", "function": drawn[1]}]},
        {"role": "tool", "tool_call_id": "call-1", "content": drawn[2]},
    ]
)
old_called = st.tuples(function, words).map(
    lambda drawn: [
        {"role": "assistant", "content": None, "function_call": drawn[0]},
        {"role": "function", "name": "f", "content": drawn[1]},
    ]
)
conversations = st.lists(plain.map(lambda message: [message]) | called | old_called, min_size=1, max_size=4).map(
    lambda turns: [message for turn in turns for message in turn]
)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("source", [CHATML, EITHER, PARTS, STRICT, FOLDING, NULL_CALLS])
@given(messages=conversations, tools=st.sampled_from([(), (TOOL,)]))
def test_every_word_of_any_conversation_is_shown(
    source: str, messages: list[dict[str, Any]], tools: tuple[dict[str, Any], ...]
) -> None:
    wire = [Message.model_validate(message) for message in messages]
    shown = template_messages(wire, _capabilities(source), repair=True, tools=tools)
    decoded = _capabilities(source).call_arguments is CallForm.OBJECT
    text = ChatTemplate(source).render(shown, decode_arguments=decoded)
    for message in messages:
        content = message["content"] or ""
        said = [content] if isinstance(content, str) else [part["text"] for part in content]
        assert all(each in text for each in said)
        assert "tool_calls" not in message or "f" in text


@cache
def _capabilities(source: str) -> TemplateCapabilities:
    return probe(ChatTemplate(source))
