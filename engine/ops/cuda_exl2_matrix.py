"""An EXL2 matrix in the memory of a CUDA device, its codes packed as tiles; and what all matrices of a model share."""

from __future__ import annotations

import ctypes

import torch

from cuda_ext.exl2 import Exl2Matrix
from engine.ops.cuda_runtime import Runtime
from engine.ops.exl2 import Exl2Tensors
from engine.ops.exl2_checks import checked_exl2
from engine.ops.exl2_plan import TiledMatrix, most_slots
from engine.ops.exl2_tiles import TILE_COLUMNS, column_blocks, pack_scales, pack_tiles, tile_table
from engine.ops.tensor_checks import FLOAT_TYPES, require

FUSED_ROWS = 64
"""Rows beyond which decoding into slices is taken for quicker. Not measured yet."""

MANY_ROWS_CAPABILITY = (9, 0)
"""Of the devices that have the matrix instructions of warp groups."""

ROWS_PER_LAUNCH = 32
SLICE_BYTES = 16 << 20
"""Decoded weights that are alive together; the widest matrix the format allows has a column block of no more."""


class Exl2Workspace:
    """What the EXL2 matrices of one model share: inputs in stored order, sums of blocks, a slice of decoded weights.

    Args:
        runtime: the device.
        dtype: of activations.
        many_rows: how many rows go through the kernel for many of them, where inputs are in stored order. None unless a
            benchmark asks: that kernel has not been measured yet.

    Raises:
        KernelArgumentError: there is no kernel for many rows on this device, or for this type.
    """

    def __init__(self, runtime: Runtime, dtype: torch.dtype, many_rows: range = range(0)) -> None:
        capability = (runtime.info.capability_major, runtime.info.capability_minor)
        require(
            not many_rows or (capability == MANY_ROWS_CAPABILITY and dtype == torch.float16),
            "The kernel for many rows takes float16 on devices of compute capability 9.0 alone.",
        )
        self.runtime = runtime
        self.dtype = dtype
        self.many_rows = many_rows
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


class CudaExl2Matrix:
    """The matrix and how to decode it.

    Args:
        workspace: shared with the other matrices.
        tensors: the matrix, on any device; nothing of it is kept.

    Attributes:
        in_features: K.
        out_features: true number of outputs.
        features: [K] int32, the feature of each stored row.
        places: [K] int32, the stored row of each feature.
        bias: [out_features] float32, or None.
        widest: the largest width of its codes.
        tiled: what a plan must know of it.
        nbytes: memory it holds.

    Raises:
        CheckpointError: the group table breaks the format's rules.
        KernelArgumentError: wrong shapes or dtypes, or `q_invperm` is no permutation.
    """

    def __init__(self, workspace: Exl2Workspace, tensors: Exl2Tensors) -> None:
        self._workspace = workspace
        matrix = _moved(checked_exl2(tensors), workspace.runtime.device)
        table = tile_table(matrix.groups)
        self.in_features, self.out_features = matrix.in_features, matrix.out_features
        self.bias = matrix.bias
        self.features = torch.argsort(matrix.q_invperm).to(torch.int32)
        self.places = matrix.q_invperm.to(torch.int32)
        self.widest = matrix.groups[0].width
        self.tiled = TiledMatrix(
            [plane for plane, _, _ in table] + [matrix.q_weight.shape[0]], column_blocks(matrix.stored_outputs)
        )
        self._held = {
            "planes": pack_tiles(matrix),
            "scales": pack_scales(matrix),
            "tiles": _tile_words(table).to(workspace.runtime.device),
            "features": self.features,
        }
        self.nbytes = sum(each.nbytes for each in (*self._held.values(), self.places))
        self.nbytes += 0 if self.bias is None else self.bias.nbytes
        self._described = Exl2Matrix(
            **{name: tensor.data_ptr() for name, tensor in self._held.items()},
            bias=0 if self.bias is None else self.bias.data_ptr(),
            in_features=self.in_features,
            out_features=self.out_features,
            plane_count=matrix.q_weight.shape[0],
            groups=len(matrix.groups),
        )
        workspace.reserve(self.in_features)

    def described(self, stored_order: bool = False) -> Exl2Matrix:
        """As the kernels take it; the memory it points to is this object's.

        Args:
            stored_order: it is to be decoded into stored order.
        """
        described = Exl2Matrix.from_buffer_copy(self._described)
        if stored_order:
            described.features = 0
        return described

    def decode(self, first: int, weight: torch.Tensor, stored_order: bool = False) -> None:
        """Decode the column blocks from `first` on that fill `weight` [K, 128 · blocks], in the activations' dtype."""
        workspace = self._workspace
        stride = weight.shape[1]
        status = workspace.runtime.library.functions.quire_cuda_exl2_decode_tiles(
            workspace.runtime.stream(),
            ctypes.byref(self.described(stored_order)),
            first,
            stride // TILE_COLUMNS,
            weight.data_ptr(),
            stride,
            FLOAT_TYPES[workspace.dtype],
        )
        workspace.runtime.library.check(status)

    def decoded(self) -> torch.Tensor:
        """The weights exactly as the format defines them [K, out_features], in the activations' dtype."""
        columns = self.tiled.column_blocks * TILE_COLUMNS
        weight = torch.empty(
            self.in_features, columns, dtype=self._workspace.dtype, device=self._workspace.runtime.device
        )
        self.decode(0, weight)
        return weight[:, : self.out_features].contiguous()


def _tile_words(table: list[tuple[int, int, int]]) -> torch.Tensor:
    """The tile table as the kernels read it: int32 [tiles, 2]."""
    return torch.tensor([[plane, 256 * group + width] for plane, group, width in table], dtype=torch.int32)


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
