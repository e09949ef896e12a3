"""What the doctor says of the CUDA library."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import DeviceError, NativeLibraryError
from engine.ops.cuda_library import CudaLibrary
from quire.doctor import cuda_probe
from quire.doctor.finding import Finding


def look(
    monkeypatch: pytest.MonkeyPatch,
    *,
    gpu: bool,
    library: CudaLibrary | None,
    refusal: str = "",
) -> list[Finding]:
    def describe() -> CudaLibrary:
        if library is None:
            raise NativeLibraryError("The CUDA library is not built. Run `make cuda`")
        return library

    def load() -> str:
        if refusal:
            raise DeviceError(refusal)
        return "cuda-sm90"

    monkeypatch.setattr(cuda_probe, "has_cuda_device", lambda: gpu)
    monkeypatch.setattr(cuda_probe, "is_built", lambda: library is not None)
    monkeypatch.setattr(cuda_probe, "describe_cuda_library", describe)
    monkeypatch.setattr(cuda_probe, "try_cuda_kernels", load)
    return list(cuda_probe.check([]))


BUILT = CudaLibrary(Path("lib.so"), 1, "13.0", "13.0")


def test_no_gpu_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = look(monkeypatch, gpu=False, library=None)
    assert (finding.level, "none is needed" in finding.fact) == ("ok", True)


def test_a_gpu_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = look(monkeypatch, gpu=True, library=None)
    assert (finding.level, "make cuda" in finding.fact) == ("warning", True)


def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    library, kernels = look(monkeypatch, gpu=True, library=BUILT)
    assert (library.level, "needs a driver for CUDA 13: the one here runs CUDA up to 13.0" in library.fact) == (
        "ok",
        True,
    )
    assert (kernels.level, "cuda-sm90" in kernels.fact) == ("ok", True)


def test_a_library_without_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = look(monkeypatch, gpu=False, library=CudaLibrary(Path("lib.so"), 1, "13.0", None))
    assert (finding.level, "there is none here" in finding.fact) == ("ok", True)


def test_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    library, _ = look(monkeypatch, gpu=True, library=CudaLibrary(Path("lib.so"), 1, "13.0", "12.4"))
    assert (library.level, "driver for CUDA 13" in library.advice) == ("problem", True)


def test_a_gpu_there_is_no_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, kernels = look(monkeypatch, gpu=True, library=BUILT, refusal="CUDA error: no kernel image")
    assert (kernels.level, "no kernel image" in kernels.fact) == ("problem", True)
