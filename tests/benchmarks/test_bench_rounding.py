"""Rounding as llama.cpp does it: what may be stored, and no more error than its step allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.bench_rounding import ROUNDINGS, round_q6_k, write_rounded
from tests.quantize.models import write_dense_model

WEIGHT = torch.randn(8, 512, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "values", "step"), [("Q8_0", 255, 1 / 254), ("Q5_0", 32, 1 / 16), ("Q4_0", 16, 1 / 8)]
)
def test_blocks_have_few_values_close_to_the_weights(name: str, values: int, step: float) -> None:
    rounded = ROUNDINGS[name](WEIGHT)
    for block, found in zip(WEIGHT.reshape(-1, 32), rounded.reshape(-1, 32), strict=True):
        assert (block - found).abs().max() <= 1.15 * step * block.abs().max()
        units = found / (found.abs().max() / (values // 2))
        assert torch.allclose(units, units.round(), atol=1e-3)
    assert torch.equal(ROUNDINGS[name](torch.zeros(1, 64)), torch.zeros(1, 64))


def test_six_bits_are_closer_than_five_and_farther_than_eight() -> None:
    errors = [float((rounded - WEIGHT).norm()) for rounded in (ROUNDINGS["Q8_0"](WEIGHT), round_q6_k(WEIGHT))]
    assert 2 * errors[0] < errors[1] < 0.6 * float((ROUNDINGS["Q5_0"](WEIGHT) - WEIGHT).norm())
    assert torch.equal(round_q6_k(torch.zeros(1, 256)), torch.zeros(1, 256))


def test_matrices_are_rounded_and_nothing_else(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    (tmp_path / "out").mkdir()
    write_rounded(model, "Q4_0", tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "out"))
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        wanted = tensor.float()
        if tensor.ndim == 2:
            wanted = ROUNDINGS["Q4_0" if ".layers." in key else "Q8_0"](tensor)
        assert torch.equal(after[key], wanted)
