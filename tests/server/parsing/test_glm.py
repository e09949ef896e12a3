from __future__ import annotations

import json

import pytest

from server.parsing.base import Arguments, CallBegins, Content
from server.parsing.glm import GlmFormat
from tests.server.parsing.laws import assert_cut_does_not_matter, events_of
from tests.server.parsing.tools import parser_of, values_of

GLM = GlmFormat()
CALL = """<tool_call>get_weather
<arg_key>city</arg_key>
<arg_value>Oslo</arg_value>
<arg_key>days</arg_key>
<arg_value>3</arg_value>
</tool_call>"""


def test_a_call() -> None:
    assert events_of(parser_of(GLM), ["I look.\n", CALL, "\n", CALL, "\n"]) == [
        Content("I look.\n"),
        CallBegins("get_weather"),
        Arguments('{"city": "Oslo", "days": 3}'),
        CallBegins("get_weather"),
        Arguments('{"city": "Oslo", "days": 3}'),
    ]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("city", "123", "123"),
        ("city", "", ""),
        ("city", "\nOslo\n", "\nOslo\n"),
        ("city", 'a "b" <c> \\n', 'a "b" <c> \\n'),
        ("days", "3", 3),
        ("alerts", "true", True),
        ("units", "null", None),
        ("units", "C", "C"),
        ("places", '[{"name": "Bærum"}]', [{"name": "Bærum"}]),
        ("unknown", "7", 7),
        ("unknown", "seven", "seven"),
    ],
)
def test_the_schema_says_what_a_text_means(key: str, text: str, value: object) -> None:
    call = f"<tool_call>get_weather\n<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n</tool_call>"
    assert values_of(GLM, call) == [("get_weather", {key: value})]


@pytest.mark.parametrize(
    "text",
    ["<tool_call>get_time</tool_call>", "<tool_call>get_time\n</tool_call>", "<tool_call>\nget_time\n</tool_call>"],
)
def test_no_arguments_are_an_empty_object(text: str) -> None:
    assert values_of(GLM, text) == [("get_time", {})]


@pytest.mark.parametrize(
    "other",
    [
        CALL.replace("\n", ""),
        CALL.replace("\n", " "),
        CALL.replace("<arg_value>Oslo", "Oslo").replace("\nOslo", "Oslo"),
        CALL.replace("3</arg_value>", "3"),
        CALL.replace("Oslo</arg_value>", "Oslo"),
        CALL.replace("days</arg_key>", "days"),
        CALL.replace("</tool_call>", "<arg_key>city</arg_key>\n<arg_value>Bergen</arg_value>\n</tool_call>"),
    ],
    ids=["no-lines", "blanks", "no-value", "no-last-end", "no-end", "no-key-end", "twice"],
)
def test_what_these_models_leave_out_or_add_does_no_harm(other: str) -> None:
    assert values_of(GLM, other) == [("get_weather", {"city": "Oslo", "days": 3})]


def test_a_long_text_goes_out_as_it_comes() -> None:
    parser = parser_of(GLM)
    parser.feed("<tool_call>write_file\n<arg_key>content</arg_key>\n<arg_value>")

    assert parser.feed("def f():\n    ") == [Arguments('{"content": "def f():\\n    ')]
    assert parser.feed("x < 1</arg_v") == [Arguments("x < 1")]
    assert parser.feed("alue>") == [Arguments('"')]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call> begins a call.",
        "<tool_call>get_weather\nand then",
        '<tool_call>{"name": "get_weather"}</tool_call>',
        "<tool_call></tool_call>",
        "<tool_call>get_wea",
        "<tool_call>get_time\n</tool_",
        "<arg_key>a</arg_key>",
        "</tool_call>",
    ],
)
def test_text_that_is_no_call_stays_content(text: str) -> None:
    assert events_of(parser_of(GLM), [text]) == [Content(text)]


def test_tags_within_the_strings_of_a_json_value_are_part_of_it() -> None:
    value = [{"a": "</tool_call></arg_value>"}, 2]
    call = "<tool_call>get_weather\n<arg_key>places</arg_key>\n<arg_value>{}</arg_value>\n</tool_call>"

    assert values_of(GLM, call.format(json.dumps(value, indent=1))) == [("get_weather", {"places": value})]
    assert values_of(GLM, call.format('["a')) == [("get_weather", {"places": '["a'})]


def test_a_key_that_is_none_ends_where_it_is_too_long() -> None:
    text = (
        f"<tool_call>get_weather\n<arg_key>{'x' * 290}<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
    )

    assert values_of(GLM, text) == [("get_weather", {"days": 3})]
    assert_cut_does_not_matter(lambda: parser_of(GLM), text, [])
