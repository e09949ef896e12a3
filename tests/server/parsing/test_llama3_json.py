from __future__ import annotations

import pytest
from hypothesis import given

from engine.types import GrammarKind
from server.parsing.base import Arguments, CallBegins, Content, Event, joined
from server.parsing.llama3_json import Llama3JsonFormat
from server.parsing.tool_format import Demand, Tool
from tests.engine.constraints.test_grammar import accepts
from tests.server.parsing.laws import (
    assert_cut_does_not_matter,
    assert_nothing_is_lost,
    calls_in,
    events_of,
    places,
    texts,
)
from tests.server.parsing.round_trip import assert_round_trip
from tests.server.parsing.sampling import Vocabulary

TOOLS = [Tool("add", None), Tool("now", None)]
CALL = '{"name": "add", "parameters": {"a": [1, "}"]}}'
PIECES = [
    CALL,
    '{"parameters": {"b": 1}, "name": "now"}',
    '{"name": "other", "parameters": {}}',
    '{"name": "add", "else": {}}',
    '{"name": "add"}',
    '{"type": "function", "name": "add", ',
    '"parameters": {}}',
    "<|python_tag|>",
    "print(1)",
    "; ",
    ";",
    "\n",
    "Hello",
    "[",
    "]",
    "{",
]


def found(text: str) -> list[Event]:
    return events_of(Llama3JsonFormat().parser(TOOLS), [text])


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (CALL, [("add", '{"a": [1, "}"]}')]),
        (f"\n{CALL}\n", [("add", '{"a": [1, "}"]}')]),
        ('{"type": "function", "name": "now", "parameters": {}}', [("now", "{}")]),
        ('{"parameters": {"b": 1}, "name": "now"}', [("now", '{"b": 1}')]),
        ('{"name": "now", "arguments": null}', [("now", "{}")]),
        (f'{CALL}; {{"name": "now", "parameters": {{}}}}', [("add", '{"a": [1, "}"]}'), ("now", "{}")]),
        (f'{CALL}\n{{"name": "now", "parameters": {{}}}}', [("add", '{"a": [1, "}"]}'), ("now", "{}")]),
        (f"[{CALL}, {CALL}]", [("add", '{"a": [1, "}"]}')] * 2),
        ('<|python_tag|>{"name": "other", "parameters": {}}', [("other", "{}")]),
    ],
)
def test_calls(text: str, calls: list[tuple[str, str]]) -> None:
    events = found(text)
    assert calls_in(events) == calls
    assert not any(isinstance(event, Content) for event in events)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "other", "parameters": {}}',
        '{"name": "add", "description": "Adds.", "parameters": {}}',
        '{"name": "add"}',
        '{"names": ["add"]}',
        "{}",
        "[1, 2]",
        "{ not JSON",
        f"The call is {CALL}",
        "<|python_tag|>print(1)",
        '{"name": "ad',
    ],
)
def test_any_other_json_is_an_answer(text: str) -> None:
    assert found(text) == [Content(text)]


def test_an_answer_that_cannot_be_a_call_any_more_is_not_held_back() -> None:
    parser = Llama3JsonFormat().parser(TOOLS)
    assert parser.feed('{"name') == []
    assert joined(parser.feed('s": ')) == [Content('{"names": ')]
    assert parser.feed("[1]") == [Content("[1]")]


def test_a_tag_leads_to_a_call_behind_other_text() -> None:
    assert found(f"I add. <|python_tag|>{CALL}") == [
        Content("I add. "),
        CallBegins("add"),
        Arguments('{"a": [1, "}"]}'),
    ]


@given(texts(PIECES), places())
def test_any_cut_of_any_text_gives_the_same(text: str, cuts: list[int]) -> None:
    assert_cut_does_not_matter(lambda: Llama3JsonFormat().parser(TOOLS), text, cuts)
    assert_nothing_is_lost(Llama3JsonFormat().parser(TOOLS), text)


@pytest.mark.parametrize("markers", [(), Llama3JsonFormat.markers], ids=["spelled", "special"])
def test_parser_reads_back_what_the_grammar_allows(markers: tuple[str, ...]) -> None:
    assert_round_trip(Llama3JsonFormat(), vocabulary=Vocabulary(markers))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", True),
        ("Hello {}", True),
        ("[1] <b>", True),
        ('{"name": "add", "parameters": {"x": 1}}', True),
        ('<|python_tag|>{"name": "add", "parameters": {"x": 1}}', True),
        ('I add. <|python_tag|>{"name": "add", "parameters": {"x": 1}}', True),
        ('{"name": "add", "parameters": {"x": "1"}}', False),
        (' [ {"name": "add", "parameters": {"x": "1"}}]', False),
        ('<|python_tag|>{"name": "add", "parameters": {"x": "1"}}', False),
        ("Hello <|python_tag|>print(1)", False),
        ('{"other": 1}', False),
    ],
)
def test_where_calls_are_free_none_escapes_its_schema(text: str, right: bool) -> None:
    tool = Tool("add", {"properties": {"x": {"type": "integer"}}}, strict=True)
    grammar = Llama3JsonFormat().grammar([tool], Demand(required=False, parallel=True, special={}))
    assert accepts(GrammarKind.TREE, grammar, text) == right


def test_answers_without_calls_may_be_held_to_a_grammar_of_their_own() -> None:
    demand = Demand(required=False, parallel=True, special={}, answer={"type": "text", "text": '{"name": 1}'})
    grammar = Llama3JsonFormat().grammar(TOOLS, demand)
    assert accepts(GrammarKind.TREE, grammar, '{"name": 1}')
    assert accepts(GrammarKind.TREE, grammar, '{"name": "add", "parameters": {}}')
    assert not accepts(GrammarKind.TREE, grammar, "Hello")
