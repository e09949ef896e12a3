"""Root-mean-square normalisation (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019)."""

from __future__ import annotations

import torch


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, order: torch.Tensor | None = None
) -> None:
    """`out = x / sqrt(mean(x²) + eps) * weight` over the last dimension, in float32; x and out [R, H], weight [H].

    With an order [H] place i of the output has feature order[i].
    """
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    normed = wide * scale * weight.float()
    out.copy_(normed if order is None else normed[:, order.long()])
