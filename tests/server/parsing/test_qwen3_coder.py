from __future__ import annotations

import json

import pytest

from server.parsing.base import Arguments, CallBegins, Content
from server.parsing.qwen3_coder import Qwen3CoderFormat
from tests.server.parsing.laws import events_of
from tests.server.parsing.tools import parser_of, values_of

QWEN = Qwen3CoderFormat()
CALL = """<tool_call>
<function=get_weather>
<parameter=city>
Oslo
</parameter>
<parameter=days>
3
</parameter>
</function>
</tool_call>"""


def test_a_call() -> None:
    assert events_of(parser_of(QWEN), ["I look.\n", CALL, "\n", CALL, "\n"]) == [
        Content("I look.\n"),
        CallBegins("get_weather"),
        Arguments('{"city": "Oslo", "days": 3}'),
        CallBegins("get_weather"),
        Arguments('{"city": "Oslo", "days": 3}'),
    ]


def parameter(name: str, text: str) -> str:
    return f"<tool_call>\n<function=get_weather>\n<parameter={name}>\n{text}\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("city", "123", "123"),
        ("city", '"Oslo"', '"Oslo"'),
        ("city", "", ""),
        ("city", "\nOslo\n\n", "\nOslo\n\n"),
        ("city", "  a & b &lt; <b>\\n</b> é", "  a & b &lt; <b>\\n</b> é"),
        ("days", "-3", -3),
        ("days", "three", "three"),
        ("alerts", "True", True),
        ("units", "None", None),
        ("units", "null", None),
        ("units", "F", "F"),
        ("places", '[{"a": [1]}]', [{"a": [1]}]),
        ("places", "[{'a': None}]", [{"a": None}]),
        ("unknown", "7", 7),
        ("unknown", "seven", "seven"),
    ],
)
def test_the_schema_says_what_a_text_means(name: str, text: str, value: object) -> None:
    assert values_of(QWEN, parameter(name, text)) == [("get_weather", {name: value})]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=get_time>\n</function>\n</tool_call>",
        "<tool_call><function=get_time></function></tool_call>",
    ],
)
def test_no_parameters_are_an_empty_object(text: str) -> None:
    assert values_of(QWEN, text) == [("get_time", {})]


@pytest.mark.parametrize(
    "broken",
    [
        CALL.removeprefix("<tool_call>\n"),
        CALL.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"),
        CALL.replace("</parameter>\n", ""),
        CALL.replace("\n</parameter>\n</function>", ""),
        CALL.replace("</function>\n", ""),
        CALL.replace("\n", "").replace("<parameter=days>", "\n<parameter=days>"),
        CALL.replace(
            "<parameter=days>", "<parameter=\n</parameter>\n<parameter=ids: [1]\n</parameter>\n<parameter=days>"
        ),
        CALL.replace("</function>", "<parameter=city>\nBergen\n</parameter>\n</function>"),
    ],
    ids=["no-opening", "bare", "no-ends", "no-function-end", "only-call-end", "no-lines", "bad-names", "twice"],
)
def test_what_these_models_leave_out_or_add_does_no_harm(broken: str) -> None:
    assert values_of(QWEN, broken) == [("get_weather", {"city": "Oslo", "days": 3})]


def test_several_functions_in_one_call() -> None:
    call = "<function=get_time>\n</function>\n"
    assert values_of(QWEN, f"<tool_call>\n{call}{call}</tool_call>") == [("get_time", {}), ("get_time", {})]


def test_a_call_that_follows_an_unfinished_one_is_read() -> None:
    unfinished = CALL.removesuffix("</parameter>\n</function>\n</tool_call>") + "</parameter>\n"
    assert [name for name, _ in values_of(QWEN, unfinished + CALL)] == ["get_weather"] * 2


def test_a_long_text_parameter_goes_out_as_it_comes() -> None:
    parser = parser_of(QWEN)
    parser.feed("<tool_call>\n<function=write_file>\n<parameter=content>\n")

    assert parser.feed("def f():") == [Arguments('{"content": "def f():')]
    assert parser.feed("\n") == []
    assert parser.feed("    x < 1\n</par") == [Arguments("\\n    x < 1")]
    assert parser.feed("\n</parameter>") == [Arguments("\\n</par"), Arguments('"')]


@pytest.mark.parametrize(
    "text",
    [
        "a < b and <function=unknown>x</function>",
        "<tool_call> is how a call begins",
        "<tool_call>\n<function=get time>\n</function>\n</tool_call>",
        "<tool_call>\n<function=>\n",
        "<tool_call>\n<function=get_wea",
        "<tool_call>",
        "<tool_call>\n{}\n</tool_call>",
        "</tool_call>",
        "<parameter=city>\nOslo\n</parameter>",
    ],
)
def test_text_that_is_no_call_stays_content(text: str) -> None:
    assert events_of(parser_of(QWEN), [text]) == [Content(text)]


def test_tags_within_the_strings_of_a_json_value_are_part_of_it() -> None:
    value = [{"a": "</tool_call></parameter>"}, 2]
    call = "<tool_call>\n<function=get_weather>\n<parameter=places>\n{}\n</parameter>\n</function>\n</tool_call>"

    assert values_of(QWEN, call.format(json.dumps(value, indent=1))) == [("get_weather", {"places": value})]
    assert values_of(QWEN, call.format('["a')) == [("get_weather", {"places": '["a'})]
