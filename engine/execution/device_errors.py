"""Telling a lost device, and one that is full, from whatever else goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.errors import CapacityError, DeviceError

_SIGNS = ("CUDA error", "HIP error")
"""How PyTorch, and our own kernels, begin the message of an error that the device reported."""


@contextmanager
def naming_device_errors() -> Iterator[None]:
    """Raise `DeviceError` for what a device reported; whatever else goes wrong passes as it is.

    After an illegal access or a failed assertion in a kernel every further call fails in this process. A few errors
    that PyTorch reports in the same way could be survived; they too are a fault of ours, and rare. Lack of memory has a
    class of its own there and is none of them.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.AcceleratorError) or str(error).startswith(_SIGNS):
            raise DeviceError(f"The device failed: {str(error).partition(chr(10))[0]}.") from error
        raise


@contextmanager
def naming_lack_of_memory() -> Iterator[None]:
    """Raise `CapacityError` where a device is full while an engine is built, although everything was planned to fit."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CapacityError(
            f"The device ran out of memory while the engine was built ({str(error).partition(' GPU ')[0]}). End what "
            "else takes memory there, or lower kv_cache_tokens (memory_fraction, where that is 0), max_num_seqs or "
            "max_num_batched_tokens."
        ) from error
