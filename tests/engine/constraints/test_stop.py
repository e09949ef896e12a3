"""Stop strings: which match wins, and what is held back."""

from __future__ import annotations

from engine.constraints.base import Ending
from engine.constraints.stop import StopMatcher, StopStrings, stop_strings
from engine.emission import Emitter
from engine.types import SamplingParams, TokenLogprob


def test_what_is_complete_first_wins_and_of_those_the_longest() -> None:
    assert StopMatcher(StopStrings(["abcd", "bc"])).advance(b"xabcd", 1) == Ending("bc", 4, 2)
    assert StopMatcher(StopStrings(["bc", "abc"])).advance(b"xabcd", 1) == Ending("abc", 4, 3)
    assert StopMatcher(StopStrings(["ab", "abc"])).advance(b"xabcd", 1) == Ending("ab", 3, 2)


def test_a_match_goes_over_tokens_and_through_characters() -> None:
    matcher = StopMatcher(StopStrings(["é!"]))
    first, rest = "é!".encode()[:1], "é!".encode()[1:]
    assert matcher.advance(b"x" + first, 1) is None
    assert matcher.held == 1
    assert matcher.advance(rest + b"y", 2) == Ending("é!", 2, 3)


def test_only_what_begins_a_stop_string_is_held() -> None:
    matcher = StopMatcher(StopStrings(["abab!", "ba?"]))
    held = []
    for number, byte in enumerate(b"xabaab", start=1):
        matcher.advance(bytes([byte]), number)
        held.append(matcher.held)
    assert held == [0, 1, 2, 3, 1, 2]


def test_nothing_is_held_when_the_match_is_to_be_returned() -> None:
    matcher = StopMatcher(StopStrings(["ab"]), include=True)
    assert matcher.advance(b"xa", 1) is None
    assert matcher.held == 0
    assert matcher.advance(b"by", 2) == Ending("ab", 1, 0)


def test_a_match_complete_within_min_tokens_does_not_count_but_one_may_begin_there() -> None:
    matcher = StopMatcher(StopStrings(["ab", "bc"]), min_tokens=2)
    assert matcher.advance(b"a", 1) is None
    assert matcher.advance(b"b", 2) is None
    assert matcher.held == 1
    assert matcher.advance(b"c", 3) == Ending("bc", 1, 2)


def test_cutting_a_token_shortens_its_logprob_too_and_drops_what_follows() -> None:
    emitter = Emitter(StopMatcher(StopStrings(["STOP"])))
    for number, data in enumerate((b"one", b" S", b"TO")):
        assert emitter.push(number, data, TokenLogprob(number, data, -1.0, ())) is None
    assert [token.token_id for token in emitter.take()] == [0]
    assert emitter.push(3, b"P and more", TokenLogprob(3, b"P and more", -1.0, ())) == "STOP"
    left = emitter.take(final=True)
    assert [(token.token_id, token.data) for token in left] == [(1, b" ")]
    assert left[0].logprob == TokenLogprob(1, b" ", -1.0, ())


def test_a_request_without_stop_strings_needs_no_automaton() -> None:
    assert stop_strings(SamplingParams()) is None
    assert stop_strings(SamplingParams(stop="x")) is not None
