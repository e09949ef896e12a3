"""What the native CPU backend takes of the machine's memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.free_memory import free_memory
from engine.ops.backend_memory import Exl2Shape, StepShape

FLOAT_BYTES = 4

# as in cpu_ext/csrc: kernels.h, and the buffers of linear.cpp and context.h
BLOCK_COLUMNS = 32
UNIT_ROWS, UNIT_BYTES = 32, 8
SCALE_BYTES = 2
WORD_BYTES = 4
SOURCE_BYTES = 4
TILE_ROWS, ROW_CHUNK = 128, 128
POSITION_CHUNK, QUERY_TILE, QUERY_TILE_BYTES = 64, 16, 24
HEAD_DIM_MULTIPLE = 16


class CpuMemory:
    """A `BackendMemory`.

    Args:
        threads: that compute; each has scratch memory of its own.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def free(self) -> int:
        return free_memory()

    def dense(self, in_features: int, out_features: int, dtype: torch.dtype, bias: bool) -> int:
        columns = _padded(out_features, BLOCK_COLUMNS)
        return columns * in_features * dtype.itemsize + (columns * FLOAT_BYTES if bias else 0)

    def exl2(self, shape: Exl2Shape) -> int:
        columns = _padded(shape.out_features, BLOCK_COLUMNS)
        per_column = shape.words * WORD_BYTES + shape.groups * SCALE_BYTES + (FLOAT_BYTES if shape.bias else 0)
        per_matrix = shape.in_features // UNIT_ROWS * UNIT_BYTES + shape.in_features * SOURCE_BYTES
        return columns * per_column + per_matrix

    def exl2_group(self, shapes: Sequence[Exl2Shape]) -> int:  # noqa: ARG002
        return 0

    def scratch(self, step: StepShape) -> int:
        rows = QUERY_TILE * step.num_heads // step.num_kv_heads
        head_dim = _padded(step.head_dim, HEAD_DIM_MULTIPLE)
        attention = head_dim * 2 * (POSITION_CHUNK + rows) + 2 * rows + POSITION_CHUNK
        linear = (TILE_ROWS + ROW_CHUNK) * BLOCK_COLUMNS
        per_thread = max(attention, linear) * FLOAT_BYTES
        inputs = ROW_CHUNK * step.widest_input * FLOAT_BYTES
        return self._threads * per_thread + inputs + step.tokens * QUERY_TILE_BYTES

    def scratch_per_position(self, step: StepShape) -> int:  # noqa: ARG002 - positions are taken in chunks
        return 0


def _padded(size: int, multiple: int) -> int:
    return size + -size % multiple
