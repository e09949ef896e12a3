"""The sensitivity pass measures a model without changing it, and predicts what a quantized matrix costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.transformer import DecoderLayer
from engine.ops.reference.linear import DenseLinear
from engine.ops.torch_backend import TorchBackend
from quantize.differentiable import DifferentiableLinear
from quantize.divergence import kl_divergence
from quantize.gptq import quantize_matrix
from quantize.half_layer import halves, whole_row
from quantize.hessian import InputMoments, factor_hessian
from quantize.measure import SensitivityPass
from quantize.recipe import DEFAULT
from quantize.source_model import SourceModel, open_source
from tests.quantize.models import NoProgress, SilentProgress, write_dense_model


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    model = write_dense_model(tmp_path)
    return open_source(Checkpoint.open(model), load_config(model), TorchBackend(), 64, tmp_path)


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randint(2, 250, (6, 48), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


def _products(folder: Path, layers: int, rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many times a matrix of a model of so many layers is multiplied with something while it is measured."""
    model = write_dense_model(folder / str(layers), layers=layers)
    source = open_source(Checkpoint.open(model), load_config(model), TorchBackend(), 64, folder)
    products = 0

    def counted(call: Callable[..., None]) -> Callable[..., None]:
        def count(self: object, x: torch.Tensor, out: torch.Tensor) -> None:
            nonlocal products
            products += 1
            call(self, x, out)

        return count

    with monkeypatch.context() as patch:
        for kernel in (DenseLinear, DifferentiableLinear):
            patch.setattr(kernel, "__call__", counted(kernel.__call__))
        SensitivityPass(source, rows, DEFAULT.search, NoProgress()).measure()
    return products


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
    choices = SensitivityPass(source, rows, DEFAULT.search, NoProgress()).measure()
    assert torch.equal(_log_probabilities(source, rows), before)
    assert [name for each in choices for name in each.names] == list(source.shapes)[:-1]
    assert all(option.error > 0 for each in choices for option in each.options)
    assert all(each.weights == source.weight(each.names[0]).numel() for each in choices)


def test_a_layer_costs_the_same_in_a_deep_model(
    tmp_path: Path, rows: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, four, eight = (_products(tmp_path, layers, rows, monkeypatch) for layers in (2, 4, 8))
    assert eight - four == 2 * (four - two) > 0


def test_progress_ends_where_it_was_said_to_end_and_nothing_is_left(source: SourceModel, rows: torch.Tensor) -> None:
    progress, before = SilentProgress(), set(source.scratch.iterdir())
    SensitivityPass(source, rows, DEFAULT.search, progress).measure()
    ((name, total),) = progress.stages
    assert name == "Measuring"
    assert progress.done == [total]
    assert set(source.scratch.iterdir()) == before


def test_equal_rows_give_equal_measurements(source: SourceModel, rows: torch.Tensor) -> None:
    first, second = (SensitivityPass(source, rows, DEFAULT.search, NoProgress()).measure() for _ in range(2))
    assert first == second


def test_damage_predicted_for_a_matrix_is_what_it_does(source: SourceModel, rows: torch.Tensor) -> None:
    reference = _log_probabilities(source, rows)
    choices = SensitivityPass(source, rows, DEFAULT.search, NoProgress()).measure()
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
