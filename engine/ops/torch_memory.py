"""What the reference backend takes of its device's memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.free_memory import free_memory
from engine.ops.backend_memory import Exl2Shape, StepShape
from engine.ops.cublas import products_bytes

FLOAT_BYTES = 4
SCORE_COPIES = 3
"""Scores, masked scores and weights of the reference attention, alive together."""


class TorchMemory:
    """A `BackendMemory`.

    Args:
        device: where the backend computes.
        dtype: of its activations, and of the matrices it keeps.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype

    def free(self) -> int:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()  # torch keeps what was freed, such as all that loading a matrix takes for a moment
            return int(torch.cuda.mem_get_info(self._device)[0])
        return free_memory()

    def dense(self, in_features: int, out_features: int, dtype: torch.dtype, bias: bool) -> int:  # noqa: ARG002
        return (in_features + bias) * out_features * self._dtype.itemsize

    def exl2(self, shape: Exl2Shape) -> int:
        return (shape.in_features + shape.bias) * shape.out_features * self._dtype.itemsize

    def exl2_group(self, shapes: Sequence[Exl2Shape]) -> int:  # noqa: ARG002
        return 0

    def scratch(self, step: StepShape) -> int:
        return 3 * step.tokens * step.num_heads * step.head_dim * FLOAT_BYTES + products_bytes(self._device)

    def scratch_per_position(self, step: StepShape) -> int:
        scores = SCORE_COPIES * step.num_heads * step.tokens
        gathered = 2 * 2 * step.num_kv_heads * step.head_dim  # keys and values, as stored and as float32
        return (scores + gathered) * FLOAT_BYTES
