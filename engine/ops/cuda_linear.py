"""EXL2 matrices on a CUDA device as the model sees them, one by one and grouped, and the memory they take."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cuda_ext.exl2 import MOST_MATRICES
from engine.ops.backend_memory import Exl2Shape
from engine.ops.cuda_exl2_matrix import FUSED_ROWS, CudaExl2Matrix, Exl2Workspace
from engine.ops.cuda_exl2_product import Exl2Product, work_bytes
from engine.ops.exl2 import Exl2Tensors
from engine.ops.exl2_tiles import TILE_ROWS, column_blocks


class CudaExl2Linear:
    """One EXL2 matrix on a CUDA device; a `LinearKernel`.

    Args:
        workspace: shared with the other matrices; only one of them may run at a time.
        tensors: the matrix, on any device; nothing of it is kept.

    Attributes:
        matrix: the prepared weights.
        product: the product with them alone.

    Raises:
        CheckpointError: the group table breaks the format's rules.
        KernelArgumentError: wrong shapes or dtypes, or `q_invperm` is no permutation.
    """

    def __init__(self, workspace: Exl2Workspace, tensors: Exl2Tensors) -> None:
        self.matrix = CudaExl2Matrix(workspace, tensors)
        self.product = Exl2Product(workspace, [self.matrix])

    @property
    def in_features(self) -> int:
        return self.matrix.in_features

    @property
    def out_features(self) -> int:
        return self.matrix.out_features

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes + self.product.nbytes

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        self.product.multiply(x, (out,))


class CudaExl2Group:
    """EXL2 matrices with the same inputs in the same stored order; a `GroupKernel`.

    float16 inputs are taken in stored order, which spares the step that would bring them into it; bfloat16 ones need
    such a step in any case, which scales them.

    Args:
        workspace: shared with all matrices.
        kernels: of the matrices.
    """

    def __init__(self, workspace: Exl2Workspace, kernels: Sequence[CudaExl2Linear]) -> None:
        self._kernels = tuple(kernels)
        alone = len(self._kernels) == 1
        self._product = kernels[0].product if alone else Exl2Product(workspace, [each.matrix for each in kernels])
        self._nbytes = 0 if alone else self._product.nbytes
        self._ordered = workspace.dtype == torch.float16

    @property
    def kernels(self) -> tuple[CudaExl2Linear, ...]:
        return self._kernels

    @property
    def input_order(self) -> torch.Tensor | None:
        return self._kernels[0].matrix.features if self._ordered else None

    @property
    def input_places(self) -> torch.Tensor | None:
        return self._kernels[0].matrix.places if self._ordered else None

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def __call__(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        if self._ordered:
            self._product.multiply_ordered(x, outs)
        else:
            self._product.multiply(x, outs)


def group_exl2(workspace: Exl2Workspace, kernels: Sequence[object]) -> CudaExl2Group | None:
    """The kernels as a group, or None if they cannot be one: not all are EXL2, or they store their rows differently."""
    exl2 = [kernel for kernel in kernels if isinstance(kernel, CudaExl2Linear)]
    if len(exl2) < len(kernels) or not 1 <= len(exl2) <= MOST_MATRICES:
        return None
    features = exl2[0].matrix.features
    if not all(torch.equal(each.matrix.features, features) for each in exl2[1:]):
        return None
    return CudaExl2Group(workspace, exl2)


def held_bytes(shape: Exl2Shape, processors: int) -> int:
    """What a matrix will hold: its kernel's `nbytes`."""
    blocks, tiles = column_blocks(shape.out_features), shape.in_features // TILE_ROWS
    weights = blocks * (512 * shape.words + 80 * shape.groups) + 8 * shape.in_features + 8 * tiles
    bias = 4 * shape.out_features if shape.bias else 0
    return weights + bias + work_bytes(blocks, blocks * tiles, processors)


def group_bytes(shapes: Sequence[Exl2Shape], processors: int) -> int:
    """What a group of such matrices will hold besides: its `nbytes`."""
    if not 1 < len(shapes) <= MOST_MATRICES:
        return 0
    blocks = [column_blocks(shape.out_features) for shape in shapes]
    tiles = sum(each * shape.in_features // TILE_ROWS for each, shape in zip(blocks, shapes, strict=True))
    return work_bytes(sum(blocks), tiles, processors)


def inputs_bytes(widest_input: int) -> int:
    """What an `Exl2Workspace` grows by when matrices are loaded."""
    return FUSED_ROWS * widest_input * torch.float16.itemsize
