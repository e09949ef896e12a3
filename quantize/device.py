"""The device a job computes on."""

from __future__ import annotations

import torch

from engine.config import Device
from engine.errors import CapacityError, ConfigError
from engine.free_memory import free_memory

CUDA = "cuda"


def require_device(device: Device) -> None:
    """Refuse a device that is not there.

    Raises:
        ConfigError: it is not.
    """
    if device == CUDA and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no CUDA device here; set it to 'cpu' or 'auto'.")


def free_device_memory(device: Device) -> int | None:
    """Bytes of memory that a job may take there; None where the system does not tell."""
    if device == CUDA:
        return int(torch.cuda.mem_get_info()[0])
    try:
        return free_memory()
    except CapacityError:
        return None
