from __future__ import annotations

import json

import pytest
from hypothesis import given

from engine.types import GrammarKind
from server.parsing.base import Arguments, CallBegins, Content
from server.parsing.deepseek import (
    CALL_BEGINS,
    CALL_ENDS,
    CALLS_BEGIN,
    CALLS_END,
    SEPARATOR,
    DeepSeek31Format,
    DeepSeekFormat,
)
from server.parsing.tool_format import Demand, ToolFormat
from tests.engine.constraints.test_grammar import accepts
from tests.server.parsing.laws import assert_cut_does_not_matter, events_of, places, texts
from tests.server.parsing.round_trip import assert_round_trip
from tests.server.parsing.sampling import Vocabulary
from tests.server.parsing.tools import WEATHER, calls_of, parser_of, values_of

DEEPSEEK = DeepSeekFormat()
ARGUMENTS = '{"city": "Os}```lo", "days": 3}'
V3 = f"{CALL_BEGINS}function{SEPARATOR}get_weather\n```json\n{ARGUMENTS}\n```{CALL_ENDS}"
V31 = f"{CALL_BEGINS}get_weather{SEPARATOR}{ARGUMENTS}{CALL_ENDS}"
PIECES = [
    f"{CALLS_BEGIN}{V3}\n{V3}{CALLS_END}",
    f"{CALLS_BEGIN}{V31}{V31}{CALLS_END}",
    CALLS_BEGIN,
    CALLS_END,
    CALL_BEGINS,
    CALL_ENDS,
    SEPARATOR,
    "function",
    "get_time",
    "\n```json\n",
    "```",
    "{}",
    '{"a": [1, {',
    "}",
    "\n",
    " ",
    "<",
    "Hello.",
    "x" * 150,
]


@pytest.mark.parametrize("calls", [f"{V3}\n{V3}", f"{V31}{V31}", f"{V3}{V31}"])
def test_calls(calls: str) -> None:
    assert events_of(parser_of(DEEPSEEK), [f"I look.{CALLS_BEGIN}{calls}{CALLS_END}"]) == [
        Content("I look."),
        CallBegins("get_weather"),
        Arguments(ARGUMENTS),
        CallBegins("get_weather"),
        Arguments(ARGUMENTS),
    ]


@pytest.mark.parametrize(
    "other",
    [
        V3,
        V31,
        f"{CALLS_BEGIN}\n{V3}",
        f"{CALLS_BEGIN}{V31}",
        f"{CALLS_BEGIN}{V3.removesuffix(CALL_ENDS)}{CALLS_END}",
        f"{CALLS_BEGIN}{V31.removesuffix(CALL_ENDS)}{CALLS_END}",
        V3.replace("```json\n", "").replace("\n```", ""),
        V3.replace("json\n", "\n\n"),
        V31.replace(SEPARATOR, f"{SEPARATOR}\n"),
        V31.replace(ARGUMENTS, f"```json\n{ARGUMENTS}\n```"),
        V3.replace("get_weather\n", "get_weather"),
    ],
)
def test_forms_that_models_mix(other: str) -> None:
    assert values_of(DEEPSEEK, other) == [("get_weather", json.loads(ARGUMENTS))]


@pytest.mark.parametrize(
    "call",
    [
        f"{CALL_BEGINS}get_time{SEPARATOR}{CALL_ENDS}",
        f"{CALL_BEGINS}function{SEPARATOR}get_time{CALL_ENDS}",
        f"{CALL_BEGINS}function{SEPARATOR}get_time\n```json\n```{CALL_ENDS}",
    ],
)
def test_no_arguments_are_an_empty_object(call: str) -> None:
    assert values_of(DEEPSEEK, f"{CALLS_BEGIN}{call}{call}{CALLS_END}") == [("get_time", {})] * 2


@pytest.mark.parametrize("arguments", ['{"a": 1', '{"a": {"b": [true', '{"a": "b'])
def test_the_end_of_arguments_is_not_guessed(arguments: str) -> None:
    closing = {"{": "}", "[": "]"}
    rest = "".join(closing[each] for each in reversed(arguments) if each in closing)
    rest = rest if arguments[-1] != "b" else f'"{rest}'
    text = f"{CALL_BEGINS}get_time{SEPARATOR}{arguments}"
    parser = parser_of(DEEPSEEK)

    assert parser.feed(text) == [CallBegins("get_time"), Arguments(arguments)]
    assert parser.feed(rest + CALL_ENDS) == [Arguments(rest)]


@pytest.mark.parametrize(
    "text",
    [
        CALLS_BEGIN,
        f"{CALLS_BEGIN} opens calls",
        f"{CALL_BEGINS}no name {SEPARATOR}",
        f"{CALL_BEGINS}{SEPARATOR}",
        f"{CALL_BEGINS}function{SEPARATOR}get_wea",
        f"{CALL_BEGINS}function{SEPARATOR}two words\n",
        CALL_ENDS,
        "<｜tool▁sep",
    ],
)
def test_text_that_is_no_call_stays_content(text: str) -> None:
    assert events_of(parser_of(DEEPSEEK), [text]) == [Content(text)]


@pytest.mark.parametrize("length", range(V3.index("\n") + 1, len(V3)))
def test_a_call_that_is_cut_off_has_the_beginning_of_its_arguments(length: int) -> None:
    ((name, arguments),) = calls_of(DEEPSEEK, V3[:length])

    assert name == "get_weather"
    assert ARGUMENTS.startswith(arguments)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("fmt", [DEEPSEEK, DeepSeek31Format()])
def test_what_the_grammar_allows_is_read_back(fmt: ToolFormat, special: bool) -> None:
    assert_round_trip(fmt, vocabulary=Vocabulary(fmt.markers if special else ()))


@pytest.mark.parametrize("fmt", [DEEPSEEK, DeepSeek31Format()])
def test_the_grammar_allows_the_forms_of_the_template(fmt: ToolFormat) -> None:
    one, between = (V3, "\n") if fmt is DEEPSEEK else (V31, "")
    answer = f"{CALLS_BEGIN}{one}{between}{one}{CALLS_END}"
    grammar = fmt.grammar([WEATHER], Demand(required=True, parallel=True, special={}))

    assert accepts(GrammarKind.TREE, grammar, answer)


@given(texts(PIECES), places())
def test_how_the_text_is_cut_does_not_matter(text: str, places: list[int]) -> None:
    assert_cut_does_not_matter(lambda: parser_of(DEEPSEEK), text, places)
