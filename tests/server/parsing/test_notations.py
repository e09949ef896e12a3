"""What holds of all notations: any cut gives the same, nothing is lost, and parsers read what grammars allow."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from server.parsing.table import FORMATS
from tests.server.parsing.laws import (
    assert_cut_does_not_matter,
    assert_nothing_is_lost,
    calls_in,
    content_in,
    events_of,
    places,
    texts,
)
from tests.server.parsing.notations import CALLS, NOTATIONS, format_of, pieces_of
from tests.server.parsing.round_trip import assert_round_trip
from tests.server.parsing.sampling import Vocabulary
from tests.server.parsing.tools import calls_of, parser_of, values_of

WITH_LAWS_OF_THEIR_OWN = {
    "harmony",
    "mistral_named",
    "mistral",
    "deepseek_v31",
    "deepseek",
    "granite",
    "phi4",
    "hermes",
    "pythonic",
    "llama3_json",
    "generic",
}
HERE = [name for name in NOTATIONS if name not in WITH_LAWS_OF_THEIR_OWN]
OPEN_ENDED = [name for name, each in NOTATIONS.items() if each.call_ends is not None]
FRAMED = {"cohere"}
"""Their answers have markers that are no content."""


def test_every_format_has_an_example() -> None:
    assert list(NOTATIONS) == [each.name for each in FORMATS]


@pytest.mark.parametrize("name", NOTATIONS)
def test_an_example_of_two_calls(name: str) -> None:
    assert values_of(format_of(name), NOTATIONS[name].answer) == CALLS


@pytest.mark.parametrize("name", NOTATIONS)
def test_text_around_calls_is_content(name: str) -> None:
    if name in ("harmony", "xlam", "pythonic", "llama3_json"):
        return  # calls are the whole answer
    events = events_of(parser_of(format_of(name)), [f"I look.\n\n{NOTATIONS[name].answer}\n"])

    assert [each for each, _ in calls_in(events)] == [each for each, _ in CALLS]
    assert content_in(events) == "I look.\n\n"


@pytest.mark.parametrize("name", NOTATIONS)
def test_a_call_that_is_cut_off_has_the_beginning_of_its_arguments(name: str) -> None:
    notation = NOTATIONS[name]
    if name == "harmony":
        return  # its markers are tokens, which are not cut
    for length in range(len(notation.opened), len(notation.answer)):
        (called, arguments), *more = calls_of(format_of(name), notation.answer[:length])
        assert called == "get_weather"
        assert '{"city": "Oslo", "days": 3}'.startswith(arguments)
        assert more in ([], [("get_time", "")], [("get_time", "{")], [("get_time", "{}")])


@pytest.mark.parametrize("name", HERE)
def test_any_cut_of_any_text_gives_the_same(name: str) -> None:
    @given(texts(pieces_of(name)), places())
    def holds(text: str, cuts: list[int]) -> None:
        assert_cut_does_not_matter(lambda: parser_of(format_of(name)), text, cuts)
        if name not in FRAMED:
            assert_nothing_is_lost(parser_of(format_of(name)), text)

    holds()


@pytest.mark.parametrize("name", OPEN_ENDED)
def test_calls_that_are_complete_have_an_object_for_arguments(name: str) -> None:
    @given(texts(pieces_of(name)))
    def holds(text: str) -> None:
        calls = calls_in(events_of(parser_of(format_of(name)), [f"{text}{NOTATIONS[name].call_ends}"]))
        assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls)

    holds()


@pytest.mark.parametrize("special", [True, False], ids=["special", "spelled"])
@pytest.mark.parametrize("name", HERE)
def test_parsers_read_back_what_grammars_allow(name: str, special: bool) -> None:
    tool_format = format_of(name)
    vocabulary = Vocabulary(tool_format.markers if special else (), NOTATIONS[name].value_ends)
    assert_round_trip(tool_format, vocabulary=vocabulary, length=150 if name == "cohere" else 60)
