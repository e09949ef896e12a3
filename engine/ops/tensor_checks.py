"""Checks in front of native code, which trusts what it is given: a wrong shape there is a crash, not an exception."""

from __future__ import annotations

import torch

from engine.errors import KernelArgumentError

CPU = torch.device("cpu")

FLOAT_TYPES: dict[torch.dtype, int] = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
"""Element types of weights, tables and caches, with their number in the native interface."""


def require_tensor(
    name: str, tensor: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device = CPU
) -> None:
    """Check that a tensor is contiguous, of this dtype and shape, and on this kind of device.

    Raises:
        KernelArgumentError: it is not; the message names it.
    """
    there = tensor.device.type == device.type
    if tensor.dtype is dtype and tensor.shape == shape and tensor.is_contiguous() and there:
        return
    layout = "contiguous" if tensor.is_contiguous() else "not contiguous"
    raise KernelArgumentError(
        f"{name} must be a contiguous {dtype} tensor of shape {list(shape)} on {device.type}; "
        f"it is {tensor.dtype}, {list(tensor.shape)}, {layout}, on {tensor.device}."
    )


def require_float_tensor(name: str, tensor: torch.Tensor, shape: tuple[int, ...], device: torch.device = CPU) -> int:
    """Like `require_tensor`, for any of FLOAT_TYPES; returns the number of the type.

    Raises:
        KernelArgumentError: it is not such a tensor.
    """
    number = FLOAT_TYPES.get(tensor.dtype)
    if number is None:
        raise KernelArgumentError(f"{name} must be float16, bfloat16 or float32, not {tensor.dtype}.")
    require_tensor(name, tensor, tensor.dtype, shape, device)
    return number


def require_indices(name: str, indices: torch.Tensor, limit: int) -> None:
    """Check that every entry of an index tensor is at least 0 and below `limit`. On a device it waits for the tensor.

    Raises:
        KernelArgumentError: one is not; the message names the tensor and the entry.
    """
    if not indices.numel():
        return
    low, high = (int(each) for each in torch.aminmax(indices))
    if low < 0 or high >= limit:
        raise KernelArgumentError(f"{name} holds {low if low < 0 else high}; it must lie within 0 and {limit - 1}.")


def require(condition: bool, message: str) -> None:
    """Check anything else.

    Raises:
        KernelArgumentError: the condition does not hold.
    """
    if not condition:
        raise KernelArgumentError(message)
