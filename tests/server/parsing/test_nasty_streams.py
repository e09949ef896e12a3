"""Answers that go wrong in every way models have, through every notation: whole and in pieces they give the same."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from server.parsing.base import Arguments, CallBegins, Event
from tests.server.parsing.laws import events_of
from tests.server.parsing.notations import NOTATIONS, format_of
from tests.server.parsing.tools import parser_of

_ANSWERS = {name: each.answer for name, each in NOTATIONS.items()}


def _with(arguments: str, name: str = "get_weather") -> list[str]:
    """One call with this text for arguments, in each notation whose arguments are JSON."""
    return [
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|end|>",
        f"[TOOL_CALLS]{name}[ARGS]{arguments}",
        f'[TOOL_CALLS][{{"name": "{name}", "arguments": {arguments}}}]',
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
        f"<|tool_calls_section_begin|><|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>{arguments}"
        "<|tool_call_end|><|tool_calls_section_end|>",
        f'<|START_ACTION|>[{{"tool_name": "{name}", "parameters": {arguments}}}]<|END_ACTION|>',
        f'<|tool_call|>[{{"name": "{name}", "arguments": {arguments}}}]<|/tool_call|>',
        f'<tool_calls>[{{"name": "{name}", "arguments": {arguments}}}]</tool_calls>',
        f'<TOOLCALL>[{{"name": "{name}", "arguments": {arguments}}}]</TOOLCALL>',
        f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>',
        f'[{{"name": "{name}", "arguments": {arguments}}}]',
        f'{{"name": "{name}", "parameters": {arguments}}}',
        f"<function={name}>{arguments}</function>",
    ]


def _with_text(value: str, argument: str = "city") -> list[str]:
    """One call with this text for an argument, in each notation whose arguments are plain texts."""
    return [
        f"<tool_call>get_weather\n<arg_key>{argument}</arg_key>\n<arg_value>{value}</arg_value>\n</tool_call>",
        f"<tool_call>\n<function=get_weather>\n<parameter={argument}>\n{value}\n</parameter>\n</function>\n</tool_call>",
        f"<seed:tool_call>\n<function=get_weather>\n<parameter={argument}>{value}</parameter>\n</function>\n"
        "</seed:tool_call>",
        f'<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="{argument}">{value}</parameter>\n'
        "</invoke>\n</minimax:tool_call>",
        f'<|tool_call_start|>[get_weather({argument}="{value}")]<|tool_call_end|>',
        f'[get_weather({argument}="{value}")]',
    ]


STREAMS: dict[str, list[str]] = {
    "markers-in-prose": [f"A call begins with {each[:30]} and so on." for each in _ANSWERS.values()],
    "markers-almost": [each.replace("call", "cal").replace("<", "< ") for each in _ANSWERS.values()],
    "markers-twice": [each[:12] + each for each in _ANSWERS.values()],
    "markers-only": [each[:20] for each in _ANSWERS.values()],
    "markers-at-the-end": [f"Hello.{each[-14:]}" for each in _ANSWERS.values()],
    "markers-in-strings": _with(json.dumps({"city": "".join(_ANSWERS.values())})),
    "markers-in-texts": _with_text("</tool_call>x</parameter>y</arg_value>z</invoke><function=get_time>"),
    "markers-in-a-fence": [f"```\n{each}\n```" for each in _ANSWERS.values()],
    "cut-off-early": [each[: len(each) // 4] for each in _ANSWERS.values()],
    "cut-off-in-a-value": [each[: each.index("Oslo") + 2] for each in _ANSWERS.values()],
    "cut-off-in-an-escape": [each[:-4] for each in _with('{"city": "a\\u00')],
    "cut-off-behind-a-backslash": _with('{"city": "a\\'),
    "cut-off-before-the-last-marker": [each[:-3] for each in _ANSWERS.values()],
    "two-notations": [one + other for one in _ANSWERS.values() for other in list(_ANSWERS.values())[::5]],
    "two-notations-nested": _with(json.dumps({"city": _ANSWERS["hermes"]})) + _with_text(_ANSWERS["glm"]),
    "one-call-twice": [each + each for each in _ANSWERS.values()],
    "escapes": _with('{"city": "\\u00e9\\ud83d\\ude00\\n\\t\\"\\\\\\/\\u0000"}'),
    "half-surrogates": _with('{"city": "\\ud83d", "\\ude00": "\\ud83dx"}') + _with_text("\\ud83d"),
    "numbers-out-of-range": _with('{"days": 1e400, "n": -1e-400, "m": 123456789012345678901234567890}')
    + [each for value in ("1e400", "-1E+999", "NaN", "Infinity", "9" * 5000) for each in _with_text(value, "days")],
    "numbers-that-are-none": _with('{"days": 01, "a": +1, "b": .5, "c": 1., "d": 0x10, "e": 1_000}')
    + [each for value in ("01", "+1", ".5", "0x10", "1_000", "--1") for each in _with_text(value, "days")],
    "keys-twice": [
        *_with('{"city": "Oslo", "city": "Bergen", "city": null}'),
        '<tool_call>{"name": "get_time", "name": "get_weather", "arguments": {}, "arguments": {"a": 1}}</tool_call>',
    ],
    "quotes-in-texts": _with_text('it\'s "here" \'\'\'and\'\'\' """there""" \\\' \\"'),
    "brackets-in-texts": _with_text("]})>]]}}{{[[((") + _with('{"city": "]})>]]}}{{[[(("}'),
    "no-arguments": [each for value in ("", "null", "{}", "[]", '""', '"{}"') for each in _with(value)],
    "arguments-that-are-no-object": [each for value in ("[1]", "7", '"x"', "true", "{") for each in _with(value)],
    "names-unknown": _with('{"a": 1}', "no_such_tool") + [each.replace("get_", "got_") for each in _ANSWERS.values()],
    "names-odd": [
        each
        for name in ("", " ", "a b", "x" * 500, "functions.", "é", "get_weather>", '"', "<", ":0", "a.b:1")
        for each in _with("{}", name)
    ],
    "deep": _with('{"a": ' + "[" * 3000 + "]" * 3000 + "}") + _with_text("[" * 3000 + "]" * 3000, "places"),
    "broken-json": [
        each
        for value in ('{"a": 1,}', "{'a': 1}", '{"a" 1}', '{"a": 1}}}', '{"a": "x\ny"}', '{"a": tru}', '{"a": 1]')
        for each in _with(value)
    ],
    "control-characters": [f"\x00{each}\u2028\ufeff" for each in _with('{"city": "a\x00b\u2028c\ufffd"}')]
    + _with_text("a\x00b\u2028c\ufffd"),
    "line-ends-of-windows": [each.replace("\n", "\r\n") for each in _ANSWERS.values()],
    "comments": _with('{"city": "Oslo" /* capital */}') + _with_text("3  # three", "days"),
}


def test_there_are_thirty_and_more() -> None:
    assert len(STREAMS) >= 30


@pytest.mark.parametrize("kind", STREAMS)
def test_whole_and_in_pieces_are_the_same(kind: str) -> None:
    for name in NOTATIONS:
        tool_format = format_of(name)
        for text in STREAMS[kind]:
            size = max(1, len(text) // 400)
            pieces = [text[place : place + size] for place in range(0, len(text), size)]
            whole = events_of(parser_of(tool_format), [text])
            assert events_of(parser_of(tool_format), pieces) == whole, (name, text)
            _assert_in_order(whole)


def _assert_in_order(events: Sequence[Event]) -> None:
    """Arguments stand behind a call, and no event is empty or has text that cannot be sent."""
    begun = False
    for event in events:
        begun = begun or isinstance(event, CallBegins)
        if isinstance(event, CallBegins):
            assert event.name
            event.name.encode()
        elif isinstance(event, Arguments):
            assert begun
        else:
            assert event.text
