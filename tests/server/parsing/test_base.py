from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.parsing.base import Arguments, CallBegins, Content, PlainParser, Thought, joined


def test_neighbours_of_a_kind_are_joined_and_empty_ones_dropped() -> None:
    events = [Thought("a"), Thought("b"), Content(""), Content("c"), CallBegins("f"), Arguments("{"), Arguments("}")]

    assert joined(events) == [Thought("ab"), Content("c"), CallBegins("f"), Arguments("{}")]


def test_two_calls_stay_two() -> None:
    assert joined([CallBegins("f"), CallBegins("f")]) == [CallBegins("f"), CallBegins("f")]


@given(st.lists(st.text()))
def test_plain_text_is_content_however_it_is_cut(cuts: list[str]) -> None:
    parser = PlainParser()

    events = [event for cut in cuts for event in parser.feed(cut)] + parser.finish()

    text = "".join(cuts)
    assert joined(events) == ([Content(text)] if text else [])
