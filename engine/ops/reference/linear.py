"""A plain matrix product."""

from __future__ import annotations

import torch


class DenseLinear:
    """`out = x @ weightᵀ (+ bias)` with the weight in the activation dtype.

    Args:
        weight: [out_features, in_features]; kept, not copied.
        bias: [out_features] or None, of the same dtype.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    @property
    def in_features(self) -> int:
        return self._weight.shape[1]

    @property
    def out_features(self) -> int:
        return self._weight.shape[0]

    @property
    def nbytes(self) -> int:
        return self._weight.nbytes + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        """x [T, in_features], out [T, out_features]."""
        if self._bias is None:
            torch.mm(x, self._weight.t(), out=out)
        else:
            torch.addmm(self._bias, x, self._weight.t(), out=out)
