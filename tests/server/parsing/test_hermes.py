from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import GrammarKind
from server.parsing.base import Arguments, CallBegins, Content, Event
from server.parsing.hermes import HermesFormat
from server.parsing.tool_format import Demand
from tests.engine.constraints.test_grammar import accepts
from tests.server.parsing.laws import (
    assert_cut_does_not_matter,
    assert_nothing_is_lost,
    calls_in,
    events_of,
    places,
    texts,
)
from tests.server.parsing.round_trip import TOOLS, assert_round_trip, read_back
from tests.server.parsing.sampling import Vocabulary

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "</tool_call>"}}\n</tool_call>'
PIECES = [
    CALL,
    "<tool_call>",
    "</tool_call>",
    '{"arguments": {"city": "Oslo \\" }"}, "name": "weather", "id": "x"}',
    '{"name": "f", "arguments": "{\\"a\\": 1}"}',
    '{"name": "f", "arguments": null}',
    '{"type": "function", "function": {"name": "f", "arguments": {}}}',
    '<tool_call>[{"name": "f"}, {"name": "g", "parameters": {"x": [1, {}]}}]',
    '"name": 3',
    '"\\ud800"',
    "\n",
    " ",
    "Hello.",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
]


def found(text: str) -> list[Event]:
    return events_of(HermesFormat().parser([]), [text])


def test_content_and_calls_come_in_order_without_the_blanks_between_calls() -> None:
    assert found(f"I add.\n{CALL}\n{CALL}\n") == [
        Content("I add.\n"),
        CallBegins("add"),
        Arguments('{"a": 1, "b": "</tool_call>"}'),
        CallBegins("add"),
        Arguments('{"a": 1, "b": "</tool_call>"}'),
    ]


def test_content_behind_a_call_keeps_its_blanks() -> None:
    assert found(f"\n\n{CALL}\nDone. ")[2:] == [Content("\nDone. ")]


def test_arguments_are_passed_on_exactly_as_they_stand() -> None:
    arguments = '{ "x" :\t1.0,\n "y":"\\u00e9 é", "x": 2 }'
    assert calls_in(found(f'<tool_call>{{"name":"f","arguments":{arguments} }}</tool_call>')) == [("f", arguments)]


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ('{"arguments": {"a": 1}, "name": "f"}', [("f", '{"a": 1}')]),
        ('{"name": "f"}', [("f", "{}")]),
        ('{"name": "f", "arguments": null}', [("f", "{}")]),
        ('{"name": "f", "arguments": "{\\"a\\": \\"b\\"}"}', [("f", '{"a": "b"}')]),
        ('{"name": "f", "arguments": "text"}', [("f", '"text"')]),
        ('{"name": "f", "arguments": [1]}', [("f", "[1]")]),
        ('{"name": "f", "parameters": {}, "more": [1, "}"]}', [("f", "{}")]),
        ('{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}', [("f", '{"a": 1}')]),
        ('[{"name": "f"}, {"name": "g"}]', [("f", "{}"), ("g", "{}")]),
        ('{"name": "f"}\n{"name": "g"}', [("f", "{}"), ("g", "{}")]),
    ],
)
def test_ways_to_write_a_call(body: str, calls: list[tuple[str, str]]) -> None:
    assert found(f"<tool_call>\n{body}\n</tool_call>") == found(f"<tool_call>{body}</tool_call>")
    assert calls_in(found(f"<tool_call>\n{body}\n</tool_call>")) == calls


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nnothing\n</tool_call>",
        "<tool_call></tool_call>",
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>',
        '<tool_call>{"name": 1}</tool_call>',
        '<tool_call>\n{"name": "f", "argu',
        "<tool_call>",
        "<tool_ca",
        "  \n",
        "1 < 2 {}",
    ],
)
def test_what_is_no_call_is_content_to_the_last_character(text: str) -> None:
    assert found(text) == [Content(text)]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('<tool_call>{"name": "f", "arguments": {"a": "b', '{"a": "b'),
        ('<tool_call>{"name": "f", "arguments": {"a": 1\n</tool_call>', '{"a": 1\n'),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}\n</tool_call>', '{"a": 1}'),
        ('<tool_call>{"name": "f", "arguments": {"a": 1}}\n</tool_', '{"a": 1}'),
    ],
)
def test_a_call_that_breaks_off_stays_as_far_as_it_came(text: str, arguments: str) -> None:
    assert found(text) == [CallBegins("f"), Arguments(arguments)]


def test_arguments_stream_as_they_come_and_text_is_held_no_longer_than_needed() -> None:
    parser = HermesFormat().parser([])
    assert parser.feed("Hi <") == [Content("Hi ")]
    assert parser.feed("b>") == [Content("<b>")]
    assert parser.feed('<tool_call>\n{"name": "f", "arguments": ') == []
    assert parser.feed('{"a') == [CallBegins("f"), Arguments('{"a')]
    assert parser.feed('": 1}') == [Arguments('": 1}')]


@given(texts(PIECES), places())
def test_any_cut_of_any_text_gives_the_same(text: str, cuts: list[int]) -> None:
    assert_cut_does_not_matter(lambda: HermesFormat().parser([]), text, cuts)
    assert_nothing_is_lost(HermesFormat().parser([]), text)


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.floats(allow_nan=False), max_size=4), st.booleans()
)
def test_reads_back_any_arguments(arguments: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(arguments, ensure_ascii=ascii_only)
    assert calls_in(found(f'<tool_call>\n{{"name": "f", "arguments": {text}}}\n</tool_call>')) == [("f", text)]


@pytest.mark.parametrize("markers", [(), HermesFormat.markers], ids=["spelled", "special"])
def test_parser_reads_back_what_the_grammar_allows(markers: tuple[str, ...]) -> None:
    assert_round_trip(HermesFormat(), vocabulary=Vocabulary(markers))


def test_answers_without_calls_may_be_held_to_a_grammar_of_their_own() -> None:
    vocabulary = Vocabulary()
    demand = Demand(required=False, parallel=True, special={}, answer={"type": "text", "text": "No."})
    grammar = HermesFormat().grammar(TOOLS, demand)
    answers = [vocabulary.answer(grammar, seed) for seed in range(12)]
    assert "No." in answers
    assert any(calls_in(read_back(HermesFormat(), demand, answer)) for answer in answers)
    assert all(answer == "No." or answer.startswith("<tool_call>") for answer in answers)


def test_the_spelling_of_a_special_marker_in_free_text_opens_a_call_too() -> None:
    """The parser cannot tell them apart, so what follows must be a call in either case."""
    demand = Demand(required=False, parallel=False, special={"<tool_call>": 1})
    grammar = HermesFormat().grammar(TOOLS, demand)
    assert accepts(GrammarKind.TREE, grammar, 'x <tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>')
    assert not accepts(GrammarKind.TREE, grammar, "x <tool_call> y")
