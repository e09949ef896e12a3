"""Telling tensors of the job's device from those of the host on a machine that has only one device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

FACTORIES = frozenset(
    {torch.tensor, torch.empty, torch.zeros, torch.ones, torch.full, torch.arange, torch.linspace, torch.logspace}
    | {torch.rand, torch.randn, torch.randint, torch.randperm, torch.from_file}
)
MOVES = frozenset({torch.Tensor.to, torch.Tensor.copy_, torch.Tensor.__getitem__, torch.Tensor.cpu, torch.Tensor.numpy})
"""Where tensors of both may meet; an index of the host is taken by tensors of any device."""


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, taken to be in the host's memory."""
    tensor.of_host = True  # type: ignore[attr-defined]
    return tensor


class TwoDevices(TorchFunctionMode):
    """Fails where a tensor of the host meets one of the device, as torch does on a GPU.

    What is made without naming a device, and what was marked by `on_host`, is the host's. Everything else is the
    device's: what follows from its tensors, and what was moved there by name.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") in ("__get__", "__set__"):  # properties
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name not in ("T", "data", "mT"):
                return result
        found = list(_tensors((args, kwargs)))
        hosts = [each for each in found if hasattr(each, "of_host")]
        sized = [each for each in found if each.dim()]  # those without dimensions may be anywhere
        if func not in MOVES and len({hasattr(each, "of_host") for each in sized}) > 1:
            raise AssertionError(f"{func} has tensors of the host and of the device: {[each.shape for each in sized]}")
        if func in (torch.Tensor.to, torch.Tensor.cpu) and result is args[0]:
            result = result.view_as(result)  # where it really was on another device there would be two
        if _is_host(func, args, kwargs, found, hosts):
            for each in _tensors(result):
                on_host(each)
        return result


def _is_host(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    found: list[torch.Tensor],
    hosts: list[torch.Tensor],
) -> bool:
    if func in FACTORIES:
        return kwargs.get("device") is None
    if func is torch.Tensor.cpu:
        return True
    if func is torch.Tensor.to and (kwargs.get("device") or any(isinstance(each, torch.device) for each in args)):
        return False
    if func in (torch.Tensor.__getitem__, torch.Tensor.copy_):
        return hasattr(args[0], "of_host")
    return bool(hosts) and len(hosts) == len(found)


def _tensors(value: object) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
