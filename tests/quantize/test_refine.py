"""Laws of refinement: the error never rises, what comes out is storable, and what is best already stays."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ops.exl2 import scales_from_codes
from quantize.exl2.layout import Group
from quantize.exl2.scales import CommonFactorSearch, FreeCodeSearch, ScaleSearch, decode
from quantize.gptq import QuantizedMatrix, quantize_matrix
from quantize.hessian import HessianFactor, factor_hessian
from quantize.refine import Refinement


def _problem(seed: int, rows: int, columns: int) -> tuple[torch.Tensor, HessianFactor]:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(rows, rows, generator=generator) * torch.logspace(-1, 1, rows)
    inputs = torch.randn(300, rows, generator=generator) @ mixing
    weight = torch.randn(rows, columns, generator=generator) * torch.logspace(-2, 0, columns)
    return weight, factor_hessian(inputs.T @ inputs, "m")


def _error(target: torch.Tensor, factor: HessianFactor, matrix: QuantizedMatrix) -> float:
    difference = (matrix.weight - target)[factor.order].double()
    return float((difference * (factor.hessian.double() @ difference)).sum())


@given(
    seed=st.integers(0, 1 << 20),
    widths=st.lists(st.sampled_from([2, 3, 4, 5, 6, 8]), min_size=1, max_size=3),
    search=st.sampled_from([CommonFactorSearch(), FreeCodeSearch()]),
)
@settings(max_examples=15)
def test_the_error_never_rises_pass_after_pass(seed: int, widths: list[int], search: ScaleSearch) -> None:
    groups = [Group(bits, 32) for bits in sorted(widths, reverse=True)]
    target, factor = _problem(seed, 32 * len(groups), 32)
    matrix = quantize_matrix(target, factor, groups, search)
    errors = [_error(target, factor, matrix)]
    for _ in range(3):
        matrix = Refinement(passes=1)(target, factor, matrix)
        errors.append(_error(target, factor, matrix))
    for before, after in pairwise(errors):
        assert after <= before * (1 + 1e-5)
    assert errors[-1] < errors[0]


def test_what_is_refined_decodes_from_what_is_stored() -> None:
    target, factor = _problem(1, 96, 64)
    groups = (Group(5, 32), Group(3, 64))
    refined = Refinement()(target, factor, quantize_matrix(target, factor, groups, FreeCodeSearch()))
    assert refined.codes.dtype == torch.uint8
    assert refined.scale_codes.dtype == torch.uint8
    assert refined.scale_max.dtype == torch.float16
    steps = scales_from_codes(refined.scale_codes, refined.scale_max).float()
    stored, start = refined.weight[factor.order], 0
    for group, step in zip(groups, steps, strict=True):
        rows = slice(start, start + group.rows)
        assert int(refined.codes[rows].max()) < 1 << group.bits
        assert torch.equal(stored[rows], decode(refined.codes[rows].float(), step, group.bits))
        start += group.rows


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_refinement_gains_on_what_gptq_leaves(bits: int) -> None:
    target, factor = _problem(2, 128, 64)
    matrix = quantize_matrix(target, factor, (Group(bits, 64), Group(bits, 64)), FreeCodeSearch())
    refined = Refinement()(target, factor, matrix)
    assert _error(target, factor, refined) < 0.99 * _error(target, factor, matrix)


def test_an_exact_matrix_is_left_alone() -> None:
    target, factor = _problem(3, 64, 32)
    first = quantize_matrix(target, factor, (Group(4, 64),), FreeCodeSearch())
    again = Refinement()(first.weight, factor, first)
    assert torch.equal(again.weight, first.weight)
    assert torch.equal(again.codes, first.codes)
