"""Every notation by an example: what the laws that hold of all of them are tried with."""

from __future__ import annotations

from typing import NamedTuple

from server.parsing.table import FORMATS
from server.parsing.tool_format import ToolFormat

_ARGUMENTS = '{"city": "Oslo", "days": 3}'
_OBJECTS = f'{{"name": "get_weather", "arguments": {_ARGUMENTS}}}', '{"name": "get_time", "arguments": {}}'
_LIST = f"[{', '.join(_OBJECTS)}]"
_NAMED = '[get_weather(city="Oslo", days=3), get_time()]'

CALLS = [("get_weather", {"city": "Oslo", "days": 3}), ("get_time", {})]
"""What the examples say, of the tools of `tests/server/parsing/tools.py`."""


class Notation(NamedTuple):
    """How one format writes."""

    answer: str  # with `CALLS`
    pieces: tuple[str, ...]  # that answers are made of
    opened: str  # the beginning of a call of `get_weather`, as far as it is certain
    value_ends: tuple[str, ...] = ()  # what ends a text that may go on for ever
    call_ends: str | None = None  # what closes any call, where arguments are written so that they are always whole


def _function_tags(opening: str, closing: str, *, lines: bool) -> str:
    end = "\n" if lines else ""
    city = f"<parameter=city>{end}Oslo{end}</parameter>\n"
    days = f"<parameter=days>{end}3{end}</parameter>\n"
    first = f"{opening}\n<function=get_weather>\n{city}{days}</function>\n{closing}"
    return f"{first}\n{opening}\n<function=get_time>\n</function>\n{closing}"


_FUNCTION_PIECES = (
    "<function=write_file>",
    "<function=get_time>",
    "</function>",
    "<parameter=content>",
    "<parameter=days>",
    "<parameter=units>\nnull",
    "</parameter>",
)

NOTATIONS = {
    "harmony": Notation(
        f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{_ARGUMENTS}<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{}",
        ("<|channel|>", "<|message|>", "<|end|>", "<|start|>assistant", "analysis", "final", "to=functions.get_time"),
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>",
    ),
    "mistral_named": Notation(
        f"[TOOL_CALLS]get_weather[ARGS]{_ARGUMENTS}[TOOL_CALLS]get_time[ARGS]{{}}",
        ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "get_time"),
        "[TOOL_CALLS]get_weather[ARGS]{",
    ),
    "mistral": Notation(
        f"[TOOL_CALLS]{_LIST}",
        ("[TOOL_CALLS]", "[", "]", *_OBJECTS),
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {',
    ),
    "deepseek_v31": Notation(
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{_ARGUMENTS}<｜tool▁call▁end｜>"
        "<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        (
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ),
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{",
    ),
    "deepseek": Notation(
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        f"{_ARGUMENTS}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{{}}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "function<｜tool▁sep｜>", "```json", "<｜tool▁call▁end｜>"),
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{",
    ),
    "kimi_k2": Notation(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        f"{_ARGUMENTS}<|tool_call_end|><|tool_call_begin|>functions.get_time:1<|tool_call_argument_begin|>{{}}"
        "<|tool_call_end|><|tool_calls_section_end|>",
        (
            "<|tool_calls_section_begin|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_begin|>",
            "<|tool_call_argument_begin|>",
            "<|tool_call_end|>",
            "functions.get_time:1",
        ),
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{",
    ),
    "cohere": Notation(
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
        f'{_ARGUMENTS}}},\n    {{"tool_call_id": "1", "tool_name": "get_time", "parameters": {{}}}}\n]<|END_ACTION|>',
        (
            "<|START_ACTION|>[",
            "<|END_ACTION|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
            '{"tool_name": "get_time"}',
            "]",
        ),
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {',
        ("\n]",),
    ),
    "lfm2": Notation(
        f"<|tool_call_start|>{_NAMED}<|tool_call_end|>",
        ("<|tool_call_start|>", "<|tool_call_end|>", "[", "]", "get_time(", "city='", "'", ")", ", ", _OBJECTS[1]),
        "<|tool_call_start|>[get_weather(",
        ('"',),
    ),
    "granite": Notation(
        f"<|tool_call|>{_LIST}",
        ("<|tool_call|>", "<tool_call>", "[", "]", *_OBJECTS),
        '<|tool_call|>[{"name": "get_weather", "arguments": {',
    ),
    "phi4": Notation(
        f"<|tool_call|>{_LIST}<|/tool_call|>",
        ("<|tool_call|>", "<|/tool_call|>", "functools[", "[", "]", *_OBJECTS),
        '<|tool_call|>[{"name": "get_weather", "arguments": {',
    ),
    "nemotron": Notation(
        f"<TOOLCALL>{_LIST}</TOOLCALL>",
        ("<TOOLCALL>", "</TOOLCALL>", "[", "]", *_OBJECTS),
        '<TOOLCALL>[{"name": "get_weather", "arguments": {',
    ),
    "hunyuan": Notation(
        f"<tool_calls>{_LIST}</tool_calls>",
        ("<tool_calls>", "</tool_calls>", "[", "]", *_OBJECTS),
        '<tool_calls>[{"name": "get_weather", "arguments": {',
    ),
    "minimax_m1": Notation(
        f"<tool_calls>\n{_OBJECTS[0]}\n{_OBJECTS[1]}\n</tool_calls>",
        ("<tool_calls>\n", "</tool_calls>", "\n", *_OBJECTS),
        '<tool_calls>\n{"name": "get_weather", "arguments": {',
    ),
    "glm": Notation(
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>3</arg_value>\n</tool_call>\n<tool_call>get_time\n</tool_call>",
        (
            "<tool_call>",
            "<tool_call>write_file\n",
            "get_time",
            "</tool_call>",
            "<arg_key>",
            "<arg_key>content</arg_key>",
            "<arg_key>units</arg_key>",
            "</arg_key>",
            "<arg_value>",
            "<arg_value>null</arg_value>",
            "</arg_value>",
        ),
        "<tool_call>get_weather\n<arg_key>",
        ("</arg_value>",),
        "</arg_value></tool_call>",
    ),
    "seed_oss": Notation(
        _function_tags("<seed:tool_call>", "</seed:tool_call>", lines=False),
        ("<seed:tool_call>", "</seed:tool_call>", *_FUNCTION_PIECES),
        "<seed:tool_call>\n<function=get_weather>",
        ("</parameter>",),
        "</parameter></function></seed:tool_call>",
    ),
    "minimax_m2": Notation(
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n'
        '<parameter name="days">3</parameter>\n</invoke>\n<invoke name="get_time">\n</invoke>\n</minimax:tool_call>',
        (
            "<minimax:tool_call>",
            "</minimax:tool_call>",
            '<invoke name="write_file">',
            '<invoke name="get_time">',
            "</invoke>",
            '<parameter name="content">',
            '<parameter name="days">',
            "</parameter>",
        ),
        '<minimax:tool_call>\n<invoke name="get_weather">',
        ("</parameter>",),
        "</parameter></invoke></minimax:tool_call>",
    ),
    "qwen3_coder": Notation(
        _function_tags("<tool_call>", "</tool_call>", lines=True),
        ("<tool_call>", "</tool_call>", *_FUNCTION_PIECES),
        "<tool_call>\n<function=get_weather>",
        ("\n</parameter>",),
        "</parameter></function></tool_call>",
    ),
    "hermes": Notation(
        f"<tool_call>\n{_OBJECTS[0]}\n</tool_call>\n<tool_call>\n{_OBJECTS[1]}\n</tool_call>",
        ("<tool_call>\n", "</tool_call>", *_OBJECTS),
        '<tool_call>\n{"name": "get_weather", "arguments": {',
    ),
    "xlam": Notation(
        _LIST,
        ("[", "]", ", ", "[1, 2]", *_OBJECTS),
        '[{"name": "get_weather", "arguments": {',
    ),
    "pythonic": Notation(
        _NAMED,
        ("<|python_start|>", "<|python_end|>", "[", "]", "get_time(", "city='", "'", ")", ", "),
        "[get_weather(",
        ('"',),
    ),
    "function_json": Notation(
        f"<function=get_weather>{_ARGUMENTS}</function><function=get_time>{{}}</function>",
        ("<function=", "<function=get_time>", "</function>", _ARGUMENTS),
        "<function=get_weather>{",
    ),
    "llama3_json": Notation(
        f'{{"name": "get_weather", "parameters": {_ARGUMENTS}}}; {{"name": "get_time", "parameters": {{}}}}',
        ("<|python_tag|>", "; ", *_OBJECTS),
        '{"name": "get_weather", "parameters": {',
    ),
    "generic": Notation(
        f"<tool_call>\n{_OBJECTS[0]}\n</tool_call>\n<tool_call>\n{_OBJECTS[1]}\n</tool_call>",
        ("<tool_call>\n", "</tool_call>", *_OBJECTS),
        '<tool_call>\n{"name": "get_weather", "arguments": {',
    ),
}
"""By the names of formats."""

_EVERYWHERE = ("\n", "True", "[1,", " 2]", 'say "\\n"', "<", ">", "{", "}", "Hello.", "x" * 150)


def pieces_of(name: str) -> list[str]:
    """What to make answers of that look like those of a format."""
    notation = NOTATIONS[name]
    return [notation.answer, *notation.pieces, *_EVERYWHERE]


def format_of(name: str) -> ToolFormat:
    """The format of this name."""
    return next(each for each in FORMATS if each.name == name)
