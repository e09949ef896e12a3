"""From codes and scales to the tensors of the format."""

from __future__ import annotations

import torch

from engine.ops.exl2 import (
    ROW_MULTIPLE,
    Exl2Tensors,
    build_q_groups,
    layout_groups,
    pack_codes,
    pack_scale_codes,
)
from quantize.gptq import QuantizedMatrix


def padded_columns(weight: torch.Tensor) -> torch.Tensor:
    """`weight` [K, N] with zero columns added until their number can be stored."""
    missing = -weight.shape[1] % ROW_MULTIPLE
    return torch.nn.functional.pad(weight, (0, missing)) if missing else weight


def encode(matrix: QuantizedMatrix, bias: torch.Tensor | None, out_features: int) -> Exl2Tensors:
    """Pack a quantized matrix.

    Args:
        matrix: K inputs and N stored outputs.
        bias: [out_features], stored as half and padded with zeros, or None.
        out_features: true number of outputs, at most N.
    """
    if bias is not None:
        bias = torch.nn.functional.pad(bias.half(), (0, matrix.codes.shape[1] - bias.shape[0]))
    return Exl2Tensors(
        q_weight=pack_codes(matrix.codes, layout_groups(matrix.groups)),
        q_invperm=torch.argsort(matrix.order).to(torch.int32),
        q_scale=pack_scale_codes(matrix.scale_codes),
        q_scale_max=matrix.scale_max,
        q_groups=build_q_groups(matrix.groups),
        bias=bias,
        out_features=out_features,
    )
