"""Holds an EXL2 matrix to its shapes before it reaches native code."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.ops.exl2 import CODES_PER_SCALE_WORD, ROW_MULTIPLE, Exl2Tensors, permutation_fault
from engine.ops.tensor_checks import require, require_tensor


def checked_exl2(tensors: Exl2Tensors) -> Exl2Tensors:
    """The same matrix, every tensor contiguous and of the right type and shape; the bias float32, of the true outputs.

    Raises:
        CheckpointError: the group table breaks the format's rules.
        KernelArgumentError: wrong shapes or dtypes, or `q_invperm` is no permutation.
    """
    words, stored = tensors.q_weight.shape
    groups = tensors.groups
    in_features = sum(group.rows for group in groups)
    require(stored % ROW_MULTIPLE == 0, f"q_weight has {stored} columns, no multiple of {ROW_MULTIPLE}.")
    require(
        0 < tensors.out_features <= stored, f"{tensors.out_features} outputs do not fit q_weight's {stored} columns."
    )
    checked = replace(
        tensors,
        q_weight=_checked("q_weight", tensors.q_weight, torch.int32, (words, stored)),
        q_invperm=_checked("q_invperm", tensors.q_invperm, torch.int32, (in_features,)),
        q_scale=_checked("q_scale", tensors.q_scale, torch.int32, (len(groups), stored // CODES_PER_SCALE_WORD)),
        q_scale_max=_checked("q_scale_max", tensors.q_scale_max, torch.float16, (len(groups),)),
        q_groups=_checked("q_groups", tensors.q_groups, torch.int16, (2 * len(groups),)),
        bias=float32_bias(tensors.bias, tensors.out_features),
    )
    fault = permutation_fault(checked.q_invperm)
    require(fault is None, f"q_invperm: {fault}.")
    return checked


def float32_bias(bias: torch.Tensor | None, out_features: int) -> torch.Tensor | None:
    """The bias of the true outputs; an EXL2 bias is as long as the stored ones.

    Raises:
        KernelArgumentError: it is too short, or no vector.
    """
    if bias is None:
        return None
    require(
        bias.dim() == 1 and bias.shape[0] >= out_features,
        f"bias must hold one number for each of {out_features} outputs; its shape is {list(bias.shape)}.",
    )
    return bias[:out_features].to(torch.float32).contiguous()


def _checked(name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    tensor = tensor.contiguous()
    require_tensor(name, tensor, dtype, shape, tensor.device)
    return tensor
