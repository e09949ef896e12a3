from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from engine.config import EngineConfig, ToolFormatName
from engine.errors import ConfigError
from server.parsing.table import FORMATS, choose

TEMPLATES = Path(__file__).parents[4] / "shared" / "data" / "chat-templates"
PAGE = Path(__file__).parents[3] / "docs" / "tools.md"
FORMAT_OF = {
    "hermes-3-tool-use": "hermes",
    "qwen2.5": "hermes",
    "llama-3.1": "llama3_json",
    "mistral-nemo": "mistral",
}
SNIPPETS = [
    ('{{ \'<tool_call>\' }}{"name": x, "arguments": y}</tool_call>', "hermes"),
    ("{{ '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}", "mistral_named"),
    ("{{ '[TOOL_CALLS]' + name + '[CALL_ID]' + id + '[ARGS]' + arguments }}", "mistral_named"),
    ("{{ '[TOOL_CALLS] [' }}", "mistral"),
    ("<|start_of_role|>system<|end_of_role|>respond only with <|tool_call|> followed by a JSON list", "granite"),
    ('<|start_of_role|>system: <tool_call>{"name": x, "arguments": y}</tool_call>', "hermes"),
    ("{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}", "phi4"),
    ("{{ '<|im_system|>tool_declare<|im_middle|>' -}}{{- tools | tojson -}}", "kimi_k2"),
    ("<|tool_call_begin|>{{ id }}<|tool_call_argument_begin|>{{ arguments }}<|tool_call_end|>", "kimi_k2"),
    ('<|START_ACTION|>[{"tool_call_id": "0", "tool_name": x, "parameters": y}]<|END_ACTION|>', "cohere"),
    ("{{ 'List of tools: <|tool_list_start|>[' }}{{ '<|im_start|>' + message['role'] }}", "lfm2"),
    ('{{- "<|tool_call_start|>[" + (calls | join(", ")) + "]<|tool_call_end|>" -}}', "lfm2"),
    ('<TOOLCALL>[{"name": "tool_name1", "arguments": "tool_args1"}]</TOOLCALL>', "nemotron"),
    ('<tool_calls>[{"name": "func_name1", "arguments": {"argument1": "value1"}},...]</tool_calls>', "hunyuan"),
    ('<tool_calls>\n{"name": <tool-name>, "arguments": <args-json-object>}\n...\n</tool_calls>', "minimax_m1"),
    ("<seed:tool_call>\n<function=example_function_name>\n<parameter=one>1</parameter>\n</function>", "seed_oss"),
    ('{%- set begin = \'<minimax:tool_call>\' -%}<invoke name="one">\n<parameter name="two">', "minimax_m2"),
    ('calls in a single JSON array: [{"name": "tool_call_name", "arguments": {"arg1": "value1"}}]', "xlam"),
    ('<|start_header_id|> <function=example_name>{"name": "value"}</function> "parameters": ', "function_json"),
    ("{{ '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}", "harmony"),
    ("{% if tools %}{{ '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' + name + '\n```json\n' }}{% endif %}", "deepseek"),
    ("{% if tools %}{{ '<｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>' + arguments }}{% endif %}", "deepseek_v31"),
    ("{{ message['tool_calls'] + '<｜tool▁call▁begin｜>' + type + '<｜tool▁sep｜>' + name }}", "generic"),
    ("<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>…</tool_call> arguments", "glm"),
    ("<tool_call>{name}<tool_sep>\n<arg_key>{key}</arg_key>\n<arg_value>…</tool_call> arguments", "generic"),
    ("<tool_calls>\n<tool_call>{name}<tool_sep>\n…</tool_call>\n</tool_calls> arguments", "generic"),
    ("<tool_call>\n<function=example>\n<parameter=one>\n…</tool_call> tool_call.arguments", "qwen3_coder"),
    ("<|start_header_id|> Use exact format: [func_name1(param1=value1), …] <|python_tag|> ipython", "pythonic"),
    ('<|start_header_id|>ipython<|end_header_id|> {"name": x, "parameters": y}', "llama3_json"),
]


def test_the_setting_has_the_names_of_all_formats() -> None:
    assert get_args(ToolFormatName) == ("auto", *(each.name for each in FORMATS))
    assert EngineConfig().tool_format == "auto"


def test_the_documentation_has_all_formats_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [each.name for each in FORMATS]


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_the_setting_wins_over_the_template(name: str) -> None:
    assert choose("", name).name == name


def test_a_name_no_format_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of auto"):
        EngineConfig(tool_format="other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be auto or one of"):
        choose("", "other")


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason="there are no chat templates beside the checkout")
def test_formats_of_well_known_templates() -> None:
    found = {path.stem: choose(path.read_text()).name for path in TEMPLATES.glob("*.jinja")}
    assert found == {name: FORMAT_OF.get(name, "generic") for name in found}


@pytest.mark.parametrize(("template", "name"), SNIPPETS, ids=[name for _, name in SNIPPETS])
def test_formats_of_snippets_of_templates(template: str, name: str) -> None:
    assert choose(template).name == name


def test_a_template_without_tools_gets_the_generic_format() -> None:
    assert choose("{% for message in messages %}{{ message.content }}{% endfor %}").name == "generic"
