"""Masks of constraints in the sampler: they come last, and nothing brings back what they forbid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.base import TokenMask
from engine.errors import ConstraintError, InvalidLogitsError
from engine.sampling.sampler import Sampler
from engine.scheduling.sequence import Sequence
from engine.types import SamplingParams
from tests.engine.sampling.rows import random_logits, sequence

VOCAB = 70
END = 69
GREEDY = SamplingParams(temperature=0)


class Allows:
    """Always allows the same tokens."""

    complete = False

    def __init__(self, *tokens: int) -> None:
        self._mask = np.zeros(-(-VOCAB // 32), np.uint32)
        for token in tokens:
            self._mask[token // 32] |= np.uint32(1 << token % 32)
        self._mask.flags.writeable = False

    def is_free(self, ahead: int = 0) -> bool:
        return False

    def mask(self) -> TokenMask:
        return self._mask

    def advance(self, token_id: int) -> None:
        raise NotImplementedError

    def rewind(self, count: int) -> None:
        raise NotImplementedError


class Stuck(Allows):
    def mask(self) -> TokenMask:
        raise ConstraintError("It is stuck.", ("stuck",))


def constrained(params: SamplingParams, *tokens: int, answer: tuple[int, ...] = ()) -> Sequence:
    found = sequence(params, answer=answer)
    found.constraint = Allows(*tokens)
    return found


def sample(logits: torch.Tensor, *sequences: Sequence) -> list[int]:
    return [each.token_id for each in Sampler((END,)).sample(logits, sequences)]


@pytest.mark.parametrize("token", [0, 31, 32, 63, 64, END])
def test_the_only_allowed_token_is_taken_wherever_its_bit_is(token: int) -> None:
    assert sample(random_logits(1, VOCAB), constrained(GREEDY, token)) == [token]


def test_other_rows_are_left_alone() -> None:
    logits = random_logits(3, VOCAB)
    before = logits.clone()
    free = [sequence(GREEDY), sequence(SamplingParams(seed=1))]
    expected = sample(logits[[0, 2]], *free)
    first, _, last = sample(logits, free[0], constrained(GREEDY, 5), free[1])
    assert [first, last] == expected
    assert torch.equal(logits, before)


@given(
    st.sets(st.integers(0, VOCAB - 2), min_size=1, max_size=10),
    st.floats(0.0, 3.0),
    st.integers(0, 10),
    st.integers(0, 1000),
)
def test_neither_bias_nor_penalties_nor_temperature_bring_a_forbidden_token_back(
    allowed: set[int], temperature: float, top_k: int, seed: int
) -> None:
    forbidden = min(set(range(VOCAB)) - allowed)
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=0.9,
        min_p=0.1,
        seed=seed,
        logit_bias={forbidden: 100.0},
        repetition_penalty=2.0,
        presence_penalty=-2.0,
        frequency_penalty=-2.0,
        min_tokens=5,
    )
    (token,) = sample(random_logits(1, VOCAB, seed=seed), constrained(params, *allowed, END, answer=(forbidden,) * 3))
    assert token in allowed


def test_bias_and_penalties_still_choose_among_what_is_allowed() -> None:
    logits = torch.zeros(1, VOCAB)
    assert sample(logits, constrained(SamplingParams(temperature=0, logit_bias={7: 1.0}), 5, 7)) == [7]
    punished = SamplingParams(temperature=0, presence_penalty=1.0)
    assert sample(logits, constrained(punished, 5, 7, answer=(5,))) == [7]


def test_min_tokens_forbids_an_end_that_the_grammar_allows() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, END] = 10
    params = SamplingParams(temperature=0, min_tokens=2)
    assert sample(logits, constrained(params, 5, END, answer=(5,))) == [5]
    assert sample(logits, constrained(params, 5, END, answer=(5, 5))) == [END]


def test_a_request_left_without_any_token_is_named() -> None:
    logits = random_logits(2, VOCAB)
    only_end = constrained(SamplingParams(temperature=0, min_tokens=2), END)
    with pytest.raises(ConstraintError) as caught:
        sample(logits, sequence(GREEDY, name="other"), only_end)
    assert caught.value.request_ids == ("request",)
    logits[1] = -torch.inf
    logits[1, 3] = 0.0  # what the model itself rules out is no choice either
    with pytest.raises(ConstraintError):
        sample(logits, sequence(GREEDY, name="other"), constrained(GREEDY, 5, 6))


def test_a_constraint_that_cannot_tell_any_more_is_named() -> None:
    stuck = sequence(GREEDY, name="stuck")
    stuck.constraint = Stuck()
    with pytest.raises(ConstraintError) as caught:
        sample(random_logits(2, VOCAB), sequence(GREEDY), stuck)
    assert caught.value.request_ids == ("stuck",)


def test_broken_logits_are_found_where_the_mask_hides_them_too() -> None:
    logits = random_logits(1, VOCAB)
    logits[0, 9] = torch.nan
    with pytest.raises(InvalidLogitsError):
        sample(logits, constrained(GREEDY, 5))


def test_log_probabilities_are_the_models_own() -> None:
    logits = random_logits(1, VOCAB)
    params = SamplingParams(temperature=0, logprobs=2)
    (free,) = Sampler().sample(logits, [sequence(params)])
    (bound,) = Sampler().sample(logits, [constrained(params, free.top[1][0])])
    assert bound.top == free.top
    assert bound.logprob == free.top[1][1]
