"""EXL2 in numbers: the tensors of one matrix, packing and unpacking of codes, and the exact decode.

Everything follows the on-disk format (docs/formats.md). Decoding is bit-exact: every rounding to half precision
that the format defines happens, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Exl2Tensors:
    """One EXL2 matrix as it is on disk, with K inputs and N stored outputs in G groups.

    Attributes:
        q_weight: int32 [R, N] packed codes, a little-endian bit stream down each column.
        q_invperm: int32 [K] stored row of each input feature.
        q_scale: int32 [G, N / 8] eight 4-bit scale codes per word.
        q_scale_max: float16 [G] largest scale of each group.
        q_groups: int16 [2 G] width and first word row of each group, unsigned.
        bias: float16, bfloat16 or float32 [N], or None.
        out_features: true number of outputs; columns beyond it are padding.
        prescale: factor the model definition puts on the matrix; never stored.
    """

    q_weight: torch.Tensor
    q_invperm: torch.Tensor
    q_scale: torch.Tensor
    q_scale_max: torch.Tensor
    q_groups: torch.Tensor
    bias: torch.Tensor | None
    out_features: int
    prescale: float = 1.0
