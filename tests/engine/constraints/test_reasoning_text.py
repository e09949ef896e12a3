"""Reasoning and answer told apart on bytes, whatever the tokens are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.reasoning_text import AnswerStops, Place, Reading, ReasoningMarkers
from engine.constraints.stop import StopMatcher, StopStrings
from engine.emission import Emitter
from engine.reasoning import ReasoningSpec

THINK = ReasoningSpec("<think>", "</think>")
BEGUN = ReasoningSpec("<think>", "</think>", begun=True)

PIECES = st.sampled_from([b"<think>", b"</think>", b"<th", b"ink>", b"</", b"<", b">", b"\n", b" ", b"a", b"b"])
CUTS = st.lists(st.integers(1, 12), max_size=40)


def cut(text: bytes, sizes: Sequence[int]) -> list[bytes]:
    """A text in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [piece for piece in (*pieces, text) if piece]


def read(spec: ReasoningSpec, pieces: Sequence[bytes]) -> Reading:
    markers = ReasoningMarkers(spec)
    reading = markers.first
    for piece in pieces:
        reading, _ = markers.follow(reading, piece)
    return reading


def counted(spec: ReasoningSpec, pieces: Sequence[bytes]) -> int:
    stops = AnswerStops(spec, None)
    for number, piece in enumerate(pieces, start=1):
        assert stops.advance(piece, number) is None
    return stops.tokens


def emitted(spec: ReasoningSpec, pieces: Sequence[bytes], *stops: str, include: bool = False) -> tuple[bytes, bool]:
    """What is emitted, checking that nothing is emitted that is taken away later; and whether a stop string matched."""
    emitter = Emitter(AnswerStops(spec, StopMatcher(StopStrings(stops), include=include)))
    text = b""
    for number, piece in enumerate(pieces):
        matched = emitter.push(number, piece, None)
        text += b"".join(token.data for token in emitter.take(final=matched is not None))
        if matched:
            return text, True
    return text + b"".join(token.data for token in emitter.take(final=True)), False


@pytest.mark.parametrize(
    ("text", "place", "closed"),
    [
        (b"", Place.OPENING, 0),
        (b" \n <thi", Place.OPENING, 0),
        (b"<thing>", Place.ANSWER, 0),
        (b"\n<think>I see", Place.REASONING, 0),
        (b"<think>a</think>", Place.OPENING, 1),
        (b"<think>a</think>\n\n", Place.OPENING, 1),
        (b"<think>a</think>b", Place.ANSWER, 1),
        (b"</think>b", Place.ANSWER, 1),
        (b"<think>a</think>\n<think>b", Place.REASONING, 1),
        (b"<think>a</think>\n<think>b</think>c", Place.ANSWER, 2),
        (b"The tag <think> opens", Place.ANSWER, 0),
        (b"<think>a</think>b<think>c", Place.ANSWER, 1),
        (b"<think>a</thin</think>b", Place.ANSWER, 1),
        (b"<think>a</<//think></think", Place.REASONING, 0),
    ],
)
def test_where_a_text_stands(text: bytes, place: Place, closed: int) -> None:
    reading = read(THINK, [text])
    assert (reading.place, reading.closed) == (place, closed)
    assert read(THINK, [text[at : at + 1] for at in range(len(text))]) == reading


def test_a_prompt_may_have_opened_the_block() -> None:
    assert read(BEGUN, [b"I see"]).place is Place.REASONING
    assert read(BEGUN, [b"I see</think>", b"A"]).place is Place.ANSWER


@given(st.lists(PIECES, max_size=12).map(b"".join), CUTS, CUTS, st.sampled_from([THINK, BEGUN]))
def test_it_does_not_matter_how_a_text_is_cut(
    text: bytes, one: list[int], other: list[int], spec: ReasoningSpec
) -> None:
    assert read(spec, cut(text, one)) == read(spec, cut(text, other))


@given(st.lists(PIECES, max_size=12).map(b"".join), CUTS, st.sampled_from([THINK, BEGUN]))
def test_reasoning_tokens_are_those_up_to_the_last_marker(text: bytes, sizes: list[int], spec: ReasoningSpec) -> None:
    pieces = cut(text, sizes)
    expected = 0
    for count in range(1, len(pieces) + 1):
        before, after = read(spec, pieces[: count - 1]), read(spec, pieces[:count])
        inside = before.place is Place.REASONING or after.place is Place.REASONING
        expected = count if inside or after.closed > before.closed else expected
    assert counted(spec, pieces) == expected


def test_tokens_of_a_block_are_counted_with_its_markers() -> None:
    assert counted(THINK, [b"<think>", b"a", b"b", b"</think>", b"\n\n", b"c"]) == 4
    assert counted(THINK, [b"\n", b"<", b"think>", b"a</think>b", b"c"]) == 4
    assert counted(BEGUN, [b"a", b"b", b"</think>", b"c"]) == 3
    assert counted(BEGUN, [b"a", b"b"]) == 2
    assert counted(THINK, [b"a", b"b"]) == 0


@pytest.mark.parametrize("include", [False, True])
def test_stop_strings_are_looked_for_in_the_answer_alone(include: bool) -> None:
    kept = b"b" if include else b""
    assert emitted(THINK, [b"<think>", b"ab", b"</think>", b"a", b"b", b"c"], "b", include=include) == (
        b"<think>ab</think>a" + kept,
        True,
    )
    assert emitted(BEGUN, [b"b", b"b"], "b", include=include) == (b"bb", False)
    assert emitted(BEGUN, [b"b</think>b"], "b", include=include) == (b"b</think>" + kept, True)


def test_newlines_behind_the_reasoning_end_no_answer() -> None:
    pieces = [b"a", b"</think>", b"\n\n", b"b", b"\n", b"\nc"]
    assert emitted(BEGUN, pieces, "\n\n") == (b"a</think>\n\nb", True)


def test_what_could_have_become_a_marker_is_looked_at_in_the_end() -> None:
    assert emitted(THINK, [b"<", b"th", b"b", b"c"], "<t") == (b"", True)
    assert emitted(THINK, [b"\n", b"<", b"b"], "\n") == (b"", True)
    assert emitted(THINK, [b"<", b"b"], "<", include=True) == (b"<", True)


@given(
    st.lists(PIECES, max_size=10).map(b"".join),
    CUTS,
    CUTS,
    st.lists(st.sampled_from(["a", "b", "<", ">", "\n", "ab", "<th", "\n\n"]), min_size=1, max_size=3),
    st.sampled_from([THINK, BEGUN]),
    st.booleans(),
)
def test_stop_strings_do_not_depend_on_how_a_text_is_cut(
    text: bytes, one: list[int], other: list[int], stops: list[str], spec: ReasoningSpec, include: bool
) -> None:
    first = emitted(spec, cut(text, one), *stops, include=include)
    assert first == emitted(spec, cut(text, other), *stops, include=include)
