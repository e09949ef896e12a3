"""The definition of the device's draw: exact numbers, and the host's tokens but where rounding decides."""

from __future__ import annotations

import numpy as np
import pytest

from engine.sampling import device_reference
from engine.sampling.draw import draw_token
from engine.sampling.random import uniforms
from engine.types import SamplingParams
from tests.engine.sampling import oracle
from tests.engine.sampling.rows import as_array, random_logits

SWEEP = np.linspace(0, 1, 97, endpoint=False)


def test_weights_are_the_exponential_in_whole_units() -> None:
    logits = -np.linspace(0, 40, 100003, dtype=np.float32)
    found = device_reference.weights(logits, 1.0)
    expected = np.exp(logits.astype(np.float64))
    assert found.max() == found[0] == 1
    assert (np.diff(found) <= 0).all()
    assert np.abs(found - expected).max() < 2e-7
    assert (found[expected < 2.0**-45] == 0).all()
    large = expected > 2.0**-21
    assert (np.abs(found / expected - 1)[large] < 4e-7).all()
    units = np.ldexp(found.astype(np.float64), 44)
    assert (units == np.floor(units)).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-8])
def test_the_coldest_temperatures_leave_the_likeliest(temperature: float) -> None:
    assert device_reference.weights(as_array(1, 3, -np.inf, 2), temperature).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.3, top_k=40),
        SamplingParams(temperature=2.0, top_p=0.9),
        SamplingParams(top_p=1e-300),
        SamplingParams(top_p=0.0),
        SamplingParams(top_k=5000, min_p=0.02),
        SamplingParams(top_k=100, top_p=0.8, min_p=1e-3),
        SamplingParams(min_p=1.0),
    ],
)
def test_tokens_are_the_hosts_but_where_rounding_decides(params: SamplingParams) -> None:
    different = 0
    for seed in range(3):
        logits = random_logits(1, 3000, seed=seed)[0].numpy()
        logits[::7] = logits[3]  # equals
        for uniform in SWEEP:
            drawn = device_reference.draw_token(logits, params, float(uniform))
            if drawn != draw_token(logits, params, float(uniform)):
                different += 1
                assert drawn in oracle.plausible_draws(logits.tolist(), params, float(uniform))
    assert different <= 2


def test_frequencies_match_the_distribution() -> None:
    params = SamplingParams(temperature=0.8, top_k=11, top_p=0.97)
    logits = random_logits(1, 16, seed=1, spread=1.0)[0].numpy()
    draws = 4000
    numbers = uniforms([11] * draws, [0] * draws, range(draws))
    counts = np.bincount([device_reference.draw_token(logits, params, float(each)) for each in numbers], minlength=16)
    expected = np.zeros(16)
    for token, probability in oracle.distribution(logits.tolist(), params):
        expected[token] = probability * draws
    assert not counts[expected == 0].any()
    chi_square = ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert chi_square < 36  # at most 10 degrees of freedom: one in 10^4 of true random samples exceeds this


def test_cuts_are_exact_among_equals() -> None:
    logits = as_array(0, 1, 1, 1, 0)

    def reachable(params: SamplingParams) -> set[int]:
        return {device_reference.draw_token(logits, params, float(uniform)) for uniform in SWEEP}

    assert reachable(SamplingParams(top_k=2)) == {1, 2}
    assert reachable(SamplingParams(top_k=4, temperature=100)) == {0, 1, 2, 3}
    assert reachable(SamplingParams(top_p=0.3)) == {1, 2}
    assert reachable(SamplingParams(min_p=0.5)) == {1, 2, 3}
