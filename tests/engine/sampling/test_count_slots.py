"""Slots of the device's counts: true as long as a sequence goes on, filled anew when it does not."""

from __future__ import annotations

import pytest

from engine.errors import KernelArgumentError
from engine.sampling.count_slots import CountSlots
from engine.scheduling.sequence import Sequence
from engine.types import SamplingParams
from tests.engine.sampling.rows import sequence


def penalized(arrival: int) -> Sequence:
    made = sequence(SamplingParams(presence_penalty=1))
    made.arrival = arrival
    return made


def test_a_slot_stays_true_while_tokens_follow_each_other_even_in_flight() -> None:
    slots, one = CountSlots(2), penalized(1)
    assert slots.take(one) == (0, True)
    one.num_in_flight += 1
    assert slots.take(one) == (0, False)
    one.append(5)
    one.num_in_flight += 1
    assert slots.take(one) == (0, False)


def test_what_was_taken_back_is_counted_anew() -> None:
    slots, one = CountSlots(2), penalized(1)
    slots.take(one)
    assert slots.take(one) == (0, True)  # the step before brought no token
    one.num_in_flight += 1
    one.leave_steps()
    one.token_ids.append(4)
    assert slots.take(one) == (0, True)  # as many tokens as expected, but of another epoch


def test_sequences_have_slots_of_their_own_and_the_oldest_gives_way() -> None:
    slots = CountSlots(2)
    one, two, three = (penalized(number) for number in range(3))
    assert [slots.take(each)[0] for each in (one, two)] == [0, 1]
    one.num_in_flight += 1
    assert slots.take(one) == (0, False)
    assert slots.take(three) == (1, True)
    assert slots.take(two) == (0, True)


def test_a_later_request_of_the_same_name_is_another() -> None:
    slots = CountSlots(4)
    first, again = penalized(1), penalized(2)
    slots.take(first)
    again.token_ids.append(9)  # as long as the first one is now
    assert slots.take(again) == (1, True)


def test_unknown_tokens_cannot_be_counted() -> None:
    one = penalized(1)
    one.num_in_flight = 1
    with pytest.raises(KernelArgumentError, match="'request' cannot be counted while some are in flight"):
        CountSlots(1).take(one)
