"""Granite and Phi-4 differ in little more than their markers."""

from __future__ import annotations

import pytest
from hypothesis import given

from server.parsing.base import Arguments, CallBegins, Content
from server.parsing.granite import GraniteFormat
from server.parsing.phi4 import Phi4Format
from server.parsing.tool_format import ToolFormat
from tests.server.parsing.laws import (
    assert_cut_does_not_matter,
    assert_nothing_is_lost,
    calls_in,
    content_in,
    events_of,
    places,
    texts,
)
from tests.server.parsing.round_trip import assert_round_trip
from tests.server.parsing.sampling import Vocabulary

FORMATS = [GraniteFormat(), Phi4Format()]
LIST = '[{"name": "add", "arguments": {"a": "<|/tool_call|>"}}, {"name": "now", "arguments": {}}]'
CALLS = [("add", '{"a": "<|/tool_call|>"}'), ("now", "{}")]
PIECES = [
    LIST,
    "<|tool_call|>",
    "<|/tool_call|>",
    "<tool_call>",
    "functools",
    "functools[",
    "[",
    "]",
    ", ",
    " ",
    "{",
    "a",
]


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (GraniteFormat(), f"<|tool_call|>{LIST}"),
        (GraniteFormat(), f"<|tool_call|> {LIST}\n"),
        (GraniteFormat(), f"<tool_call>{LIST}"),
        (Phi4Format(), f"<|tool_call|>{LIST}<|/tool_call|>"),
        (Phi4Format(), f"<|tool_call|>{LIST}"),
        (Phi4Format(), f"<|tool_call|>{LIST[1:-1]}<|/tool_call|>"),
        (Phi4Format(), f"functools{LIST}"),
    ],
)
def test_notations(fmt: ToolFormat, text: str) -> None:
    events = events_of(fmt.parser([]), [text])
    assert calls_in(events) == CALLS
    assert content_in(events) == ""


@pytest.mark.parametrize(
    ("fmt", "text"),
    [
        (GraniteFormat(), "<|tool_call|>[]"),
        (GraniteFormat(), "<|tool_call|>{}"),
        (Phi4Format(), "functools.partial is a function; functools[0] is none"),
        (Phi4Format(), "<|tool_call|>[1]<|/tool_call|>"),
    ],
)
def test_what_is_no_call_is_content_to_the_last_character(fmt: ToolFormat, text: str) -> None:
    assert events_of(fmt.parser([]), [text]) == [Content(text)]


def test_text_behind_a_list_is_content() -> None:
    text = 'functools[{"name": "now"}] and more'
    assert events_of(Phi4Format().parser([]), [text]) == [CallBegins("now"), Arguments("{}"), Content(" and more")]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_any_cut_of_any_text_gives_the_same(fmt: ToolFormat) -> None:
    @given(texts(PIECES), places())
    def holds(text: str, cuts: list[int]) -> None:
        assert_cut_does_not_matter(lambda: fmt.parser([]), text, cuts)
        assert_nothing_is_lost(fmt.parser([]), text)

    holds()


@pytest.mark.parametrize("special", [False, True], ids=["spelled", "special"])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_parser_reads_back_what_the_grammar_allows(fmt: ToolFormat, special: bool) -> None:
    assert_round_trip(fmt, vocabulary=Vocabulary(fmt.markers if special else ()))
