"""Which backend is chosen, and that the choice explains itself."""

from __future__ import annotations

import pytest
import torch

from engine.errors import CapacityError, ConfigError, NativeLibraryError
from engine.ops import select
from engine.ops.cuda_backend import CudaBackend
from engine.ops.torch_backend import TorchBackend
from tests.emulation.device import EmulatedRuntime


class MissingLibrary:
    """A native backend whose library is not built."""

    def __init__(self, threads: int) -> None:
        raise NativeLibraryError("libquire_cpu.so is not built")


class PresentLibrary:
    """A native backend that loads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads


@pytest.fixture(autouse=True)
def _keep_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_native_kernels_are_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "CpuBackend", PresentLibrary)
    monkeypatch.setattr(select, "usable_cores", lambda: 5)
    for device in ("auto", "cpu"):
        backend = select.select_backend(device, "auto", 0)
        assert isinstance(backend, PresentLibrary)
        assert backend.threads == 5
    assert select.select_backend("cpu", "native", 3).threads == 3
    assert isinstance(select.select_backend("cpu", "torch", 1), TorchBackend)


def test_without_the_library_torch_answers_and_the_log_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(select, "CpuBackend", MissingLibrary)
    backend = select.select_backend("cpu", "auto", 1)
    assert isinstance(backend, TorchBackend)
    assert backend.name == "torch"  # clients see it, and paths are none of theirs
    assert "libquire_cpu.so is not built" in caplog.text
    assert backend.threads == 1
    with pytest.raises(NativeLibraryError, match="is not built"):
        select.select_backend("cpu", "native", 1)


def test_threads_that_cannot_be_had_are_no_reason_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(threads: int) -> TorchBackend:
        raise CapacityError(f"Could not start {threads} kernel threads")

    monkeypatch.setattr(select, "CpuBackend", refuse)
    with pytest.raises(CapacityError, match="1000 kernel threads"):
        select.select_backend("cpu", "auto", 1000)


def test_cuda(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        select.select_backend("cuda", "auto", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def missing() -> None:
        raise NativeLibraryError("The CUDA library is not built")

    monkeypatch.setattr(select, "CudaRuntime", missing)
    with pytest.raises(NativeLibraryError, match="CUDA library is not built"):
        select.select_backend("cuda", "native", 0)
    for kernels in ("auto", "torch"):
        backend = select.select_backend("cuda", kernels, 0)
        assert isinstance(backend, TorchBackend)
        assert (backend.device.type, backend.activation_dtype) == ("cuda", torch.float16)
    assert caplog.text.count("The CUDA library is not built") == 1


def test_cuda_kernels_are_preferred(monkeypatch: pytest.MonkeyPatch, emulated: EmulatedRuntime) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(select, "CudaRuntime", lambda: emulated)
    for kernels in ("auto", "native"):
        backend = select.select_backend("cuda", kernels, 0)
        assert isinstance(backend, CudaBackend)
        assert (backend.name, backend.activation_dtype) == ("cuda-sm90", torch.float16)
