"""A device that the CUDA kernels run on: the opened library, which device it is, and the stream to use."""

from __future__ import annotations

from typing import Protocol

import torch

from cuda_ext.loader import DeviceInfo, Library, load_library
from engine.ops.cuda_step_device import CudaStepDevice
from engine.ops.step_device import StepDevice


class Runtime(Protocol):
    """What a backend needs of a device; the tests have one whose kernels are emulated on the CPU."""

    @property
    def library(self) -> Library: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def info(self) -> DeviceInfo: ...

    def stream(self) -> int:
        """Handle of the stream that kernels are to run on now."""
        ...

    def steps(self) -> StepDevice:
        """The device as one that is given whole steps, with a stream of their own."""
        ...


class CudaRuntime:
    """The current CUDA device, with every kernel loaded onto it; kernels run on torch's current stream.

    Raises:
        NativeLibraryError: the library is missing or does not match.
        DeviceError: the device does not answer, or the library has no kernels for it.
    """

    def __init__(self) -> None:
        self._library = load_library()
        index = torch.cuda.current_device()
        self._device = torch.device("cuda", index)
        self._info = self._library.device_info(index)
        self._library.check(self._library.functions.quire_cuda_init(index))

    @property
    def library(self) -> Library:
        return self._library

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def info(self) -> DeviceInfo:
        return self._info

    def stream(self) -> int:
        return torch.cuda.current_stream(self._device).cuda_stream

    def steps(self) -> StepDevice:
        return CudaStepDevice(self._device)
