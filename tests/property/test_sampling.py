"""Laws of sampling: what is drawn follows the definitions, and a row depends on nothing but itself."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sampling.draw import draw_token
from engine.sampling.processors import process_logits
from engine.sampling.sampler import Sampler
from engine.types import SamplingParams
from tests.engine.sampling import oracle
from tests.engine.sampling.rows import random_logits, sequence

VOCAB = 48

# a coarse grid, so that equal logits are common and unequal ones stay unequal in single precision
grid_logits = st.lists(st.integers(-80, 80).map(lambda step: step / 8), min_size=1, max_size=VOCAB)
uniform_numbers = st.floats(0, 1, exclude_max=True)
cuts = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.1, 0.5, 1.0, 1.7, 20.0]),
    top_k=st.sampled_from([0, -1, 1, 2, 5, 40, 1000]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.1, 1e-9]),
    min_p=st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0]),
)
tokens = st.lists(st.integers(0, VOCAB - 1), max_size=12)
penalties = st.builds(
    SamplingParams,
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.7]),
    presence_penalty=st.sampled_from([0.0, 1.5, -1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.4, -2.0]),
    logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), st.floats(-100, 100, width=32), max_size=4),
)
any_params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.7, 1.3]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    min_tokens=st.sampled_from([0, 5]),
    logprobs=st.sampled_from([None, 0, 3]),
)


@settings(max_examples=300)
@given(logits=grid_logits, params=cuts, uniform=uniform_numbers)
def test_a_draw_is_the_inverse_of_the_distribution_the_cuts_leave(
    logits: list[float], params: SamplingParams, uniform: float
) -> None:
    drawn = draw_token(np.array(logits, np.float32), params, uniform)

    assert drawn in oracle.plausible_draws(logits, params, uniform)


@settings(max_examples=150)
@given(
    logits=st.lists(st.integers(-80, 80).map(lambda step: step / 8), min_size=VOCAB, max_size=VOCAB),
    prompt=tokens.filter(bool),
    answer=tokens,
    params=penalties,
)
def test_penalties_follow_their_definitions(
    logits: list[float], prompt: list[int], answer: list[int], params: SamplingParams
) -> None:
    row = np.array(logits, np.float32)

    process_logits(row, sequence(params, prompt=tuple(prompt), answer=tuple(answer)), end_token_ids=())

    np.testing.assert_allclose(row, oracle.penalized(logits, prompt, answer, params), rtol=1e-5, atol=1e-4)


@settings(max_examples=50)
@given(params=st.lists(any_params, min_size=2, max_size=9), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_a_row_is_sampled_the_same_alone_and_among_any_others(
    params: list[SamplingParams], seed: int, data: st.DataObject
) -> None:
    logits = random_logits(len(params), 777, seed=seed % 1000)
    rows = [
        sequence(each, answer=tuple(range(20 + row)), seed=seed + row, choice=row) for row, each in enumerate(params)
    ]
    sampler = Sampler(end_token_ids=(0,))
    order = data.draw(st.permutations(range(len(rows))))

    alone = [sampler.sample(logits[row : row + 1].clone(), [rows[row]])[0] for row in order]
    together = sampler.sample(logits[torch.tensor(order)], [rows[row] for row in order])

    assert together == alone
