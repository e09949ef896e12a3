"""Estimated errors of width mixes against what GPTQ really leaves."""

from __future__ import annotations

import pytest
import torch

from quantize.exl2.candidates import matrix_options
from quantize.exl2.estimate import estimate_errors
from quantize.exl2.scales import FreeCodeSearch
from quantize.gptq import quantize_matrix
from quantize.hessian import factor_hessian
from quantize.sensitivity import Sensitivity


@pytest.mark.parametrize("columns", [64, 320])  # all columns, and a sample of them
def test_estimates_follow_the_real_errors(columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 128, generator=generator) @ torch.randn(128, 128, generator=generator)
    inputs *= torch.logspace(-0.5, 0.5, 128)
    weight = torch.randn(128, columns, generator=generator)
    factor = factor_hessian(inputs.T @ inputs, "m")
    search = FreeCodeSearch()
    options = matrix_options(128, columns, estimate_errors(weight, factor, search, Sensitivity.of_output(weight)))
    assert len(options) > 10
    ratios = []
    for option in options[:: len(options) // 8]:
        difference = quantize_matrix(weight, factor, option.layouts[0], search).weight - weight
        damped = inputs.T @ inputs + factor.damping * torch.eye(128)
        ratios.append(float((difference * (damped @ difference)).sum()) / option.error)
    assert all(0.8 < ratio < 1.6 for ratio in ratios), ratios
