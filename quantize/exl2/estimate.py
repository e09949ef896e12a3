"""What each width would do to each group of a matrix, without quantizing it for real."""

from __future__ import annotations

import torch

from engine.ops.exl2 import WIDTHS
from quantize.exl2.candidates import GROUP_SIZES, group_rows
from quantize.exl2.scales import ScaleSearch, decode, round_to_codes
from quantize.hessian import HessianFactor
from quantize.sensitivity import Sensitivity

SAMPLED_COLUMNS = 128
SMALLEST_SHARE = 1e-30
"""Stands for columns that matter nothing, so that nothing is divided by it."""

GroupErrors = dict[int, dict[int, list[float]]]


def estimate_errors(
    weight: torch.Tensor, factor: HessianFactor, search: ScaleSearch, sensitivity: Sensitivity
) -> GroupErrors:
    """`errors[group_size][bits][g]`: what group g will cost if it is stored with that width.

    GPTQ leaves E[r, n] = (w_r − ŵ_r) / U[r, r], w_r being the row after all corrections. The rounding errors of the
    uncorrected rows are a good stand-in for those of the corrected ones, so one scale search per group and width
    answers for every mix of widths. Of wide matrices a sample of the columns stands for all.

    Args:
        weight: float32 [K, N] in feature order.
        factor: of its inputs' Hessian.
        search: finds the scales of groups.
        sensitivity: what errors cost; it decides about the unit.
    """
    columns = weight.shape[1]
    sample = torch.linspace(0, columns - 1, min(columns, SAMPLED_COLUMNS), device=weight.device).long()
    rows = weight[factor.order][:, sample]
    shares = sensitivity.columns[sample]
    shares = shares * (sensitivity.columns.sum() / shares.sum().clamp_min(SMALLEST_SHARE))
    importance = factor.upper.diagonal().square().reciprocal()
    costs = importance * sensitivity.rows
    errors: GroupErrors = {}
    for group_size in GROUP_SIZES:
        if group_size > rows.shape[0] and errors:
            continue  # the same single group as before
        sizes = list(group_rows(rows.shape[0], group_size))
        parts = list(zip(*(torch.split(each, sizes) for each in (rows, importance, costs)), strict=True))
        errors[group_size] = {
            bits: [float(cost @ _squares(part, bits, search, weights) @ shares) for part, weights, cost in parts]
            for bits in WIDTHS
        }
    return errors


def _squares(rows: torch.Tensor, bits: int, search: ScaleSearch, importance: torch.Tensor) -> torch.Tensor:
    """Squared rounding error of every weight of a group."""
    steps = search(rows, bits, importance).steps
    return (decode(round_to_codes(rows, steps, bits), steps, bits) - rows).square_()
