from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequestError
from server.models.served import ExpectedLimits
from server.schemas.truncation import Truncation, TruncationFields
from server.truncation import cut, room_for_prompt, wanted_truncation

BOS = 7


def limits(context: int, cache: int = 10**6) -> ExpectedLimits:
    return ExpectedLimits(vocab_size=1000, hidden_size=8, max_model_len=context, kv_cache_tokens=cache)


@given(
    prompt=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    side=st.sampled_from(["left", "right"]),
    room=st.integers(1, 40),
)
def test_a_cut_prompt_is_its_beginning_or_its_end_and_begins_as_before(prompt: list[int], side: str, room: int) -> None:
    ids, left_out = cut(prompt, side, room, BOS)
    assert len(ids) == min(len(prompt), room) == len(prompt) - left_out
    if side == "right":
        assert ids == prompt[:room]
    elif left_out and room > 1 and prompt[0] == BOS:
        assert ids == [BOS, *prompt[len(prompt) - room + 1 :]]
    else:
        assert ids == prompt[len(prompt) - len(ids) :]


@pytest.mark.parametrize(
    ("most", "answer", "context", "cache", "room"),
    [
        (None, 10, 100, 1000, 90),  # the answer gets what it asks for
        (None, 90, 100, 1000, 50),  # but no more than half
        (None, None, 100, 1000, 75),
        (None, 10, 100, 60, 50),  # the cache may be smaller than the context
        (20, 10, 100, 1000, 20),
        (95, 10, 100, 1000, 90),
        (None, None, 2, 1000, 1),
        (None, 0, 100, 1000, 100),  # there is no answer
        (None, 5, 1, 1000, 1),
    ],
)
def test_room_is_left_for_the_answer(most: int | None, answer: int | None, context: int, cache: int, room: int) -> None:
    wanted = Truncation(side="left", max_tokens=most)
    assert room_for_prompt(wanted, limits(context, cache), answer) == room


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, None),
        ({"truncation": "disabled"}, None),
        ({"truncation": {"side": "right"}}, ("right", None)),
        ({"truncation": {"side": "left", "max_tokens": 5}}, ("left", 5)),
        ({"truncate_prompt_tokens": 5}, ("left", 5)),
        ({"truncate_prompt_tokens": -1, "truncation_side": "right"}, ("right", None)),
    ],
)
def test_both_spellings_mean_the_same(body: dict[str, Any], expected: tuple[str, int | None] | None) -> None:
    wanted = wanted_truncation(TruncationFields.model_validate(body))
    assert (wanted and (wanted.side, wanted.max_tokens)) == expected


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"truncation_side": "left"}, "truncation_side"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncation": {"side": "left"}, "truncate_prompt_tokens": 5}, "truncation"),
        ({"truncation": "disabled", "truncate_prompt_tokens": 5}, "truncation"),
    ],
)
def test_contradictions_are_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        wanted_truncation(TruncationFields.model_validate(body))
    assert caught.value.param == param
