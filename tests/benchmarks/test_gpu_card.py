"""What the stages ask of the card, as far as it can be told without one."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.card import CudaCard
from benchmarks.gpu.invariance import Sizes
from engine.ops.cuda_exl2_matrix import FUSED_ROWS


def test_torch_refuses_to_wait_inside_and_does_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int | str] = [1]
    monkeypatch.setattr(torch.cuda, "Stream", object)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with CudaCard().refusing_to_wait():
        assert modes == [1, "error"]
    assert modes == [1, "error", 1]


def test_answers_are_compared_in_steps_whose_bits_do_not_depend_on_how_many_rows_they_have() -> None:
    """Steps of more rows would be multiplied by torch, whose bits do; the check would fail on a card that is right."""
    load = Sizes().load
    assert load.streams <= load.step_tokens <= FUSED_ROWS < load.prompt
