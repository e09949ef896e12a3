"""How products run on CUDA devices, as far as it can be told without one: settings of the process, and a plan."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from engine.ops.backend_memory import StepShape
from engine.ops.cublas import BESIDES_FOR_BIAS, WORKSPACE, WORKSPACE_VARIABLE, products_bytes
from engine.ops.cuda_memory import CudaMemory
from engine.ops.torch_backend import TorchBackend
from engine.ops.torch_memory import TorchMemory

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
SETTINGS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)


@pytest.fixture(autouse=True)
def _as_torch_starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything allowed, no workspace set; and as it was, afterwards."""
    matmul = torch.backends.cuda.matmul
    before = {name: getattr(matmul, name) for name in SETTINGS}
    for name in SETTINGS:
        setattr(matmul, name, True)
    monkeypatch.setenv(WORKSPACE_VARIABLE, "")
    monkeypatch.delenv(WORKSPACE_VARIABLE)
    yield
    for name, value in before.items():
        setattr(matmul, name, value)


def _allowed() -> list[bool]:
    return [getattr(torch.backends.cuda.matmul, name) for name in SETTINGS]


def test_a_backend_on_a_cuda_device_allows_no_sums_in_half_precision() -> None:
    TorchBackend("cpu")
    assert _allowed() == [True] * 3, "products on the CPU are none of its business"
    TorchBackend(CUDA, torch.float16)
    assert _allowed() == [False] * 3


def test_the_workspace_is_of_a_known_size_unless_the_user_has_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, ":16:8")
    TorchBackend(CUDA, torch.float16)
    assert products_bytes(CUDA) == (128 << 10) + BESIDES_FOR_BIAS
    monkeypatch.delenv(WORKSPACE_VARIABLE)
    TorchBackend(CUDA, torch.float16)
    monkeypatch.setattr("engine.ops.cublas.WORKSPACE", "")  # it is the variable that tells torch, and the plan
    assert products_bytes(CUDA) == (32 << 20) + BESIDES_FOR_BIAS


@pytest.mark.parametrize(
    ("config", "workspace"),
    [(":4096:2:16:8", (8 << 20) + (128 << 10)), (":0:0", 0), ("nonsense", 32 << 20), ("", 32 << 20)],
)
def test_sizes_are_read_as_torch_reads_them(monkeypatch: pytest.MonkeyPatch, config: str, workspace: int) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, config)
    assert products_bytes(CUDA) == workspace + BESIDES_FOR_BIAS
    assert WORKSPACE == ":4096:8"


def test_the_plan_has_a_place_for_it() -> None:
    step = StepShape(tokens=16, widest_input=64, num_heads=2, num_kv_heads=1, head_dim=32)
    for memory in (TorchMemory, lambda device, dtype: CudaMemory(device, dtype, processors=4)):
        planned = {device: memory(device, torch.float16).scratch(step) for device in (CUDA, CPU)}
        assert planned[CUDA] - planned[CPU] == products_bytes(CUDA) > 0
        assert products_bytes(CPU) == 0
