"""How much each matrix matters: what it costs the model to store it with each mix of widths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.model.linear import Linear
from engine.model.tensor_layout import LayerLayout
from engine.model.transformer import DecoderLayer
from engine.ops.exl2 import WIDTHS
from quantize.capture import exchanged
from quantize.divergence import kl_divergence
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import Option, group_rows, matrix_options
from quantize.exl2.estimate import estimate_errors
from quantize.exl2.layout import Group
from quantize.exl2.scales import ScaleSearch
from quantize.gptq import quantize_matrix
from quantize.half_layer import HalfLayer, halves, whole_row
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.progress import Progress
from quantize.source_model import SourceModel
from quantize.streamed_model import pass_layer
from quantize.streams import StreamFile
from quantize.work import forward_work, matrix_work

MOMENT_ROWS = 16
PROBE_ROWS = 4
PROBE_GROUP_SIZE = 64
LOGIT_POSITIONS = 2048


class Measurement(Protocol):
    """Finds out what each choice of widths would cost a model."""

    def __call__(
        self, source: SourceModel, rows: torch.Tensor, bits_per_weight: float, progress: Progress
    ) -> list[Choices]:
        """Choices for every matrix of the decoder layers; the model stays as it is.

        Args:
            source: the model.
            rows: int32 [rows, length] calibration tokens.
            bits_per_weight: what will be asked for.
            progress: is given a stage, and told of the work that is done.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        ...


@dataclass(frozen=True, slots=True)
class SensitivityMeasurement:
    """Implements `Measurement` with a `SensitivityProbe`."""

    search: ScaleSearch

    def __call__(
        self, source: SourceModel, rows: torch.Tensor, bits_per_weight: float, progress: Progress
    ) -> list[Choices]:
        """See `Measurement`."""
        return SensitivityProbe(source, rows, bits_per_weight, self.search, progress).measure()


class SensitivityProbe:
    """Measures every matrix of a model that otherwise stays as it is.

    The errors of all width mixes of a matrix are estimated from its Hessian. One forward pass with this matrix alone
    quantized says what an error there does to the model's output, as KL divergence from the original. Both together
    give the damage of every option: damage ≈ KL of the probe · error of the option / error of the probe.

    Args:
        source: the model.
        rows: int32 [rows, length] calibration tokens, of which the first few are used.
        bits_per_weight: what will be asked for; matrices are probed with about that width.
        search: finds the scales of groups.
        progress: is told of the work that is done; see `work.py`.
    """

    def __init__(
        self, source: SourceModel, rows: torch.Tensor, bits_per_weight: float, search: ScaleSearch, progress: Progress
    ) -> None:
        self._source = source
        self._model = source.model
        self._search = search
        self._progress = progress
        self._probe_bits = max(bits for bits in WIDTHS if bits <= max(bits_per_weight, min(WIDTHS)))
        self._streams = [self._model.embed(row) for row in rows[:MOMENT_ROWS]]
        self._probes, length = min(PROBE_ROWS, rows.shape[0]), rows.shape[1]
        per_row = min(length, -(-LOGIT_POSITIONS // self._probes))
        self._positions = torch.linspace(0, length - 1, per_row, device=self._streams[0].device).long()
        self._found: list[_Probed] = []

    def measure(self) -> list[Choices]:
        """Choices for every matrix of the decoder layers, in the order of computation.

        Every layer is read once: what earlier probes have done to the residual stream passes through it together with
        the original rows.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        config, tokens = self._model.config, self._probes * self._streams[0].shape[0]
        passes = [forward_work(sum(shape.weights for shape in each.linears.values()), tokens) for each in self._layers]
        head = forward_work(config.vocab_size * config.hidden_size, self._probes * len(self._positions))
        works = [matrix_work(*shape, len(self._streams) * self._streams[0].shape[0]) for shape in self._matrix_shapes]
        matrices = len(works) // len(passes)
        self._progress.stage(
            "Measuring",
            sum(works) + sum((index + 1) * matrices * each for index, each in enumerate(passes)) + head * len(works),
        )
        for layer, work in zip(self._model.layers, passes, strict=True):
            for probed in self._found:
                pass_layer(layer, probed.streams)
                self._progress.advance(work)
            before = [stream.clone() for stream in self._streams[: self._probes]]
            for half in halves(layer):
                for linear, factor in self._factors(half):
                    self._found.append(self._measure(linear, factor, layer, before))
                    self._progress.advance(works[len(self._found) - 1] + work, linear.prefix)
        divergences = self._divergences(head)
        return [probed.choices(divergence) for probed, divergence in zip(self._found, divergences, strict=True)]

    def _factors(self, half: HalfLayer) -> Iterator[tuple[Linear, HessianFactor]]:
        """Each matrix of the half with its factored Hessian; advances the streams through the half."""
        entry, exit_moments = InputMoments(half.entry[0].prefix), InputMoments(half.exit.prefix)
        for stream in self._streams:
            entry.add(half.entry_inputs(stream))
            exit_inputs = half.exit_inputs(stream)
            exit_moments.add(exit_inputs)
            half.advance(stream, exit_inputs)
        factor = factor_hessian(entry.hessian(), entry.name)
        for linear in half.entry:
            yield linear, factor
        yield half.exit, factor_hessian(exit_moments.hessian(), exit_moments.name)

    def _measure(
        self, linear: Linear, factor: HessianFactor, layer: DecoderLayer, before: Sequence[torch.Tensor]
    ) -> _Probed:
        """Estimate one matrix of `layer`, and see what the layer makes of the streams `before` with it quantized."""
        weight = self._source.weight(linear.prefix)
        in_features, out_features = weight.shape
        errors = estimate_errors(weight, factor, self._search)
        group_size = max(size for size in errors if size <= PROBE_GROUP_SIZE)
        groups = [Group(self._probe_bits, rows) for rows in group_rows(in_features, group_size)]
        probe = quantize_matrix(weight, factor, groups, self._search).weight
        kernel = self._model.backend.prepare_dense(probe.T.contiguous(), self._source.bias(linear.prefix))
        path = self._source.scratch / f"probe-{len(self._found):05}.f32"
        streams = StreamFile(path, len(before), before[0].shape[0], before[0].shape[1], self._model.backend)
        with exchanged(linear, kernel):
            for index, original in enumerate(before):
                stream = original.clone()
                layer.forward(stream, *whole_row(stream))
                streams.write(index, stream)
        return _Probed(
            linear.prefix,
            weight.numel(),
            sum(errors[group_size][self._probe_bits]),
            matrix_options(in_features, out_features, errors),
            streams,
        )

    def _divergences(self, work: int) -> list[float]:
        """Mean KL divergence from the original model at the positions looked at, for each probe."""
        output = self._model.output()
        totals = [0.0] * len(self._found)
        for row in range(self._probes):
            reference = output.log_probabilities(self._streams[row][self._positions])
            for index, probed in enumerate(self._found):
                probabilities = output.log_probabilities(probed.streams.read(row)[self._positions])
                totals[index] += float(kl_divergence(reference, probabilities).mean()) / self._probes
        for probed in self._found:
            probed.streams.remove()
            self._progress.advance(work)
        return totals

    @property
    def _layers(self) -> tuple[LayerLayout, ...]:
        return self._source.layout.layers

    @property
    def _matrix_shapes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the matrices in the order of computation."""
        return [(shape.in_features, shape.out_features) for layer in self._layers for shape in layer.linears.values()]


@dataclass(frozen=True, slots=True)
class _Probed:
    """What is known of one matrix before the rows have reached the model's output."""

    name: str
    weights: int
    error: float  # estimated, of the probe
    options: list[Option]
    streams: StreamFile  # the probe's

    def choices(self, divergence: float) -> Choices:
        """With the divergence its probe caused."""
        sensitivity = divergence / self.error if self.error > 0 else 0.0
        return Choices((self.name,), self.weights, sensitivity, self.options)
