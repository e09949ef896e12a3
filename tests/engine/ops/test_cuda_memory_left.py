"""How much of a CUDA device is free: what torch keeps for later is nobody's, and counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from engine.ops.cuda_step_device import CudaStepDevice
from engine.ops.torch_memory import TorchMemory

FREE, KEPT = 3 << 30, 1 << 30


class Card:
    """A card most of whose memory is taken, some of it by a torch that only keeps it."""

    def __init__(self) -> None:
        self.kept = KEPT

    def empty_cache(self) -> None:
        self.kept = 0

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return FREE - self.kept, 8 << 30


def of_the_plan() -> int:
    return TorchMemory(torch.device("cuda", 0), torch.float16).free()


def of_the_steps() -> int:
    return CudaStepDevice(torch.device("cuda", 0)).free_bytes()


@pytest.mark.parametrize("free", [of_the_plan, of_the_steps])
def test_what_torch_keeps_is_free(free: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card()
    monkeypatch.setattr(torch.cuda, "Stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", card.empty_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", card.mem_get_info)
    assert free() == FREE
