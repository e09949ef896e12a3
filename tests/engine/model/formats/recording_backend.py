"""A backend that computes nothing and remembers what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from engine.ops.exl2 import Exl2Tensors


@dataclass
class RecordedKernel:
    """What one layer was built from."""

    in_features: int
    out_features: int
    nbytes: int = 0
    exl2: Exl2Tensors | None = None
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        raise NotImplementedError


@dataclass
class RecordingBackend:
    """Only the two methods weight formats call."""

    kernels: list[RecordedKernel] = field(default_factory=list)

    def prepare_dense(self, weight: torch.Tensor, bias: torch.Tensor | None) -> RecordedKernel:
        kernel = RecordedKernel(weight.shape[1], weight.shape[0], weight.nbytes, weight=weight, bias=bias)
        self.kernels.append(kernel)
        return kernel

    def prepare_exl2(self, tensors: Exl2Tensors) -> RecordedKernel:
        kernel = RecordedKernel(
            tensors.in_features, tensors.out_features, tensors.q_weight.nbytes, exl2=tensors, bias=tensors.bias
        )
        self.kernels.append(kernel)
        return kernel
