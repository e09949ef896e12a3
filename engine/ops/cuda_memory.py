"""What the CUDA backend takes of its device's memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.ops.backend_memory import Exl2Shape, StepShape
from engine.ops.cublas import products_bytes
from engine.ops.cuda_linear import group_bytes, held_bytes, inputs_bytes
from engine.ops.torch_memory import TorchMemory

ATTENTION_WORKSPACE = 64 * 2**20
"""Bytes kept for attention: 64 queries of 32 heads over 30 chunks of 128 positions, or one over 1900."""


class CudaMemory:
    """A `BackendMemory`; workspaces that do not depend on the model are taken with the backend, before any planning.

    Args:
        device: where the backend computes.
        dtype: of its activations, and of the dense matrices it keeps.
        processors: of the device.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, processors: int) -> None:
        self._torch = TorchMemory(device, dtype)
        self._device = device
        self._dtype = dtype
        self._processors = processors

    def free(self) -> int:
        return self._torch.free()

    def dense(self, in_features: int, out_features: int, dtype: torch.dtype, bias: bool) -> int:
        return self._torch.dense(in_features, out_features, dtype, bias)

    def exl2(self, shape: Exl2Shape) -> int:
        return held_bytes(shape, self._processors)

    def exl2_group(self, shapes: Sequence[Exl2Shape]) -> int:
        return group_bytes(shapes, self._processors)

    def scratch(self, step: StepShape) -> int:
        # the MLP's product cannot be written over the gate where its order changes
        reordered = step.tokens * step.widest_input * self._dtype.itemsize
        return inputs_bytes(step.widest_input) + reordered + products_bytes(self._device)

    def scratch_per_position(self, step: StepShape) -> int:  # noqa: ARG002
        return 0
