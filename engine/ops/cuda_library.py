"""The CUDA library as an installation has it: where it is, what it needs, and what it runs on here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cuda_ext.loader import ABI_VERSION, LIBRARY_PATH, load_library
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_runtime import CudaRuntime


@dataclass(frozen=True, slots=True)
class CudaLibrary:
    """A library that loads.

    Attributes:
        path: its file.
        abi: version of its interface.
        built_for: CUDA version it is built with; it needs a driver for the same major version.
        driver: newest CUDA version the driver can run; None where there is no driver.
    """

    path: Path
    abi: int
    built_for: str
    driver: str | None


def is_built() -> bool:
    """Whether there is a library at all."""
    return LIBRARY_PATH.is_file()


def has_cuda_device() -> bool:
    """Whether torch sees a GPU."""
    return torch.cuda.is_available()


def describe_cuda_library() -> CudaLibrary:
    """Load the library and ask it.

    Raises:
        NativeLibraryError: it is not built or does not load here; the message says what to do.
    """
    library = load_library()
    return CudaLibrary(library.path, ABI_VERSION, library.built_for or "unknown", library.driver_version)


def try_cuda_kernels() -> str:
    """Load every kernel onto the current device; which kernels would be used, e.g. `cuda-sm90`.

    Raises:
        NativeLibraryError: the library is not built or does not load here.
        DeviceError: the device does not answer, or there is no code for it in the library.
    """
    return CudaBackend(CudaRuntime(), workspace_bytes=0).name
