"""Weight matrices in the layout of the native CPU kernels."""

from __future__ import annotations

import torch

from cpu_ext.context import Context, check, release_with
from engine.errors import CapacityError
from engine.ops.exl2 import Exl2Tensors
from engine.ops.exl2_checks import checked_exl2, float32_bias
from engine.ops.tensor_checks import require, require_float_tensor, require_tensor


class CpuLinear:
    """One matrix held by the native library; a `LinearKernel`.

    Args:
        context: what computes.
        handle: the `quire_linear`, owned by this object from now on.
        in_features: K.
        out_features: N.
    """

    def __init__(self, context: Context, handle: int, in_features: int, out_features: int) -> None:
        self._context = context
        self._handle = handle
        self._in_features = in_features
        self._out_features = out_features
        release_with(self, context.functions.quire_linear_destroy, handle)

    @property
    def in_features(self) -> int:
        return self._in_features

    @property
    def out_features(self) -> int:
        return self._out_features

    @property
    def nbytes(self) -> int:
        return int(self._context.functions.quire_linear_nbytes(self._handle))

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        rows = x.shape[0]
        require_tensor("x", x, torch.float32, (rows, self._in_features))
        require_tensor("out", out, torch.float32, (rows, self._out_features))
        context = self._context
        check(context.functions.quire_linear_apply(context.handle, self._handle, x.data_ptr(), rows, out.data_ptr()))


def prepare_dense(context: Context, weight: torch.Tensor, bias: torch.Tensor | None) -> CpuLinear:
    """Copy `weight` [out, in] into kernel layout, in its own dtype.

    Raises:
        KernelArgumentError: wrong shapes or dtypes.
        CapacityError: not enough memory.
    """
    require(weight.dim() == 2 and weight.numel() > 0, f"weight must be a matrix that is not empty, not {weight.shape}.")
    out_features, in_features = weight.shape
    weight = weight.contiguous()
    dtype = require_float_tensor("weight", weight, (out_features, in_features))
    bias = float32_bias(bias, out_features)
    handle = context.functions.quire_dense_create(
        context.handle, weight.data_ptr(), dtype, in_features, out_features, bias.data_ptr() if bias is not None else 0
    )
    return CpuLinear(context, _require_memory(handle, in_features, out_features), in_features, out_features)


def prepare_exl2(context: Context, tensors: Exl2Tensors) -> CpuLinear:
    """Copy an EXL2 matrix into kernel layout: codes keep their width, scales are expanded to halves.

    Raises:
        CheckpointError: the group table breaks the format's rules.
        KernelArgumentError: wrong shapes or dtypes, or `q_invperm` is no permutation.
        CapacityError: not enough memory.
    """
    matrix = checked_exl2(tensors)
    words, stored = matrix.q_weight.shape
    groups = len(matrix.q_scale_max)
    in_features = matrix.in_features
    sources = (matrix.q_weight, matrix.q_invperm, matrix.q_scale, matrix.q_scale_max, matrix.q_groups)
    for source in sources:
        require(source.is_cpu, f"The tensors of a matrix for the CPU must be there, not on {source.device}.")
    handle = context.functions.quire_exl2_create(
        context.handle,
        *(source.data_ptr() for source in sources),
        in_features,
        stored,
        groups,
        words,
        matrix.out_features,
        matrix.prescale,
        matrix.bias.data_ptr() if matrix.bias is not None else 0,
    )
    return CpuLinear(
        context, _require_memory(handle, in_features, tensors.out_features), in_features, tensors.out_features
    )


def _require_memory(handle: int | None, in_features: int, out_features: int) -> int:
    if not handle:
        raise CapacityError(
            f"Not enough memory to hold a weight matrix of {in_features} inputs and {out_features} outputs."
        )
    return handle
