"""Telling a lost device from a step that merely failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.errors import DeviceError

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
