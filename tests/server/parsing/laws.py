"""What holds of every parser: it never fails, loses nothing, and does not care how its text is cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from server.parsing.base import Arguments, CallBegins, Content, Event, StreamParser, joined

Call = tuple[str, str]
"""Name and text of the arguments."""


def events_of(parser: StreamParser, pieces: Sequence[str]) -> list[Event]:
    """What a parser finds in a text that comes in these pieces."""
    return joined([event for piece in pieces for event in parser.feed(piece)] + parser.finish())


def cut(text: str, places: Sequence[int]) -> list[str]:
    """The text in pieces, some of them perhaps empty."""
    bounds = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


def assert_cut_does_not_matter(parser: Callable[[], StreamParser], text: str, places: Sequence[int]) -> None:
    """Any cut, and one character at a time, give the same as the whole text."""
    whole = events_of(parser(), [text])
    assert events_of(parser(), cut(text, places)) == whole
    assert events_of(parser(), list(text)) == whole


def assert_nothing_is_lost(parser: StreamParser, text: str) -> None:
    """A text without calls is content to the last character."""
    events = events_of(parser, [text])
    assert calls_in(events) or content_in(events) == text


def texts(pieces: Sequence[str]) -> st.SearchStrategy[str]:
    """Texts of these pieces, parts of them and anything else, in any order."""
    each = st.sampled_from(pieces)
    part = st.builds(lambda text, start, end: text[start:end], each, st.integers(0, 40), st.integers(0, 80))
    return st.lists(st.one_of(each, each, part, st.text(max_size=5)), max_size=8).map("".join)


def places() -> st.SearchStrategy[list[int]]:
    """Where to cut a text."""
    return st.lists(st.integers(0, 200), max_size=12)


def calls_in(events: Sequence[Event]) -> list[Call]:
    """Names and arguments of the calls."""
    found: list[Call] = []
    for event in events:
        match event:
            case CallBegins(name, _):
                found.append((name, ""))
            case Arguments(text):
                found[-1] = (found[-1][0], found[-1][1] + text)
    return found


def content_in(events: Sequence[Event]) -> str:
    """All content, joined."""
    return "".join(event.text for event in events if isinstance(event, Content))
