"""The sensitivity probe measures a model without changing it, and predicts what a quantized matrix costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.transformer import DecoderLayer
from engine.ops.torch_backend import TorchBackend
from quantize.divergence import kl_divergence
from quantize.gptq import quantize_matrix
from quantize.half_layer import halves, whole_row
from quantize.hessian import InputMoments, factor_hessian
from quantize.measure import DamageCurve, SensitivityProbe
from quantize.recipe import DEFAULT
from quantize.source_model import SourceModel, open_source
from tests.quantize.models import NoProgress, write_dense_model


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    model = write_dense_model(tmp_path)
    return open_source(Checkpoint.open(model), load_config(model), TorchBackend(), 64, tmp_path)


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randint(2, 250, (6, 48), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


def _log_probabilities(source: SourceModel, rows: torch.Tensor, first: DecoderLayer | None = None) -> torch.Tensor:
    """Of the model, or of one with another `first` layer."""
    outputs = []
    for row in rows:
        stream = source.model.embed(row)
        layers = list(source.model.layers)
        for layer in [first or layers[0], *layers[1:]]:
            layer.forward(stream, *whole_row(stream))
        outputs.append(source.model.output().log_probabilities(stream))
    return torch.stack(outputs)


def test_every_matrix_is_measured_and_none_is_changed(source: SourceModel, rows: torch.Tensor) -> None:
    before = _log_probabilities(source, rows)
    choices = SensitivityProbe(source, rows, DEFAULT.search, NoProgress()).measure()
    assert torch.equal(_log_probabilities(source, rows), before)
    assert [name for each in choices for name in each.names] == list(source.shapes)[:-1]
    assert all(option.error > 0 for each in choices for option in each.options)
    assert all(each.weights == source.weight(each.names[0]).numel() for each in choices)


def test_damage_predicted_for_a_matrix_is_what_it_does(source: SourceModel, rows: torch.Tensor) -> None:
    reference = _log_probabilities(source, rows)
    choices = SensitivityProbe(source, rows, DEFAULT.search, NoProgress()).measure()
    layer = next(source.model.layers)
    half = halves(layer)[0]
    moments = InputMoments("q")
    for row in rows:
        moments.add(half.entry_inputs(source.model.embed(row)))
    measured = choices[0]
    option = min(measured.options, key=lambda each: abs(each.bits / measured.weights - 4.5))
    result = quantize_matrix(
        source.weight(measured.names[0]), factor_hessian(moments.hessian(), "q"), option.layouts[0], DEFAULT.search
    )
    half.entry[0].kernel = source.model.backend.prepare_dense(result.weight.T.contiguous(), None)
    divergence = float(kl_divergence(reference, _log_probabilities(source, rows, layer)).mean())
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
