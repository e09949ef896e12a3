"""The backends every parity test runs on."""

from __future__ import annotations

import pytest

from engine.errors import NativeLibraryError
from engine.ops.backend import Backend
from engine.ops.cpu_backend import CpuBackend
from engine.ops.torch_backend import TorchBackend


@pytest.fixture(params=["torch", "native"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The torch reference, and the native CPU library where it is built."""
    if request.param == "torch":
        return TorchBackend()
    try:
        return CpuBackend(threads=2)
    except NativeLibraryError as error:
        pytest.skip(f"no native library: {error}")
