from __future__ import annotations

import pytest
from hypothesis import given

from server.parsing.base import Arguments, CallBegins, Content, Event
from server.parsing.mistral import MistralFormat, NamedMistralFormat
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

LIST = '[TOOL_CALLS] [{"name": "add", "arguments": {"a": "[TOOL_CALLS]"}, "id": "a1b2c3d4e"}, {"name": "now"}]'
PIECES = [
    LIST,
    '[TOOL_CALLS]add[ARGS]{"a": 1}',
    "[TOOL_CALLS]add[CALL_ID]a1b2c3d4e[ARGS]{}",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "add",
    '{"b": [1, "}"]}',
    "[",
    "]",
    " ",
    "Hello",
]


def found(text: str) -> list[Event]:
    return events_of(MistralFormat().parser([]), [text])


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (LIST, [("add", '{"a": "[TOOL_CALLS]"}'), ("now", "{}")]),
        ('[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]', [("add", '{"a": 1}')]),
        ('[TOOL_CALLS]{"name": "add", "arguments": {"a": 1}}', [("add", '{"a": 1}')]),
        ('[TOOL_CALLS]add[ARGS]{"a": "]"}[TOOL_CALLS]now[ARGS]{}', [("add", '{"a": "]"}'), ("now", "{}")]),
        ('[TOOL_CALLS]add{"a": 1}[TOOL_CALLS]now {}', [("add", '{"a": 1}'), ("now", "{}")]),
        ('[TOOL_CALLS] add\n[ARGS] {"a": 1}\n', [("add", '{"a": 1}')]),
    ],
)
def test_notations(text: str, calls: list[tuple[str, str]]) -> None:
    events = found(text)
    assert calls_in(events) == calls
    assert not any(isinstance(event, Content) for event in events)


def test_ids_that_come_before_the_arguments_are_the_models_own() -> None:
    assert found("[TOOL_CALLS]add[CALL_ID]a1b2c3d4e[ARGS]{}") == [CallBegins("add", "a1b2c3d4e"), Arguments("{}")]
    listed = found('[TOOL_CALLS][{"id": "a1b2c3d4e", "name": "add", "arguments": {}}]')
    assert listed == [CallBegins("add", "a1b2c3d4e"), Arguments("{}")]


@pytest.mark.parametrize(
    "text",
    [
        "[TOOL_CALLS]",
        "[TOOL_CALLS] [1]",
        "[TOOL_CALLS]add",
        "[TOOL_CALLS]add and more",
        "[TOOL_CALLS]add[ARGS]x",
        "[TOOL_CALLS]add[CALL_ID]a1 b2[ARGS]{}",
        "[TOOL_CALLS]" + "a" * 300 + "{}",
        "[TOOL_CALLS]add[ARGS]",
        "[ARGS]{}",
    ],
)
def test_what_is_no_call_is_content_to_the_last_character(text: str) -> None:
    assert found(text) == [Content(text)]


def test_content_around_calls_stays() -> None:
    assert found("I add. [TOOL_CALLS]add[ARGS]{} Done.") == [
        Content("I add. "),
        CallBegins("add"),
        Arguments("{}"),
        Content(" Done."),
    ]


@given(texts(PIECES), places())
def test_any_cut_of_any_text_gives_the_same(text: str, cuts: list[int]) -> None:
    assert_cut_does_not_matter(lambda: MistralFormat().parser([]), text, cuts)
    assert_nothing_is_lost(MistralFormat().parser([]), text)


@pytest.mark.parametrize("markers", [(), MistralFormat.markers], ids=["spelled", "special"])
@pytest.mark.parametrize("fmt", [MistralFormat(), NamedMistralFormat()], ids=["list", "named"])
def test_parser_reads_back_what_the_grammar_allows(
    fmt: MistralFormat | NamedMistralFormat, markers: tuple[str, ...]
) -> None:
    assert_round_trip(fmt, vocabulary=Vocabulary(markers))
