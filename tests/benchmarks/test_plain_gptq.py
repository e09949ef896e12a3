"""Plain GPTQ, which the quantizer's cost is measured against: one width for all matrices, and nothing searched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.bench_quantizer import Quiet
from benchmarks.plain_gptq import PLAIN_GPTQ, LargestWeights
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.exl2.allocate import plan_of
from quantize.padding import open_padded, padded_config
from quantize.source_model import open_source
from tests.quantize.models import write_dense_model


@pytest.mark.parametrize(("asked", "width"), [(4.0, 4), (4.9, 4), (5.0, 5), (7.9, 6), (2.0, 2)])
def test_every_matrix_gets_the_same_width(tmp_path: Path, asked: float, width: int) -> None:
    model = write_dense_model(tmp_path / "model")
    config = load_config(model)
    source = open_source(open_padded(model, config), padded_config(config), TorchBackend(), 32, tmp_path)
    choices = PLAIN_GPTQ.measure(source, torch.zeros(1, 32, dtype=torch.int32), Quiet())
    plan = plan_of(choices, PLAIN_GPTQ.allocate(choices, asked, 0))
    assert len(plan) == 14
    assert {group.bits for groups in plan.values() for group in groups} == {width}


def test_scales_follow_from_the_largest_weights() -> None:
    """The largest of all just fits; columns with smaller ones get no larger steps."""
    rows = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    scales = LargestWeights()(rows, 6, torch.ones(64))
    largest = rows.abs().amax(0)
    assert int(scales.codes.max()) == 15
    assert bool((scales.steps[largest.argsort()].diff() >= 0).all())
    assert float(scales.steps.max()) == pytest.approx(float(largest.max()) / 31.5, rel=2e-3)
