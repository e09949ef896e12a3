"""Backends over the emulated device."""

from __future__ import annotations

import pytest
import torch

from engine.ops.cuda_backend import CudaBackend
from tests.emulation.device import EmulatedRuntime


@pytest.fixture(scope="session", params=[torch.float16, torch.bfloat16], ids=str)
def backend(request: pytest.FixtureRequest, emulated: EmulatedRuntime) -> CudaBackend:
    """A backend of each activation type."""
    return CudaBackend(emulated, request.param)
