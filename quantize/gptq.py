"""GPTQ: rounding a matrix so that what it does to its inputs changes least.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022), in the
form EXL2 wants: rows are visited from the most energetic input to the least (act-order), which is also the order in
which they are stored, so that the widest groups hold the rows that matter most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from quantize.exl2.layout import Group
from quantize.exl2.scales import LevelRounding, ScaleSearch, decode, round_to_codes
from quantize.hessian import HessianFactor


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """Codes and scales of one matrix with K inputs and N outputs in G groups.

    Attributes:
        codes: uint8 [K, N] in stored order.
        scale_codes: uint8 [G, N].
        scale_max: float16 [G].
        groups: the G groups.
        order: int64 [K] input feature of each stored row.
        weight: float32 [K, N] what a reader decodes, in feature order.
    """

    codes: torch.Tensor
    scale_codes: torch.Tensor
    scale_max: torch.Tensor
    groups: tuple[Group, ...]
    order: torch.Tensor
    weight: torch.Tensor


def quantize_matrix(
    weight: torch.Tensor, factor: HessianFactor, groups: Sequence[Group], search: ScaleSearch
) -> QuantizedMatrix:
    """Quantize `weight` [K, N] float32 (feature order) into `groups`.

    A group's scales are found after the errors of all groups before it have been pushed into its rows.
    """
    rest = weight[factor.order].clone()
    upper = factor.upper
    importance = upper.diagonal().square().reciprocal()
    codes = torch.empty(rest.shape, dtype=torch.uint8, device=rest.device)
    decoded = torch.empty_like(rest)
    scale_codes, scale_max = [], []
    start = 0
    for group in groups:
        end = start + group.rows
        scales = search(rest[start:end], group.bits, importance[start:end])
        block = upper[start:end, start:end]
        errors = _quantize_group(rest[start:end], block, scales.steps, group.bits, codes[start:end], decoded[start:end])
        rest[end:] -= upper[start:end, end:].T @ errors
        scale_codes.append(scales.codes)
        scale_max.append(scales.scale_max)
        start = end
    return _assemble(codes, scale_codes, scale_max, groups, factor.order, decoded)


def round_to_nearest(
    weight: torch.Tensor, factor: HessianFactor, groups: Sequence[Group], search: ScaleSearch
) -> QuantizedMatrix:
    """Quantize like `quantize_matrix` with the same order and scale search, but pass no error on."""
    rows = weight[factor.order]
    importance = factor.upper.diagonal().square().reciprocal()
    codes, decoded, scale_codes, scale_max = [], [], [], []
    start = 0
    for group in groups:
        end = start + group.rows
        scales = search(rows[start:end], group.bits, importance[start:end])
        rounded = round_to_codes(rows[start:end], scales.steps, group.bits)
        codes.append(rounded.to(torch.uint8))
        decoded.append(decode(rounded, scales.steps, group.bits))
        scale_codes.append(scales.codes)
        scale_max.append(scales.scale_max)
        start = end
    return _assemble(torch.cat(codes), scale_codes, scale_max, groups, factor.order, torch.cat(decoded))


def _quantize_group(
    rows: torch.Tensor,
    upper: torch.Tensor,
    steps: torch.Tensor,
    bits: int,
    codes: torch.Tensor,
    decoded: torch.Tensor,
) -> torch.Tensor:
    """Quantize `rows` [R, N] one by one, pushing each row's error into the later ones; returns the errors [R, N].

    `upper` [R, R] is the diagonal block of the Cholesky factor; `codes` and `decoded` are filled.
    """
    rounding = LevelRounding(steps, bits)
    errors, levels, pushed = torch.empty_like(rows), torch.empty_like(rows), torch.empty_like(rows)
    for row, scale in enumerate(upper.diagonal().tolist()):
        rounding(rows[row], levels[row], decoded[row])
        torch.sub(rows[row], decoded[row], out=errors[row]).div_(scale)
        later = slice(row + 1, None)
        rows[later].sub_(torch.mul(upper[row, later, None], errors[row], out=pushed[later]))
    codes.copy_(levels.add_(1 << (bits - 1)))
    decoded.copy_(decode(levels, steps, bits))
    return errors


def _assemble(
    codes: torch.Tensor,
    scale_codes: list[torch.Tensor],
    scale_max: list[torch.Tensor],
    groups: Sequence[Group],
    order: torch.Tensor,
    decoded: torch.Tensor,
) -> QuantizedMatrix:
    weight = torch.empty_like(decoded)
    weight[order] = decoded
    return QuantizedMatrix(codes, torch.stack(scale_codes), torch.stack(scale_max), tuple(groups), order, weight)
