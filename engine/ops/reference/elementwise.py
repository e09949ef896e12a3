"""Elementwise ops of the decoder: the gate of the MLP and the residual sum."""

from __future__ import annotations

import torch


def silu_mul(gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None) -> None:
    """`out = silu(gate) * up` (Shazeer, "GLU Variants Improve Transformer", 2020); all [T, I]; out may be gate.

    With an order [I] place i of the output has feature order[i].
    """
    gated = torch.nn.functional.silu(gate.float()) * up.float()
    out.copy_(gated if order is None else gated[:, order.long()])


def add(x: torch.Tensor, residual: torch.Tensor) -> None:
    """`residual += x`; both [T, H]."""
    residual.add_(x)
