"""Stop strings against the obvious way of finding them, and against every way of cutting the text into tokens."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.constraints.stop import StopMatcher, StopStrings
from engine.emission import EmittedToken, Emitter

TEXTS = st.text(alphabet="abé", max_size=24)
STOPS = st.lists(st.text(alphabet="abé", min_size=1, max_size=5), min_size=1, max_size=4)


def whole_text(data: bytes, stops: list[str], include: bool) -> tuple[bytes, str | None]:
    """The text before the stop string that is complete first (of several, the longest), and that string."""
    for end in range(1, len(data) + 1):
        found = [stop for stop in stops if data[:end].endswith(stop.encode())]
        if found:
            stop = max(found, key=lambda each: len(each.encode()))
            return data[: end if include else end - len(stop.encode())], stop
    return data, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The text in pieces; equal places give empty ones, as special tokens do."""
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def emit(pieces: list[bytes], stops: list[str], include: bool) -> tuple[list[EmittedToken], str | None]:
    """All emitted tokens, checking on the way that nothing is shown too early or held back without need."""
    emitter = Emitter(StopMatcher(StopStrings(stops), include=include))
    emitted: list[EmittedToken] = []
    for number, piece in enumerate(pieces):
        stop = emitter.push(number, piece, None)
        if stop is not None:
            return emitted + emitter.take(final=True), stop
        emitted += emitter.take()
        text = b"".join(pieces[: number + 1])
        begun = [size for each in stops for size in range(len(each.encode())) if text.endswith(each.encode()[:size])]
        certain = len(text) - (0 if include else max(begun))
        whole = [sum(map(len, pieces[:count])) for count in range(number + 2)]
        assert len(emitted) == max(count for count, size in enumerate(whole) if size <= certain)
    return emitted + emitter.take(final=True), None


@settings(max_examples=400)
@given(text=TEXTS, stops=STOPS, places=st.lists(st.integers(0, 40), max_size=12), include=st.booleans())
def test_any_cutting_gives_the_text_before_the_first_stop(
    text: str, stops: list[str], places: list[int], include: bool
) -> None:
    data = text.encode()
    pieces = cut(data, places)
    emitted, stop = emit(pieces, stops, include)
    expected, expected_stop = whole_text(data, stops, include)
    assert stop == expected_stop
    assert b"".join(token.data for token in emitted) == expected
    assert [token.token_id for token in emitted] == list(range(len(emitted)))
    for token in emitted[:-1]:
        assert token.data == pieces[token.token_id]
    if emitted and stop is not None and pieces[emitted[-1].token_id]:
        assert emitted[-1].data  # a token of which nothing is left is not emitted
    if stop is None:
        assert len(emitted) == len(pieces)


@settings(max_examples=200)
@given(text=TEXTS, stops=STOPS, places=st.lists(st.integers(0, 40), max_size=12), min_tokens=st.integers(0, 8))
def test_matches_within_min_tokens_do_not_count(
    text: str, stops: list[str], places: list[int], min_tokens: int
) -> None:
    data = text.encode()
    pieces = cut(data, places)
    free = len(b"".join(pieces[:min_tokens]))
    ends = [
        (end, len(stop.encode()), stop)
        for stop in stops
        for end in range(free + 1, len(data) + 1)
        if data[:end].endswith(stop.encode())
    ]
    emitter = Emitter(StopMatcher(StopStrings(stops), min_tokens=min_tokens))
    emitted: list[EmittedToken] = []
    stop = None
    for number, piece in enumerate(pieces):
        stop = emitter.push(number, piece, None)
        emitted += emitter.take(final=stop is not None)
        if stop is not None:
            break
    emitted += emitter.take(final=True)
    if not ends:
        assert stop is None
        assert b"".join(token.data for token in emitted) == data
    else:
        end, size, expected = min(ends, key=lambda each: (each[0], -each[1]))
        assert stop == expected
        assert b"".join(token.data for token in emitted) == data[: end - size]
