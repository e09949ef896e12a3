"""What kernel tests share: instruction sets, ways to run an op, and how close results must be."""

from __future__ import annotations

import pytest
import torch

from cpu_ext.loader import Isa
from engine.ops.backend import LinearKernel

every_isa = pytest.mark.parametrize("isa", [Isa.PORTABLE, Isa.AVX2, Isa.AVX512], ids=lambda isa: isa.name.lower())
float_types = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run_linear(kernel: LinearKernel, x: torch.Tensor) -> torch.Tensor:
    """The product, in a fresh output that holds no number where nothing was written."""
    out = torch.full((x.shape[0], kernel.out_features), float("nan"))
    kernel(x, out)
    return out


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest expected value."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().clamp_min(1e-30)
    error = ((actual.double() - expected.double()).abs().max() / scale).item()
    assert error <= tolerance, f"relative error {error:.2e}"


def assert_product(actual: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """`actual` is x @ weight + bias [T, N], weight [K, N], up to float32 rounding.

    Each output is held to the sum of its terms' magnitudes: where terms cancel, an error relative to the result
    itself has no bound.
    """
    expected = x.double() @ weight.double()
    magnitude = x.double().abs() @ weight.double().abs()
    if bias is not None:
        expected += bias.double()
        magnitude += bias.double().abs()
    assert actual.shape == expected.shape
    error = (actual.double() - expected).abs() / magnitude.clamp_min(1e-30)
    assert error.max().item() <= 1e-6, f"relative error {error.max().item():.2e}"
