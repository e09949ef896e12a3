"""Whatever order of roles a client sends, a template that takes texts at all shows every word of it."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from engine.errors import TemplateError
from engine.text.chat_template import ChatTemplate, Message
from engine.text.role_repair import repair_roles
from engine.text.template_capabilities import probe
from tests.engine.text.test_template_capabilities import CHATML, EXPECTED, FOLDING, ONLY_USERS, PARTS, STRICT

LAST_SYSTEM_WINS = (
    "{% set ns = namespace(s='') %}{% for m in messages if m.role == 'system' %}{% set ns.s = m.content %}{% endfor %}"
    "{{ ns.s }}{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
WANTS_A_USER = (
    "{% if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}{{ raise_exception('no user') }}"
    "{% endif %}" + CHATML
)
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"properties": {}}}}


def conversation(*roles: str) -> list[dict[str, Any]]:
    """Messages of these roles, each with a word of its own."""
    return [{"role": role, "content": f"qz{index}word"} for index, role in enumerate(roles)]


def roles_of(messages: list[Message]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def check_every_order(template: ChatTemplate) -> int:
    """Hold the law for all conversations of up to five turns; tells how many of them needed no repair."""
    capabilities = probe(template)
    tools = [TOOL] if capabilities.needs_tools else None
    sound = 0
    for length in range(1, 6):
        for roles in product(("system", "user", "assistant"), repeat=length):
            messages = conversation(*roles)
            repaired = repair_roles(messages, capabilities)
            text = template.render(repaired, tools=tools)
            assert all(message["content"] in text for message in messages), roles
            assert repair_roles(repaired, capabilities) == repaired, roles
            sound += repaired == messages
    return sound


@pytest.mark.parametrize("family", EXPECTED)
def test_real_templates_show_every_order_of_roles(shared: Path, family: str) -> None:
    folder = shared / "data" / "chat-templates"
    golden = json.loads((folder / f"{family}.golden.json").read_text())
    template = ChatTemplate((folder / f"{family}.jinja").read_text(), golden["bos_token"], golden["eos_token"])
    if family == "mistral-nemo":  # writes the system message into the last user's turn only where nothing follows it
        with pytest.raises(AssertionError, match="assistant"):
            check_every_order(template)
    else:
        assert check_every_order(template) > 0


@pytest.mark.parametrize(
    ("source", "sound"),
    [(CHATML, 363), (FOLDING, 332), (STRICT, 5), (LAST_SYSTEM_WINS, 191), (WANTS_A_USER, 301)],
    ids=["chatml", "folding", "strict", "last system wins", "wants a user"],
)
def test_every_order_of_roles_is_shown_and_sound_ones_are_left_alone(source: str, sound: int) -> None:
    assert check_every_order(ChatTemplate(source)) == sound


@pytest.mark.parametrize(
    ("source", "roles", "expected"),
    [
        (CHATML, ["developer", "user"], [("system", "qz0word"), ("user", "qz1word")]),
        (CHATML + "{# developer #}", ["developer", "user"], [("developer", "qz0word"), ("user", "qz1word")]),
        (STRICT, ["system", "user"], [("user", "qz0word\n\nqz1word")]),
        (STRICT, ["developer", "user"], [("user", "qz0word\n\nqz1word")]),
        (STRICT, ["user", "user"], [("user", "qz0word\n\nqz1word")]),
        (STRICT, ["system"], [("user", "qz0word")]),
        (STRICT, ["system", "assistant"], [("user", "qz0word"), ("assistant", "qz1word")]),
        (STRICT, ["assistant", "user"], [("user", ""), ("assistant", "qz0word"), ("user", "qz1word")]),
        (
            STRICT,
            ["user", "assistant", "system", "assistant", "assistant"],
            [("user", "qz0word"), ("assistant", "qz1word"), ("user", "qz2word"), ("assistant", "qz3word\n\nqz4word")],
        ),
        (LAST_SYSTEM_WINS, ["system", "system", "user"], [("system", "qz0word\n\nqz1word"), ("user", "qz2word")]),
        (
            LAST_SYSTEM_WINS,
            ["system", "user", "system"],
            [("system", "qz0word"), ("user", "qz1word"), ("user", "qz2word")],
        ),
        (LAST_SYSTEM_WINS, ["user", "system"], [("user", "qz0word"), ("system", "qz1word")]),
        (ONLY_USERS, ["system", "user"], [("user", "qz0word\n\nqz1word")]),
        (FOLDING, ["system"], [("user", "qz0word")]),
        (WANTS_A_USER, ["system"], [("system", "qz0word"), ("user", "")]),
        (WANTS_A_USER, ["assistant", "user"], [("assistant", "qz0word"), ("user", "qz1word")]),
    ],
)
def test_what_is_made_of_it(source: str, roles: list[str], expected: list[tuple[str, str]]) -> None:
    messages = conversation(*roles)
    assert roles_of(repair_roles(messages, probe(ChatTemplate(source)))) == expected
    assert messages == conversation(*roles)  # the caller's messages are left alone


def test_messages_that_call_tools_are_not_joined() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [*conversation("user", "assistant"), {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert repair_roles(messages, probe(ChatTemplate(STRICT))) == messages


def test_parts_are_joined_as_parts() -> None:
    strict = "{% if messages | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}" + PARTS
    first = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    messages = [first, {"role": "user", "content": "b"}, {"role": "user", "content": ""}]
    (joined,) = repair_roles(messages, probe(ChatTemplate(strict)))
    assert [part["text"] for part in joined["content"]] == ["a", "\n\n", "b"]


def test_a_template_that_takes_nothing_is_left_to_say_so() -> None:
    template = ChatTemplate("{{ raise_exception('never') }}")
    messages = conversation("assistant", "system", "developer")
    assert repair_roles(messages, probe(template)) == messages
    with pytest.raises(TemplateError, match="never"):
        template.render(messages)
