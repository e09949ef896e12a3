"""Measuring the head: in the unit of the other matrices, without changing the model."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.divergence import kl_divergence
from quantize.exl2.encode import padded_columns
from quantize.gptq import quantize_matrix
from quantize.hessian import InputMoments, factor_hessian
from quantize.measure_head import DamageCurve
from quantize.recipe import DEFAULT
from quantize.source_model import open_source
from tests.quantize.models import NoProgress, write_dense_model


def test_damage_predicted_for_the_head_is_what_it_does(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    source = open_source(Checkpoint.open(model), load_config(model), TorchBackend(), 48, tmp_path)
    rows = torch.randint(2, 250, (6, 48), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    assert DEFAULT.measure_head is not None
    choices = DEFAULT.measure_head(source, rows, NoProgress())
    assert choices.names == (source.head_name,)
    for smaller, larger in pairwise(choices.options):
        assert smaller.bits < larger.bits
        assert smaller.error > larger.error > 0
    assert not (tmp_path / "head.f32").exists()

    output, streams = source.model.output(), source.model.run(tmp_path / "rows.f32", rows, lambda: None)
    inputs = torch.cat([streams.read(row) for row in range(len(rows))])
    moments = InputMoments("head")
    for row in range(len(rows)):
        moments.add(output.inputs(streams.read(row)))
    weight = source.weight(source.head_name)
    option = min(choices.options, key=lambda each: abs(each.bits / choices.weights - 4.5))
    factor = factor_hessian(moments.hessian(), "head")
    quantized = quantize_matrix(padded_columns(weight), factor, option.layouts[0], DEFAULT.search)
    reference = output.log_probabilities(inputs)
    output.head.kernel = TorchBackend().prepare_dense(quantized.weight[:, : weight.shape[1]].T.contiguous(), None)
    divergence = float(kl_divergence(reference, output.log_probabilities(inputs)).mean())
    assert divergence == pytest.approx(option.error, rel=0.5)


def test_damage_goes_through_both_probes_and_falls_to_nothing() -> None:
    curve = DamageCurve((8.0, 0.9), (2.0, 0.1))
    assert curve(8.0) == pytest.approx(0.9)
    assert curve(2.0) == pytest.approx(0.1)
    assert curve(1.0) == pytest.approx(0.05)  # in proportion where errors are small
    assert 0.1 < curve(4.0) < 0.9 < curve(16.0)
    assert curve(0.0) == 0


def test_probes_that_say_nothing_leave_damage_in_proportion() -> None:
    assert DamageCurve((2.0, 0.1), (1.0, 0.2))(3.0) == pytest.approx(0.6)
    assert DamageCurve((0.0, 0.0), (0.0, 0.0))(1.0) == 0
