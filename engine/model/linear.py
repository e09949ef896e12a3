"""A matrix of the model, and matrices that have the same input."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.ops.backend import Backend, GroupKernel, LinearKernel


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


class LinearGroup:
    """Matrices with the same input, one or several, whose caller may give that in the order they like best.

    They are computed together where the backend can, as long as no kernel of theirs is replaced.

    Args:
        backend: that made their kernels.
        linears: the matrices.
    """

    def __init__(self, backend: Backend, linears: Sequence[Linear]) -> None:
        self._linears = tuple(linears)
        self._together = backend.prepare_group([linear.kernel for linear in linears])

    @property
    def input_order(self) -> torch.Tensor | None:
        """The feature at each place of an input, [in_features] int32; None for 0, 1, 2 …"""
        kernel = self._kernel()
        return None if kernel is None else kernel.input_order

    @property
    def input_places(self) -> torch.Tensor | None:
        """The place of each feature of an input, [in_features] int32; None for 0, 1, 2 …"""
        kernel = self._kernel()
        return None if kernel is None else kernel.input_places

    @property
    def nbytes(self) -> int:
        """Memory it holds besides what the kernels of the matrices do."""
        return 0 if self._together is None else self._together.nbytes

    def forward(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        """x [T, in_features], its features in `input_order`; outs[i] [T, out_features of matrix i]."""
        kernel = self._kernel()
        if kernel is not None:
            kernel(x, outs)
            return
        for linear, out in zip(self._linears, outs, strict=True):
            linear.forward(x, out)

    def _kernel(self) -> GroupKernel | None:
        """The kernel for all, if it still stands for theirs."""
        together = self._together
        if together is None or any(
            linear.kernel is not kernel for linear, kernel in zip(self._linears, together.kernels, strict=True)
        ):
            return None
        return together
