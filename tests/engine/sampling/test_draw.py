"""Drawing: exact cuts, ties, extremes, and the right frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from engine.sampling.draw import draw_token
from engine.sampling.random import uniforms
from engine.types import SamplingParams
from tests.engine.sampling import oracle
from tests.engine.sampling.rows import as_array, random_logits

SWEEP = np.linspace(0, 1, 997, endpoint=False)


def reachable(logits: np.ndarray, params: SamplingParams) -> set[int]:
    return {draw_token(logits, params, float(uniform)) for uniform in SWEEP}


def test_tokens_come_in_order_of_falling_probability_and_lower_ids_first_among_equals() -> None:
    logits = as_array(0, 1, 0, 1, 2)

    in_order = list(dict.fromkeys(draw_token(logits, SamplingParams(), float(uniform)) for uniform in SWEEP))

    assert in_order == [4, 1, 3, 0, 2]


def test_top_k_keeps_exactly_k_even_among_equals() -> None:
    assert reachable(as_array(0, 1, 1, 1, 0), SamplingParams(top_k=2)) == {1, 2}
    assert reachable(as_array(0, 1, 1, 1, 0), SamplingParams(top_k=1)) == {1}


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    logits = np.log(as_array(0.4, 0.3, 0.2, 0.1))

    assert reachable(logits, SamplingParams(top_p=0.65)) == {0, 1}
    assert reachable(logits, SamplingParams(top_p=0.75)) == {0, 1, 2}
    assert reachable(logits, SamplingParams(top_p=1e-9)) == {0}


def test_top_p_counts_shares_of_what_top_k_left() -> None:
    logits = np.log(as_array(0.4, 0.3, 0.2, 0.1))

    # of the two left, the first has 0.4 / 0.7 = 0.571
    assert reachable(logits, SamplingParams(top_k=2, top_p=0.56)) == {0}
    assert reachable(logits, SamplingParams(top_k=2, top_p=0.58)) == {0, 1}


def test_min_p_is_relative_to_the_likeliest_token_at_this_temperature() -> None:
    logits = np.log(as_array(0.5, 0.3, 0.15, 0.05))

    assert reachable(logits, SamplingParams(min_p=0.31)) == {0, 1}
    assert reachable(logits, SamplingParams(min_p=0.29)) == {0, 1, 2}
    assert reachable(logits, SamplingParams(min_p=0.4, temperature=0.5)) == {0}  # (0.3 / 0.5) ** 2 = 0.36
    assert reachable(logits, SamplingParams(min_p=1.0)) == {0}


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-8])
def test_the_coldest_temperatures_are_greedy(temperature: float) -> None:
    assert reachable(as_array(1, 3, 2), SamplingParams(temperature=temperature)) == {1}


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = as_array(-np.inf, 0, -np.inf, 0)

    assert reachable(logits, SamplingParams(temperature=100)) == {1, 3}
    assert draw_token(logits, SamplingParams(temperature=100), 1 - 2**-53) == 3


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=3.0),
        SamplingParams(top_k=300),
        SamplingParams(top_p=0.97),
        SamplingParams(min_p=0.0001, temperature=2.0),
    ],
)
def test_looking_at_likely_tokens_first_changes_nothing(params: SamplingParams) -> None:
    """Over a vocabulary so large that the draw usually ends before all of it is sorted, and sometimes does not."""
    logits = random_logits(1, 5000, seed=3, spread=2.5)[0].numpy()

    for uniform in SWEEP[::50]:
        drawn = draw_token(logits, params, float(uniform))
        assert drawn in oracle.plausible_draws(logits.tolist(), params, float(uniform))


@pytest.mark.parametrize(
    "params",
    [SamplingParams(), SamplingParams(temperature=0.6), SamplingParams(top_k=6, top_p=0.9), SamplingParams(min_p=0.1)],
)
def test_frequencies_over_positions_match_the_distribution(params: SamplingParams) -> None:
    logits = random_logits(1, 16, seed=1, spread=1.0)[0].numpy()
    draws = 4000
    numbers = uniforms([11] * draws, [0] * draws, range(draws))

    counts = np.bincount([draw_token(logits, params, float(each)) for each in numbers], minlength=16)

    expected = np.zeros(16)
    for token, probability in oracle.distribution(logits.tolist(), params):
        expected[token] = probability * draws
    assert not counts[expected == 0].any()
    chi_square = ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert chi_square < 45  # at most 15 degrees of freedom: one in 10^4 of true random samples exceeds this
