"""Probe: the CUDA library, loaded, and onto the GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.errors import DeviceError, NativeLibraryError
from engine.ops.cuda_library import (
    CudaLibrary,
    describe_cuda_library,
    has_cuda_device,
    is_built,
    try_cuda_kernels,
)
from quire.doctor.finding import Finding, ok, problem, warning

LIBRARY = "CUDA library"
KERNELS = "CUDA kernels"


def check(_arguments: Sequence[str]) -> Iterator[Finding]:
    """Load the library and its kernels; takes no arguments. Without a GPU its absence is no fault."""
    gpu = has_cuda_device()
    if not gpu and not is_built():
        yield ok(LIBRARY, "not built, and none is needed: torch sees no GPU")
        return
    try:
        yield judge_library(describe_cuda_library(), gpu)
        if gpu:
            yield ok(KERNELS, f"{try_cuda_kernels()}: all of them are loaded onto the GPU")
    except NativeLibraryError as missing:
        yield warning(LIBRARY, str(missing), "Until then the GPU computes with torch, many times slower.")
    except DeviceError as failed:
        yield problem(
            KERNELS,
            f"the GPU does not take them: {failed}",
            "Build them for this GPU: make cuda. Until then: quire serve --kernels torch.",
        )


def judge_library(library: CudaLibrary, gpu: bool) -> Finding:
    """Whether library and driver get on."""
    needed = _major(library.built_for)
    driver = f"the one here runs CUDA up to {library.driver}" if library.driver else "there is none here"
    built = f"built with CUDA {library.built_for}, needs a driver for CUDA {needed}"
    fact = f"{library.path}, interface {library.abi}, {built}: {driver}"
    if gpu and library.driver and _major(library.driver) < needed:
        return problem(LIBRARY, fact, f"Install a driver for CUDA {needed}, or build with an older toolkit: make cuda.")
    return ok(LIBRARY, fact)


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdigit() else 0
