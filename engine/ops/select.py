"""Which kernels to run on: decided once, when a model is loaded."""

from __future__ import annotations

import logging

import torch

from engine.errors import ConfigError, NativeLibraryError
from engine.ops.backend import Backend
from engine.ops.cpu_backend import CpuBackend
from engine.ops.cpu_count import usable_cores
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_runtime import CudaRuntime
from engine.ops.torch_backend import TorchBackend

logger = logging.getLogger(__name__)


def select_backend(device: str, kernels: str, threads: int) -> Backend:
    """The backend for a device and a choice of kernels, as in `EngineConfig`.

    Args:
        device: `cpu`, `cuda`, or `auto`, which means `cpu` as long as the CUDA kernels have run on no GPU.
        kernels: `native`, `torch`, or `auto`, which takes native ones where they load and else tells the log why not.
        threads: CPU threads; 0 means one per physical core this process may use.

    Raises:
        ConfigError: `cuda` is asked for where torch has no CUDA device.
        NativeLibraryError: `native` is asked for and there is no such library for the device.
        DeviceError: the CUDA device does not answer.
        CapacityError: the system does not give that many threads.
    """
    if device == "cuda":
        return _cuda_backend(kernels)
    threads = threads or usable_cores()
    if kernels == "torch":
        return TorchBackend("cpu", threads=threads)
    try:
        return CpuBackend(threads)
    except NativeLibraryError as error:
        if kernels == "native":
            raise
        logger.warning("Running on the torch kernels, which are slow. %s", error)
        return TorchBackend("cpu", threads=threads)


def _cuda_backend(kernels: str) -> Backend:
    if not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no CUDA device here; set it to 'cpu' or 'auto'.")
    if kernels == "torch":
        return TorchBackend("cuda", torch.float16)
    try:
        return CudaBackend(CudaRuntime())
    except NativeLibraryError as error:
        if kernels == "native":
            raise
        logger.warning("Running on the torch kernels, which are slow. %s", error)
        return TorchBackend("cuda", torch.float16)
