"""What counts as a lost device."""

from __future__ import annotations

import pytest
import torch

from engine.errors import CapacityError, DeviceError
from engine.execution.device_errors import naming_device_errors, naming_lack_of_memory

LOST = [
    RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("HIP error: the operation cannot be performed"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
]
SURVIVED = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("shape mismatch"),
    ValueError("CUDA error: not from a device"),
]


@pytest.mark.parametrize("error", LOST, ids=str)
def test_what_the_device_reports_is_a_lost_device(error: Exception) -> None:
    with pytest.raises(DeviceError) as caught, naming_device_errors():
        raise error
    assert str(caught.value) == f"The device failed: {str(error).splitlines()[0]}."
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", SURVIVED, ids=str)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, naming_device_errors():
        raise error
    assert caught.value is error


def test_a_full_device_is_told_with_what_to_do() -> None:
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB")
    wanted = r"\(CUDA out of memory. Tried to allocate 2.00 GiB.\).* kv_cache_tokens"
    with pytest.raises(CapacityError, match=wanted), naming_lack_of_memory():
        raise full
