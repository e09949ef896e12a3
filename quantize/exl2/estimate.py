"""What each width would do to each group of a matrix, without quantizing it for real."""

from __future__ import annotations

import torch

from engine.ops.exl2 import WIDTHS
from quantize.exl2.candidates import GROUP_SIZES, group_rows
from quantize.exl2.scales import ScaleSearch, decode, round_to_codes
from quantize.hessian import HessianFactor

SAMPLED_COLUMNS = 256

GroupErrors = dict[int, dict[int, list[float]]]


def estimate_errors(weight: torch.Tensor, factor: HessianFactor, search: ScaleSearch) -> GroupErrors:
    """`errors[group_size][bits][g]`: the share of group g in tr(ΔᵀHΔ) if it is stored with that width.

    GPTQ leaves Σ_r (w_r − ŵ_r)² / U_rr², w_r being the row after all corrections. The rounding errors of the
    uncorrected rows are a good stand-in for those of the corrected ones, so one scale search per group and width
    answers for every mix of widths. Of wide matrices a sample of the columns stands for all.

    Args:
        weight: float32 [K, N] in feature order.
    """
    columns = weight.shape[1]
    sample = torch.linspace(0, columns - 1, min(columns, SAMPLED_COLUMNS), device=weight.device).long()
    rows = weight[factor.order][:, sample]
    scale = columns / sample.numel()
    importance = factor.upper.diagonal().square().reciprocal()
    errors: GroupErrors = {}
    for group_size in GROUP_SIZES:
        if group_size > rows.shape[0] and errors:
            continue  # the same single group as before
        sizes = list(group_rows(rows.shape[0], group_size))
        parts = list(zip(torch.split(rows, sizes), torch.split(importance, sizes), strict=True))
        errors[group_size] = {
            bits: [scale * _group_error(part, weights, bits, search) for part, weights in parts] for bits in WIDTHS
        }
    return errors


def _group_error(rows: torch.Tensor, importance: torch.Tensor, bits: int, search: ScaleSearch) -> float:
    steps = search(rows, bits, importance).steps
    difference = decode(round_to_codes(rows, steps, bits), steps, bits) - rows
    return float((importance @ difference.square()).sum())
