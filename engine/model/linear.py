"""A matrix of the model."""

from __future__ import annotations

import torch

from engine.ops.backend import LinearKernel


class Linear:
    """A named matrix with a kernel that computes it.

    The kernel may be replaced, by one that records its inputs (the quantizer) or adds to its outputs.

    Attributes:
        prefix: name in the checkpoint, e.g. `model.layers.0.self_attn.q_proj`.
        kernel: computes `out = x @ W (+ bias)`.
    """

    def __init__(self, prefix: str, kernel: LinearKernel) -> None:
        self.prefix = prefix
        self.kernel = kernel

    @property
    def in_features(self) -> int:
        return self.kernel.in_features

    @property
    def out_features(self) -> int:
        return self.kernel.out_features

    def forward(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x [T, in_features], out [T, out_features], both in the backend's activation dtype."""
        self.kernel(x, out)
