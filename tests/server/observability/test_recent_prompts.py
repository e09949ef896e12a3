"""The memory of recent prompts: bounded, per caller, and compared as lists would be."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from server.observability.recent_prompts import MAX_PROMPTS, MAX_TOKENS, RecentPrompts, common_prefix

TOKENS = st.lists(st.integers(0, 3), max_size=30)


@given(TOKENS, TOKENS)
def test_common_prefix(one: list[int], other: list[int]) -> None:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert common_prefix(array("I", one), array("I", other)) == length


@given(st.lists(TOKENS, max_size=8), TOKENS)
def test_the_nearest_has_most_in_common_and_is_the_latest_of_those(prompts: list[list[int]], wanted: list[int]) -> None:
    recent = RecentPrompts()
    for prompt in prompts:
        recent.record("me", prompt)
    match = recent.nearest(recent.of("me"), wanted)
    shared = [common_prefix(array("I", prompt), array("I", wanted)) for prompt in prompts]
    if not prompts:
        assert match is None
        return
    assert match is not None
    assert match.common == max(shared)
    latest = max(index for index, each in enumerate(shared) if each == max(shared))
    assert list(match.tokens) == prompts[latest]


def test_nobody_is_told_of_anothers_prompts() -> None:
    recent = RecentPrompts()
    recent.record("one", [1, 2, 3])
    assert recent.of("other") == []
    assert recent.nearest(recent.of("other"), [1, 2, 3]) is None


def test_what_was_handed_out_stays_as_it_was_while_the_answer_grows() -> None:
    recent = RecentPrompts()
    entry = recent.record("me", [1, 2])
    (copy,) = recent.of("me")
    entry.tokens.extend((3, 4))
    assert (list(copy.tokens), copy.prompt_tokens) == ([1, 2], 2)
    assert list(recent.of("me")[0].tokens) == [1, 2, 3, 4]


def test_it_is_bounded() -> None:
    recent = RecentPrompts()
    for number in range(MAX_PROMPTS + 5):
        recent.record("me", [number])
    assert [each.tokens[0] for each in recent.of("me")] == list(range(MAX_PROMPTS + 4, 4, -1))


def test_its_tokens_are_bounded_answers_included() -> None:
    recent = RecentPrompts()
    entry = recent.record("me", [1] * (MAX_TOKENS // 2))
    entry.tokens.extend([2] * (MAX_TOKENS // 2))
    recent.record("me", [3])
    assert [list(each.tokens) for each in recent.of("me")] == [[3]]
    recent.record("me", [4] * (2 * MAX_TOKENS))
    assert [len(each.tokens) for each in recent.of("me")] == [MAX_TOKENS]
