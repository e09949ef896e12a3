"""Products with EXL2 matrices on a CUDA device.

Up to FUSED_ROWS rows go through the kernel, 32 at a time, with the same order of additions for any number of them, and
matrices of the same inputs in one launch. More rows are multiplied by torch with the exactly decoded weights, some
columns at a time, so that these pass through the second-level cache. On Hopper there is a kernel for many rows, too,
which decodes a weight once for 128 of them; it is used where the workspace says so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from cuda_ext.exl2 import MOST_MATRICES, Exl2Many, Exl2Matrix, Exl2Step, Exl2Work
from engine.ops.cuda_exl2_matrix import FUSED_ROWS, CudaExl2Matrix, Exl2Workspace
from engine.ops.exl2_plan import blocks_for, most_segments, plan
from engine.ops.exl2_tiles import TILE_COLUMNS, TILE_ROWS
from engine.ops.tensor_checks import FLOAT_TYPES, require, require_tensor

SHARED_BYTES, SHARED_BESIDES = 96 << 10, 1 << 10
"""Shared memory a block of the kernel takes where the device has it, and what it has besides; as in exl2/exl2.h."""

MANY_ROWS_TILE = (128, 256)
"""Rows and columns a block of the kernel for many rows multiplies."""

ALIGNMENT = 16
"""Bytes that inputs in stored order are aligned to: the kernel copies as many at once."""


class Exl2Product:
    """The product with one matrix, or with several that have the same inputs in the same stored order.

    Args:
        workspace: shared with all others; only one product may run at a time.
        matrices: 1 to MOST_MATRICES.

    Attributes:
        nbytes: memory it holds, besides the matrices.
    """

    def __init__(self, workspace: Exl2Workspace, matrices: Sequence[CudaExl2Matrix]) -> None:
        self._workspace = workspace
        self._matrices = tuple(matrices)
        self._functions = workspace.runtime.library.functions
        self._check = workspace.runtime.library.check
        tiled = [matrix.tiled for matrix in matrices]
        blocks = blocks_for(sum(each.tiles for each in tiled), workspace.processors)
        work = plan(tiled, blocks)
        segments = torch.zeros(most_segments(sum(each.column_blocks for each in tiled), blocks), 16, dtype=torch.int32)
        segments[: len(work.segments)] = torch.tensor(work.words(), dtype=torch.int32)
        device = workspace.runtime.device
        self._segments = segments.to(device)
        self.nbytes = self._segments.nbytes
        self._work = Exl2Work(
            matrices=(Exl2Matrix * MOST_MATRICES)(*(matrix.described() for matrix in matrices)),
            segments=self._segments.data_ptr(),
            count=len(self._matrices),
            widest=max(matrix.widest for matrix in matrices),
            blocks=blocks,
            shared_bytes=min(SHARED_BYTES, workspace.runtime.info.shared_bytes_per_block - SHARED_BESIDES),
        )

    def multiply(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        """outs[i] [T, out_features] = x [T, K] times matrix i, plus its bias.

        Raises:
            KernelArgumentError: a tensor is not what it must be.
        """
        self._require(x, outs)
        if x.shape[0] > FUSED_ROWS:
            self._multiply_decoded(x, outs, stored_order=False)
        elif x.shape[0]:
            workspace = self._workspace
            inputs, factors = workspace.inputs.data_ptr(), workspace.factors.data_ptr()
            matrix = ctypes.byref(self._work.matrices[0])
            gather = self._functions.quire_cuda_exl2_gather
            dtype = FLOAT_TYPES[workspace.dtype]
            self._check(gather(workspace.runtime.stream(), matrix, x.data_ptr(), x.shape[0], inputs, factors, dtype))
            self._launch(inputs, factors, outs)

    def multiply_ordered(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        """The same for float16 activations that are in stored order: element i of a row is feature `features[i]`.

        Raises:
            KernelArgumentError: a tensor is not what it must be, or x is not aligned to ALIGNMENT bytes.
        """
        self._require(x, outs)
        require(self._workspace.dtype == torch.float16, "Only float16 activations can be taken in stored order.")
        require(x.data_ptr() % ALIGNMENT == 0, f"x must be aligned to {ALIGNMENT} bytes.")
        if x.shape[0] in self._workspace.many_rows:
            self._launch_many(x, outs)
        elif x.shape[0] > FUSED_ROWS:
            self._multiply_decoded(x, outs, stored_order=True)
        elif x.shape[0]:
            self._launch(x.data_ptr(), 0, outs)

    def _launch(self, inputs: int, factors: int, outs: Sequence[torch.Tensor]) -> None:
        workspace = self._workspace
        step = Exl2Step(
            x=inputs,
            row_factors=factors,
            partials=workspace.partials.data_ptr(),
            arrivals=workspace.arrivals.data_ptr(),
            out=(ctypes.c_void_p * MOST_MATRICES)(*(out.data_ptr() for out in outs)),
            rows=outs[0].shape[0],
            dtype=FLOAT_TYPES[workspace.dtype],
        )
        multiply = self._functions.quire_cuda_exl2_matmul
        self._check(multiply(workspace.runtime.stream(), ctypes.byref(self._work), ctypes.byref(step)))

    def _launch_many(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        workspace = self._workspace
        for matrix, out in zip(self._matrices, outs, strict=True):
            step = Exl2Many(
                x=x.data_ptr(),
                partials=workspace.slice.data_ptr(),
                arrivals=workspace.arrivals.data_ptr(),
                out=out.data_ptr(),
                rows=x.shape[0],
                widest=matrix.widest,
                splits=_splits(workspace, matrix, x.shape[0]),
            )
            multiply = self._functions.quire_cuda_exl2_matmul_many
            described = ctypes.byref(matrix.described())
            self._check(multiply(workspace.runtime.stream(), described, ctypes.byref(step)))

    def _multiply_decoded(self, x: torch.Tensor, outs: Sequence[torch.Tensor], stored_order: bool) -> None:
        in_features = x.shape[1]
        blocks_at_once = self._workspace.slice.numel() // (in_features * TILE_COLUMNS)
        for matrix, out in zip(self._matrices, outs, strict=True):
            column_blocks = matrix.tiled.column_blocks
            for first in range(0, column_blocks, blocks_at_once):
                blocks = min(blocks_at_once, column_blocks - first)
                weight = self._workspace.slice[: in_features * blocks * TILE_COLUMNS].view(in_features, -1)
                matrix.decode(first, weight, stored_order)
                part = out[:, first * TILE_COLUMNS : (first + blocks) * TILE_COLUMNS]
                torch.mm(x, weight[:, : part.shape[1]], out=part)
            if matrix.bias is not None:
                out += matrix.bias

    def _require(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        rows = x.shape[0]
        dtype, device = self._workspace.dtype, self._workspace.runtime.device
        require_tensor("x", x, dtype, (rows, self._matrices[0].in_features), device)
        require(len(outs) == len(self._matrices), f"{len(self._matrices)} matrices have as many outputs.")
        for matrix, out in zip(self._matrices, outs, strict=True):
            require_tensor("out", out, dtype, (rows, matrix.out_features), device)


def _splits(workspace: Exl2Workspace, matrix: CudaExl2Matrix, rows: int) -> int:
    """Runs to cut the stored rows into for many rows of activations, so that each processor has a block.

    Sums of runs go to the memory that decoded slices have otherwise.
    """
    tile_rows, tile_columns = MANY_ROWS_TILE
    tiles = -(-rows // tile_rows) * -(-matrix.out_features // tile_columns)
    room = workspace.slice.nbytes // (tile_rows * tile_columns * torch.float32.itemsize)
    return max(1, min(matrix.in_features // TILE_ROWS, min(workspace.processors, room) // tiles))


def work_bytes(column_blocks: int, tiles: int, processors: int) -> int:
    """The `nbytes` of a product with matrices of so many column blocks and tiles together."""
    blocks = blocks_for(tiles, processors)
    return 64 * most_segments(column_blocks, blocks)
