"""Letting gradients flow through the decoder: the same model code, over ops that autograd can follow.

The decoder writes into buffers it keeps, and overwrites what it has read. Neither may happen to what a gradient needs.
"""

from __future__ import annotations

import torch

from engine.model.loader import ModelParts
from engine.model.workspace import Workspace
from engine.ops.backend import LinearKernel
from engine.ops.torch_backend import TorchBackend


def differentiable_parts(parts: ModelParts) -> ModelParts:
    """The parts of the same model over ops that autograd can follow, in float32 and on the same device."""
    length = parts.max_positions
    backend = DifferentiableBackend(parts.backend.device)
    copy = ModelParts(parts.checkpoint, parts.layout, parts.config, backend, length, length)
    copy.workspace = FreshWorkspace(backend.device)
    return copy


class FreshWorkspace(Workspace):
    """Hands out new memory every time."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, torch.float32, rows=0)
        self._where = device

    def get(self, name: str, rows: int, columns: int, dtype: torch.dtype | None = None) -> torch.Tensor:  # noqa: ARG002
        """See `Workspace`; nothing is kept under the name."""
        return torch.empty(rows, columns, dtype=dtype or torch.float32, device=self._where)


class DifferentiableBackend(TorchBackend):
    """The reference ops, reading copies of what is overwritten later."""

    def prepare_dense(self, weight: torch.Tensor, bias: torch.Tensor | None) -> LinearKernel:
        """See `Backend`; the weight itself gets no gradient."""
        return DifferentiableLinear(self._take_over(weight), None if bias is None else self._take_over(bias))

    def rms_norm(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        """The residual stream x goes on changing."""
        super().rms_norm(x.clone(), weight, eps, out, order)

    def silu_mul(
        self, gate: torch.Tensor, up: torch.Tensor, out: torch.Tensor, order: torch.Tensor | None = None
    ) -> None:
        """The output may be the gate."""
        super().silu_mul(gate.clone(), up, out, order)


class DifferentiableLinear:
    """A fixed matrix that gradients pass through; arguments as of `DenseLinear`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self.nbytes = weight.nbytes + (0 if bias is None else bias.nbytes)
        self._weight = weight
        self._bias = bias

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x [T, in_features], out [T, out_features]."""
        out.copy_(torch.nn.functional.linear(x, self._weight, self._bias))


class WeightKernel:
    """A matrix whose weight is put in anew before every forward pass.

    Args:
        like: the kernel it takes the place of.
        bias: [N] or None.

    Attributes:
        weight: float32 [K, N].
    """

    def __init__(self, like: LinearKernel, bias: torch.Tensor | None) -> None:
        self.in_features = like.in_features
        self.out_features = like.out_features
        self.nbytes = like.nbytes
        self.weight = torch.empty(0, 0)
        self._bias = bias

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x [T, in_features], out [T, out_features]."""
        product = x.clone() @ self.weight  # the model overwrites x later
        out.copy_(product if self._bias is None else product + self._bias)
