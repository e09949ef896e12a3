"""EXL2 matrices on a CUDA device: codes stay packed, as tiles, and few rows are multiplied with them on tensor cores.

Up to FUSED_ROWS rows go through the kernel, 32 at a time, with the same order of additions for any number of them. More
are multiplied by torch with the exactly decoded weights, some columns at a time, so that these pass through the
second-level cache.
"""

from __future__ import annotations

import ctypes

import torch

from cuda_ext.exl2 import Exl2Matrix, Exl2Step
from engine.ops.cuda_runtime import Runtime
from engine.ops.exl2 import Exl2Tensors
from engine.ops.exl2_checks import checked_exl2
from engine.ops.exl2_plan import blocks_for, most_segments, most_slots, plan
from engine.ops.exl2_tiles import TILE_COLUMNS, TILE_ROWS, column_blocks, pack_scales, pack_tiles, tile_table
from engine.ops.tensor_checks import FLOAT_TYPES, require_tensor

FUSED_ROWS = 64
"""Rows beyond which decoding into slices is taken for quicker. Not measured yet."""

ROWS_PER_LAUNCH = 32
SLICE_BYTES = 16 << 20
"""Decoded weights that are alive together; the widest matrix the format allows has a column block of no more."""

SHARED_BYTES = 96 << 10
"""Shared memory a block of the kernel may take where the device has it."""


class Exl2Workspace:
    """What the EXL2 matrices of one model share: inputs in stored order, sums of blocks, a slice of decoded weights.

    Args:
        runtime: the device.
        dtype: of activations.
    """

    def __init__(self, runtime: Runtime, dtype: torch.dtype) -> None:
        self.runtime = runtime
        self.dtype = dtype
        device = runtime.device
        self.processors = runtime.info.processors
        slots = most_slots(self.processors)
        self.partials = torch.empty(slots, ROWS_PER_LAUNCH, TILE_COLUMNS, dtype=torch.float32, device=device)
        self.arrivals = torch.zeros(slots, dtype=torch.int32, device=device)
        self.factors = torch.empty(FUSED_ROWS, dtype=torch.float32, device=device)
        self.slice = torch.empty(SLICE_BYTES // dtype.itemsize, dtype=dtype, device=device)
        self.inputs = torch.empty(0, dtype=torch.float16, device=device)

    def reserve(self, in_features: int) -> None:
        """Make room for the inputs of a matrix. Called when it is loaded, not later."""
        if self.inputs.numel() < FUSED_ROWS * in_features:
            self.inputs = torch.empty(FUSED_ROWS * in_features, dtype=torch.float16, device=self.runtime.device)


class CudaExl2Linear:
    """One EXL2 matrix on a CUDA device; a `LinearKernel`.

    Args:
        workspace: shared with the other matrices; only one of them may run at a time.
        tensors: the matrix, on any device; nothing of it is kept.

    Raises:
        CheckpointError: the group table breaks the format's rules.
        KernelArgumentError: wrong shapes or dtypes, or `q_invperm` is no permutation.
    """

    def __init__(self, workspace: Exl2Workspace, tensors: Exl2Tensors) -> None:
        self._workspace = workspace
        self._functions = workspace.runtime.library.functions
        self._check = workspace.runtime.library.check
        matrix = _moved(checked_exl2(tensors), workspace.runtime.device)
        self._in_features, self._out_features = matrix.in_features, matrix.out_features
        self._column_blocks = column_blocks(matrix.stored_outputs)
        self._bias = matrix.bias
        self._held = {**_weights(matrix), **_work(matrix, workspace.processors)}
        self._matrix = self._described(matrix)
        workspace.reserve(self._in_features)

    @property
    def in_features(self) -> int:
        return self._in_features

    @property
    def out_features(self) -> int:
        return self._out_features

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self._held.values()) + (0 if self._bias is None else self._bias.nbytes)

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        rows = x.shape[0]
        workspace = self._workspace
        device = workspace.runtime.device
        require_tensor("x", x, workspace.dtype, (rows, self._in_features), device)
        require_tensor("out", out, workspace.dtype, (rows, self._out_features), device)
        if rows > FUSED_ROWS:
            self._multiply_decoded(x, out)
        elif rows:
            self._multiply_fused(x, out)

    def _multiply_fused(self, x: torch.Tensor, out: torch.Tensor) -> None:
        workspace = self._workspace
        stream = workspace.runtime.stream()
        dtype = FLOAT_TYPES[workspace.dtype]
        matrix = ctypes.byref(self._matrix)
        inputs, factors = workspace.inputs.data_ptr(), workspace.factors.data_ptr()
        gather = self._functions.quire_cuda_exl2_gather
        self._check(gather(stream, matrix, x.data_ptr(), x.shape[0], inputs, factors, dtype))
        step = Exl2Step(
            x=inputs,
            row_factors=factors,
            partials=workspace.partials.data_ptr(),
            arrivals=workspace.arrivals.data_ptr(),
            out=out.data_ptr(),
            rows=x.shape[0],
            dtype=dtype,
        )
        self._check(self._functions.quire_cuda_exl2_matmul(stream, matrix, ctypes.byref(step)))

    def _multiply_decoded(self, x: torch.Tensor, out: torch.Tensor) -> None:
        blocks_at_once = self._workspace.slice.numel() // (self._in_features * TILE_COLUMNS)
        for first in range(0, self._column_blocks, blocks_at_once):
            blocks = min(blocks_at_once, self._column_blocks - first)
            weight = self._workspace.slice[: self._in_features * blocks * TILE_COLUMNS].view(self._in_features, -1)
            self._decode(first, weight)
            part = out[:, first * TILE_COLUMNS : (first + blocks) * TILE_COLUMNS]
            torch.mm(x, weight[:, : part.shape[1]], out=part)
        if self._bias is not None:
            out += self._bias

    def decoded(self) -> torch.Tensor:
        """The weights exactly as the format defines them [in_features, out_features], in the activations' dtype."""
        columns = self._column_blocks * TILE_COLUMNS
        weight = torch.empty(
            self._in_features, columns, dtype=self._workspace.dtype, device=self._workspace.runtime.device
        )
        self._decode(0, weight)
        return weight[:, : self._out_features].contiguous()

    def _decode(self, first: int, weight: torch.Tensor) -> None:
        """Decode the column blocks from `first` on that fill `weight` [in_features, 128 · blocks]."""
        workspace = self._workspace
        stride = weight.shape[1]
        status = self._functions.quire_cuda_exl2_decode_tiles(
            workspace.runtime.stream(),
            ctypes.byref(self._matrix),
            first,
            stride // TILE_COLUMNS,
            weight.data_ptr(),
            stride,
            FLOAT_TYPES[workspace.dtype],
        )
        self._check(status)

    def _described(self, matrix: Exl2Tensors) -> Exl2Matrix:
        limit = self._workspace.runtime.info.shared_bytes_per_block
        return Exl2Matrix(
            **{name: tensor.data_ptr() for name, tensor in self._held.items()},
            bias=0 if self._bias is None else self._bias.data_ptr(),
            in_features=self._in_features,
            out_features=self._out_features,
            plane_count=matrix.q_weight.shape[0],
            groups=len(matrix.groups),
            widest=matrix.groups[0].width,
            blocks=len(self._held["first_segments"]) - 1,
            shared_bytes=min(SHARED_BYTES, limit),
        )


def held_bytes(in_features: int, out_features: int, words: int, groups: int, bias: bool, processors: int) -> int:
    """What a matrix with R word rows will hold: its `nbytes`."""
    blocks = column_blocks(out_features)
    tiles = in_features // TILE_ROWS
    thread_blocks = blocks_for(blocks * tiles, processors)
    weights = blocks * (512 * words + 80 * groups) + 4 * in_features
    work = 8 * tiles + 64 * most_segments(blocks, thread_blocks) + 4 * (thread_blocks + 1)
    return weights + work + (4 * out_features if bias else 0)


def inputs_bytes(widest_input: int) -> int:
    """What an `Exl2Workspace` grows by when matrices are loaded."""
    return FUSED_ROWS * widest_input * torch.float16.itemsize


def _moved(matrix: Exl2Tensors, device: torch.device) -> Exl2Tensors:
    """The matrix on the device, all but its group table, which is read on the host."""
    return Exl2Tensors(
        matrix.q_weight.to(device),
        matrix.q_invperm.to(device),
        matrix.q_scale.to(device),
        matrix.q_scale_max.to(device),
        matrix.q_groups.cpu(),
        None if matrix.bias is None else matrix.bias.to(device),
        matrix.out_features,
        matrix.prescale,
    )


def _weights(matrix: Exl2Tensors) -> dict[str, torch.Tensor]:
    """The arrays of `quire_cuda_exl2` that hold the matrix."""
    return {
        "planes": pack_tiles(matrix),
        "scales": pack_scales(matrix),
        "features": torch.argsort(matrix.q_invperm).to(torch.int32),
    }


def _work(matrix: Exl2Tensors, processors: int) -> dict[str, torch.Tensor]:
    """The arrays that say who multiplies what."""
    device = matrix.q_weight.device
    table = tile_table(matrix.groups)
    blocks = column_blocks(matrix.stored_outputs)
    thread_blocks = blocks_for(blocks * len(table), processors)
    work = plan([plane for plane, _, _ in table] + [matrix.q_weight.shape[0]], blocks, thread_blocks)
    segments = torch.zeros(most_segments(blocks, thread_blocks), 16, dtype=torch.int32)
    segments[: len(work.segments)] = torch.tensor([each.words for each in work.segments], dtype=torch.int32)
    tiles = torch.tensor([[plane, 256 * group + width] for plane, group, width in table], dtype=torch.int32)
    return {
        "tiles": tiles.to(device),
        "segments": segments.to(device),
        "first_segments": torch.tensor(work.first_segments, dtype=torch.int32).to(device),
    }
