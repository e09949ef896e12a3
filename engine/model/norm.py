"""Root-mean-square norm with its weight."""

from __future__ import annotations

import torch

from engine.ops.backend import Backend


class RMSNorm:
    """`out = x / sqrt(mean(x²) + eps) * weight` over the last dimension.

    Args:
        backend: computes it.
        weight: [H] in the backend's activation dtype, on its device.
        eps: added to the mean square.
    """

    def __init__(self, backend: Backend, weight: torch.Tensor, eps: float) -> None:
        self._backend = backend
        self.weight = weight
        self._eps = eps

    def forward(self, x: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None) -> None:
        """x and out [R, H]; with an order [H] place i of out has feature order[i]."""
        self._backend.rms_norm(x, self.weight, self._eps, out, order)
