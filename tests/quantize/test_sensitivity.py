"""What a pass back through the model says of errors, against what such errors do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.capture import exchanged, tapping
from quantize.differentiable import differentiable_parts
from quantize.divergence import kl_divergence
from quantize.half_layer import HalfLayer, halves
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.sensitivity import carry_back, output_gradient
from quantize.source_model import SourceModel, open_source
from quantize.streamed_model import StreamedModel
from quantize.streams import StreamFile
from tests.quantize.models import write_dense_model

ROWS, TOKENS = 12, 40


class Place:
    """The last half layer of a model, and rows before it."""

    def __init__(self, folder: Path) -> None:
        model = write_dense_model(folder / "model")
        self.source: SourceModel = open_source(
            Checkpoint.open(model), load_config(model), TorchBackend(), TOKENS, folder
        )
        self.model = StreamedModel(differentiable_parts(self.source.model.parts))
        self.output = self.model.output()
        *first, last = self.model.layers
        attention, self.half = halves(last)
        tokens = torch.randint(2, 250, (ROWS, TOKENS), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
        self.streams = StreamFile(folder / "streams.f32", ROWS, TOKENS, 64, self.model.backend)
        self.gradients = StreamFile(folder / "gradients.f32", ROWS, TOKENS, 64, self.model.backend)
        generator = torch.Generator().manual_seed(0)
        for row in range(ROWS):
            stream = self.model.embed(tokens[row])
            for half in (*(half for layer in first for half in halves(layer)), attention):
                stream = half.output(stream)
            self.streams.write(row, stream)
            self.gradients.write(row, output_gradient(self.output, self.half.output(stream), generator))

    def log_probabilities(self) -> torch.Tensor:
        """float32 [rows · T, V] of the model as it is."""
        outputs = [self.half.output(self.streams.read(row)) for row in range(ROWS)]
        return torch.cat([self.output.log_probabilities(each) for each in outputs])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_random_gradients_have_the_fisher_information_as_second_moments(place: Place) -> None:
    stream = place.half.output(place.streams.read(0))[:2]
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([output_gradient(place.output, stream, generator) for _ in range(3000)])
    found = torch.einsum("nth,ntg->thg", drawn, drawn) / len(drawn)
    for position, moments in enumerate(found):
        jacobian = torch.autograd.functional.jacobian(
            lambda each: place.output.log_probabilities(each[None])[0], stream[position]
        )
        probabilities = place.output.log_probabilities(stream)[position].exp()
        expected = jacobian.T @ (probabilities[:, None] * jacobian)
        assert float((moments - expected).norm()) < 0.1 * float(expected.norm())


@pytest.mark.parametrize("index", [0, 2])  # gate, which shares its inputs with up; and down
def test_small_errors_cost_what_is_said(place: Place, index: int) -> None:
    """Errors of the kind GPTQ leaves, of which some columns have more than others."""
    linears = (*place.half.entry, place.half.exit)
    factors = _factors(place)
    found = carry_back(place.half, factors, place.streams, place.gradients)[index]
    linear, factor = linears[index], factors[index]
    weight, reference = place.source.weight(linear.prefix), place.log_probabilities()
    generator = torch.Generator().manual_seed(2)
    spread = 0.004 * torch.logspace(-0.5, 0.5, weight.shape[1])
    predicted = measured = 0.0
    for _ in range(12):
        errors = torch.randn(weight.shape, generator=generator) * spread * torch.rand(len(weight), 1)
        predicted += float(found.rows @ errors.square() @ found.columns)
        changed = weight.clone()
        changed[factor.order] -= factor.upper.T @ errors
        with exchanged(linear, place.model.backend.prepare_dense(changed.T, None)):
            measured += float(kl_divergence(reference, place.log_probabilities()).mean())
    assert predicted == pytest.approx(measured, rel=0.2)


def test_gradients_are_carried_to_where_the_half_begins(place: Place) -> None:
    row = 3
    behind, stream = place.gradients.read(row), place.streams.read(row)
    carry_back(place.half, _factors(place), place.streams, place.gradients)
    nudge = 1e-3 * torch.randn(stream.shape, generator=torch.Generator().manual_seed(0))
    change = place.half.output(stream + nudge) - place.half.output(stream - nudge)
    assert float((place.gradients.read(row) * 2 * nudge).sum()) == pytest.approx(
        float((behind * change).sum()), rel=0.02
    )


def test_a_gradient_that_is_not_finite_is_named(place: Place) -> None:
    place.gradients.write(5, torch.full((TOKENS, 64), float("nan")))
    with pytest.raises(QuantizationError, match=r"gradient at model\.layers\.1\.mlp\.gate_proj .* calibration row 5"):
        carry_back(place.half, _factors(place), place.streams, place.gradients)


def test_a_matrix_that_nothing_depends_on_costs_nothing(place: Place) -> None:
    for row in range(ROWS):
        place.gradients.write(row, torch.zeros(TOKENS, 64))
    for found in carry_back(place.half, _factors(place), place.streams, place.gradients):
        assert not found.rows.any()
        assert torch.equal(found.columns, torch.ones_like(found.columns))


def test_taps_change_nothing(place: Place) -> None:
    stream, linear = place.streams.read(0), place.half.exit
    plain = place.half.output(stream)
    with tapping(linear) as tap:
        assert torch.equal(place.half.output(stream), plain)
    assert torch.equal(stream + tap.outputs, plain)
    assert (tap.in_features, tap.out_features, tap.nbytes) == (96, 64, 96 * 64 * 4)


def _factors(place: Place) -> list[HessianFactor]:
    half: HalfLayer = place.half
    entry, exit_moments = InputMoments("entry"), InputMoments("exit")
    for row in range(ROWS):
        entry.add(half.entry_inputs(place.streams.read(row)))
        exit_moments.add(half.exit_inputs(place.streams.read(row)))
    shared = factor_hessian(entry.hessian(), "entry")
    return [shared] * len(half.entry) + [factor_hessian(exit_moments.hessian(), "exit")]
