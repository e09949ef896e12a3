"""Input moments, their factor, and targets corrected for drift."""

from __future__ import annotations

import pytest
import torch

from engine.errors import QuantizationError
from quantize.hessian import InputMoments, factor_hessian


def _randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_factor_is_that_of_the_damped_inverse_by_falling_energy() -> None:
    inputs = _randn(500, 32) * torch.linspace(0.1, 2, 32)
    moments = InputMoments("m")
    for row in inputs.chunk(5):
        moments.add(row)
    hessian = moments.hessian()
    assert torch.allclose(hessian, inputs.T @ inputs / 5, rtol=1e-4, atol=1e-4)
    factor = factor_hessian(hessian, "m")
    assert factor.damping == pytest.approx(0.12 * float(hessian.diagonal().mean()))
    energies = hessian.diagonal()[factor.order]
    assert bool((energies[:-1] >= energies[1:]).all())
    damped = hessian[factor.order][:, factor.order] + factor.damping * torch.eye(32)
    assert torch.allclose(factor.upper.T @ factor.upper @ damped, torch.eye(32), atol=1e-4)
    assert torch.equal(factor.upper, factor.upper.triu())


def test_damping_is_raised_until_the_factorization_succeeds() -> None:
    hessian = torch.eye(4)
    hessian[0, 1] = hessian[1, 0] = 1.3  # an eigenvalue of -0.3: indefinite, as rounding can make it
    factor = factor_hessian(hessian, "m")
    assert factor.damping_steps == 3
    assert factor.damping == pytest.approx(0.36)


def test_a_hopeless_hessian_is_named() -> None:
    hessian = torch.eye(4)
    hessian[0, 1] = hessian[1, 0] = 100.0
    with pytest.raises(QuantizationError, match=r"layers\.7\.mlp"):
        factor_hessian(hessian, "layers.7.mlp")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_poisoned_row_is_named(value: float) -> None:
    moments = InputMoments("some.matrix")
    moments.add(_randn(5, 4))
    bad = _randn(5, 4)
    bad[3, 1] = value
    with pytest.raises(QuantizationError, match=r"some\.matrix are not finite in calibration row 1, token 3"):
        moments.add(bad)


@pytest.mark.parametrize("values", [(float("inf"), -float("inf")), (float("nan"), 1.0)])
def test_a_poisoned_row_of_the_original_is_named(values: tuple[float, float]) -> None:
    bad = _randn(5, 4)
    bad[2, 1], bad[4, 3] = values
    with pytest.raises(QuantizationError, match="calibration row 0, token 2"):
        InputMoments("some.matrix").add(_randn(5, 4), original=bad)


def test_finite_inputs_are_taken_even_if_their_sum_is_not_finite() -> None:
    moments = InputMoments("some.matrix")
    moments.add(torch.full((5, 4), 3e38))
    assert moments.rows == 1


def test_a_target_beyond_half_precision_is_named() -> None:
    inputs = _randn(50, 4)
    moments = InputMoments("some.matrix")
    moments.add(inputs, original=inputs * 1e30)
    with pytest.raises(QuantizationError, match=r"some\.matrix would need weights of .* ends at 65504"):
        moments.target(_randn(4, 4), 0.1, 0.0)


def test_no_inputs_at_all_are_an_error() -> None:
    with pytest.raises(QuantizationError, match=r"No calibration row reached some\.matrix"):
        InputMoments("some.matrix").hessian()


def test_without_drift_the_target_is_the_weight() -> None:
    inputs, weight = _randn(100, 16), _randn(16, 8, seed=1)
    moments = InputMoments("m")
    moments.add(inputs)
    assert torch.equal(moments.target(weight, 0.1, 0.5), weight)
    moments = InputMoments("m")
    moments.add(inputs, inputs)
    assert torch.allclose(moments.target(weight, 0.1, 0.5), weight)


def test_the_target_makes_good_what_the_inputs_lost() -> None:
    original, weight = _randn(400, 16), _randn(16, 8, seed=1)
    mixing = torch.eye(16) + 0.2 * _randn(16, 16, seed=2)
    drifted, residual = original @ mixing, original @ _randn(16, 8, seed=3)
    moments = InputMoments("m")
    moments.add(drifted, original, residual)
    # the drift is linear, so the original outputs can be had back exactly
    assert torch.allclose(drifted @ moments.target(weight, 0.0, 0.0), original @ weight, atol=1e-2)
    assert torch.allclose(drifted @ moments.target(weight, 0.0, 1.0), original @ weight + residual, atol=1e-2)
    half = drifted @ moments.target(weight, 0.0, 0.5)
    assert torch.allclose(half, original @ weight + residual / 2, atol=1e-2)


def test_relative_error_is_that_of_the_outputs() -> None:
    inputs, weight = _randn(100, 16), _randn(16, 8, seed=1)
    changed = weight + 0.1 * _randn(16, 8, seed=2)
    moments = InputMoments("m")
    moments.add(inputs)
    expected = float((inputs @ (changed - weight)).norm() / (inputs @ weight).norm())
    assert moments.relative_error(weight, changed) == pytest.approx(expected, rel=1e-4)
    assert moments.relative_error(torch.zeros(16, 8), torch.zeros(16, 8)) == 0.0
