from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRequestError, TemplateError, TokenizerError
from engine.text import template_environment
from engine.text.chat_template import ChatTemplate, load_chat_template

FAMILIES = (
    *("chatml", "deepseek-r1-distill", "gemma-2", "hermes-3-tool-use", "llama-2-chat", "llama-3.1", "mistral-nemo"),
    *("mistral-v0.1", "phi-3.5", "qwen2.5", "smollm2", "tinyllama-chat", "zephyr"),
)
USER = [{"role": "user", "content": "Hi"}]
CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_all_families_are_listed(shared: Path) -> None:
    assert {path.stem for path in (shared / "data" / "chat-templates").glob("*.jinja")} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_goldens(shared: Path, family: str) -> None:
    folder = shared / "data" / "chat-templates"
    golden = json.loads((folder / f"{family}.golden.json").read_text())
    template = ChatTemplate(
        (folder / f"{family}.jinja").read_text(),
        golden["bos_token"],
        golden["eos_token"],
        clock=lambda: datetime.fromisoformat(golden["now"]),
    )
    for case in golden["cases"]:
        options = {
            "tools": case["tools"],
            "add_generation_prompt": case["add_generation_prompt"],
            "continue_final_message": case.get("continue_final_message", False),
        }
        for messages in (case["messages"], with_argument_strings(case["messages"])):
            if "error" in case:
                with pytest.raises(TemplateError, match=re.escape(case["error"].partition(": ")[2])) as caught:
                    template.render(messages, **options)
                assert caught.value.line is not None
            else:
                assert template.render(messages, **options) == case["rendered"], case["name"]


def with_argument_strings(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as an API client sends them."""
    copy = json.loads(json.dumps(messages))
    for message in copy:
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return copy  # type: ignore[no-any-return]


def test_arguments_that_are_no_json_object_stay_strings() -> None:
    source = "{% for c in messages[0].tool_calls %}{{ c.function.arguments is string }} {% endfor %}"
    calls = [{"function": {"name": "f", "arguments": each}} for each in ('{"a": 1}', "{oops", "5", "[" * 100_000)]
    message = {"role": "assistant", "tool_calls": calls}
    assert ChatTemplate(source).render([message]) == "False True True True "
    assert calls[0]["function"]["arguments"] == '{"a": 1}'  # the caller's message is left alone


@pytest.mark.parametrize("source", ["{{ 1 }}\n{{ raise_exception('no tools here') }}"])
def test_a_template_that_raises_names_its_line(source: str) -> None:
    with pytest.raises(TemplateError, match=r"^no tools here \(line 2 of the chat template\)$") as caught:
        ChatTemplate(source).render(USER)
    assert caught.value.line == 2
    assert caught.value.code == "chat_template_error"


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("messages[0].content.no.such", "UndefinedError"),
        ("messages[0].content + 1", "TypeError"),
        ("1 // 0", "ZeroDivisionError"),
        ("'x'.index('y')", "ValueError"),
        ("'%d' % 'x'", "TypeError"),
        ("messages.append(1)", "SecurityError"),
        ("messages[0].__class__.__mro__", "SecurityError"),
        ("range(10**9)", "OverflowError"),
    ],
)
def test_a_template_that_fails_names_its_line(expression: str, kind: str) -> None:
    with pytest.raises(TemplateError, match=rf"The chat template failed: {kind}.*line 3") as caught:
        ChatTemplate("{# a comment #}\n\n{{ " + expression + " }}").render(USER)
    assert caught.value.line == 3


def test_endless_recursion_is_an_error() -> None:
    source = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"
    with pytest.raises(TemplateError, match="RecursionError"):
        ChatTemplate(source).render(USER)


def test_a_syntax_error_names_its_line() -> None:
    with pytest.raises(TemplateError, match=r"not valid: .*endfor.*line 2"):
        ChatTemplate("hello\n{% endfor %}")


def test_output_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_environment, "MAX_RENDERED_CHARS", 1000)
    with pytest.raises(TemplateError, match="wrote more than 1000 characters"):
        ChatTemplate("{% for i in range(100000) %}{{ i }}xxxxxxxxxx{% endfor %}").render(USER)


def test_helpers_real_templates_use() -> None:
    source = (
        "{%- for m in messages %}\n    {%- if loop.index > 1 %}{% break %}{% endif %}\n"
        "    {%- generation %}{% set inner = 1 %}{{ m | tojson }}{% endgeneration %}{{ inner is defined }}\n"
        "{%- endfor %}\n{{ strftime_now('%d %b %Y') }}{{ {'b': '<é>', 'a': 1} | tojson(indent=2) }}"
    )
    template = ChatTemplate(source, clock=lambda: datetime(2025, 1, 15))
    rendered = template.render([{"role": "user", "content": "<é>"}, *USER])
    assert rendered == '{"role": "user", "content": "<é>"}False15 Jan 2025{\n  "b": "<é>",\n  "a": 1\n}'


def test_missing_special_tokens_are_undefined() -> None:
    source = "[{{ bos_token }}{{ bos_token is defined }}{{ eos_token }}{{ pad_token }}]"
    assert ChatTemplate(source, None, "</s>", special_tokens={"pad_token": "<p>"}).render(USER) == "[False</s><p>]"


def test_variables() -> None:
    template = ChatTemplate("{{ enable_thinking is defined and enable_thinking }}{{ eos_token }}", None, "</s>")
    assert template.render(USER) == "False</s>"
    assert template.render(USER, variables={"enable_thinking": True, "eos_token": "!"}) == "True!"
    with pytest.raises(InvalidRequestError, match="'messages' cannot be set"):
        template.render(USER, variables={"messages": []})


def test_documents_and_generation_prompt_reach_the_template() -> None:
    template = ChatTemplate("{{ documents | length if documents else 'none' }}{{ add_generation_prompt }}")
    assert template.render(USER, documents=[{"title": "a", "text": "b"}]) == "1True"
    assert template.render(USER, add_generation_prompt=False) == "noneFalse"


def test_the_tool_template_serves_requests_with_tools() -> None:
    template = ChatTemplate("plain", named={"tool_use": "with tools", "rag": "other"})
    assert template.render(USER) == "plain"
    assert template.render(USER, tools=[]) == "plain"
    assert template.render(USER, tools=[{"type": "function"}]) == "with tools"


@pytest.mark.parametrize("content", ["Sure: ", "  ", "a<|end|>", [{"type": "text", "text": "Sure: "}]])
def test_continuing_the_final_message(content: Any) -> None:
    parts = "{{ m.content if m.content is string else m.content[0].text }}"
    template = ChatTemplate(CHATML.replace("{{ m.content }}", parts))
    messages = [*USER, {"role": "assistant", "content": content}]
    rendered = template.render(messages, add_generation_prompt=False, continue_final_message=True)
    text = content if isinstance(content, str) else content[0]["text"]
    assert rendered == f"<|user|>Hi<|end|><|assistant|>{text}"


def test_continuing_with_a_template_that_trims() -> None:
    template = ChatTemplate(CHATML.replace("m.content", "m.content | trim"))
    messages = [*USER, {"role": "assistant", "content": "Sure: "}]
    rendered = template.render(messages, add_generation_prompt=False, continue_final_message=True)
    assert rendered == "<|user|>Hi<|end|><|assistant|>Sure:"


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": None}], [{"role": "user", "content": []}]])
def test_nothing_to_continue(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequestError, match="needs a final message with text"):
        ChatTemplate(CHATML).render(messages, add_generation_prompt=False, continue_final_message=True)


def test_a_template_that_hides_the_final_message_cannot_continue_it() -> None:
    with pytest.raises(TemplateError, match="does not show the final message"):
        ChatTemplate("fixed").render(USER, add_generation_prompt=False, continue_final_message=True)


def test_continuing_excludes_a_generation_prompt() -> None:
    with pytest.raises(InvalidRequestError, match="exclude each other"):
        ChatTemplate(CHATML).render(USER, continue_final_message=True)


def write_config(directory: Path, **config: Any) -> Path:
    (directory / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": None, **config}))
    return directory


def test_loading_one_template(tmp_path: Path) -> None:
    template = load_chat_template(write_config(tmp_path, chat_template="{{ bos_token }}{{ messages[0].content }}"))
    assert template is not None
    assert template.render(USER) == "<s>Hi"


def test_loading_named_templates(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("from the file")
    template = load_chat_template(write_config(tmp_path, chat_template=named))
    assert template is not None
    assert template.render(USER) == "D"
    assert template.render(USER, tools=[{}]) == "from the file"


def test_the_file_wins(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("file")
    template = load_chat_template(write_config(tmp_path, chat_template="config"))
    assert template is not None
    assert template.render(USER) == "file"


def test_no_template(tmp_path: Path) -> None:
    assert load_chat_template(tmp_path) is None
    assert load_chat_template(write_config(tmp_path)) is None


@pytest.mark.parametrize(
    ("value", "message"), [(5, "must be a string or a list"), ([{"name": "rag", "template": "x"}], "none named")]
)
def test_bad_template_entries(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_chat_template(write_config(tmp_path, chat_template=value))


def test_the_demo_template(shared: Path) -> None:
    template = load_chat_template(shared / "models" / "quire-demo")
    assert template is not None
    assert template.render(USER).endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
