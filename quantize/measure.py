"""How much each matrix matters: what it costs the model to store it with each mix of widths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch

from engine.model.linear import Linear
from engine.model.tensor_layout import TensorLayout
from quantize.differentiable import differentiable_parts
from quantize.exl2.allocate import Choices, extremes
from quantize.exl2.candidates import matrix_options
from quantize.exl2.estimate import SAMPLED_COLUMNS, estimate_errors
from quantize.exl2.scales import ScaleSearch
from quantize.half_layer import HalfLayer, halves
from quantize.heap import return_free_memory
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.progress import Progress
from quantize.sensitivity import Sensitivity, carry_back, output_gradient
from quantize.source_model import SourceModel
from quantize.streamed_model import StreamedModel, pass_layer
from quantize.streams import StreamFile
from quantize.work import BACKWARD_PASSES, estimate_work, forward_work

MEASUREMENT_ROWS = 16
SEED = 0
"""Of the random gradients. What they are to say does not depend on it, and measurements of one model should agree."""

EXCESS = {2: 1.33, 3: 1.08}
"""What narrow codes cost beyond the estimate, as a factor: corrected rows are larger than uncorrected ones, and the
divergence grows faster than the square of large errors. Medians over the matrices of tinystories-656k."""


class Measurement(Protocol):
    """Finds out what each choice of widths would cost a model."""

    def sizes(self, layout: TensorLayout) -> list[Choices]:
        """The same choices with their sizes only, the smallest and the largest at least: what costs nothing to know."""
        ...

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> list[Choices]:
        """Choices for every matrix of the decoder layers; the model stays as it is.

        Args:
            source: the model.
            rows: int32 [rows, length] calibration tokens.
            progress: is given a stage, and told of the work that is done.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        ...


@dataclass(frozen=True, slots=True)
class SensitivityMeasurement:
    """Implements `Measurement` by `SensitivityPass`."""

    search: ScaleSearch

    def sizes(self, layout: TensorLayout) -> list[Choices]:
        """See `Measurement`: a choice for every matrix."""
        return [extremes(shape.prefix, shape) for layer in layout.layers for shape in layer.linears.values()]

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> list[Choices]:
        """See `Measurement`."""
        return SensitivityPass(source, rows, self.search, progress).measure()


class SensitivityPass:
    """Measures every matrix of a model with one pass forward and one back.

    The errors of all width mixes of a matrix are estimated from its Hessian, and weighted with what errors there do to
    the model's output, as KL divergence from the original; see `Sensitivity`.

    Args:
        source: the model; it stays as it is.
        rows: int32 [rows, length] calibration tokens, of which the first few are used.
        search: finds the scales of groups.
        progress: is told of the work that is done; see `work.py`.
    """

    def __init__(self, source: SourceModel, rows: torch.Tensor, search: ScaleSearch, progress: Progress) -> None:
        self._source = source
        self._reverse = StreamedModel(differentiable_parts(source.model.parts))
        self._rows = rows[:MEASUREMENT_ROWS]
        self._search = search
        self._progress = progress

    def measure(self) -> list[Choices]:
        """Choices for every matrix of the decoder layers, in the order of computation.

        Every layer is read twice: the first time the residual streams before it are kept, in files; the second time,
        from the last layer to the first, gradients are carried back through it.

        Raises:
            QuantizationError: calibration gives inputs or gradients that are not finite, or a Hessian that cannot be
                factored.
        """
        self._progress.stage("Measuring", self._total_work)
        trail = self._pass_forward()
        gradients = self._output_gradients(trail.pop())
        found: list[Choices] = []
        for index in reversed(range(len(trail))):
            found += self._layer(index, trail.pop(), gradients)
        gradients.remove()
        return found[::-1]

    def _pass_forward(self) -> list[StreamFile]:
        """The residual streams before each layer, and behind the last."""
        model = self._source.model
        trail = [model.open_streams(self._path("before-00000"), self._rows)]
        for index, layer in enumerate(model.layers):
            streams = self._open(f"before-{index + 1:05}")
            for row in range(streams.rows):
                streams.write(row, trail[-1].read(row))
            pass_layer(layer, streams)
            trail.append(streams)
            self._progress.advance(self._layer_works[index])
        return trail

    def _output_gradients(self, streams: StreamFile) -> StreamFile:
        """The same file, gradients in place of the streams behind the last layer."""
        output, generator = self._reverse.output(), torch.Generator().manual_seed(SEED)
        for row in range(streams.rows):
            streams.write(row, output_gradient(output, streams.read(row), generator))
        self._progress.advance(self._head_work)
        return streams

    def _layer(self, index: int, before: StreamFile, gradients: StreamFile) -> Iterator[Choices]:
        """Choices for a layer's matrices, the last one first; carries the gradients from behind the layer before it."""
        attention, mlp = halves(self._reverse.parts.layer(index))
        between = self._open("between")
        for row in range(between.rows):
            between.write(row, attention.output(before.read(row)))
        for half, streams in ((mlp, between), (attention, before)):
            factors = self._factors(half, streams)
            sensitivities = carry_back(half, factors, streams, gradients)
            self._progress.advance(BACKWARD_PASSES * self._layer_works[index] // 2)
            matrices = list(zip((*half.entry, half.exit), factors, sensitivities, strict=True))
            for linear, factor, sensitivity in reversed(matrices):
                yield self._choices(linear, factor, sensitivity)
            streams.remove()

    def _factors(self, half: HalfLayer, streams: StreamFile) -> list[HessianFactor]:
        """The factored Hessians of the half's matrices, that of the entry as often as it has matrices."""
        entry, exit_moments = InputMoments(half.entry[0].prefix), InputMoments(half.exit.prefix)
        for row in range(streams.rows):
            stream = streams.read(row)
            entry.add(half.entry_inputs(stream))
            exit_moments.add(half.exit_inputs(stream))
        shared = factor_hessian(entry.hessian(), entry.name)
        return [shared] * len(half.entry) + [factor_hessian(exit_moments.hessian(), exit_moments.name)]

    def _choices(self, linear: Linear, factor: HessianFactor, sensitivity: Sensitivity) -> Choices:
        """What can be chosen for one matrix."""
        return_free_memory()
        weight = self._source.weight(linear.prefix)
        estimated = estimate_errors(weight, factor, self._search, sensitivity)
        errors = {
            size: {bits: [EXCESS.get(bits, 1.0) * each for each in found] for bits, found in by_width.items()}
            for size, by_width in estimated.items()
        }
        self._progress.advance(self._estimate_works[linear.prefix], linear.prefix)
        return Choices((linear.prefix,), weight.numel(), matrix_options(weight.shape[0], weight.shape[1], errors))

    def _open(self, name: str) -> StreamFile:
        rows, model = self._rows, self._source.model
        return StreamFile(self._path(name), rows.shape[0], rows.shape[1], model.config.hidden_size, model.backend)

    def _path(self, name: str) -> Path:
        path = self._source.scratch / f"{name}.f32"
        path.unlink(missing_ok=True)
        return path

    @cached_property
    def _layer_works(self) -> list[int]:
        """Units of work in passing all rows through each layer."""
        return [
            forward_work(
                sum(shape.weights for shape in layer.linears.values()),
                sum(shape.in_features for shape in layer.linears.values()),
                self._rows.numel(),
            )
            for layer in self._source.layout.layers
        ]

    @cached_property
    def _estimate_works(self) -> dict[str, int]:
        """Units of work in each matrix's Hessian and estimates."""
        return {
            shape.prefix: estimate_work(shape.in_features, min(shape.out_features, SAMPLED_COLUMNS), self._rows.numel())
            for layer in self._source.layout.layers
            for shape in layer.linears.values()
        }

    @property
    def _head_work(self) -> int:
        config = self._source.model.config
        return 3 * forward_work(config.vocab_size * config.hidden_size, config.vocab_size, self._rows.numel())

    @property
    def _total_work(self) -> int:
        layers = sum(works + BACKWARD_PASSES * works // 2 * 2 for works in self._layer_works)
        return layers + sum(self._estimate_works.values()) + self._head_work
