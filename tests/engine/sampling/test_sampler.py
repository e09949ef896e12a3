"""The sampler as a whole: greedy and drawn rows side by side, log-probabilities, seeds, broken logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.errors import InvalidLogitsError
from engine.sampling.logprobs import row_logprobs
from engine.sampling.sampler import Sampler
from engine.scheduling.batch import SampledToken
from engine.types import SamplingParams
from tests.engine.sampling.rows import random_logits, sequence

GREEDY = SamplingParams(temperature=0)


def test_greedy_takes_the_likeliest_and_the_lowest_id_among_equals() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 5.0, 5.0], [1.0, 1.0, 1.0]])

    sampled = Sampler().sample(logits, [sequence(GREEDY)] * 3)

    assert sampled == [SampledToken(1, None, ()), SampledToken(1, None, ()), SampledToken(0, None, ())]


def test_rows_of_all_kinds_share_a_step() -> None:
    logits = random_logits(4, 64)
    rows = [
        sequence(GREEDY),
        sequence(SamplingParams(temperature=0, logit_bias={5: 100})),
        sequence(SamplingParams(temperature=1, top_k=1)),
        sequence(SamplingParams(temperature=1, top_k=1, logit_bias={6: 100})),
    ]

    tokens = [each.token_id for each in Sampler().sample(logits, rows)]

    assert tokens == [logits[0].argmax(), 5, logits[2].argmax(), 6]


def test_a_seed_reproduces_and_choices_positions_and_seeds_differ() -> None:
    logits = random_logits(1, 1000, spread=0.1)
    sampler = Sampler()

    def token(seed: int, choice: int = 0, answer: tuple[int, ...] = ()) -> int:
        return sampler.sample(logits, [sequence(SamplingParams(), seed=seed, choice=choice, answer=answer)])[0].token_id

    assert [token(seed) for seed in range(10)] == [token(seed) for seed in range(10)]
    assert len({token(1), token(2), token(1, choice=1), token(1, answer=(0,))}) == 4


def test_log_probabilities_are_those_of_the_unchanged_logits() -> None:
    logits = random_logits(1, 50)
    before = logits.clone()
    params = SamplingParams(temperature=5.0, top_k=3, logit_bias={7: 100}, logprobs=2)

    sampled = Sampler().sample(logits, [sequence(params)])[0]

    assert sampled.token_id == 7
    assert (sampled.logprob, sampled.top) == row_logprobs(before[0].numpy(), 7, 2)
    assert torch.equal(logits, before)


def test_no_alternatives_asked_for() -> None:
    sampled = Sampler().sample(random_logits(1, 50), [sequence(SamplingParams(logprobs=0))])[0]

    assert sampled.logprob is not None
    assert sampled.top == ()


def test_end_tokens_are_forbidden_before_the_minimum_length() -> None:
    logits = torch.tensor([[0.0, 9.0, 5.0]])
    params = SamplingParams(temperature=0, min_tokens=1)

    assert Sampler((1,)).sample(logits, [sequence(params)])[0].token_id == 2
    assert Sampler((1,)).sample(logits, [sequence(params, answer=(0,))])[0].token_id == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("params", [GREEDY, SamplingParams(), SamplingParams(logit_bias={0: 1.0})])
def test_broken_rows_are_named(value: float, params: SamplingParams) -> None:
    logits = random_logits(3, 10)
    logits[0, 4] = value
    logits[2, 9] = value
    rows = [sequence(params, name=name) for name in ("a", "b", "c")]

    with pytest.raises(InvalidLogitsError, match="NaN or infinite") as caught:
        Sampler().sample(logits, rows)

    assert caught.value.request_ids == ("a", "c")


def test_a_row_of_nothing_but_forbidden_tokens_is_broken() -> None:
    params = SamplingParams(min_tokens=1, stop_token_ids=[0, 1])

    with pytest.raises(InvalidLogitsError):
        Sampler().sample(torch.zeros(1, 2), [sequence(params)])


def test_single_tokens_may_have_no_probability() -> None:
    logits = torch.tensor([[-torch.inf, 1.0]])

    assert Sampler().sample(logits, [sequence(GREEDY)])[0].token_id == 1
